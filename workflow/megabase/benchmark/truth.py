"""How far scores agree with a known truth. For tests of the demo only: no stage of the pipeline reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from megabase.benchmark.metrics import measure
from megabase.benchmark.predictions import predict_rows, read_scores


def truth_agreement(effects: str | Path, scores: str | Path, scorer: str = "rna_seq") -> float | None:
    """Spearman of the true effects of causal variants and the scores of one scorer in the same tissue.

    effects: Parquet with `variant_id, gene_id, tissue, effect` (and `ontology_curie`, if any), one row a
    causal variant, gene and tissue. None where fewer than two of them are scored.
    """
    table = pl.read_parquet(effects).filter(pl.col("effect").is_finite() & (pl.col("effect") != 0))
    if "ontology_curie" not in table.columns:
        table = table.with_columns(ontology_curie=pl.lit(None, pl.String))
    score = predict_rows(table, read_scores(scores, scorer, table["variant_id"].unique()))
    scored = np.isfinite(score)
    return measure("spearman", table["effect"].to_numpy()[scored], score[scored]).value
