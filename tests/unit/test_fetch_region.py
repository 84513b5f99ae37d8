"""Regions of a bgzip VCF on a server: all records of them, or an error."""

from __future__ import annotations

import gzip
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pysam
import pytest
from typer.testing import CliRunner

from megabase import cli
from megabase.files import FileError
from megabase.genome import Interval
from megabase.seeds import generator
from megabase.sources import tabix
from megabase.sources.ranges import Ranges
from megabase.sources.region import fetch_region, read_regions

HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=9000000>\n##contig=<ID=chr2,length=9000000>\n"
    '##INFO=<ID=X,Number=1,Type=String,Description="x">\n##INFO=<ID=END,Number=1,Type=Integer,Description="e">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
)


@pytest.fixture(scope="module")
def vcf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24,000 records on two contigs, of text that hardly packs, and its index."""
    folder = tmp_path_factory.mktemp("vcf")
    draws = generator(0, "region")
    lines = []
    for chrom in ("chr1", "chr2"):
        positions = sorted(draws.integers(1, 8_000_000, 12_000).tolist())
        for n, position in enumerate(positions):
            noise = draws.bytes(40).hex()
            ref, info = ("A" * 50, f"X={noise}") if n % 500 == 0 else ("A", f"X={noise}")
            alt, end = ("<DEL>", f";END={position + 300_000}") if n == 700 else ("C", "")
            lines.append(f"{chrom}\t{position}\t{chrom}_{n}\t{ref}\t{alt}\t.\tPASS\t{info}{end}")
    plain = folder / "v.vcf"
    plain.write_text(HEADER + "\n".join(lines) + "\n")
    pysam.tabix_compress(str(plain), str(folder / "v.vcf.gz"), force=True)
    pysam.tabix_index(str(folder / "v.vcf.gz"), preset="vcf", force=True)
    return folder / "v.vcf.gz"


class Server(ThreadingHTTPServer):
    """A server of files in ranges, with faults."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_port}"
        self.fault, self.count, self.sent = "", 0, 0
        self.tags: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server = self.server
        path = server.folder / self.path.lstrip("/")
        is_index = self.path.endswith(".tbi")
        server.count += 1
        if not path.exists() or (server.fault == "busy" and server.count % 2):
            self.send_response(503 if path.exists() else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        first, last = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
        body = data[first : last + 1]
        if server.fault == "whole":
            self.send_response(200)
            body = data
        elif first >= len(data):
            self.send_response(416)
            body = b""
        else:
            self.send_response(206)
            stop = first + len(body) - 1 - (9 if server.fault == "less" and not is_index else 0)
            self.send_header("Content-Range", f"bytes {first}-{stop}/{len(data)}")
        if server.tags:
            self.send_header("ETag", server.tags[min(server.count, len(server.tags)) - 1])
        if server.fault == "damaged" and not is_index and len(body) > 3_000:
            body = body[:2_500] + bytes([body[2_500] ^ 255]) + body[2_501:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.fault == "cut" and not is_index:
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)
        server.sent += len(body)


@pytest.fixture
def server(vcf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = Server(vcf.parent)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def _lines(path: Path) -> list[str]:
    with pysam.BGZFile(str(path)) as handle:
        return [line.decode() for line in handle if not line.startswith(b"#")]


def _expected(vcf: Path, regions: list[Interval]) -> list[str]:
    """By htslib, region after region, each record once."""
    with pysam.TabixFile(str(vcf)) as file:
        found = [line for r in regions for line in file.fetch(r.chrom, r.start, r.end)]
    return list(dict.fromkeys(found))


def _get(server: Server, output: Path, regions: list[Interval], **options: object) -> int:
    return fetch_region(f"{server.url}/v.vcf.gz", regions, output, attempts=3, backoff=0.01, **options)


@pytest.mark.parametrize("step", [tabix.STEP, 3_000])
def test_all_records_of_regions_and_nothing_else(
    server: Server, vcf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(tabix, "STEP", max(step, tabix.BLOCK))
    draws = generator(1, "regions")
    for trial in range(12):
        chrom = ("chr1", "chr2")[trial % 2]
        starts = sorted(draws.integers(0, 8_000_000, 3).tolist())
        width = int(10 ** draws.uniform(0, 6))
        regions = [Interval(chrom, start, start + width) for start in starts]
        count = _get(server, tmp_path / "out.vcf.gz", regions)
        expected = _expected(vcf, regions)
        assert _lines(tmp_path / "out.vcf.gz") == expected and count == len(expected)


def test_a_small_region_costs_little(server: Server, vcf: Path, tmp_path: Path) -> None:
    """The index, the blocks of the header and those of the region: the file has 2.5 MB."""
    assert vcf.stat().st_size > 1_000_000
    file_size = vcf.stat().st_size
    server.sent = 0
    with Ranges(f"{server.url}/v.vcf.gz.tbi") as small, Ranges(f"{server.url}/v.vcf.gz") as file:
        found = tabix.read_index(small.whole(), "i")
        server.sent = 0
        stretch = found.stretches("chr2", 4_000_000, 4_010_000)
        lines = [line for begin, end in stretch for line in tabix.lines_between(file, begin, end)]
    assert lines and server.sent < file_size / 4


def test_the_header_tells_source_and_regions(server: Server, vcf: Path, tmp_path: Path) -> None:
    regions = [Interval("chr2", 100, 5_000), Interval("1", 4_000, 9_000), Interval("chr1", 8_000, 10_000)]
    _get(server, tmp_path / "out.vcf.gz", regions)
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        header = str(file.header)
        assert all(record.pos for record in file)
    assert f"##megabase_source={server.url}/v.vcf.gz" in header
    assert header.index("chr1:4001-10000") < header.index("chr2:101-5000"), "merged, in the file's order"
    assert "##contig=<ID=chr2,length=9000000>" in header
    first = (tmp_path / "out.vcf.gz").read_bytes()
    _get(server, tmp_path / "out.vcf.gz", regions)
    assert (tmp_path / "out.vcf.gz").read_bytes() == first


def test_a_long_variant_of_two_regions_comes_once(vcf: Path, tmp_path: Path) -> None:
    with pysam.TabixFile(str(vcf)) as file:
        start = next(int(line.split("\t")[1]) for line in file.fetch("chr1") if "<DEL>" in line)
    regions = [Interval("chr1", start + 10, start + 20), Interval("chr1", start + 200_000, start + 200_010)]
    fetch_region(str(vcf), regions, tmp_path / "out.vcf.gz")
    lines = _lines(tmp_path / "out.vcf.gz")
    assert sum("<DEL>" in line for line in lines) == 1 and lines == _expected(vcf, regions)


def test_a_busy_server_is_asked_again(server: Server, vcf: Path, tmp_path: Path) -> None:
    server.fault = "busy"
    regions = [Interval("chr1", 0, 500_000)]
    assert _get(server, tmp_path / "out.vcf.gz", regions) == len(_expected(vcf, regions))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut", "tried 3 times without headway"),
        ("less", "asked for .* bytes from 0, the server says"),
        ("whole", "sends no ranges, only the whole"),
        ("damaged", "is damaged"),
    ],
)
def test_an_answer_that_is_not_whole_is_never_taken_for_it(
    server: Server, tmp_path: Path, fault: str, message: str
) -> None:
    server.fault = fault
    with pytest.raises(FileError, match=message):
        _get(server, tmp_path / "out.vcf.gz", [Interval("chr1", 0, 2_000_000)])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_meanwhile(server: Server, tmp_path: Path) -> None:
    server.tags = ['"one"', '"one"', '"two"']
    with pytest.raises(FileError, match="the file changed while it was read"):
        _get(server, tmp_path / "out.vcf.gz", [Interval("chr1", 0, 8_000_000)])
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_cut_short_or_have_another_index(vcf: Path, tmp_path: Path) -> None:
    whole = vcf.read_bytes()
    (tmp_path / "c.vcf.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="cut short"):
        fetch_region(str(tmp_path / "c.vcf.gz"), [Interval("chr2", 0, 8_000_000)], tmp_path / "o.vcf.gz",
                     index=f"{vcf}.tbi")  # fmt: skip
    index = Path(f"{vcf}.tbi").read_bytes()
    (tmp_path / "i.tbi").write_bytes(index[:-40])
    with pytest.raises(FileError, match="the index cannot be read"):
        fetch_region(str(vcf), [Interval("chr2", 0, 9)], tmp_path / "o.vcf.gz", index=str(tmp_path / "i.tbi"))
    with pytest.raises(FileError, match="is no tabix index"):
        tabix.read_index(gzip.compress(b"CSI\x01" + bytes(40)), "x.csi")
    assert not (tmp_path / "o.vcf.gz").exists()
    with pytest.raises(FileError, match=r"no block begins at byte|no bgzip block at byte"):
        with Ranges(str(vcf)) as file:
            list(tabix.lines_between(file, 0, (1_234 << 16) + 5))


def test_contigs_by_other_names(vcf: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("#note\nNC_000001.11\tchr1\n")
    region = [Interval("NC_000001.11", 0, 100_000)]
    with pytest.raises(FileError, match=r"has no contig NC_000001.11 \(chr1, chr2, \.\.\.\)"):
        fetch_region(str(vcf), region, tmp_path / "o.vcf.gz")
    count = fetch_region(str(vcf), region, tmp_path / "o.vcf.gz", aliases=tmp_path / "a.tsv")
    assert count == len(_expected(vcf, [Interval("chr1", 0, 100_000)])) > 0


def test_the_command(vcf: Path, tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text("#c\nchr2\t10\t90000\n")
    arguments = ["fetch-region", str(vcf), "-o", str(tmp_path / "o.vcf.gz"), "--region", "chr1:11-60,000"]
    result = CliRunner().invoke(cli.app, [*arguments, "--bed", str(tmp_path / "r.bed")])
    assert result.exit_code == 0, result.output
    wanted = [Interval("chr1", 10, 60_000), Interval("chr2", 10, 90_000)]
    assert _lines(tmp_path / "o.vcf.gz") == _expected(vcf, wanted)
    with pytest.raises(FileError, match="no region; give --region"):
        read_regions([])
    (tmp_path / "r.bed").write_text("chr2\t90\t10\n")
    with pytest.raises(FileError, match=r"line 1: .*wanted chromosome, start < end"):
        read_regions([], tmp_path / "r.bed")


def test_bins_are_those_of_the_format() -> None:
    assert tabix.bins_of(0, 1) == [0, 1, 9, 73, 585, 4681]
    assert tabix.bins_of((1 << 14) - 1, (1 << 14) + 1)[-2:] == [4681, 4682]
    assert struct.calcsize("<8i") == 32
