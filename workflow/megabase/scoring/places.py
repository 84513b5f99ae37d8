"""Where things lie in a store of scores: the positions of each part, and of the variants of each gene.

`parts.parquet` has a row for each part and chromosome: the positions (0-based) of the first and last variant
and the longest REF or event, so that what reaches into a region from before it is found too. `genes.parquet`
has a row for each gene and chromosome with the positions of the first and last variant that have a score
with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path

import polars as pl

from megabase.files import Stamp, read_table, write_table
from megabase.scoring.parts import SCORES, part_name, scorer_parts

_PARTS = {
    "part": pl.Int64, "chrom": pl.String, "first": pl.Int64, "last": pl.Int64, "longest_ref": pl.Int64,
    "variants": pl.Int64,
}  # fmt: skip
_GENES = {
    "gene_id": pl.String, "gene_name": pl.String, "chrom": pl.String, "first": pl.Int64, "last": pl.Int64,
}  # fmt: skip
_GENE_KEYS = ("gene_id", "gene_name", "chrom")


@dataclass(frozen=True, slots=True)
class Place:
    """Variants whose REF has a base in [start, end) of a chromosome, 0-based."""

    chrom: str
    start: int
    end: int

    def condition(self, longest_ref: int) -> pl.Expr:
        """Rows that lie here; the bounds of `position` let a reader skip row groups."""
        position = pl.col("position")
        near = (pl.col("chrom") == self.chrom) & (position < self.end)
        near &= position > self.start - longest_ref
        return near & (position + reach() > self.start)


def reach() -> pl.Expr:
    """Bases of a variant of columns `position`, `ref` and `alt`: those of REF, up to the end of an event."""
    event = pl.col("alt").str.extract(r"^<[A-Z]+:END=(\d+)>$").cast(pl.Int64) - pl.col("position")
    return pl.max_horizontal(pl.col("ref").str.len_bytes().cast(pl.Int64), event)


class Places:
    """Collects both tables while scores are merged; in memory are one row a part and one a gene."""

    def __init__(self) -> None:
        self._parts: list[pl.DataFrame] = []
        self._genes = pl.DataFrame(schema=_GENES)

    def add_variants(self, part: int, variants: pl.DataFrame) -> None:
        """Add the variants of a part: chrom, position, ref, alt."""
        position = pl.col("position")
        found = variants.group_by("chrom", maintain_order=True).agg(
            first=position.min(), last=position.max(),
            longest_ref=reach().max(), variants=pl.len().cast(pl.Int64),
        )  # fmt: skip
        self._parts.append(found.select(pl.lit(part, dtype=pl.Int64).alias("part"), *list(_PARTS)[1:]))

    def add_genes(self, spans: Iterable[pl.DataFrame]) -> None:
        """Add `gene_spans` of rows of scores of genes."""
        together = pl.concat([self._genes, *spans]).group_by(_GENE_KEYS)
        self._genes = together.agg(pl.col("first").min(), pl.col("last").max())

    def write(self, folder: Path, stamp: Stamp) -> None:
        """Write `parts.parquet` and `genes.parquet`."""
        parts = pl.concat([pl.DataFrame(schema=_PARTS), *self._parts])
        write_table(parts, folder / "parts.parquet", stamp)
        write_table(self._genes.sort("chrom", "first", "gene_id"), folder / "genes.parquet", stamp)


def gene_spans(rows: pl.DataFrame) -> pl.DataFrame:
    """The positions of the first and last variant of each gene that rows of scores are of."""
    position = pl.col("position")
    return rows.group_by(_GENE_KEYS).agg(first=position.min(), last=position.max())


def gene_places(scores_dir: Path, gene: str) -> list[Place] | None:
    """Where the variants of a gene lie; None if the store lacks `genes.parquet`."""
    path = scores_dir / "genes.parquet"
    if not path.is_file():
        return None
    rows = read_table(path, SCORES).filter(is_gene(gene))
    return [Place(chrom, first, last + 1) for chrom, first, last in rows.select(list(_GENES)[2:]).iter_rows()]


def is_gene(gene: str) -> pl.Expr:
    """Rows of a gene, by name, id, or id without its version."""
    identifier = pl.col("gene_id")
    return (
        (identifier == gene) | (pl.col("gene_name") == gene) | (identifier.str.replace(r"\.\d+$", "") == gene)
    )


def parts_at(
    scores_dir: Path, scorers: Sequence[str], places: Sequence[Place] | None
) -> list[tuple[str, Path, pl.Expr]]:
    """(scorer, part, which of its rows) of the parts that hold variants at the places; all without places.

    By scorer in their order, then by part. A store without `parts.parquet`, such as one made by hand, is
    looked through part by part.
    """
    files = {scorer: scorer_parts(scores_dir, scorer) for scorer in scorers}
    if places is None:
        return [(scorer, file, pl.lit(True)) for scorer in scorers for file in files[scorer]]
    path = scores_dir / "parts.parquet"
    if not path.is_file():
        here = _any_of(place.condition(1 << 40) for place in places)
        return [(scorer, file, here) for scorer in scorers for file in files[scorer] if places]
    rows = _rows_at(read_table(path, SCORES), places)
    return [
        (scorer, files[scorer][0].with_name(part_name(part)), rows[part])
        for scorer in scorers
        for part in sorted(rows)
    ]


def _rows_at(table: pl.DataFrame, places: Iterable[Place]) -> dict[int, pl.Expr]:
    """Which rows lie at the places, by number of each part that has some, of the table of parts."""
    found: dict[int, list[pl.Expr]] = {}
    for place in places:
        here = (pl.col("chrom") == place.chrom) & (pl.col("first") < place.end)
        here &= pl.col("last") + pl.col("longest_ref") > place.start
        for part, longest in table.filter(here).select("part", "longest_ref").iter_rows():
            found.setdefault(part, []).append(place.condition(longest))
    return {part: _any_of(conditions) for part, conditions in found.items()}


def _any_of(conditions: Iterable[pl.Expr]) -> pl.Expr:
    return reduce(or_, conditions, pl.lit(False))
