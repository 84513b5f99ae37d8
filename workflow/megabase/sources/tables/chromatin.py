"""QTLs of accessibility and binding (caQTL, dsQTL, bQTL), as ChromBPNet's authors and DART-Eval share them.

`allele1` and `allele2` are not always what the genome has and what it has not: compare them with the genome
(`megabase.sources.tables.reference`), which exchanges them, and the effect's sign, where that is asked.
"""

from __future__ import annotations

import polars as pl

from megabase.sources.tables.columns import Table, finish, rejected
from megabase.sources.tables.reading import Part, pick

_EFFECTS = ("obs.beta", "obs.estimate", "obs.effect_size", "obs.log2fc", "obs.meanlog2fc", "beta", "Beta")
_LABELS = ("obs.label", "var.label", "label")


def read_chromatin_qtls(part: Part, tissue: str = "") -> Table:
    """A benchmarking table (TSV): `var.chr` or `chr_hg38`, a 1-based position of hg38, two alleles.

    Effect and label have no fixed name there: the first known one that is there is taken, else they are null.
    Rows that the authors leave out (`var.isused` false) are rejected as `not_used`. Predictions of models in
    the table (`pred.`) are not read.
    """
    names = {
        "chrom": ("var.chr", "var.chrom", "chr_hg38"), "at": ("var.pos_hg38", "pos_hg38"),
        "ref": ("var.allele1", "allele1"), "alt": ("var.allele2", "allele2"),
        "used": ("var.isused", "IsUsed?"), "effect": [f"{name}?" for name in _EFFECTS],
        "label": [f"{name}?" for name in _LABELS], "source_id": ("var.dbsnp_rsid", "var.snp_id", "rsid?"),
    }  # fmt: skip
    table = pick(part, names, "a table of caQTLs, dsQTLs or bQTLs on hg38")
    table = table.with_columns(tissue=pl.lit(tissue or None, pl.String), label=as_label(pl.col("label")))
    used = pl.col("used").cast(pl.String).str.to_lowercase().is_in(["true", "1", "1.0"])
    left_out = pl.col("used").is_not_null() & ~used
    found = finish(table.filter(~left_out), "chromatin_qtls", part)
    dropped = table.filter(left_out).with_columns(
        pl.col("at").cast(pl.String).alias("_at"), reason=pl.lit("not_used")
    )
    return Table(found.rows, pl.concat([found.rejected, rejected(dropped, "chromatin_qtls")]).sort("row"))


def as_label(column: pl.Expr) -> pl.Expr:
    """1 and 0 of what tables write for a class: true and false, 1.0 and 0.0, -1 for controls; text stays."""
    text = column.cast(pl.String).str.to_lowercase()
    yes, no = ["true", "1", "1.0", "yes"], ["false", "0", "0.0", "-1", "-1.0", "no"]
    return pl.when(text.is_in(yes)).then(pl.lit("1")).when(text.is_in(no)).then(pl.lit("0")).otherwise(text)
