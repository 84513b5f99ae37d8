"""Distance-matched negatives for causal variants, as published: ten bins of log distance, within a tissue."""

from __future__ import annotations

import numpy as np
import polars as pl

from megabase.seeds import generator

BINS = 10


def distance_bins(distance: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin int [N] of each distance by log(1 + distance); values outside the edges fall in the outer bins."""
    return np.clip(np.searchsorted(edges, np.log1p(distance), side="right") - 1, 0, len(edges) - 2)


def bin_edges(distance: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Edges [bins + 1], equal in log(1 + distance), over the distances of the causal variants."""
    logs = np.log1p(distance)
    return np.linspace(logs.min(), max(logs.max(), logs.min() + 1e-9), bins + 1)


def match_negatives(
    positives: pl.DataFrame, candidates: pl.DataFrame, column: str, ratio: int, seed: int, *names: str
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(positives kept, negatives drawn, positives left without a match), by tissue and distance bin.

    positives, candidates: rows with `tissue`, `variant_id`, `gene_id` and the distance `column` (no nulls).
    Each kept positive gets `ratio` negatives of its tissue and bin, drawn without replacement. Where a bin
    has too few, causal variants are left out rather than matched to another distance: a benchmark of unlike
    distances would measure distance. Candidates farther or nearer than any causal variant are not used.
    """
    if positives.is_empty() or candidates.is_empty():
        return positives.clear(), candidates.clear(), positives
    edges = bin_edges(positives[column].to_numpy())
    low, high = positives[column].min(), positives[column].max()
    candidates = candidates.filter(pl.col(column).is_between(low, high))
    keys = ["tissue", "_bin"]
    wanted = _binned(positives, column, edges).partition_by(keys, as_dict=True)
    offered = _binned(candidates, column, edges).partition_by(keys, as_dict=True)
    kept, drawn, left = [], [], []
    for key in sorted(wanted):
        group, pool = wanted[key], offered.get(key)
        n = min(group.height, 0 if pool is None else pool.height // ratio)
        draws = generator(seed, "match", *names, *map(str, key))
        order = draws.permutation(group.height)
        kept.append(group[np.sort(order[:n])])
        left.append(group[np.sort(order[n:])])
        if pool is not None and n:
            drawn.append(pool[np.sort(draws.choice(pool.height, n * ratio, replace=False))])
    return _joined(kept, positives), _joined(drawn, candidates), _joined(left, positives)


def _binned(table: pl.DataFrame, column: str, edges: np.ndarray) -> pl.DataFrame:
    bins = distance_bins(table[column].to_numpy(), edges)
    return table.with_columns(_bin=pl.Series(bins)).sort("tissue", "_bin", "variant_id", "gene_id")


def _joined(parts: list[pl.DataFrame], like: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(parts).drop("_bin") if parts else like.clear()
