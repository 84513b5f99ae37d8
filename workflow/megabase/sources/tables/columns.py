"""What readers of published tables share: numbers, variants, and rows that cannot be used.

A bad row costs that row: it is listed with its reason. A file that lacks a column, or cannot be read, or says
that it is of another assembly stops before any work is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from megabase.files import FileError
from megabase.sources.tables.reading import Part
from megabase.spec import QTL_COLUMNS

SCHEMA: dict[str, Any] = dict.fromkeys(QTL_COLUMNS, pl.String) | {
    "row": pl.Int64, "position": pl.Int64, "effect": pl.Float64, "pip": pl.Float64, "label": pl.Int8,
}  # fmt: skip
REJECTED: dict[str, Any] = {
    "source": pl.String, "row": pl.Int64, "variant": pl.String, "reason": pl.String, "detail": pl.String,
}  # fmt: skip
KEY = ("chrom", "position", "ref", "alt", "gene_id", "tissue", "set_id")  # rows alike in these are one
NUMBERS = ("effect", "pip", "label")
_VARIANT = (
    r"^(?P<chrom>.+?)[_:](?P<at>\d+)[_:](?P<ref>[A-Za-z*.\-]+)[_:>/](?P<alt>[A-Za-z*.\-]+)"
    r"(?:_(?P<build>b\d+|hg\d+))?$"
)
_BUILDS = {"b38": "GRCh38", "hg38": "GRCh38", "b37": "GRCh37", "hg19": "GRCh37"}


@dataclass(frozen=True)
class Table:
    """Rows of a published table that can be used, and the others with what is wrong."""

    rows: pl.DataFrame  # SCHEMA, and more columns of the table behind it
    rejected: pl.DataFrame  # REJECTED


def split_variant(table: pl.DataFrame, part: Part, column: str = "variant") -> pl.DataFrame:
    """Adds `chrom, at, ref, alt` of names such as `chr1_64764_C_T_b38` or `chr1:64764:C>T`; null of others.

    FileError where the names say that they are of another assembly than GRCh38.
    """
    split = table.with_columns(pl.col(column).str.extract_groups(_VARIANT).alias("_")).unnest("_")
    builds = {_BUILDS.get(b, b) for b in split["build"].drop_nulls().unique()}
    if builds - {"GRCh38"}:
        raise FileError(
            f"{part.name}: variants of {', '.join(sorted(builds))}, wanted GRCh38; lift them over"
        )
    return split.drop("build")


def finish(table: pl.DataFrame, source: str, part: Part, more: Sequence[str] = ()) -> Table:
    """Rows of SCHEMA (and `more` columns) of a table with `row, chrom, at (1-based), ref, alt` and others.

    Columns of SCHEMA that it lacks are null. Rejected: a variant that cannot be read, alleles that are no
    bases, equal alleles, numbers that are none, a PIP outside 0 to 1, and every later row of a variant, gene,
    tissue and set (sources have a row for each rsID).
    """
    text = [pl.col(c).cast(pl.String) for c in ("chrom", "ref", "alt")]
    table = table.with_columns(*text, pl.col("at").cast(pl.String).alias("_at"))
    absent = [pl.lit(None, kind).alias(c) for c, kind in SCHEMA.items() if c not in table.columns]
    table = table.with_columns(absent)
    given = {name: table[name] for name in NUMBERS}
    table = table.with_columns(
        pl.col("ref").str.to_uppercase(), pl.col("alt").str.to_uppercase(),
        pl.lit(source).alias("source"), (pl.col("_at").cast(pl.Int64, strict=False) - 1).alias("position"),
        *(pl.col(name).cast(SCHEMA[name], strict=False) for name in NUMBERS),
    )  # fmt: skip
    unread = [
        (table[name].is_null() & given[name].is_not_null()).fill_null(False).alias(f"_bad_{name}")
        for name in NUMBERS
    ]
    table = table.with_columns(unread).with_columns(_problem()).with_row_index("_n")
    good = table.filter(pl.col("reason") == "")
    first = good.unique(KEY, keep="first", maintain_order=True)
    later = good.join(first.select("_n"), on="_n", how="anti", maintain_order="left")
    later = later.with_columns(reason=pl.lit("duplicate"))
    bad = pl.concat([table.filter(pl.col("reason") != ""), later]).sort("_n")
    rows = first.select(*(pl.col(c).cast(kind) for c, kind in SCHEMA.items()), *more)
    if rows.is_empty() and table.height:
        counts = dict(bad.group_by("reason").len().sort("reason").iter_rows())
        raise FileError(f"{part.name}: none of its {table.height} rows can be used ({counts})")
    return Table(rows, rejected(bad, source))


def _problem() -> pl.Expr:
    """`reason` of a row: empty where it can be used."""
    base = r"^[ACGT]+$"
    unread = pl.any_horizontal(*(pl.col(f"_bad_{name}") for name in NUMBERS))
    return (
        pl.when(pl.col("chrom").is_null() | pl.col("position").is_null() | (pl.col("position") < 0))
        .then(pl.lit("malformed"))
        .when(~(pl.col("ref").str.contains(base) & pl.col("alt").str.contains(base)).fill_null(False))
        .then(pl.lit("allele_not_acgt"))
        .when(pl.col("ref") == pl.col("alt"))
        .then(pl.lit("ref_equals_alt"))
        .when(unread)
        .then(pl.lit("not_a_number"))
        .when(~pl.col("pip").is_between(0, 1).fill_null(True))
        .then(pl.lit("pip_not_0_to_1"))
        .otherwise(pl.lit(""))
        .alias("reason")
    )


def rejected(table: pl.DataFrame, source: str) -> pl.DataFrame:
    """REJECTED rows of a table with `row, chrom, _at, ref, alt, reason` (and `detail`)."""
    parts = [pl.col(c).cast(pl.String).fill_null("") for c in ("chrom", "_at", "ref", "alt")]
    detail = pl.col("detail") if "detail" in table.columns else pl.lit("")
    return table.select(
        source=pl.lit(source), row=pl.col("row").cast(pl.Int64), variant=pl.concat_str(parts, separator=":"),
        reason=pl.col("reason"), detail=detail,
    ).cast(REJECTED)  # fmt: skip


def joined(tables: Sequence[Table]) -> Table:
    """Several files of one source as one table."""
    return Table(
        pl.concat([table.rows for table in tables], how="diagonal"),
        pl.concat([table.rejected for table in tables]),
    )
