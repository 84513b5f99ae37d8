"""Metrics of the variant-effect benchmarks, their bootstrap intervals and the published weighted mean.

Point values come from scikit-learn and scipy. The bootstrap needs the same metrics thousands of times, so
each has a weighted form: a resample is a row of counts (how often an item was drawn), items are sorted once,
and a metric of a resample is sums over counts. The weighted forms equal the metric of the repeated items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

BLOCK = 4_000_000  # resamples x items that are held in memory together


@dataclass(frozen=True, slots=True)
class Value:
    """A metric with its interval; `value` is none where it has no meaning, and `reason` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    n_positive: int | None = None
    reason: str = ""


def degenerate(target: np.ndarray, score: np.ndarray, *, classes: bool) -> str:
    """Why a metric of float [N] target and score has no meaning; empty if it has one."""
    if len(target) < 2:
        return f"{len(target)} rows, wanted 2 or more"
    if not (np.isfinite(target).all() and np.isfinite(score).all()):
        return "values that are not finite"
    if classes and len(np.unique(target)) < 2:
        return "one class only"
    if not classes and np.ptp(target) == 0:
        return "constant target"
    if not classes and np.ptp(score) == 0:
        return "constant score"
    return ""


def auroc(target: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve of labels 0/1 [N] and scores [N]."""
    return float(roc_auc_score(target, score))


def auprc(target: np.ndarray, score: np.ndarray) -> float:
    """Average precision of labels 0/1 [N] and scores [N]."""
    return float(average_precision_score(target, score))


def pearson(target: np.ndarray, score: np.ndarray) -> float:
    """Pearson correlation of [N] and [N]."""
    return float(pearsonr(target, score).statistic)


def spearman(target: np.ndarray, score: np.ndarray) -> float:
    """Spearman correlation (mid ranks for ties) of [N] and [N]."""
    return float(spearmanr(target, score).statistic)


def _tie_groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted order [N] of values and the index [G] in that order where each group of equals starts."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _group_sums(weights: np.ndarray, groups: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Weights [B, N] summed over each group of equal values: [B, G], groups ascending."""
    order, starts = groups
    return np.add.reduceat(weights[:, order], starts, axis=1)


def _weighted_auroc(target: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    groups = _tie_groups(score)
    positive = _group_sums(weights * target, groups)
    negative = _group_sums(weights * (1 - target), groups)
    below = np.cumsum(negative, axis=1) - negative
    return _ratio((positive * (below + negative / 2)).sum(1), positive.sum(1) * negative.sum(1))


def _weighted_auprc(target: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    groups = _tie_groups(-score)
    positive = _group_sums(weights * target, groups)
    total = _group_sums(weights, groups)
    precision = _ratio(np.cumsum(positive, axis=1), np.cumsum(total, axis=1))
    return _ratio((np.nan_to_num(precision) * positive).sum(1), positive.sum(1))


def _weighted_pearson(target: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _correlate(np.broadcast_to(target, weights.shape), np.broadcast_to(score, weights.shape), weights)


def _weighted_spearman(target: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _correlate(_mid_ranks(target, weights), _mid_ranks(score, weights), weights)


def _mid_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid rank [B, N] that each item has in each resample."""
    order, starts = _tie_groups(values)
    sums = _group_sums(weights, (order, starts))
    ranks = np.cumsum(sums, axis=1) - sums + (sums + 1) / 2
    group_of = np.empty(len(values), dtype=np.int64)
    group_of[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    return ranks[:, group_of]


def _correlate(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson [B] of a and b [B, N]."""
    total = weights.sum(1, keepdims=True)
    a = a - (a * weights).sum(1, keepdims=True) / total
    b = b - (b * weights).sum(1, keepdims=True) / total
    covariance = (weights * a * b).sum(1)
    return _ratio(covariance, np.sqrt((weights * a * a).sum(1) * (weights * b * b).sum(1)))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where bottom is zero."""
    return np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom > 0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its point form, its form over resample counts, and whether targets are classes."""

    name: str
    point: Callable[[np.ndarray, np.ndarray], float]
    weighted: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    classes: bool


METRICS = {
    m.name: m
    for m in (
        Metric("auroc", auroc, _weighted_auroc, True),
        Metric("auprc", auprc, _weighted_auprc, True),
        Metric("pearson", pearson, _weighted_pearson, False),
        Metric("spearman", spearman, _weighted_spearman, False),
    )
}


def measure(metric: str, target: np.ndarray, score: np.ndarray) -> Value:
    """Point value of a metric by name on target [N] and score [N]; none, with its reason, if degenerate."""
    rule = METRICS[metric]
    target, score = np.asarray(target, float), np.asarray(score, float)
    positives = int((target > 0.5).sum()) if rule.classes else None
    reason = degenerate(target, score, classes=rule.classes)
    value = None if reason else rule.point(target, score)
    return Value(value, n=len(target), n_positive=positives, reason=reason)


def resample(
    metric: str,
    target: np.ndarray,
    score: np.ndarray,
    clusters: np.ndarray,
    n: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Metric [n] of `n` resamples, NaN where a resample is degenerate.

    target, score [N]; clusters int [N]: rows of a cluster (one variant's genes) are drawn together, because
    they are not independent measurements.
    """
    _, members = np.unique(clusters, return_inverse=True)
    size = int(members.max()) + 1
    step = max(1, BLOCK // max(len(target), size))
    parts = []
    for start in range(0, n, step):
        count = min(step, n - start)
        drawn = generator.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(float)
        parts.append(METRICS[metric].weighted(target, score, weights[:, members]))
    return np.concatenate(parts) if parts else np.empty(0)


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float | None, float | None]:
    """Percentile interval of resampled values; none if more than half of them are degenerate."""
    finite = samples[np.isfinite(samples)]
    if len(finite) == 0 or len(finite) < len(samples) / 2:
        return None, None
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(finite, [tail, 100 - tail])
    return float(low), float(high)


def weighted_mean(values: Sequence[Value], samples: Sequence[np.ndarray], *, equal: bool = False) -> Value:
    """Mean over groups of two rows or more: sum(metric * n) / sum(n), or the plain mean if `equal`.

    The weighting over tissues is the published one (AlphaGenome, QTL evaluation); MPRA loci count equally.
    Groups whose metric is none are left out. samples: each group's resamples [n], combined resample by
    resample for the interval.
    """
    kept = [i for i, v in enumerate(values) if v.value is not None and v.n >= 2]
    if not kept:
        return Value(None, n=0, reason="no group has a value")
    weights = np.array([1.0 if equal else values[i].n for i in kept])
    points = np.array([values[i].value for i in kept], dtype=float)
    stack = np.stack([samples[i] for i in kept])
    present = weights[:, None] * np.isfinite(stack)  # a resample of a small group may hold one class only
    low, high = interval(_ratio((np.nan_to_num(stack) * present).sum(0), present.sum(0)))
    positives = [values[i].n_positive for i in kept]
    return Value(
        float((points * weights).sum() / weights.sum()),
        low,
        high,
        n=sum(values[i].n for i in kept),
        n_positive=None if positives[0] is None else sum(p or 0 for p in positives),
    )
