"""Stretches that a whole-genome alignment pairs, from tables of aligned intervals (BEDPE).

K-mers find copies that have diverged by up to about a tenth (`homology`); human and mouse differ by a third
at neutral sites. A table of the aligned intervals of two genomes, such as the syntenic fills of a net or the
blocks of a chain, tells what k-mers cannot.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from megabase.files import FileError
from megabase.genome import Genome
from megabase.settings.data import HomologyPairs

_Place = tuple[str, int, int]  # chromosome, start, end


def read_pairs(pairs: HomologyPairs, genomes: Mapping[str, Genome]) -> list[tuple[_Place, _Place, bool]]:
    """Rows (first, second, whether on opposite strands) of a BEDPE in the genomes' names.

    Rows on contigs that a genome lacks are passed over. FileError with the line for one that is no BEDPE or
    reaches beyond a chromosome, and if no row is left.
    """
    for organism in (pairs.first, pairs.second):
        if organism not in genomes:
            raise FileError(f"folds.homology_pairs: no genome of {organism!r}; it has {sorted(genomes)}")
    path = Path(pairs.path)
    if not path.is_file():
        raise FileError(f"{path}: not found; correct folds.homology_pairs")
    rows = []
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            parts = line.split()
            if len(parts) < 6 or not all(parts[k].isdigit() for k in (1, 2, 4, 5)):
                raise FileError(
                    f"{path}: line {number}: found {line.strip()[:80]!r}, wanted chrom, start, end twice"
                )
            places = [
                _place(parts[3 * k : 3 * k + 3], genomes[organism], f"{path}: line {number}")
                for k, organism in enumerate((pairs.first, pairs.second))
            ]
            if None not in places:
                rows.append((*places, len(parts) > 6 and parts[6] == "-"))
    if not rows:
        raise FileError(f"{path}: no row is on chromosomes of both genomes; correct folds.homology_pairs")
    return rows


def _place(parts: list[str], genome: Genome, where: str) -> _Place | None:
    chrom, start, end = genome.resolve(parts[0]), int(parts[1]), int(parts[2])
    if chrom is None:
        return None
    if not start < end <= genome.lengths[chrom]:
        length = genome.lengths[chrom]
        raise FileError(f"{where}: {start}-{end} is not a stretch of {chrom} of {genome.name} ({length} bp)")
    return chrom, start, end


def aligned_pairs(
    stretches: pl.DataFrame,
    pairs: HomologyPairs,
    rows: list[tuple[_Place, _Place, bool]],
    threshold: float,
) -> np.ndarray:
    """Pairs int64 [N, 2] of rows of `stretches` of which more than `threshold` of the shorter is aligned.

    stretches: organism, chrom, start, end, those of a chromosome disjoint and in order. Within a row of the
    table, a base stands for the base at the same share of the other interval.
    """
    where = {
        (str(organism), str(chrom)): (
            part["row"].to_numpy(),
            part["start"].to_numpy(),
            part["end"].to_numpy(),
        )
        for (organism, chrom), part in stretches.with_row_index("row")
        .sort("start")
        .partition_by("organism", "chrom", as_dict=True)
        .items()
    }
    aligned: Counter[tuple[int, int]] = Counter()
    for first, second, opposite in rows:
        scale = (second[2] - second[1]) / (first[2] - first[1])
        for one, low, high in _overlaps(where.get((pairs.first, first[0])), first[1], first[2]):
            begin, end = ((x - first[1]) * scale for x in (low, high))
            if opposite:
                begin, end = second[2] - second[1] - end, second[2] - second[1] - begin
            begin, end = second[1] + begin, second[1] + end
            for other, a, b in _overlaps(where.get((pairs.second, second[0])), begin, end):
                if one != other:
                    aligned[min(one, other), max(one, other)] += b - a
    sizes = (stretches["end"] - stretches["start"]).to_numpy()
    kept = [pair for pair, n in aligned.items() if n > threshold * min(sizes[pair[0]], sizes[pair[1]])]
    return np.array(sorted(kept), np.int64).reshape(-1, 2)


def _overlaps(
    found: tuple[np.ndarray, np.ndarray, np.ndarray] | None, start: float, end: float
) -> list[tuple[int, float, float]]:
    """(row, start, end) of what each stretch of a chromosome shares with start..end."""
    if found is None:
        return []
    row, starts, ends = found
    some = range(int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end, "left")))
    return [(int(row[k]), max(start, float(starts[k])), min(end, float(ends[k]))) for k in some]
