"""One decoding of every file, any number of processes, and memory that grows with nothing."""

from __future__ import annotations

import resource
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from track_stand_ins import LENGTHS, make_genome, random_signal, read_bigwig, row, write_bam, write_bigwig

from megabase.files import FileError
from megabase.settings.data import TrackSettings
from megabase.tracks import bigwig, normalize_track, passes
from megabase.tracks.held import RunFile, read_blocks

PAIR = [("a", "+", "1"), ("b", "-", "1"), ("c", "+", "2"), ("d", "-", "2")]


def _rows(output_type: str, replicates: int) -> list[dict[str, Any]]:
    """Rows of unstranded individuals, an experiment each."""
    return [row(f"r{n}", output_type, experiment=f"GTEX-{n:04d}") for n in range(replicates)]


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return make_genome(tmp_path)


@pytest.mark.parametrize("output_type", ["rna_seq", "chip_tf"])
def test_bytes_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch, output_type: str
) -> None:
    monkeypatch.setattr(passes, "SHARE", 1_000)
    rows = [row(a, output_type, strand=s, replicate=r) for a, s, r in PAIR]
    files = [write_bigwig(tmp_path / f"{a}.bw", random_signal(a)) for a, _, _ in PAIR]
    for threads in (1, 2):
        normalize_track(rows, files, genome, tmp_path / f"o{threads}", TrackSettings(), threads=threads)
    assert _contents(tmp_path / "o1") == _contents(tmp_path / "o2")
    assert set(_contents(tmp_path / "o1")) == {"plus.bw", "minus.bw", "quality.json", "track.json"}


def test_cut_sites_and_ctss_by_two_processes(
    tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "SHARE", 1_000)
    bam = write_bam(tmp_path / "r.bam", [("chr1", 100, 150, 0, 9), ("chr2", 250, 300, 16, 9)])
    (tmp_path / "c.ctss.bed").write_text("chr1\t10\t11\tx\t3\t+\nchr2\t20\t21\tx\t1\t-\n")
    for threads in (1, 2):
        normalize_track(
            [row("a", "atac")], [bam], genome, tmp_path / f"atac{threads}", TrackSettings(), threads=threads
        )
        normalize_track(
            [row("a", "cage", strand="")], [tmp_path / "c.ctss.bed"], genome, tmp_path / f"cage{threads}",
            TrackSettings(), threads=threads,
        )  # fmt: skip
    for kind in ("atac", "cage"):
        assert _contents(tmp_path / f"{kind}1") == _contents(tmp_path / f"{kind}2")


def test_error_of_a_process_is_the_error(
    tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "SHARE", 1_000)
    path = write_bigwig(tmp_path / "x.bw", random_signal("x"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"x\.bw: damaged"):
        normalize_track([row("x", "rna_seq")], [path], genome, tmp_path / "o", TrackSettings(), threads=2)
    assert not (tmp_path / "o").exists()


def test_every_stretch_of_every_file_is_decoded_once(
    tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigwig, "BLOCK", 2_048)
    read: list[tuple[str, str, int]] = []
    block = bigwig.BigWigSource.block

    def counted(self: bigwig.BigWigSource, chrom: str, start: int, end: int) -> np.ndarray:
        read.append((str(self.path), chrom, start))
        return block(self, chrom, start, end)

    monkeypatch.setattr(bigwig.BigWigSource, "block", counted)
    files = [write_bigwig(tmp_path / f"{n}.bw", random_signal(str(n))) for n in range(3)]
    normalize_track(_rows("rna_seq", 3), files, genome, tmp_path / "o", TrackSettings())
    stretches = sum(-(-n // 2_048) for n in LENGTHS.values())
    assert len(read) == len(set(read)) == 3 * stretches


def test_a_large_group_is_decoded_again_to_the_same_bytes(
    tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write_bigwig(tmp_path / f"{n}.bw", random_signal(str(n))) for n in range(3)]
    normalize_track(_rows("rna_seq", 3), files, genome, tmp_path / "held", TrackSettings())
    monkeypatch.setattr(passes, "HELD_REPLICATES", 2)
    normalize_track(_rows("rna_seq", 3), files, genome, tmp_path / "again", TrackSettings())
    assert _contents(tmp_path / "held") == _contents(tmp_path / "again")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_held_values_come_back_bit_for_bit(tmp_path: Path, kind: type) -> None:
    values = np.repeat(np.array([0.1, np.nan, 1 / 3, 0, -0.0, 1e300 if kind is np.float64 else 2], kind), 3)
    file = RunFile(tmp_path / "x")
    file.append(values)
    file.append(values[:4])
    file.close()
    first, second = read_blocks(tmp_path / "x")
    np.testing.assert_array_equal(first, values.astype(np.float64))
    np.testing.assert_array_equal(second, values[:4].astype(np.float64))


def test_gtex_tissue_of_400_individuals(tmp_path: Path, genome: Path) -> None:
    """More files than a process may have open; each is scaled on its own before the mean."""
    signals = [random_signal(str(n), density=0.05) for n in range(400)]
    signals[7] = {c: 1_000 * v for c, v in signals[7].items()}  # a deep sample weighs no more
    files = [write_bigwig(tmp_path / f"{n}.bw", signal) for n, signal in enumerate(signals)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, hard))
    try:
        normalize_track(_rows("rna_seq", 400), files, genome, tmp_path / "o", TrackSettings())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    sums = [sum(float(v.sum(dtype=np.float64)) for v in s.values()) for s in signals]
    for chrom, values in read_bigwig(tmp_path / "o/unstranded.bw").items():
        wanted = np.mean([1e8 / n * s[chrom] for n, s in zip(sums, signals, strict=True)], axis=0)
        np.testing.assert_allclose(values, wanted, rtol=1e-5)


def _peak(tmp_path: Path, length: int, replicates: int) -> int:
    """Bytes that normalizing takes at most, of a genome of a length."""
    folder = tmp_path / f"{length}.{replicates}"
    lengths = {"chr1": length // 2, "chr2": length // 2}
    genome = make_genome(folder, lengths)
    signals = [random_signal(str(n), lengths=lengths, density=0.02) for n in range(replicates)]
    files = [write_bigwig(folder / f"{n}.bw", signal) for n, signal in enumerate(signals)]
    rows = _rows("rna_seq", replicates)
    del signals
    tracemalloc.start()
    normalize_track(rows, files, genome, folder / "o", TrackSettings())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_grows_with_neither_genome_nor_replicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigwig, "BLOCK", 1 << 16)
    _peak(tmp_path / "warm", 1 << 17, 1)  # what is imported at the first call
    small = _peak(tmp_path, 1 << 19, 2)
    assert small > 8 * (1 << 16), "a stretch of float64 is in memory"
    assert _peak(tmp_path, 1 << 22, 2) < 1.2 * small
    assert _peak(tmp_path, 1 << 19, 20) < 1.2 * small
