"""Portals through the client that a listing uses, against a server that answers as they do."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from megabase.files import FileError
from megabase.sources.ask import Asker
from megabase.sources.fourdn import PRESET
from megabase.sources.portals import Release, list_portal
from megabase.sources.resources import read_resource

SKIN = (
    "rail_id\texternal_id\tstudy\tSUBJID\tSMTSD\tSMAFRZE\n"
    "1\tGTEX-1117F-2926-SM-5GZYI.1\tSKIN\tGTEX-1117F\tSkin - Not Sun Exposed (Suprapubic)\tRNASEQ\n"
)
PROJECTS = "rail_id\texternal_id\tstudy\tproject\n1\tGTEX-1117F-2926-SM-5GZYI.1\tSKIN\tSKIN\n"
MOUSE = {row["accession"] for row in read_resource("contact_maps", PRESET) if row["organism"] == "mouse"}
CTSS = "brain%2520adult%252c%2520donor1.CNhs11796.10084-102B3.hg38.nobarcode.ctss.bed.gz"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/search/":
            return self._search(parse_qs(parts.query))
        if parts.path.endswith("recount_project.MD.gz"):
            return self._send(200, gzip.compress(PROJECTS.encode()), "application/gzip")
        if parts.path.endswith("gtex.SKIN.MD.gz"):
            return self._send(200, gzip.compress(SKIN.encode()), "binary/octet-stream")
        if parts.path.endswith("human.tissue.hCAGE/"):
            return self._send(200, f'<html><a href="{CTSS}">x</a></html>'.encode(), "text/html;charset=UTF-8")
        return self._send(404, b"<html>Not Found</html>", "text/html")

    def _search(self, query: dict[str, list[str]]) -> None:
        found = [] if query.get("genome_assembly") else [self._file(name) for name in query["accession"]]
        body = {
            "@graph": found,
            "total": len(found),
            "notification": "Success" if found else "No results found",
        }
        self._send(200 if found else 404, json.dumps(body).encode(), "application/json; charset=UTF-8")

    def _file(self, name: str) -> dict[str, object]:
        assembly = "GRCm38" if name in MOUSE else "GRCh38"
        return {"accession": name, "status": "released", "genome_assembly": assembly, "md5sum": "0" * 32,
                "open_data_url": f"https://bucket/{name}.mcool", "file_size": 9}  # fmt: skip

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_portals_are_listed_and_their_answers_kept(url: str, tmp_path: Path) -> None:
    with Asker(tmp_path / "answers", attempts=1) as ask:
        maps = list_portal("4dn", ask, Release("r", base_url=url)).rows
        assert len(maps) == 36 and {row["organism"] for row in maps} == {"human", "mouse"}
        assert list_portal("4dn-all", ask, Release("r", base_url=url)).rows == [], "404 without hits is none"
        gtex = list_portal("gtex", ask, Release("r", base_url=url)).rows
        assert [row["output_type"] for row in gtex].count("rna_seq") == 1 and len(gtex) == 5
        cage = list_portal("fantom5", ask, Release("r", organisms=("human",), base_url=f"{url}/hg38_v9")).rows
        assert [row["url"] for row in cage] == [f"{url}/hg38_v9/basic/human.tissue.hCAGE/{CTSS}"]
        asked = ask.asked
        again = list_portal("gtex", ask, Release("r", base_url=url)).rows
        assert again == gtex and ask.asked == asked, "an interrupted listing asks nothing twice"


def test_a_page_that_is_gone_stops_the_listing(url: str) -> None:
    with Asker(attempts=1) as ask:
        for portal in ("clinvar", "dbsnp", "eqtl-catalogue"):
            with pytest.raises(FileError, match="HTTP 404"):
                list_portal(portal, ask, Release("r", base_url=f"{url}/gone"))
