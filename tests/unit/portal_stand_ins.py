"""A portal on this machine that answers ENCODE searches from objects in memory, or with a fault."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

IGNORED = {"limit", "format", "field", "type"}
Item = dict[str, Any]


class Portal(ThreadingHTTPServer):
    """Holds objects by type; `faults` are bodies (status, bytes, content type) sent before real answers."""

    daemon_threads = True

    def __init__(self, **objects: list[Item]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects = objects
        self.faults: list[tuple[int, bytes, str]] = []
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def hits(self, pairs: list[tuple[str, str]]) -> list[Item]:
        """Objects of the type asked for that meet every filter (one of its values)."""
        wanted: dict[str, set[str]] = {}
        for name, value in pairs:
            if name not in IGNORED:
                wanted.setdefault(name, set()).add(value)
        kind = dict(pairs)["type"]
        return [item for item in self.objects.get(kind, []) if all(
            {str(v) for v in _many(item.get(name))} & values for name, values in wanted.items())]  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server: Portal

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server, parts = self.server, urlsplit(self.path)
        pairs = parse_qsl(parts.query)
        server.asked.append((parts.path, pairs))
        if server.faults:
            status, body, kind = server.faults.pop(0)
        else:
            graph = server.hits(pairs)
            status, kind = (200 if graph else 404), "application/json"
            note = "Success" if graph else "No results found"
            body = json.dumps({"@graph": graph, "total": len(graph), "notification": note}).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@contextmanager
def serving(**objects: list[Item]) -> Iterator[Portal]:
    """A running portal."""
    portal = Portal(**objects)
    thread = threading.Thread(target=portal.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield portal
    finally:
        portal.shutdown()
        thread.join()
        portal.server_close()


def experiment(accession: str = "ENCSR000AAA", **more: Any) -> Item:
    """An Experiment as a search gives it: total RNA-seq of untreated adult liver; `more` replaces fields."""
    sample = {"life_stage": "adult", "organism": {"scientific_name": "Homo sapiens"}} | more.pop("sample", {})
    number = accession[-3:]
    return {
        "@id": f"/experiments/{accession}/", "@type": ["Experiment", "Dataset", "Item"],
        "accession": accession, "status": "released", "assay_title": "total RNA-seq",
        "assembly": ["GRCh38"], "biosample_summary": "Homo sapiens liver tissue male adult (32 years)",
        "biosample_ontology": {"term_id": "UBERON:0002107", "term_name": "liver", "classification": "tissue"},
        "default_analysis": f"/analyses/ENCAN0{number}/",
        "replicates": [{"biological_replicate_number": n, "library": {"biosample": sample}} for n in (1, 2)],
    } | more  # fmt: skip


def file(accession: str, dataset: str = "ENCSR000AAA", **more: Any) -> Item:
    """A File as a search gives it: a released signal bigWig of replicate 1; `more` replaces fields."""
    address = f"https://encode-public.s3.amazonaws.com/2021/01/01/u/{accession}.bigWig"
    item = {
        "@id": f"/files/{accession}/", "@type": ["File", "Item"], "accession": accession,
        "dataset": f"/experiments/{dataset}/", "status": "released", "file_format": "bigWig",
        "output_type": "signal of unique reads", "assembly": "GRCh38", "biological_replicates": [1],
        "technical_replicates": ["1_1"], "date_created": "2021-05-05T10:00:00.000000+00:00",
        "file_size": 1000, "md5sum": f"{int(accession[-3:], 36):032x}", "cloud_metadata": {"url": address},
    } | more  # fmt: skip
    return {name: value for name, value in item.items() if value is not None}


def reads(accession: str, dataset: str = "ENCSR000AAA", **more: Any) -> Item:
    """A FASTQ of 100 nt, paired, of replicate 1."""
    given = {"file_format": "fastq", "output_type": "reads", "assembly": None, "read_length": 100,
             "run_type": "paired-ended"}  # fmt: skip
    return file(accession, dataset, **(given | more))


def alignments(accession: str, dataset: str = "ENCSR000AAA", **more: Any) -> Item:
    """A BAM of replicate 1 with the length of its mapped reads and a FRiP of 0.3."""
    given = {"file_format": "bam", "output_type": "alignments", "mapped_read_length": 100,
             "mapped_run_type": "paired-ended", "quality_metrics": [{"spot1_score": 0.3}]}  # fmt: skip
    return file(accession, dataset, **(given | more))


def analysis(accession: str, *files: str, **more: Any) -> Item:
    """An Analysis of GRCh38 with these files."""
    return {"@id": f"/analyses/{accession}/", "accession": accession, "status": "released",
            "assembly": "GRCh38", "files": [{"accession": name} for name in files]} | more  # fmt: skip
