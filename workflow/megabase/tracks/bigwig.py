"""bigWig in and out. A base without an interval is missing in our files, and zero in files of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pyBigWig

from megabase.files import FileError
from megabase.genome import Genome
from megabase.tracks.decode import BigWigFile

BLOCK = 1 << 22  # bases that are held in memory at a time; bounds what a file of 1-bp intervals may take


def stretches(length: int) -> Iterator[tuple[int, int]]:
    """`(start, end)` of at most `BLOCK` bases that cover a chromosome in order."""
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length)


def run_starts(values: np.ndarray) -> np.ndarray:
    """int64 index of the first base of each run of equal values of floats [S]; NaN equals NaN."""
    if len(values) == 0:
        return np.zeros(0, np.int64)
    new = values[1:] != values[:-1]
    missing = np.isnan(values)
    if missing.any():
        new &= ~(missing[1:] & missing[:-1])
    return np.concatenate([[0], np.flatnonzero(new) + 1]).astype(np.int64)


def open_bigwig(path: str | Path) -> pyBigWig.pyBigWig:
    """Open a bigWig for reading; FileError if it is none."""
    try:
        handle = pyBigWig.open(str(path))
    except RuntimeError as error:
        raise FileError(f"{path}: cannot be opened as bigWig ({error}); fetch it again") from error
    if not handle.isBigWig():
        handle.close()
        raise FileError(f"{path}: is a bigBed file, wanted a bigWig")
    return handle


class BigWigSource:
    """Signal of a bigWig of any origin, read by the genome's chromosome names. May be pickled.

    A gap between intervals is zero, an interval of NaN is missing, and so is a chromosome that the file
    does not list.
    """

    def __init__(self, path: str | Path, genome: Genome) -> None:
        self.path = path
        self._file = BigWigFile(path)
        self._names = match_names(self._file.chroms, genome, path)

    def block(self, chrom: str, start: int, end: int) -> np.ndarray:
        """float64 [end - start] of bases start..end (0-based half-open), NaN where missing."""
        name = self._names.get(chrom)
        if name is None:
            return np.full(end - start, np.nan)
        starts, ends, heights = self._file.intervals(name, start, end)
        return _dense(np.maximum(starts, start) - start, np.minimum(ends, end) - start, heights, end - start)


def match_names(found: dict[str, int], genome: Genome, path: str | Path) -> dict[str, str]:
    """`{genome's name: file's name}` by alias; FileError if lengths differ or no name is known."""
    names: dict[str, str] = {}
    for name, length in found.items():
        chrom = genome.resolve(name)
        if chrom is None:
            continue
        if length != genome.lengths[chrom]:
            raise FileError(
                f"{path}: chromosome {name} has {length} bp, the genome's {chrom} has "
                f"{genome.lengths[chrom]}; the file belongs to another assembly"
            )
        names[chrom] = name
    if not names:
        raise FileError(
            f"{path}: chromosomes {list(found)[:3]}..., none is in the genome "
            f"({list(genome.lengths)[:3]}...); give an alias table under genomes.aliases"
        )
    return names


def _dense(starts: np.ndarray, ends: np.ndarray, heights: np.ndarray, length: int) -> np.ndarray:
    """float64 [length]: `heights` in the stretches starts..ends, which are in order, and zero between."""
    lengths = np.zeros(2 * len(starts) + 1, np.int64)  # gap, interval, gap, interval, ..., gap
    lengths[0:-1:2] = starts
    lengths[2:-1:2] -= ends[:-1]
    lengths[1::2] = ends - starts
    lengths[-1] = length - (ends[-1] if len(ends) else 0)
    if (lengths < 0).any():
        return _painted(starts, ends, heights, length)
    values = np.zeros(len(lengths))
    values[1::2] = heights
    return np.repeat(values, lengths)


def _painted(starts: np.ndarray, ends: np.ndarray, heights: np.ndarray, length: int) -> np.ndarray:
    """As `_dense`, of stretches that are out of order or overlap: the last one counts."""
    values = np.zeros(length)
    for start, end, height in zip(starts, ends, heights, strict=True):
        values[start:end] = height
    return values


class RunWriter:
    """Writes one bigWig from consecutive blocks, as the longest runs of equal values; NaN is left out.

    The same values give the same bytes, however they are cut into blocks.
    """

    def __init__(self, path: str | Path, genome: Genome) -> None:
        self._file = pyBigWig.open(str(path), "w")
        self._file.addHeader(list(genome.lengths.items()))
        self._held: tuple[str, int, int, float] | None = None  # last run, which the next block may extend

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._write_held()
        self._file.close()

    def add(self, chrom: str, start: int, values: np.ndarray) -> None:
        """Append float32 [n] at bases start..start+n; blocks come in genome order."""
        first = run_starts(values)
        self.add_runs(chrom, start, np.diff(first, append=len(values)), values[first])

    def add_runs(self, chrom: str, start: int, lengths: np.ndarray, heights: np.ndarray) -> None:
        """Append a block as runs of different neighbours: `lengths` [n] and float32 `heights` [n]."""
        ends = start + np.cumsum(lengths, dtype=np.int64)
        measured = ~np.isnan(heights)
        starts, ends, heights = (ends - lengths)[measured], ends[measured], heights[measured]
        if len(starts) == 0:
            return
        if self._extends(chrom, int(starts[0]), float(heights[0])):
            starts[0] = self._held[1]
        else:
            self._write_held()
        self._held = (chrom, int(starts[-1]), int(ends[-1]), float(heights[-1]))
        if len(starts) > 1:
            names = [chrom] * (len(starts) - 1)
            self._file.addEntries(names, starts[:-1], ends=ends[:-1], values=heights[:-1].astype(np.float64))

    def _extends(self, chrom: str, start: int, value: float) -> bool:
        held = self._held
        return held is not None and (held[0], held[2], held[3]) == (chrom, start, value)

    def _write_held(self) -> None:
        if self._held is not None:
            chrom, start, end, value = self._held
            self._file.addEntries([chrom], [start], ends=[end], values=[value])
        self._held = None
