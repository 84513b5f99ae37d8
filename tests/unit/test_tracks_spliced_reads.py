"""Junction counts and splice-site usage straight from aligned reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pysam
import pytest
from track_stand_ins import LENGTHS, make_genome, row

from megabase.files import FileError, read_json, read_table
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.tracks import normalize_splicing
from megabase.tracks.spliced_reads import SplicedReads
from megabase.tracks.splicing import find_sites

NO_INTRONS = pl.DataFrame(
    schema={"chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "strand": pl.String}
)
M, D, N, S = 0, 2, 3, 4
CROSSING = [(M, 20), (N, 100), (M, 30)]  # from base 80: the intron is 100..200


def _read(start: int, cigar: list[tuple[int, int]], **values: Any) -> dict[str, Any]:
    first = {"chrom": "chr1", "flag": 0, "quality": 60, "tags": {"XS": "+"}, "base_quality": 30, "name": ""}
    return {"start": start, "cigar": cigar, **first, **values}


def _bam(path: Path, reads: list[dict[str, Any]]) -> Path:
    header = {"HD": {"VN": "1.6", "SO": "unsorted"}, "SQ": [{"SN": c, "LN": n} for c, n in LENGTHS.items()]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for number, given in enumerate(reads):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.flag = given["name"] or f"r{number}", given["flag"]
            read.reference_id = list(LENGTHS).index(given["chrom"])
            read.reference_start, read.cigartuples = given["start"], given["cigar"]
            read.mapping_quality = given["quality"]
            bases = sum(n for kind, n in given["cigar"] if kind in (M, S))
            read.query_sequence = "A" * bases
            quality = given["base_quality"]
            read.query_qualities = pysam.qualitystring_to_array(
                "".join(chr(33 + q) for q in (quality if isinstance(quality, list) else [quality] * bases))
            )
            for tag, value in given["tags"].items():
                read.set_tag(tag, value)
            if "mate" in given:
                read.next_reference_id, read.next_reference_start = read.reference_id, given["mate"]
            file.write(read)
    return path


def _open(tmp_path: Path, reads: list[dict[str, Any]], **settings: Any) -> SplicedReads:
    genome = Genome.open(make_genome(tmp_path))
    return SplicedReads(_bam(tmp_path / "r.bam", reads), genome, TrackSettings(**settings), tmp_path)


def _counts(reads: SplicedReads, annotated: pl.DataFrame = NO_INTRONS) -> dict[tuple[int, int, str], int]:
    return {row[1:4]: row[4] for row in reads.junctions(annotated).rows()}


def test_reads_that_count(tmp_path: Path) -> None:
    reads = [
        _read(80, CROSSING),
        _read(80, CROSSING, quality=255, tags={"XS": "+", "NH": 1}),
        _read(80, CROSSING, tags={"XS": "+", "NH": 2}),  # mapped to two places
        _read(80, CROSSING, quality=29),
        _read(80, CROSSING, flag=1024),  # a duplicate
        _read(80, CROSSING, flag=256),  # secondary
        _read(80, CROSSING, tags={}),  # of unknown strand
        _read(80, [(M, 20), (D, 100), (M, 30)]),  # a deletion is no intron
        _read(80, [(M, 20), (N, 19), (M, 30)]),  # nor is so short a gap
    ]
    assert _counts(_open(tmp_path, reads)) == {(100, 200, "+"): 2}
    assert _counts(_open(tmp_path, reads, splice_mapping_quality=29)) == {(100, 200, "+"): 3}


def test_overhang_is_asked_of_unannotated_junctions(tmp_path: Path) -> None:
    reads = [_read(100 - n, [(S, 3), (M, n), (N, 100), (M, 30)]) for n in (7, 8)]
    reads.append(_read(80, [(M, 20), (N, 100), (M, 9), (N, 50), (M, 3)]))
    opened = _open(tmp_path, reads)
    assert _counts(opened) == {(100, 200, "+"): 2}
    annotated = pl.DataFrame(
        [("chr1", 100, 200, "+"), ("chr1", 209, 259, "+")], schema=NO_INTRONS.schema, orient="row"
    )
    assert _counts(opened, annotated) == {(100, 200, "+"): 3, (209, 259, "+"): 1}


@pytest.mark.parametrize(
    ("flag", "tags", "library", "strand"),
    [
        (0, {"XS": "-"}, "forward", "-"),  # the tag goes before the library
        (16, {"ts": "+"}, "unstranded", "-"),
        (16, {"ts": "-"}, "unstranded", "+"),
        (0, {}, "forward", "+"),
        (16, {}, "forward", "-"),
        (0, {}, "reverse", "-"),
        (1 | 128 | 16, {}, "forward", "+"),  # second read of a fragment
        (1 | 128, {}, "reverse", "+"),
    ],
)
def test_strand(tmp_path: Path, flag: int, tags: dict[str, str], library: str, strand: str) -> None:
    reads = [_read(80, CROSSING, flag=flag, tags=tags)]
    assert _counts(_open(tmp_path, reads, library_strand=library)) == {(100, 200, strand): 1}


def test_mates_that_cross_one_junction_count_once(tmp_path: Path) -> None:
    mates = [
        _read(80, CROSSING, flag=1 | 64 | 32, name="pair", mate=85),
        _read(85, [(M, 15), (N, 100), (M, 30), (N, 60), (M, 10)], flag=1 | 128 | 16, name="pair", mate=80),
        _read(80, CROSSING, flag=1 | 64, name="apart", mate=4_000),
    ]
    assert _counts(_open(tmp_path, mates)) == {(100, 200, "+"): 2, (230, 290, "+"): 1}


def _usage(reads: SplicedReads, introns: list[tuple[int, int, str]]) -> dict[tuple[int, str], float]:
    rows = [("chr1", *intron) for intron in introns]
    kept = pl.DataFrame(rows, schema=NO_INTRONS.schema, orient="row")
    return {row[1:3]: row[3] for row in reads.usage(find_sites(kept), kept).rows()}


def test_usage_counts_spliced_and_contiguous_reads(tmp_path: Path) -> None:
    """Introns 100..200 and 100..300: the acceptor at 200 is skipped by the longer one."""
    long = [(M, 20), (N, 200), (M, 30)]
    reads = [
        *[_read(80, CROSSING)] * 3,  # use 99 and 200
        *[_read(80, long)] * 2,  # use 99 and 300, skip 200
        _read(90, [(M, 20)], tags={}, flag=16),  # into the intron at 99, on the other strand
        _read(190, [(M, 20)], tags={}),  # out of the intron at 200
        _read(200, [(M, 20)]),  # begins at 200: tells nothing of it
        _read(80, [(M, 20)]),  # ends at 99
        _read(290, [(M, 40)], quality=10),  # badly mapped
    ]
    usage = _usage(_open(tmp_path, reads), [(100, 200, "+"), (100, 300, "+")])
    assert usage == {(99, "+"): 5 / 6, (200, "+"): 3 / (3 + 2 + 1), (300, "+"): 1.0}


def test_usage_of_the_minus_strand(tmp_path: Path) -> None:
    """On the minus strand the intron's right end is the donor's; borders lie on the same sides."""
    reads = [_read(80, CROSSING, tags={"XS": "-"}), _read(190, [(M, 20)]), _read(90, [(M, 20)])]
    assert _usage(_open(tmp_path, reads), [(100, 200, "-")]) == {(99, "-"): 0.5, (200, "-"): 0.5}


def test_base_quality_at_the_site(tmp_path: Path) -> None:
    low = [30] * 50
    low[19] = 19  # the last base before the intron
    reads = [_read(80, CROSSING), _read(80, CROSSING, base_quality=low)]
    reads.append(_read(90, [(M, 20)], base_quality=[30] * 9 + [19] + [30] * 10))  # at base 99
    found = _usage(_open(tmp_path, reads), [(100, 200, "+")])
    assert found == {(99, "+"): 1.0, (200, "+"): 1.0}
    opened = _open(tmp_path, reads, splice_base_quality=19)
    assert _usage(opened, [(100, 200, "+")]) == {(99, "+"): 2 / 3, (200, "+"): 1.0}


def test_junctions_that_are_not_kept_neither_use_nor_skip(tmp_path: Path) -> None:
    reads = [_read(80, CROSSING), _read(80, [(M, 20), (N, 200), (M, 30)])]
    assert _usage(_open(tmp_path, reads), [(100, 200, "+")]) == {(99, "+"): 1.0, (200, "+"): 1.0}


def test_bam_rows_of_a_manifest(tmp_path: Path) -> None:
    """A BAM of junctions gives counts and usage; one of usage gives usage alone; samples are averaged."""
    genome = make_genome(tmp_path)
    one = _bam(tmp_path / "1.bam", [*[_read(80, CROSSING)] * 3, _read(90, [(M, 20)])])
    two = _bam(tmp_path / "2.bam", [*[_read(80, CROSSING)] * 1, _read(90, [(M, 20)])])
    rows = [row("a", "splice_junctions"), row("b", "splice_site_usage", replicate="2")]
    normalize_splicing(rows, [one, two], genome, tmp_path / "s", TrackSettings())
    usage = read_table(tmp_path / "s/usage.parquet", "usage")
    assert usage.rows() == [
        ("chr1", 99, "+", "CL:1 assay", (3 / 4 + 1 / 2) / 2), ("chr1", 200, "+", "CL:1 assay", 1.0),
    ]  # fmt: skip
    assert read_table(tmp_path / "s/junctions.parquet", "junctions")["count"].to_list() == [1.0]
    channels = read_json(tmp_path / "s/track.json", "track")["channels"]
    assert [c["accessions"] for c in channels] == ["a,b", "a,b", "a", "a"]
    first = {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()}
    normalize_splicing(rows, [one, two], genome, tmp_path / "s", TrackSettings())
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()}


def test_annotated_introns_of_the_release_need_less_overhang(tmp_path: Path) -> None:
    genome = make_genome(tmp_path)
    bam = _bam(tmp_path / "1.bam", [_read(95, [(M, 5), (N, 100), (M, 30)])] * 3)
    (tmp_path / "i.bed").write_text("chr1\t100\t200\tA\t0\t+\n")
    with pytest.raises(FileError, match="no read on any kept junction"):
        normalize_splicing([row("a", "splice_junctions")], [bam], genome, tmp_path / "s", TrackSettings())
    rows = [row("a", "splice_junctions"), row("i", "splice_sites")]
    normalize_splicing(rows, [bam, tmp_path / "i.bed"], genome, tmp_path / "s", TrackSettings())
    assert read_table(tmp_path / "s/junctions.parquet", "junctions").height == 1


def test_other_assembly_and_no_bam(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    (tmp_path / "no.bam").write_text("text")
    with pytest.raises(FileError, match=r"no\.bam: cannot be read as BAM.*fetch it again"):
        SplicedReads(tmp_path / "no.bam", genome, TrackSettings(), tmp_path)


def test_failed_sample_is_listed_and_the_others_go_on(tmp_path: Path) -> None:
    genome = make_genome(tmp_path)
    (tmp_path / "bad.bam").write_text("text")
    bam = _bam(tmp_path / "1.bam", [_read(80, CROSSING)] * 3)
    rows = [row("bad", "splice_junctions"), row("a", "splice_junctions", replicate="2")]
    files = [tmp_path / "bad.bam", bam]
    with pytest.raises(FileError, match=r"bad\.bam"):
        normalize_splicing(rows, files, genome, tmp_path / "s", TrackSettings())
    normalize_splicing(rows, files, genome, tmp_path / "s", TrackSettings(keep_going=True))
    told = read_json(tmp_path / "s/track.json", "track")
    assert [f["accessions"] for f in told["failed"]] == ["bad"] and "bad.bam" in told["failed"][0]["reason"]
    assert {c["accessions"] for c in told["channels"]} == {"a"}


def test_a_sample_without_kept_reads_is_left_out_with_its_usage(tmp_path: Path) -> None:
    genome = make_genome(tmp_path)
    one = _bam(tmp_path / "1.bam", [_read(80, CROSSING)] * 3)
    two = _bam(tmp_path / "2.bam", [_read(90, [(M, 20)])] * 5)  # runs across the site without a gap
    rows = [row("a", "splice_junctions"), row("b", "splice_junctions", replicate="2")]
    normalize_splicing(rows, [one, two], genome, tmp_path / "s", TrackSettings(keep_going=True))
    told = read_json(tmp_path / "s/track.json", "track")
    assert [f["accessions"] for f in told["failed"]] == ["b"]
    assert {c["accessions"] for c in told["channels"]} == {"a"}
    assert read_table(tmp_path / "s/usage.parquet", "usage")["usage"].to_list() == [1.0, 1.0]


def test_samples_of_one_portal_decide(tmp_path: Path) -> None:
    """The published rule of human ENCODE: junctions of GTEx's filtered set alone."""
    genome = make_genome(tmp_path)
    shared = "chr1\t101\t200\t1\t1\t1\t30\t0\t20\n"
    texts = {"gtex": shared, "encode": shared + "chr1\t301\t400\t1\t1\t1\t50\t0\t20\n"}
    rows = [row(p, "splice_junctions", portal=p) for p in texts]
    for portal, text in texts.items():
        (tmp_path / f"{portal}.tab").write_text(text)
    files = [tmp_path / f"{portal}.tab" for portal in texts]
    rule = {"junction_filters": {"human": "gtex"}, "junction_portals": {"human": "gtex"}}
    normalize_splicing(rows, files, genome, tmp_path / "s", TrackSettings(**rule))
    found = read_table(tmp_path / "s/junctions.parquet", "junctions")
    assert found.select("donor", "biosample").rows() == [(99, "CL:1 assay encode"), (99, "CL:1 assay gtex")]
    other = {"junction_portals": {"human": "recount"}}
    with pytest.raises(FileError, match=r"no junctions of portal 'recount'.*junction_portals\.human"):
        normalize_splicing(rows, files, genome, tmp_path / "s", TrackSettings(**other))
