"""AlphaGenome's released evaluation sets: variants and targets alone.

Each file also holds that model's predictions, which are CC BY-NC and no data to learn from: a column whose
name speaks of a prediction is not read at all. Which columns tell the variant is not documented, so known
names are tried, and a table that has none of them is refused with the names that it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import polars as pl

from megabase.files import FileError
from megabase.sources.tables.chromatin import as_label
from megabase.sources.tables.columns import Table, finish, split_variant
from megabase.sources.tables.reading import Part, column_names, pick

NAMES = (
    "clinvar_splice_site_region", "clinvar_noncoding", "clinvar_missense",
    "sqtl_variant_causality_gene_human", "mfass_splicing", "eqtl_variant_borzoi_sign_human",
    "eqtl_variant_borzoi_coefficient_human",
    "eqtl_variant_catalogue_causality_gene_balanced_human", "enhancer_gene_linking_e2g",
    "paqtl_variant_causality_human", "caqtl_african_variant_causality_human",
    "caqtl_african_variant_coefficient_human", "caqtl_european_variant_causality_human",
    "caqtl_european_variant_coefficient_human", "dsqtl_yoruba_variant_causality_human",
    "dsqtl_yoruba_variant_coefficient_human", "caqtl_microglia_variant_coefficient_human",
    "caqtl_smc_variant_coefficient_human", "bqtl_spi1_variant_coefficient_human",
    "bqtl_spi1_variant_causality_human",
)  # fmt: skip
URL = "https://storage.googleapis.com/alphagenome/evals/{}_predictions.feather"
FORBIDDEN = re.compile(r"pred|score|logit|baseline|borzoi|enformer|pangolin|spliceai|alphagenome", re.I)
_VARIANT = ("variant_id", "variant", "variant_name", "variant_str", "id")
_PLACES = {
    "chrom": ("chromosome", "chrom", "CHROM", "#CHROM", "chr", "Chromosome"),
    "at": ("position", "pos", "POS", "Position"),
    "ref": ("reference_bases", "ref", "REF", "reference", "ref_allele"),
    "alt": ("alternate_bases", "alt", "ALT", "alternate", "alt_allele"),
}
_MORE = {
    "gene_id": ("gene_id", "gene", "GENE", "ensembl_id?"), "tissue": ("tissue", "gtex_tissue", "biosample?"),
    "paired_with": ("PI?",), "target": ("target",),
}  # fmt: skip


def reader_of(name: str) -> Callable[..., Table]:
    """The reader of one released set, called as every other: (part, tissue)."""
    return lambda part, tissue="": read_evaluation(part, name, tissue)


def read_evaluation(part: Part, name: str, tissue: str = "") -> Table:
    """Variants and targets of one released set (Feather). Positions are 1-based, as in its API.

    The target is the effect of a set of coefficients, else the label. `paired_with` (`PI`) of paQTLs tells
    which negatives were matched to a positive.
    """
    header = column_names(part)
    hidden = [column for column in header if FORBIDDEN.search(column)]
    variant = next((column for column in _VARIANT if column in header), None)
    places = all(set(options) & set(header) for options in _PLACES.values())
    whole = variant is not None and not places
    wanted = {key: list(options) for key, options in _MORE.items()}
    wanted |= {"variant": [str(variant)]} if whole else {key: list(v) for key, v in _PLACES.items()}
    try:
        table = pick(part, wanted, f"the targets of the set {name}", hidden=hidden)
    except FileError as error:
        raise FileError(
            f"{error}; predictions in it are not read. If the variants are under other names, rename them to "
            "chromosome, position, reference_bases and alternate_bases"
        ) from None
    table = split_variant(table, part) if whole else table
    number = "effect" if "_coefficient_" in name else "label"
    value = pl.col("target") if number == "effect" else as_label(pl.col("target"))
    source_id = pl.col("variant") if whole else pl.lit(None, pl.String)
    table = table.with_columns(value.alias(number), source_id.alias("source_id"))
    table = table.with_columns(pl.coalesce("tissue", pl.lit(tissue or None, pl.String)))
    return finish(table, f"alphagenome:{name}", part, ["paired_with"])
