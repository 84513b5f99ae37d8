"""FANTOM5: addresses byte for byte, samples by their table, treated ones left out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from megabase.files import FileError
from megabase.sources import fantom
from megabase.sources.ask import Answer
from megabase.sources.download import fetch_source
from megabase.sources.groups import track_groups
from megabase.sources.manifest import check_row, raw_path, read_manifest, write_manifest
from megabase.sources.portals import Release, list_portal

UTC = "2026-11-01T00:00:00Z"
K562 = "chronic%2520myelogenous%2520leukemia%2520cell%2520line%253aK562%2520ENCODE%252c%2520biol_rep{}"
NAMES = [
    K562.format(1) + ".CNhs12334.10824-111C5.hg38.nobarcode.ctss.bed.gz",
    K562.format(2) + ".CNhs12335.10825-111C6.hg38.nobarcode.ctss.bed.gz",
    "acute%2520myeloid%2520leukemia%2520cell%2520line%253aTHP-1%252c%2520treated%2520with%2520PMA."
    "CNhs10723.10400-106A4.hg38.nobarcode.ctss.bed.gz",
    "Universal%2520RNA%2520-%2520Human%252c%2520pool1.CNhs10612.10000-101A1.hg38.nobarcode.ctss.bed.gz",
    "unlisted.CNhs99999.10-1.hg38.nobarcode.ctss.bed.gz",
    "old.CNhs11111.10-2.hg19.nobarcode.ctss.bed.gz",
    "readme.ctss.bed.gz",
]
HEADER = (
    "Extract Name\tComment [rna_tube]\tComment [sample_name]\tComment [organism]\tExtract Name\t"
    "Library Name\tComment [library_id]\tFile Name\tComment [ontology]\tFile Name\n"
)


def _sdrf(species: str = "Homo sapiens", header: str = HEADER) -> str:
    samples = {
        "CNhs12334": ("chronic myelogenous leukemia cell line:K562 ENCODE, biol_rep1", "EFO:0002067"),
        "CNhs12335": ("chronic myelogenous leukemia cell line:K562 ENCODE, biol_rep2", "EFO:0002067"),
        "CNhs10723": ("acute myeloid leukemia cell line:THP-1, treated with PMA", ""),
        "CNhs10612": ("Universal RNA - Human, pool1", ""), "CNhs11111": ("old", ""),
    }  # fmt: skip
    lines = [
        f"x\tt\t{name}\t{species}\tx.rna\t{library}\t{library}\tx.rdf\t{term}\tx.bam\n"
        for library, (name, term) in samples.items()
    ]
    return header + "".join(lines)


class Tree:
    """Pages of folders and tables, as the portal answers."""

    def __init__(self, sdrf: str | None = None, names: Iterable[str] = NAMES) -> None:
        self.sdrf, self.names = _sdrf() if sdrf is None else sdrf, list(names)
        self.asked: list[str] = []

    def __call__(self, url: str, params: Iterable[tuple[str, Any]] = ()) -> Answer:
        self.asked.append(url)
        if url.endswith("/human.cell_line.hCAGE/"):
            table = "00_human.cell_line.hCAGE.hg38.assay_sdrf2.txt"
            names = [*self.names, *([table] if self.sdrf else [])]
            page = '<a href="?C=N;O=D">Name</a><a href="/5/datafiles/">Parent</a>'
            page += "".join(f'<a href="{name}">x</a>' for name in names)
            return Answer(url, 200, page.encode(), UTC)
        if url.endswith("sdrf2.txt"):
            return Answer(url, 200, self.sdrf.encode(), UTC)
        return Answer(url, 404, b"", UTC)


def test_untreated_samples_with_their_addresses_byte_for_byte(real_data: Path, tmp_path: Path) -> None:
    tree = Tree()
    listing = list_portal("fantom5", tree, Release("r", organisms=("human",)))
    recorded = (real_data / "portals/fantom5_genomes/fantom5_hg38_ctss_urls.txt").read_text().splitlines()
    assert listing.rows[0]["url"] == recorded[0].replace("hg38_v1", "hg38_v9")
    assert len(listing.rows) == 2
    first, second = listing.rows
    assert first["biosample"] == second["biosample"] == "chronic myelogenous leukemia cell line:K562 ENCODE"
    assert (first["accession"], first["assay"], first["ontology_curie"]) == (
        "CNhs12334",
        "hCAGE",
        "EFO:0002067",
    )
    assert first["strand"] is None and first["output_type"] == "cage" and first["portal"] == "fantom"
    assert {row["accession"]: row["reason"] for row in listing.refused} == {
        "CNhs10723": "treated", "CNhs10612": "mixture", "CNhs99999": "not in table",
        "CNhs11111": "other assembly", None: "name unknown",
    }  # fmt: skip
    write_manifest(listing.rows, tmp_path / "m.tsv")
    read = read_manifest(tmp_path / "m.tsv").to_dicts()
    assert [row["url"] for row in read] == [row["url"] for row in listing.rows]
    assert raw_path(read[0]).name.startswith("CNhs12334.") and raw_path(read[0]).name.endswith(".bed.gz")
    groups = track_groups(read, "human", "cage")
    assert list(map(len, groups.values())) == [2]
    assert not any("timecourse" in url or "fractionation" in url for url in tree.asked)
    assert sum("LQhCAGE" in url for url in tree.asked) == 3


def test_without_a_table_the_names_tell(caplog: pytest.LogCaptureFixture) -> None:
    listing = list_portal("fantom5", Tree(sdrf=""), Release("r", organisms=("human",)))
    assert {row["accession"] for row in listing.rows} == {"CNhs12334", "CNhs12335", "CNhs99999"}
    assert listing.rows[0]["ontology_curie"] is None and "has no table of samples" in caplog.text
    for row in listing.rows:
        assert check_row({k: None if v is None else str(v) for k, v in row.items()}) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://fantom.gsc.riken.jp/5/datafiles/latest", "`latest` moves; name a phase"),
        ("https://fantom.gsc.riken.jp/5/datafiles/reprocessed/hg38_latest", "`latest` moves"),
        ("https://fantom.gsc.riken.jp/5/datahub/hg19", "old assembly"),
    ],
)
def test_a_release_is_of_hg38_and_does_not_move(url: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        fantom.check_phase(url)


def test_a_portal_that_has_changed() -> None:
    release = Release("r", organisms=("human",))
    with pytest.raises(FileError, match="no column Library Name; found Extract Name"):
        list_portal("fantom5", Tree(sdrf=_sdrf(header=HEADER.replace("Library Name", "Lib"))), release)
    with pytest.raises(FileError, match="CNhs12334 is of Mus musculus, wanted Homo sapiens"):
        list_portal("fantom5", Tree(sdrf=_sdrf("Mus musculus")), release)
    with pytest.raises(FileError, match="no CTSS files; the portal has moved"):
        list_portal("fantom5", Tree(names=[]), release)


@pytest.mark.parametrize(
    ("name", "biosample", "stage"),
    [
        ("pancreas, adult, donor1", "pancreas, adult", "adult"),
        ("brain, fetal, pool1", "brain, fetal", "fetal"),
        ("CD14+ Monocytes, donor2", "CD14+ Monocytes", None),
        ("acute myeloid leukemia (FAB M5) cell line:THP-1 (fresh)", None, None),
        ("lung, right lower lobe, adult, donor1", "lung, right lower lobe, adult", "adult"),
        ("HeLa-S3 ENCODE, biol_rep3", "HeLa-S3 ENCODE", None),
        ("temporal lobe, adult, donor1, tech_rep2", "temporal lobe, adult", "adult"),
    ],
)
def test_names_of_samples(name: str, biosample: str | None, stage: str | None) -> None:
    assert fantom.biosample_of(name) == (biosample or name)
    assert fantom.life_stage_of(name) == stage


@pytest.mark.parametrize(
    ("name", "treated"),
    [
        ("CD14+ monocytes - treated with BCG, donor1", True), ("Monocyte response to LPS, 00hr00min", True),
        ("regulatory T cells, PMA and ionomycin stimulation, 02hr, pool1", True),
        ("mesenchymal stem cells, osteogenic induction, day00", True), ("hepatocyte, donor1", False),
        ("Smooth Muscle Cells - Aortic, donor0", False), ("heart, adult, diseased, donor1", False),
    ],
)  # fmt: skip
def test_treated_samples_are_known_by_their_names(name: str, treated: bool) -> None:
    assert bool(fantom.TREATED.search(name)) is treated


def test_downloads_ask_for_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that decodes and encodes an address again would ask for another file."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"ctss")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        fetch_source(f"http://127.0.0.1:{server.server_port}/basic/{NAMES[0]}", tmp_path / "x.bed.gz")
        server.shutdown()
        thread.join()
    assert asked == [f"/basic/{NAMES[0]}"]
