"""Gene-level expression: exon coverage of genes, and how it differs between cell types.

A gene counts in the window that holds most of its exonic bases, if that is at least half of them. Its
expression in a track is log(mean coverage of its exonic bases + 0.001); + and - tracks of one sample are one
column, read on the gene's own strand. For differences between cell types the columns are quantile
normalized over genes and each gene's mean over columns is taken off, of predictions and observations alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from megabase.evaluation.correlation import Estimate, correlate, moments
from megabase.genome import Interval

MIN_SHARE = 0.5  # of a gene's exonic bases: inside the window, and measured
PSEUDOCOUNT = 0.001
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class GeneSpans:
    """Exonic bases of one gene inside one window. spans int [n, 2] relative to it; length: all bases."""

    gene_id: str
    strand: str
    spans: np.ndarray
    length: int


@dataclass(frozen=True, slots=True)
class StrandedColumn:
    """One sample: its channel on the + and on the - strand (the same one if unstranded)."""

    name: str
    plus: int
    minus: int

    def channel(self, strand: str) -> int:
        """Channel that sees a gene of `strand`."""
        return self.minus if strand == "-" else self.plus


def stranded_columns(rows: Sequence[dict[str, Any]]) -> list[StrandedColumn]:
    """Samples of the tracks `rows` of one output type; a strand pair is one, named as its + track."""
    columns = []
    for channel, row in enumerate(rows):
        partner = int(row["strand_partner"])
        if row["strand"] == "+":
            columns.append(StrandedColumn(row["name"], channel, partner))
        elif row["strand"] == "." or partner == channel:
            columns.append(StrandedColumn(row["name"], channel, channel))
    return columns


def merge_spans(spans: np.ndarray) -> np.ndarray:
    """Union int [m, 2] of half-open spans int [n, 2], in order."""
    ordered = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    first = np.append(True, ordered[1:, 0] > reach[:-1])
    return np.stack([ordered[first, 0], reach[np.append(np.flatnonzero(first)[1:] - 1, len(ordered) - 1)]], 1)


def assign_genes(exons: pl.DataFrame, intervals: Sequence[Interval]) -> dict[int, list[GeneSpans]]:
    """Genes of each window number, from EXON_COLUMNS; a gene counts in one window at most."""
    windows: dict[str, list[int]] = {}
    for number, interval in enumerate(intervals):
        windows.setdefault(interval.chrom, []).append(number)
    near = exons.filter(pl.col("chrom").is_in(list(windows)))
    assigned: dict[int, list[GeneSpans]] = {}
    for (gene_id,), rows in near.group_by(["gene_id"], maintain_order=True):
        chrom, strand = rows["chrom"][0], rows["strand"][0]
        union = merge_spans(rows.select("start", "end").to_numpy().astype(np.int64))
        found = _best_window(union, windows[chrom], intervals)
        if found is not None:
            number, spans = found
            total = int((union[:, 1] - union[:, 0]).sum())
            assigned.setdefault(number, []).append(GeneSpans(str(gene_id), strand, spans, total))
    return assigned


def _best_window(
    union: np.ndarray, numbers: list[int], intervals: Sequence[Interval]
) -> tuple[int, np.ndarray] | None:
    """The window with most of the exonic bases, and the spans in it; none if below half of them."""
    best, most = None, 0
    low, high = union[0, 0], union[-1, 1]
    for number in numbers:
        interval = intervals[number]
        if interval.end <= low or interval.start >= high:
            continue
        clipped = np.clip(union, interval.start, interval.end) - interval.start
        inside = int((clipped[:, 1] - clipped[:, 0]).sum())
        if inside > most:
            best, most = (number, clipped[clipped[:, 1] > clipped[:, 0]]), inside
    return best if most >= MIN_SHARE * (union[:, 1] - union[:, 0]).sum() else None


def log_expression(values: np.ndarray, gene: GeneSpans, columns: Sequence[StrandedColumn]) -> np.ndarray:
    """log(mean exon coverage + 0.001) float64 [columns] of values [S, P]; NaN where hardly measured."""
    channels = [column.channel(gene.strand) for column in columns]
    exonic = np.concatenate([values[start:end, channels] for start, end in gene.spans]).astype(np.float64)
    known = np.isfinite(exonic)
    count = known.sum(0)
    mean = np.where(known, exonic, 0).sum(0) / np.maximum(count, 1)
    return np.where(count >= MIN_SHARE * gene.length, np.log(np.maximum(mean, 0) + PSEUDOCOUNT), np.nan)


def quantile_normalize(values: np.ndarray) -> np.ndarray:
    """Values [G, C] whose columns all get the same distribution: the mean of the sorted columns.

    Equal values of a column share the mean of their quantiles, so that a constant column stays constant.
    """
    target = np.sort(values, axis=0).mean(1)
    result = np.empty_like(values)
    for column in range(values.shape[1]):
        _, group = np.unique(values[:, column], return_inverse=True)
        order = np.argsort(values[:, column], kind="stable")
        sums = np.bincount(group[order], weights=target)
        result[:, column] = (sums / np.bincount(group))[group]
    return result


def _differences(values: np.ndarray) -> np.ndarray:
    """Values [G, C] less each gene's mean; what is only rounding is 0, so that a constant stays constant."""
    left = values - values.mean(1, keepdims=True)
    return np.where(np.abs(left) < ROUNDING, 0, left)


class GeneExpression:
    """Correlation over genes of expression (`gene_pearson`) and of its differences (`gene_lfc_pearson`)."""

    def __init__(
        self, n_windows: int, rows: Sequence[dict[str, Any]], genes: dict[int, list[GeneSpans]]
    ) -> None:
        self.n_windows, self.genes = n_windows, genes
        self.columns = stranded_columns(rows)
        self._found: list[tuple[int, np.ndarray, np.ndarray]] = []

    def add(self, window: int, predicted: np.ndarray, observed: np.ndarray) -> None:
        """Count the genes of one window: predicted and observed coverage [S, P], NaN = missing."""
        for gene in self.genes.get(window, []):
            pair = (log_expression(values, gene, self.columns) for values in (predicted, observed))
            self._found.append((window, *pair))

    def estimates(self, weights: np.ndarray) -> dict[str, tuple[Estimate, list[Estimate]]]:
        """Metrics under bootstrap weights [R, W], per column; nothing with fewer than three genes."""
        if len(self._found) < 3:
            return {}
        window = np.array([w for w, _, _ in self._found])
        x, y = (np.stack([found[i] for found in self._found]) for i in (1, 2))
        result = {"gene_pearson": correlate(self._sums(window, x, y), weights)}
        whole = np.isfinite(x).all(1) & np.isfinite(y).all(1)
        if len(self.columns) >= 2 and whole.sum() >= 3:
            x, y = (quantile_normalize(v[whole]) for v in (x, y))
            x, y = (_differences(v) for v in (x, y))
            result["gene_lfc_pearson"] = correlate(self._sums(window[whole], x, y), weights)
        return result

    def _sums(self, window: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        sums = np.zeros((self.n_windows, x.shape[1], 6))
        for number in np.unique(window):
            sums[number] = moments(x[window == number], y[window == number])
        return sums
