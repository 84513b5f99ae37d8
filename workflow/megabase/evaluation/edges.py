"""Coverage steps at exon edges: evidence that a model reads splice-relevant signal, in words of log2.

At an edge between an exon and an intron, the step is log2 of mean coverage on the exon side over mean
coverage on the intron side (`FLANK` bases each, read on the gene's strand). Edges that another exon covers
on the intron side are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from megabase.evaluation.correlation import Estimate, correlate, moments, weighted_mean
from megabase.evaluation.genes import PSEUDOCOUNT, StrandedColumn, stranded_columns
from megabase.genome import Interval

FLANK = 64  # bases a side


def exon_edges(exons: pl.DataFrame) -> pl.DataFrame:
    """Edges between exon and intron: chrom, strand, position (first base right of the edge), exon_left.

    From EXON_COLUMNS: the inner edges of every transcript, each once, whose intron side no exon covers.
    """
    bounds = exons.group_by("transcript_id").agg(first=pl.col("start").min(), last=pl.col("end").max())
    inner = exons.join(bounds, on="transcript_id")
    right = inner.filter(pl.col("end") < pl.col("last")).select(
        "chrom", "strand", position="end", exon_left=pl.lit(True)
    )
    left = inner.filter(pl.col("start") > pl.col("first")).select(
        "chrom", "strand", position="start", exon_left=pl.lit(False)
    )
    edges = pl.concat([left, right]).unique().sort("chrom", "position", "strand", "exon_left")
    return edges.filter(~_covered(edges, exons))


def _covered(edges: pl.DataFrame, exons: pl.DataFrame) -> pl.Series:
    """Whether an exon of the same strand overlaps the `FLANK` bases on the intron side of each edge."""
    covered = np.zeros(len(edges), bool)
    position = edges["position"].to_numpy()
    low = np.where(edges["exon_left"].to_numpy(), position, position - FLANK)
    groups = np.array([f"{c}{s}" for c, s in edges.select("chrom", "strand").iter_rows()])
    for (chrom, strand), rows in exons.group_by(["chrom", "strand"]):
        starts, ends = np.sort(rows["start"].to_numpy()), np.sort(rows["end"].to_numpy())
        mine = groups == f"{chrom}{strand}"
        begun = np.searchsorted(starts, low[mine] + FLANK, side="left")
        over = np.searchsorted(ends, low[mine], side="right")
        covered[mine] = begun > over
    return pl.Series(covered)


def edge_steps(values: np.ndarray, positions: np.ndarray, exon_left: np.ndarray) -> np.ndarray:
    """log2 steps float64 [E, P] of values [S, P] at edges [E] that lie at least `FLANK` from both ends."""
    sides = [np.stack([values[p + o : p + o + FLANK].mean(0) for p in positions]) for o in (-FLANK, 0)]
    left, right = (np.log2(np.maximum(side, 0) + PSEUDOCOUNT) for side in sides)
    return np.where(exon_left[:, None], left - right, right - left)


class ExonEdges:
    """Mean observed and predicted step (`exon_edge_*`, log2) and their correlation over edges."""

    def __init__(
        self, intervals: Sequence[Interval], rows: Sequence[dict[str, Any]], edges: pl.DataFrame
    ) -> None:
        self.intervals, self.edges = intervals, edges
        self.columns: list[StrandedColumn] = stranded_columns(rows)
        shape = (len(intervals), len(self.columns))
        self._sums = np.zeros((*shape, 6))

    def add(self, window: int, predicted: np.ndarray, observed: np.ndarray) -> None:
        """Count the edges of one window: predicted and observed coverage [S, P], NaN = missing."""
        interval, place = self.intervals[window], pl.col("position")
        inside = self.edges.filter(
            (pl.col("chrom") == interval.chrom)
            & (place >= interval.start + FLANK)
            & (place <= interval.end - FLANK)
        )
        for strand in inside["strand"].unique(maintain_order=True):
            rows = inside.filter(pl.col("strand") == strand)
            positions = rows["position"].to_numpy() - interval.start
            channels = [column.channel(strand) for column in self.columns]
            x, y = (
                edge_steps(v[:, channels], positions, rows["exon_left"].to_numpy())
                for v in (predicted, observed)
            )
            self._sums[window] += moments(x, y)

    def estimates(self, weights: np.ndarray) -> dict[str, tuple[Estimate, list[Estimate]]]:
        """Metrics under bootstrap weights [R, W], per sample; nothing without an edge."""
        if not self._sums[:, :, 0].any():
            return {}
        return {
            "exon_edge_observed": weighted_mean(self._sums[..., [0, 2]], weights),
            "exon_edge_predicted": weighted_mean(self._sums[..., [0, 1]], weights),
            "exon_edge_pearson": correlate(self._sums, weights),
        }
