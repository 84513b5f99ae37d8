"""Signal that is a set of single bases: Tn5 and DNase cut sites of a BAM, CAGE starts of a CTSS BED."""

from __future__ import annotations

import logging
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
    """Counts at single bases; every other base of a chromosome of `chroms` is zero, other chromosomes NaN."""

    def __init__(self, points: dict[str, tuple[np.ndarray, np.ndarray]], chroms: Iterable[str]) -> None:
        """points: `{chrom: (positions sorted int64 [n], counts float64 [n])}`, positions 0-based."""
        self._points, self._chroms = points, set(chroms)

    def block(self, chrom: str, start: int, end: int) -> np.ndarray:
        """float64 [end - start] of bases start..end (0-based half-open), NaN where missing."""
        if chrom not in self._chroms:
            return np.full(end - start, np.nan)
        values = np.zeros(end - start)
        if chrom in self._points:
            positions, counts = self._points[chrom]
            first, last = np.searchsorted(positions, [start, end])
            values[positions[first:last] - start] = counts[first:last]
        return values


def merge_points(positions: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct positions int64 and the float64 sum of the counts (ones by default) at each."""
    distinct, index = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
    return distinct, np.bincount(index, weights=counts, minlength=len(distinct)).astype(np.float64)


def read_cut_sites(
    path: str | Path, genome: Genome, shift: tuple[int, int], min_quality: int, scratch: Path
) -> PointSource:
    """Unstranded cut counts of a BAM (ChromBPNet's convention).

    A read on the + strand cuts at `start + shift[0]`, one on the - strand at `end - 1 + shift[1]`
    (0-based, end exclusive): (+4, -4) for Tn5, (0, +1) for DNase. Unmapped, secondary, supplementary,
    duplicate and quality-failed reads, and reads below `min_quality`, are not counted. `scratch` takes the
    index, and the sorted copy, of a BAM that comes without.
    """
    points: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    with _open_sorted(Path(path), scratch) as reads:
        names = match_names(dict(zip(reads.references, reads.lengths, strict=True)), genome, path)
        for chrom, name in names.items():
            cuts = _cuts(reads.fetch(name), shift, min_quality)
            cuts = cuts[(cuts >= 0) & (cuts < genome.lengths[chrom])]
            points[chrom] = merge_points(cuts)
    return PointSource(points, names)


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


def _open_sorted(path: Path, scratch: Path) -> pysam.AlignmentFile:
    """The BAM with an index: its own, or one made in `scratch` (of a sorted copy if it is not sorted)."""
    try:
        with pysam.AlignmentFile(str(path), "rb") as reads:
            order = reads.header.to_dict().get("HD", {}).get("SO")
            indexed = reads.has_index()
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as BAM ({error}); fetch it again") from error
    if indexed:
        return pysam.AlignmentFile(str(path), "rb")
    if order != "coordinate":
        LOGGER.info("%s: not sorted by coordinate, sorting a copy", path)
        copy = scratch / f"{path.name}.sorted.bam"
        pysam.sort("-o", str(copy), str(path))
        path = copy
    index = scratch / f"{path.name}.bai"
    pysam.index(str(path), str(index))
    return pysam.AlignmentFile(str(path), "rb", index_filename=str(index))


def read_ctss(path: str | Path, genome: Genome) -> dict[str, PointSource]:
    """`{"+": source, "-": source}` of a CTSS BED: one base a row, count in the score column, strand sixth."""
    positions: dict[tuple[str, str], list[int]] = {}
    counts: dict[tuple[str, str], list[float]] = {}
    unknown = 0
    for number, fields in read_rows(path, 6):
        start, count, strand = _ctss_row(fields, path, number)
        chrom = genome.resolve(fields[0])
        if chrom is None or start >= genome.lengths[chrom]:
            _refuse_past_end(chrom, start, path, number)
            unknown += 1
            continue
        positions.setdefault((strand, chrom), []).append(start)
        counts.setdefault((strand, chrom), []).append(count)
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
