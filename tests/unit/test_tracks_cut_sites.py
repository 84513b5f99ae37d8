"""Cut sites of BAM files and starts of CTSS BED files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from track_stand_ins import LENGTHS, make_genome, write_bam

from megabase.files import FileError
from megabase.genome import Genome
from megabase.tracks.cut_sites import read_ctss, read_cut_sites

REVERSE, DUPLICATE, SECONDARY, UNMAPPED = 16, 1024, 256, 4


def _cuts(
    path: Path, genome: Genome, shift: tuple[int, int], scratch: Path, quality: int = 0
) -> dict[int, float]:
    values = read_cut_sites(path, genome, shift, quality, scratch).block("chr1", 0, LENGTHS["chr1"])
    return {int(i): float(values[i]) for i in np.flatnonzero(values)}


@pytest.mark.parametrize(("shift", "expected"), [((4, -4), {104: 2, 295: 1}), ((0, 1), {100: 2, 300: 1})])
def test_cut_positions(tmp_path: Path, shift: tuple[int, int], expected: dict[int, float]) -> None:
    genome = Genome.open(make_genome(tmp_path))
    reads = [("chr1", 100, 150, 0, 60), ("chr1", 100, 136, 0, 60), ("chr1", 250, 300, REVERSE, 60)]
    assert _cuts(write_bam(tmp_path / "r.bam", reads), genome, shift, tmp_path) == expected


def test_reads_that_do_not_count(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    flags = [0, DUPLICATE, SECONDARY, UNMAPPED, 2048, 512]
    reads = [("chr1", 100 + n, 150 + n, flag, 30) for n, flag in enumerate(flags)]
    reads.append(("chr1", 400, 450, 0, 5))
    path = write_bam(tmp_path / "r.bam", reads, order="unsorted")
    assert _cuts(path, genome, (0, 0), tmp_path, quality=10) == {100: 1}


def test_unsorted_bam_is_sorted_and_cuts_off_the_chromosome_are_dropped(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    reads = [("chr2", 10, 40, 0, 1), ("chr1", 8_998, 9_000, 0, 1), ("chr1", 5, 40, 0, 1)]
    path = write_bam(tmp_path / "r.bam", reads, order="unsorted")
    assert _cuts(path, genome, (4, -4), tmp_path) == {9: 1}


@pytest.mark.parametrize("shift", [(4, -4), (0, 1)])
def test_blocks_count_every_cut_once(tmp_path: Path, shift: tuple[int, int]) -> None:
    """A read that lies across a border of blocks cuts in one of them."""
    genome = Genome.open(make_genome(tmp_path))
    reads = [("chr1", s, s + 36, flag, 60) for s in range(0, 8_900, 3) for flag in (0, REVERSE)]
    source = read_cut_sites(write_bam(tmp_path / "r.bam", reads), genome, shift, 0, tmp_path)
    whole = source.block("chr1", 0, LENGTHS["chr1"])
    assert whole.sum() == len(reads)
    parts = [source.block("chr1", s, min(s + 101, 9_000)) for s in range(0, 9_000, 101)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_bam_that_is_none(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    (tmp_path / "r.bam").write_text("text")
    with pytest.raises(FileError, match=r"r\.bam.*fetch it again"):
        read_cut_sites(tmp_path / "r.bam", genome, (0, 0), 0, tmp_path)


def test_ctss_strands_and_repeated_rows(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    text = "chr1\t10\t11\tx\t3\t+\nchr1\t10\t11\ty\t2\t+\n1\t20\t21\tz\t7\t-\nchrUn\t1\t2\tz\t7\t-\n"
    (tmp_path / "c.bed.gz").write_bytes(gzip.compress(text.encode()))
    both = read_ctss(tmp_path / "c.bed.gz", genome)
    assert both["+"].block("chr1", 5, 25)[5] == 5
    assert both["-"].block("chr1", 20, 25).tolist() == [7, 0, 0, 0, 0]
    assert both["-"].block("chr2", 0, 5).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t10\t12\tx\t3\t+", "row 2.*one base"),
        ("chr1\t10\t11\tx\t3\t.", "row 2.*strand"),
        ("chr1\t10\t11\tx\t-3\t+", "row 2.*count"),
        ("chr1\t10\t11\tx\tmany\t+", "row 2.*count"),
        ("chr1\tten\t11\tx\t3\t+", "row 2.*integers"),
        ("chr1\t10\t11", "row 2.*fields"),
        ("chr1\t9000\t9001\tx\t3\t+", "row 2.*past the end"),
    ],
)
def test_bad_ctss_row(tmp_path: Path, line: str, message: str) -> None:
    genome = Genome.open(make_genome(tmp_path))
    (tmp_path / "c.bed").write_text(f"chr1\t10\t11\tx\t3\t+\n{line}\n")
    with pytest.raises(FileError, match=message):
        read_ctss(tmp_path / "c.bed", genome)
