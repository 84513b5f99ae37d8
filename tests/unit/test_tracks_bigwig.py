"""bigWig reading and writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from track_stand_ins import LENGTHS, make_genome, random_signal, read_bigwig, write_bigwig

from megabase.files import FileError
from megabase.genome import Genome
from megabase.tracks.bigwig import BigWigSource, RunWriter


def _write(path: Path, genome: Genome, signal: dict[str, np.ndarray], step: int) -> bytes:
    with RunWriter(path, genome) as writer:
        for chrom, values in signal.items():
            for start in range(0, len(values), step):
                writer.add(chrom, start, values[start : start + step])
    return path.read_bytes()


def test_written_bytes_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    signal = {c: np.repeat(v[: len(v) // 7 + 1], 7)[: len(v)] for c, v in random_signal("runs").items()}
    signal["chr1"][100:300] = np.nan
    whole = _write(tmp_path / "a.bw", genome, signal, 10_000)
    assert whole == _write(tmp_path / "b.bw", genome, signal, 13)
    for chrom, values in read_bigwig(tmp_path / "a.bw").items():
        np.testing.assert_array_equal(values, signal[chrom])


def test_gap_is_zero_and_nan_interval_is_missing(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    signal = random_signal("source")
    signal["chr1"][50:60] = np.nan
    source = BigWigSource(write_bigwig(tmp_path / "s.bw", signal), genome)
    np.testing.assert_array_equal(source.block("chr1", 37, 5_000), signal["chr1"][37:5_000])
    np.testing.assert_array_equal(source.block("chr2", 0, LENGTHS["chr2"]), signal["chr2"])


def test_long_intervals_are_clipped_to_the_block(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    with RunWriter(tmp_path / "r.bw", genome) as writer:
        writer.add("chr1", 10, np.repeat(np.float32([1, 2, 3]), [100, 1, 200]))
    values = BigWigSource(tmp_path / "r.bw", genome).block("chr1", 60, 120)
    np.testing.assert_array_equal(values, np.repeat([1, 2, 3], [50, 1, 9]))


def test_names_by_alias_and_absent_chromosome_is_missing(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    path = write_bigwig(tmp_path / "s.bw", {"1": random_signal("alias")["chr1"]})
    source = BigWigSource(path, genome)
    assert np.nansum(source.block("chr1", 0, 9_000)) > 0
    assert np.isnan(source.block("chr2", 0, 10)).all()


def test_other_assembly_is_refused(tmp_path: Path) -> None:
    genome = Genome.open(make_genome(tmp_path))
    path = write_bigwig(tmp_path / "s.bw", {"chr1": np.ones(10, np.float32)})
    with pytest.raises(FileError, match=r"s\.bw.*chr1 has 10 bp.*9000"):
        BigWigSource(path, genome)
    path = write_bigwig(tmp_path / "t.bw", {"scaffold": np.ones(10, np.float32)})
    with pytest.raises(FileError, match="none is in the genome"):
        BigWigSource(path, genome)
    (tmp_path / "no.bw").write_text("not a bigWig")
    with pytest.raises(FileError, match=r"no\.bw.*fetch it again"):
        BigWigSource(tmp_path / "no.bw", genome)
