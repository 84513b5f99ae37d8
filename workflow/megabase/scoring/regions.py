"""Regions that a user lists: a BED, or genes by id or name; each becomes one window of the model.

Coordinates 0-based half-open. What cannot be used is told with a reason, and never left out silently.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megabase.files import FileError

if TYPE_CHECKING:
    from megabase.scoring.annotation import Annotation, GeneModel

HEADERS = ("track", "browser", "#")  # first words of BED lines that are not regions
WANTED = "wanted BED lines (chrom, start, end and, if any, a name) or one gene id or name a line"


@dataclass(frozen=True)
class Region:
    """One region of a list; `gene` where the line names a gene, and then that gene alone is asked for."""

    name: str
    chrom: str
    start: int
    end: int
    gene: GeneModel | None = None

    def window_start(self, window: int) -> int:
        """First base (may be negative) of the window of so many bases about the region's midpoint."""
        return (self.start + self.end) // 2 - window // 2


@dataclass(frozen=True)
class Rejected:
    """A line of a list that names nothing in this genome."""

    name: str
    reason: str
    detail: str


def read_regions(
    path: str | Path | None, genome: Any, annotation: Annotation
) -> tuple[list[Region], list[Rejected]]:
    """Regions of a BED or list of genes (plain or gzip; every gene without a path), and what was rejected.

    genome: `.lengths` and `.resolve`. FileError for a line that is no region, and for a file without any.
    """
    if path is None:
        return [_gene_region(gene) for gene in annotation.genes], []
    found: list[Region | Rejected] = []
    for number, fields in _lines(Path(path)):
        if len(fields) == 1:
            found += _named(fields[0], annotation)
        else:
            found.append(_bed_region(path, number, fields, genome))
    if not found:
        raise FileError(f"{path}: holds no region; {WANTED}")
    regions = [one for one in found if isinstance(one, Region)]
    return regions, [one for one in found if isinstance(one, Rejected)]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(1-based number, fields) of the lines that hold something; fields are split at tabs."""
    opened = gzip.open if path.suffix in (".gz", ".bgz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                text = line.strip()
                if text and not text.startswith(HEADERS):
                    yield number, [field.strip() for field in text.split("\t")]
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read to its end ({error}); copy or make it again") from error


def _bed_region(path: str | Path, number: int, fields: list[str], genome: Any) -> Region | Rejected:
    if len(fields) < 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
        raise FileError(f"{path}: line {number} is {' '.join(fields)[:80]!r}; {WANTED}, parted by tabs")
    start, end = int(fields[1]), int(fields[2])
    if start >= end:
        raise FileError(f"{path}: line {number} ends at {end}, not beyond its start {start}; correct it")
    name = fields[3] if len(fields) > 3 and fields[3] not in ("", ".") else f"{fields[0]}:{start + 1}-{end}"
    chrom = genome.resolve(fields[0])
    if chrom is None:
        return Rejected(name, "unknown_contig", f"the genome has no {fields[0]}")
    if end > genome.lengths[chrom]:
        return Rejected(
            name, "off_contig", f"{chrom} has {genome.lengths[chrom]:,} bases, the region ends at {end:,}"
        )
    return Region(name, chrom, start, end)


def _named(name: str, annotation: Annotation) -> list[Region | Rejected]:
    """Genes of an id or a name; an id without its version counts as the gene."""
    found = annotation.find(name)
    if not found:
        return [Rejected(name, "unknown_gene", "the annotation has no such gene id or name")]
    return [_gene_region(gene) for gene in found]


def _gene_region(gene: GeneModel) -> Region:
    return Region(gene.gene_id, gene.chrom, gene.start, gene.end, gene)
