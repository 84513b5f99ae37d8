"""Splits of variants by chromosome: what a benchmark may tune on, train on, and must only test on.

The published ones (AlphaGenome preprint, Methods) are the defaults of `folds.variant_splits`: `zero_shot` has
validation and test chromosomes, `supervised` divides the former into training and validation.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from megabase.genome import Genome
from megabase.settings.data import FoldSettings


def chromosome_splits(settings: FoldSettings, name: str, genome: Genome) -> dict[str, str]:
    """`{chromosome: split}` in the genome's names. Chromosomes that it lacks are passed over.

    ValueError for a name that is not in `folds.variant_splits`, and for splits of another genome.
    """
    if name not in settings.variant_splits:
        raise ValueError(
            f"variant split {name!r} is not in folds.variant_splits: {', '.join(settings.variant_splits)}"
        )
    found = {}
    for split, chroms in settings.variant_splits[name].items():
        for chrom in chroms:
            own = genome.resolve(chrom) or genome.resolve(f"chr{chrom}")
            if own is not None:
                found[own] = split
    if not found:
        raise ValueError(f"variant split {name!r}: none of its chromosomes is in genome {genome.name}")
    return found


def with_split(variants: pl.DataFrame, splits: dict[str, str]) -> pl.DataFrame:
    """A table of variants (column chrom) with the column `split`, null on chromosomes of none."""
    return variants.with_columns(
        split=pl.col("chrom").replace_strict(splits, default=None, return_dtype=pl.String)
    )


def in_splits(variants: pl.DataFrame, splits: dict[str, str], wanted: Iterable[str]) -> pl.DataFrame:
    """The variants of some splits, in their order."""
    return with_split(variants, splits).filter(pl.col("split").is_in(list(wanted))).drop("split")
