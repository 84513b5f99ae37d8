"""Tables that are of elements rather than variants: MPRA, enhancer-gene pairs, polyadenylation sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from megabase.files import FileError
from megabase.sources.tables.chromatin import as_label
from megabase.sources.tables.columns import REJECTED, Table, finish
from megabase.sources.tables.reading import Part, pick

PAIRS: dict[str, Any] = {
    "chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "gene": pl.String, "biosample": pl.String,
    "label": pl.Int8, "effect": pl.Float64, "source_id": pl.String,
}  # fmt: skip
POLYA: dict[str, Any] = {
    "gene_id": pl.String, "chrom": pl.String, "position": pl.Int64, "strand": pl.String,
    "source_id": pl.String, "site_type": pl.String,
}  # fmt: skip


def read_mpra_variants(part: Part, tissue: str = "", *, release: str = "GRCh38") -> Table:
    """Saturation mutagenesis MPRA (Kircher 2019) on the genome: effect is the log2 coefficient.

    Deletions are written `-`, without the base before them: they are rejected here, and read by the benchmark
    task `mpra`, which has the elements' sequence. Rows of another `release` are no part of the table.
    """
    names = {
        "chrom": "Chrom", "at": "Pos", "ref": "Ref", "alt": "Alt", "effect": "Coefficient",
        "p_value": "pValue", "barcodes": "Barcodes", "source_id": "Element", "release": "Release",
    }  # fmt: skip
    table = pick(part, names, "a saturation mutagenesis table")
    here = table.filter(pl.col("release") == release)
    if here.is_empty():
        found = sorted(set(table["release"].drop_nulls()))
        raise FileError(f"{part.name}: rows of {found}, none of {release}; take the table of {release}")
    numbers = [pl.col(c).cast(pl.Float64, strict=False) for c in ("p_value", "barcodes")]
    here = here.with_columns(*numbers, set_id=pl.col("source_id"), tissue=pl.lit(tissue or None, pl.String))
    return finish(here, "mpra", part, ["p_value", "barcodes"])


def read_enhancer_pairs(part: Part, tissue: str = "") -> Table:
    """Element-gene pairs of ENCODE-rE2G's CRISPR benchmark (GRCh38), with the columns that `score-enhancers`
    reads: `chrom, start, end` (0-based half-open, as there), `gene`, `biosample`, and `label` (regulated).

    Pairs whose connection the authors call invalid are rejected, and rows without coordinates.
    """
    names = {
        "chrom": "chrom", "start": "chromStart", "end": "chromEnd", "gene": "measuredGeneSymbol",
        "biosample": ("CellType", "ExperimentCellType?"), "label": ("Regulated", "Significant"),
        "effect": "EffectSize?", "valid": "ValidConnection?", "source_id": "name",
    }  # fmt: skip
    table = pick(part, names, "the CRISPR benchmark of ENCODE-rE2G")
    spans = [pl.col(c).cast(pl.Int64, strict=False) for c in ("start", "end")]
    table = table.with_columns(
        *spans, pl.col("effect").cast(pl.Float64, strict=False),
        pl.col("biosample").fill_null(tissue or "K562"),
        label=as_label(pl.col("label")).cast(pl.Int8, strict=False),
    )  # fmt: skip
    valid = pl.col("valid").is_null() | (as_label(pl.col("valid")) == "1")
    reason = (
        pl.when(~((pl.col("start") >= 0) & (pl.col("start") < pl.col("end"))).fill_null(False))
        .then(pl.lit("malformed"))
        .when(pl.any_horizontal(pl.col(c).is_null() for c in ("chrom", "gene", "label")))
        .then(pl.lit("not_labelled"))
        .when(~valid)
        .then(pl.lit("invalid_connection"))
        .otherwise(pl.lit(""))
    )
    return _split(table.with_columns(reason=reason), PAIRS, "encode_re2g", part, "start")


def read_polya_db(part: Part, tissue: str = "", *, genes: Mapping[str, str] | None = None) -> Table:
    """polyA_DB v3 (human, Borzoi's copy): sites with the columns that scorers read, `position` 0-based.

    genes: identifier by gene symbol, of the gene models that will be scored: the table has symbols alone, and
    a site of an unknown one is rejected. Without it `gene_id` is the symbol. `position_hg38` is 1-based.
    """
    names = {
        "gene_id": ("gene_id", "gene"), "chrom": "chrom", "position": "position_hg38", "strand": "strand",
        "source_id": "pas_id", "site_type": "site_type?",
    }  # fmt: skip
    table = pick(part, names, "polyA_DB v3 with positions of hg38")
    at = pl.col("position").cast(pl.Float64, strict=False)
    table = table.with_columns(position=at.cast(pl.Int64, strict=False) - 1)
    if genes is not None:
        table = table.with_columns(pl.col("gene_id").replace_strict(dict(genes), default=None))
    reason = (
        pl.when(
            (pl.col("position") < 0).fill_null(True) | ~pl.col("strand").is_in(["+", "-"]).fill_null(False)
        )
        .then(pl.lit("malformed"))
        .when(pl.any_horizontal(pl.col(c).is_null() for c in ("chrom", "gene_id")))
        .then(pl.lit("no_gene"))
        .otherwise(pl.lit(""))
    )
    return _split(table.with_columns(reason=reason), POLYA, "polya_db", part, "position")


def _split(table: pl.DataFrame, schema: dict[str, Any], source: str, part: Part, at: str) -> Table:
    """(rows of `schema`, each once; the others with their reason)."""
    good = table.filter(pl.col("reason") == "")
    if good.is_empty() and table.height:
        counts = dict(table.group_by("reason").len().iter_rows())
        raise FileError(f"{part.name}: none of its {table.height} rows can be used ({counts})")
    rows = good.select(*(pl.col(c).cast(kind) for c, kind in schema.items()))
    place = [pl.col(column).cast(pl.String).fill_null("") for column in ("chrom", at)]
    bad = table.filter(pl.col("reason") != "").select(
        source=pl.lit(source), row=pl.col("row").cast(pl.Int64), reason=pl.col("reason"), detail=pl.lit(""),
        variant=pl.concat_str(place, separator=":"),
    )  # fmt: skip
    return Table(rows.unique(maintain_order=True), bad.select(list(REJECTED)).cast(REJECTED))
