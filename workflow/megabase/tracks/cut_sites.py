"""Signal that is a set of single bases: Tn5 and DNase cut sites of a BAM, CAGE starts of a CTSS BED."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pysam

from megabase.files import FileError
from megabase.genome import Genome
from megabase.tracks.bigwig import match_names
from megabase.tracks.measured import read_interval, read_rows

LOGGER = logging.getLogger("megabase")
SKIPPED = pysam.FUNMAP | pysam.FSECONDARY | pysam.FSUPPLEMENTARY | pysam.FDUP | pysam.FQCFAIL


class PointSource:
    """Counts at single bases; every other base of a chromosome of `chroms` is zero, other chromosomes NaN.

    May be pickled.
    """

    def __init__(self, points: dict[str, tuple[np.ndarray, np.ndarray]], chroms: Iterable[str]) -> None:
        """points: `{chrom: (positions sorted int64 [n], counts float64 [n])}`, positions 0-based."""
        self._points, self._chroms = points, set(chroms)
        self._files: dict[str, Path] = {}

    def keep_in(self, stem: Path) -> PointSource:
        """Move the points to files `{stem}.{n}...`: of a group of many files, none stays in memory."""
        for number, (chrom, (positions, counts)) in enumerate(self._points.items()):
            self._files[chrom] = Path(f"{stem}.{number}")
            np.save(f"{stem}.{number}.positions.npy", positions)
            np.save(f"{stem}.{number}.counts.npy", counts)
        self._points = {}
        return self

    def block(self, chrom: str, start: int, end: int) -> np.ndarray:
        """float64 [end - start] of bases start..end (0-based half-open), NaN where missing."""
        if chrom not in self._chroms:
            return np.full(end - start, np.nan)
        values = np.zeros(end - start)
        positions, counts = self._points_of(chrom)
        first, last = np.searchsorted(positions, [start, end])
        values[positions[first:last] - start] = counts[first:last]
        return values

    def _points_of(self, chrom: str) -> tuple[np.ndarray, np.ndarray]:
        if chrom in self._files:
            stem = self._files[chrom]
            positions, counts = (
                np.load(f"{stem}.{what}.npy", mmap_mode="r") for what in ("positions", "counts")
            )
            return positions, counts
        return self._points.get(chrom, (np.zeros(0, np.int64), np.zeros(0)))


class CutSource:
    """Cut sites of a sorted and indexed BAM, counted a block at a time. May be pickled."""

    def __init__(
        self, path: Path, index: Path | None, names: dict[str, str], shift: tuple[int, int], min_quality: int
    ) -> None:
        """names: chromosome of the genome -> name in the file; index: none for the one beside the BAM."""
        self._path, self._index, self._names = path, index, names
        self._shift, self._min_quality = shift, min_quality
        self._reach = max(map(abs, shift)) + 1  # a read whose cut lies in a block overlaps it this far about

    def block(self, chrom: str, start: int, end: int) -> np.ndarray:
        """float64 [end - start] of cuts at bases start..end (0-based half-open), NaN where missing."""
        if chrom not in self._names:
            return np.full(end - start, np.nan)
        name = self._names[chrom]
        index = {"index_filename": str(self._index)} if self._index else {}
        try:
            with pysam.AlignmentFile(str(self._path), "rb", **index) as reads:
                last = min(end + self._reach, reads.get_reference_length(name))
                near = reads.fetch(name, max(start - self._reach, 0), last)
                cuts = _cuts(near, self._shift, self._min_quality)
        except (OSError, ValueError) as error:
            raise FileError(
                f"{self._path}: damaged at {name}:{start}-{end} ({error}); fetch it again"
            ) from error
        cuts = cuts[(cuts >= start) & (cuts < end)]
        return np.bincount(cuts - start, minlength=end - start).astype(np.float64)


def merge_points(positions: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct positions int64 and the float64 sum of the counts (ones by default) at each."""
    distinct, index = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
    return distinct, np.bincount(index, weights=counts, minlength=len(distinct)).astype(np.float64)


def read_cut_sites(
    path: str | Path, genome: Genome, shift: tuple[int, int], min_quality: int, scratch: Path
) -> CutSource:
    """Unstranded cut counts of a BAM (ChromBPNet's convention).

    A read on the + strand cuts at `start + shift[0]`, one on the - strand at `end - 1 + shift[1]`
    (0-based, end exclusive): (+4, -4) for Tn5, (0, +1) for DNase. Unmapped, secondary, supplementary,
    duplicate and quality-failed reads, and reads below `min_quality`, are not counted. `scratch` takes the
    index, and the sorted copy, of a BAM that comes without.
    """
    with open_bam(path) as reads:
        names = match_names(dict(zip(reads.references, reads.lengths, strict=True)), genome, path)
    return CutSource(*sorted_bam(Path(path), scratch), names, shift, min_quality)


def open_bam(path: str | Path) -> pysam.AlignmentFile:
    """Open a BAM; FileError if it is none."""
    try:
        return pysam.AlignmentFile(str(path), "rb")
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as BAM ({error}); fetch it again") from error


def _cuts(reads: Iterable[pysam.AlignedSegment], shift: tuple[int, int], min_quality: int) -> np.ndarray:
    """int64 cut position of each read that counts."""
    plus, minus = shift
    return np.fromiter(
        (
            read.reference_end - 1 + minus if read.is_reverse else read.reference_start + plus
            for read in reads
            if not read.flag & SKIPPED and read.mapping_quality >= min_quality
        ),
        dtype=np.int64,
    )


def sorted_bam(path: Path, scratch: Path) -> tuple[Path, Path | None]:
    """A BAM sorted by coordinate, and its index where it is not beside it; `scratch` takes what is made."""
    with open_bam(path) as reads:
        order = reads.header.to_dict().get("HD", {}).get("SO")
        if reads.has_index():
            return path, None
    if order != "coordinate":
        LOGGER.info("%s: not sorted by coordinate, sorting a copy", path)
        copy = scratch / f"{path.name}.sorted.bam"
        pysam.sort("-o", str(copy), str(path))
        path = copy
    index = scratch / f"{path.name}.bai"
    pysam.index(str(path), str(index))
    return path, index


def read_ctss(path: str | Path, genome: Genome) -> dict[str, PointSource]:
    """`{"+": source, "-": source}` of a CTSS BED: one base a row, count in the score column, strand sixth."""
    positions: dict[tuple[str, str], array[int]] = {}
    counts: dict[tuple[str, str], array[float]] = {}
    unknown = 0
    for number, fields in read_rows(path, 6):
        start, count, strand = _ctss_row(fields, path, number)
        chrom = genome.resolve(fields[0])
        if chrom is None or start >= genome.lengths[chrom]:
            _refuse_past_end(chrom, start, path, number)
            unknown += 1
            continue
        positions.setdefault((strand, chrom), array("q")).append(start)
        counts.setdefault((strand, chrom), array("d")).append(count)
    if unknown:
        LOGGER.warning("%s: %d rows on chromosomes that the genome does not have, left out", path, unknown)
    if not positions:
        raise FileError(f"{path}: no row on a chromosome of the genome ({list(genome.lengths)[:3]}...)")
    merged = {key: merge_points(np.array(found), np.array(counts[key])) for key, found in positions.items()}
    return {
        strand: PointSource({c: points for (s, c), points in merged.items() if s == strand}, genome.lengths)
        for strand in "+-"
    }


def _refuse_past_end(chrom: str | None, start: int, path: str | Path, number: int) -> None:
    if chrom is not None:
        raise FileError(
            f"{path}, row {number}: position {start} is past the end of {chrom}; another assembly's file?"
        )


def _ctss_row(fields: list[str], path: str | Path, number: int) -> tuple[int, float, str]:
    """Position, count and strand of the fields of a CTSS row."""
    start, end = read_interval(fields, path, number)
    if end - start != 1:
        raise FileError(f"{path}, row {number}: {end - start} bp long; a CTSS row stands for one base")
    if fields[5] not in ("+", "-"):
        raise FileError(f"{path}, row {number}: strand {fields[5]!r}, wanted + or -")
    try:
        count = float(fields[4])
    except ValueError:
        count = -1.0
    if not 0 <= count < float("inf"):
        raise FileError(f"{path}, row {number}: score {fields[4]!r}, wanted a count of 0 or more")
    return start, count, fields[5]
