"""Which bases of a genome are measured at all: inside the regions, off the blacklist, of known sequence."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from megabase.files import FileError
from megabase.genome import Genome
from megabase.spec import UNKNOWN_BASE


def read_rows(path: str | Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """`(row number, fields)` of a tab-separated file, plain or gzip, comments and track lines left out."""
    with open(path, "rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if packed else open(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith(("#", "track", "browser")):
                continue
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) < columns:
                raise FileError(
                    f"{path}, row {number}: {len(fields)} tab-separated fields, wanted at least {columns}"
                )
            yield number, fields


def read_interval(fields: list[str], path: str | Path, number: int) -> tuple[int, int]:
    """Start and end of the fields of a BED row; FileError unless 0 <= start < end."""
    try:
        start, end = int(fields[1]), int(fields[2])
    except ValueError:
        raise FileError(
            f"{path}, row {number}: start {fields[1]!r}, end {fields[2]!r}; wanted integers"
        ) from None
    if not 0 <= start < end:
        raise FileError(f"{path}, row {number}: start {start}, end {end}; wanted 0 <= start < end (BED)")
    return start, end


def read_bed(path: str | Path, genome: Genome) -> dict[str, np.ndarray]:
    """`{chrom: int64 [n, 2] of start, end}` of a BED file; chromosomes by alias, unknown ones left out."""
    found: dict[str, list[tuple[int, int]]] = {}
    unknown = set()
    for number, fields in read_rows(path, 3):
        interval = read_interval(fields, path, number)
        chrom = genome.resolve(fields[0])
        if chrom is None:
            unknown.add(fields[0])
        else:
            found.setdefault(chrom, []).append(interval)
    if unknown and not found:
        raise FileError(f"{path}: chromosomes {sorted(unknown)[:3]}..., none of them is in the genome")
    return {chrom: np.array(sorted(intervals), dtype=np.int64) for chrom, intervals in found.items()}


class Measured:
    """Mask of measured bases: inside `regions` (if any are given), outside the `masks`, not N."""

    def __init__(
        self, genome: Genome, regions: str | Path | None, masks: Sequence[str | Path | None] = ()
    ) -> None:
        """regions: BED; masks: BEDs of bases whose signal is missing, such as a blacklist; None: none."""
        self._genome = genome
        self._regions = read_bed(regions, genome) if regions else None
        self._masks = [read_bed(path, genome) for path in masks if path]

    def block(self, chrom: str, start: int, end: int) -> np.ndarray:
        """bool [end - start]: whether each base start..end (0-based half-open) is measured."""
        mask = self._genome.codes(chrom, start, end) != UNKNOWN_BASE
        if self._regions is not None:
            mask &= _covered(self._regions.get(chrom), start, end)
        for masked in self._masks:
            if chrom in masked:
                mask &= ~_covered(masked[chrom], start, end)
        return mask


def _covered(intervals: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """bool [end - start]: bases inside any of the intervals [n, 2], which may overlap."""
    if intervals is None:
        return np.zeros(end - start, dtype=bool)
    near = intervals[(intervals[:, 0] < end) & (intervals[:, 1] > start)]
    edges = np.clip(near - start, 0, end - start)
    opened, closed = (np.bincount(edges[:, k], minlength=end - start + 1) for k in (0, 1))
    return np.cumsum(opened - closed)[:-1] > 0
