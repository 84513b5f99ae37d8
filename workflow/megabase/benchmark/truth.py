"""How far scores agree with a known truth. For tests of the demo only: no stage of the pipeline reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from megabase.benchmark.metrics import measure
from megabase.benchmark.predictions import predict_rows, read_scores


def truth_agreement(
    effects: str | Path, scores: str | Path, scorer: str = "rna_seq", kind: str = "eqtl"
) -> float | None:
    """Spearman of the true effects of causal variants and the scores of one scorer in the same cell type.

    effects: Parquet with `variant_id, gene_id, cell, kind, effect, causal`, one row a variant, gene and cell
    type, as the simulator writes it. The size of splicing effects is compared, because splicing scores have
    no sign. None where fewer than two causal variants are scored.
    """
    table = pl.read_parquet(effects).filter("causal", pl.col("kind") == kind)
    table = table.select(
        "variant_id", "gene_id", "effect", tissue="cell", ontology_curie=pl.lit(None, pl.String)
    )
    score = predict_rows(table, read_scores(scores, scorer, table["variant_id"].unique()))
    effect = table["effect"].to_numpy()
    effect = effect if kind == "eqtl" else np.abs(effect)
    scored = np.isfinite(score)
    return measure("spearman", effect[scored], score[scored]).value
