"""Junction counts of the samples of a biosample: in memory, or on disk where there are hundreds of samples.

Whatever is asked of all samples is asked of one part of the junctions at a time. A part has every sample's
counts of its junctions, and junctions that share a donor or acceptor are in one part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np
import polars as pl

from megabase.tracks.junctions import INTRON

SAMPLED = {"chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "strand": pl.String, "count": pl.Int64,
           "sample": pl.Int64}  # fmt: skip


class Stored(Protocol):
    """Samples on disk: their names, and their counts by chromosome."""

    names: Sequence[str]

    @property
    def chromosomes(self) -> Collection[str]:
        """Chromosomes that have counts."""

    def read(self, chrom: str) -> pl.DataFrame:
        """SAMPLED of a chromosome, samples numbered as `names`; empty where it has none."""


class JunctionSamples:
    """Samples in the order in which they were added, by name (accession)."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._held: list[pl.DataFrame] = []
        self._stored: list[tuple[int, Stored]] = []  # number of the first sample
        self._left_out: set[int] = set()

    def __len__(self) -> int:
        return len(self.names) - len(self._left_out)

    @property
    def used(self) -> list[str]:
        """Names of the samples that are not left out."""
        return [name for number, name in enumerate(self.names) if number not in self._left_out]

    def add(self, name: str, table: pl.DataFrame) -> None:
        """Add a sample: INTRON and `count` of the junctions that it has."""
        numbered = table.select(*INTRON, "count", pl.lit(len(self.names), pl.Int64).alias("sample"))
        self._held.append(numbered)
        self.names.append(name)

    def add_stored(self, samples: Stored) -> None:
        """Add samples that stay on disk."""
        self._stored.append((len(self.names), samples))
        self.names.extend(samples.names)

    def leave_out(self, numbers: Collection[int]) -> None:
        """Leave samples out, by their numbers among those that are used."""
        used = [number for number in range(len(self.names)) if number not in self._left_out]
        self._left_out.update(used[number] for number in numbers)

    def parts(self) -> Iterator[pl.DataFrame]:
        """INTRON, `count` and `sample` (from 0, of those used) of parts of the junctions."""
        if not self._stored:
            if self._held:
                yield self._numbered(pl.concat(self._held))
            return
        chroms = {chrom for _, stored in self._stored for chrom in stored.chromosomes}
        for table in self._held:
            chroms.update(table["chrom"].unique())
        for chrom in sorted(chroms):
            held = [table.filter(pl.col("chrom") == chrom) for table in self._held]
            read = [s.read(chrom).with_columns(pl.col("sample") + first) for first, s in self._stored]
            yield self._numbered(
                pl.concat([*held, *(table.select(*INTRON, "count", "sample") for table in read)])
            )

    def _numbered(self, table: pl.DataFrame) -> pl.DataFrame:
        """Without the samples that are left out."""
        if not self._left_out:
            return table
        used = [number for number in range(len(self.names)) if number not in self._left_out]
        numbers = dict(zip(used, range(len(used)), strict=True))
        return table.filter(pl.col("sample").is_in(used)).with_columns(
            pl.col("sample").replace_strict(numbers)
        )

    def kept_parts(self, kept: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """As `parts`, of the junctions of `kept` (INTRON) that have reads."""
        for part in self.parts():
            yield part.join(kept, on=INTRON, how="semi").filter(pl.col("count") > 0)

    def totals(self, kept: pl.DataFrame) -> np.ndarray:
        """Reads float64 [2, samples] of kept junctions on + and -."""
        totals = np.zeros((2, len(self)))
        for part in self.kept_parts(kept):
            minus = (part["strand"] == "-").to_numpy().astype(np.int64)
            np.add.at(totals, (minus, part["sample"].to_numpy()), part["count"].to_numpy())
        return totals
