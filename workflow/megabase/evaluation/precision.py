"""Area under the precision-recall curve of rare classes, with bootstrap intervals over windows.

Of each window all positives and its highest-scoring negatives are kept. The negatives that are not kept
stand, as weight, at the lowest kept score: the area is exact where it matters and never too high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from megabase.evaluation.correlation import Estimate, interval

KEPT_NEGATIVES = 2048  # a window


@dataclass(frozen=True, slots=True)
class Scored:
    """Labels of one class in one window. scores float [N], positive bool [N], weight float [N]."""

    scores: np.ndarray
    positive: np.ndarray
    weight: np.ndarray


def keep_decisive(scores: np.ndarray, positive: np.ndarray, kept: int = KEPT_NEGATIVES) -> Scored:
    """All positives and the `kept` highest negatives of scores and positive [N] (unknown bases left out)."""
    negatives = scores[~positive]
    weight = np.ones(negatives.size)
    if negatives.size > kept:
        rest = negatives.size - kept
        negatives = np.partition(negatives, rest)[rest:]
        weight = np.ones(kept)
        weight[np.argmin(negatives)] += rest
    top = scores[positive]
    return Scored(
        np.concatenate([top, negatives]),
        np.concatenate([np.ones(top.size, bool), np.zeros(negatives.size, bool)]),
        np.concatenate([np.ones(top.size), weight]),
    )


def average_precision(scores: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    """Weighted average precision (area under the precision-recall steps); NaN without a positive.

    scores, positive, weight: [N]. Equal scores share one threshold.
    """
    order, last = _thresholds(scores)
    return _area(positive[order] * weight[order], weight[order], last)


def _thresholds(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Descending order, and the index of the last member of every run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1) if ordered.size else order
    return order, last


def _area(hits: np.ndarray, weight: np.ndarray, last: np.ndarray) -> float:
    true, total = np.cumsum(hits)[last], np.cumsum(weight)[last]
    if not true.size or true[-1] <= 0:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(total > 0, true / total, 0)
    return float(np.sum(np.diff(true, prepend=0) * precision) / true[-1])


def precision_estimate(windows: list[Scored], weights: np.ndarray) -> tuple[Estimate, np.ndarray]:
    """Area of one class over the windows, and its samples [R] under bootstrap weights [R, W]."""
    scores = np.concatenate([w.scores for w in windows])
    positive = np.concatenate([w.positive for w in windows])
    weight = np.concatenate([w.weight for w in windows])
    source = np.repeat(np.arange(len(windows)), [w.scores.size for w in windows])
    order, last = _thresholds(scores)
    positive, weight, source = positive[order], weight[order], source[order]
    value = _area(positive * weight, weight, last)
    samples = np.empty(len(weights))
    for r, row in enumerate(weights):
        drawn = weight * row[source]
        samples[r] = _area(positive * drawn, drawn, last)
    return Estimate(value, *interval(samples), int(positive.sum())), samples
