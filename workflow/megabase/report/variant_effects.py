"""All scores of one variant, as a page about it reads them: what changes most, where, how surely.

A row of the table of effects is a scorer, a track and, where the scorer has one, a gene. Its columns are
those of `query_scores` and: `channel`, `signed`, `change` (ALT over REF where the score is a logarithm of
it), and `spread` and `representation`, null where the scores tell none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from megabase.files import FileError, read_json, read_table
from megabase.scoring.composite import COMPOSITE
from megabase.scoring.explain import Choice
from megabase.scoring.query import query_scores
from megabase.scoring.scorers import Part, Scorer, parse_scorer
from megabase.scoring.store import SCORES
from megabase.scoring.summary import is_effect

MUTABLE = (Part.CENTRE, Part.EXONS, Part.BODY)  # what in-silico mutagenesis can read
_FOLDS = {"lfc": math.e, "diff_log2_sum": 2.0}  # base of the logarithm of ALT over REF


@dataclass(frozen=True)
class Effects:
    """The scores of a variant. background: common variants that quantiles compare with."""

    variant_id: str
    table: pl.DataFrame
    model: str
    window: int
    background: int

    @classmethod
    def read(cls, scores: str | Path, variant: str) -> Effects:
        """Read a variant's scores from a store; FileError where it has none."""
        scores, variant = Path(scores), _written(variant)
        if not (scores / "scores.json").is_file():
            raise FileError(f"{scores}: no scores.json there; wanted a folder written by merge-scores")
        card = read_json(scores / "scores.json", SCORES)
        found = query_scores(scores, variant=variant)
        table = found.filter(pl.col("raw").is_not_null() & pl.col("raw").is_finite())
        if table.is_empty():
            raise FileError(
                f"{scores}: no score of {variant}; wanted chrom:position:ref:alt (position 1-based) of a "
                f"variant in its summary.vcf.gz{_rejected(scores, variant)}"
            )
        scorers = {s["name"]: s for s in card["scorers"] if is_effect(s)}
        table = table.filter(pl.col("scorer").is_in(list(scorers)))
        if table.is_empty():
            raise FileError(
                f"{scores}: holds only scores of activity, none of a change; score with others too"
            )
        return cls(
            variant, _completed(table, scorers, read_table(scores / "tracks.parquet", SCORES)), card["model"],
            card["window"], card.get("background") or 0,
        )  # fmt: skip

    @property
    def calibrated(self) -> bool:
        """Whether any score has a quantile."""
        return self.table["quantile"].is_not_null().any()

    def strongest(self, by: Sequence[str]) -> pl.DataFrame:
        """The row of the largest |quantile| (|raw| among equals) of each value of the columns `by`."""
        sized = self.table.with_columns(
            q=pl.col("quantile").abs().fill_null(0.0), r=pl.col("raw").abs()
        ).sort("q", "r", descending=True, maintain_order=True)
        return sized.unique(list(by), keep="first", maintain_order=True).drop("q", "r")

    def choice(self, scorer: str | None = None, gene: str | None = None) -> Choice:
        """The effect to explain base by base: the largest, signed scorers first among equals.

        scorer, gene (id or name): of these alone. ValueError where there is none that can be explained.
        """
        usable = {n: s for n in self.table["scorer"].unique(maintain_order=True) if (s := _mutable(n))}
        table = self.table.filter(pl.col("scorer").is_in(list(usable)))
        if scorer is not None:
            table = table.filter(pl.col("scorer") == scorer)
        if gene is not None:
            table = table.filter((pl.col("gene_id") == gene) | (pl.col("gene_name") == gene))
        if table.is_empty():
            what = " and ".join(f"{k} {v}" for k, v in (("scorer", scorer), ("gene", gene)) if v)
            raise ValueError(
                f"{self.variant_id}: no score {f'of {what} ' if what else ''}to explain base by base; wanted "
                f"one of the scorers {', '.join(usable) or 'of tracks or splice sites'}, and a gene it scores"
            )
        row = self._ranked(table).row(0, named=True)
        return Choice(
            self.variant_id, usable[row["scorer"]], row["channel"], row["gene_id"], row["gene_name"],
            row["raw"], row["quantile"], self.background,
        )  # fmt: skip

    @staticmethod
    def _ranked(table: pl.DataFrame) -> pl.DataFrame:
        """Largest first; quantiles that differ by less than a thousandth count as equal."""
        return table.with_columns(
            q=pl.col("quantile").abs().fill_null(0.0).round(3), r=pl.col("change").log().abs().fill_null(0.0)
        ).sort("q", "signed", "r", pl.col("raw").abs(), descending=True, maintain_order=True)


def _mutable(name: str) -> Scorer | None:
    """The scorer, where in-silico mutagenesis can read it."""
    scorer = None if name == COMPOSITE else parse_scorer(name)
    return scorer if scorer is not None and scorer.part in MUTABLE else None


def _written(variant: str) -> str:
    """A variant as stores name it: no commas in the position, alleles in upper case."""
    parts = variant.strip().rsplit(":", 3)
    if len(parts) != 4:
        raise ValueError(f"{variant!r} is not chrom:position:ref:alt (1-based position)")
    return ":".join([parts[0], parts[1].replace(",", ""), parts[2].upper(), parts[3].upper()])


def _rejected(scores: Path, variant: str) -> str:
    """Why a variant was rejected, if it was."""
    path = scores / "rejected.parquet"
    parts = variant.rsplit(":", 3)
    if not path.is_file() or len(parts) != 4 or not parts[1].isdecimal():
        return ""
    rows = pl.read_parquet(path).filter(
        pl.col("position") == int(parts[1]) - 1, pl.col("ref") == parts[2], pl.col("alt") == parts[3]
    )
    return f"; it was rejected: {rows['reason'][0]}" if rows.height else ""


def _completed(
    table: pl.DataFrame, scorers: Mapping[str, Mapping[str, Any]], tracks: pl.DataFrame
) -> pl.DataFrame:
    """The tidy rows with what the page needs beside them."""
    channels = tracks.select("scorer", "channel", track_name="name").unique(["scorer", "track_name"])
    table = table.join(channels, on=["scorer", "track_name"], how="left", maintain_order="left")
    for column in ("spread", "representation"):
        if column not in table.columns:
            table = table.with_columns(pl.lit(None, pl.Float32).alias(column))
    base = {n: _FOLDS.get(s["aggregation"]) for n, s in scorers.items()}
    power = pl.col("scorer").replace_strict(base, return_dtype=pl.Float64)
    return table.with_columns(
        signed=pl.col("scorer").replace_strict({n: s["signed"] for n, s in scorers.items()}),
        change=(pl.col("raw").cast(pl.Float64) * power.log()).exp(),
    ).with_columns(pl.col("quantile").fill_nan(None), pl.col("spread").fill_nan(None))
