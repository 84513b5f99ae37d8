"""Variants in genome order in bounded memory, whatever their number and the order that they come in.

Few are held in memory. More are written to a folder by stretch of the genome, and each stretch is sorted by
itself: what is in memory then are the variants of the densest stretch. A stretch holds all variants of its
places, so duplicates are found there, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from megabase.records import ACCEPTED_SCHEMA, GIVEN_SCHEMA, REJECTED_SCHEMA

HELD = 500_000  # variants in memory before they are written
STRETCH = 1 << 24  # bases whose variants are sorted together
_ORDER = ("position", "record", "allele", "variant_id")


class Spool:
    """Takes tables of accepted variants, then gives them sorted; a context manager that removes its folder.

    folder: a name that nobody else uses; made when it is needed. order: rank of each chromosome.
    """

    def __init__(self, folder: Path, order: Mapping[str, int]) -> None:
        self._folder, self._order = folder, order
        self._held: list[pl.DataFrame] = []
        self._rows = self._written = 0
        self.height = 0  # variants that `sort` left

    def __enter__(self) -> Spool:
        shutil.rmtree(self._folder, ignore_errors=True)  # of a killed run
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, table: pl.DataFrame) -> None:
        """Add variants: ACCEPTED_SCHEMA, and GIVEN_SCHEMA where duplicates are to be found."""
        self._held.append(table)
        self._rows += table.height
        if self._rows > HELD:
            self._write()

    def sort(self) -> pl.DataFrame:
        """Sort what was added and take duplicates out, all but the first read; returns them as rejected rows.

        Only tables with GIVEN_SCHEMA are looked through for duplicates.
        """
        if self._written and self._held:
            self._write()
        doubled = []
        for path, table in self._unsorted():
            table, again = _unique(table.sort(self._rank(), *_ORDER))
            doubled.append(again)
            self.height += table.height
            if path is None:
                self._held = [table]
            else:
                shutil.rmtree(path)
                table.write_parquet(path.with_suffix(".parquet"), compression="lz4")
        return pl.concat([pl.DataFrame(schema=REJECTED_SCHEMA), *doubled])

    def blocks(self) -> Iterator[pl.DataFrame]:
        """The sorted variants of each stretch, in genome order."""
        if not self._written:
            yield from self._held
        for path in sorted(self._folder.glob("*.parquet")):
            yield pl.read_parquet(path)

    def _unsorted(self) -> Iterator[tuple[Path | None, pl.DataFrame]]:
        if self._held:
            yield None, pl.concat(self._held)
        for path in sorted(p for p in self._folder.glob("*") if p.is_dir()):
            yield path, pl.concat([pl.read_parquet(file) for file in sorted(path.glob("*"))])

    def _write(self) -> None:
        """Write what is held, by stretch."""
        self._written += 1
        stretch = self._rank() * (1 << 32) + pl.col("position") // STRETCH
        parts = pl.concat(self._held).with_columns(_stretch=stretch).partition_by("_stretch", as_dict=True)
        for (number,), table in parts.items():
            folder = self._folder / f"{number:020d}"
            folder.mkdir(parents=True, exist_ok=True)
            table.drop("_stretch").write_parquet(folder / f"{self._written:06d}.parquet", compression="lz4")
        self._held, self._rows = [], 0

    def _rank(self) -> pl.Expr:
        return pl.col("chrom").replace_strict(self._order, return_dtype=pl.Int64)


def _unique(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(sorted variants, each once; rejected rows of those that were read before)."""
    if not set(GIVEN_SCHEMA) <= set(table.columns):
        return table, pl.DataFrame(schema=REJECTED_SCHEMA)
    first = pl.col("variant_id").is_first_distinct()
    again = table.filter(~first).with_columns(
        chrom="given_chrom",
        ref=pl.col("given_ref").fill_null(pl.col("ref")),
        alt=pl.col("given_alt").fill_null(pl.col("alt")),
        reason=pl.lit("duplicate"),
        detail=pl.col("variant_id") + " was read before",
    )
    return table.filter(first).select(list(ACCEPTED_SCHEMA)), again.select(list(REJECTED_SCHEMA))


def subset(blocks: Iterable[pl.DataFrame], chosen: Iterable[int]) -> Iterator[pl.DataFrame]:
    """The rows of these numbers (rising, counted over all blocks) of each block."""
    numbers, start = pl.Series(list(chosen), dtype=pl.Int64), 0
    for block in blocks:
        here = numbers.filter(numbers.is_between(start, start + block.height, closed="left"))
        yield block[here - start]
        start += block.height
