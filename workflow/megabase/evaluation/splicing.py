"""Splice sites, their usage, and junctions: area under precision-recall, correlations of usage and PSI."""

from __future__ import annotations

import numpy as np

from megabase.evaluation.correlation import Estimate, correlate, interval, moments
from megabase.evaluation.precision import Scored, keep_decisive, precision_estimate
from megabase.evaluation.tracks import Estimates
from megabase.spec import SiteClass

REAL_CLASSES = SiteClass.NAMES[: SiteClass.NONE]


class SiteClassification:
    """auPRC of each splice-site class against all other known bases, and its mean over classes."""

    def __init__(self) -> None:
        self._windows: list[list[Scored]] = []

    def add(self, window: int, probabilities: np.ndarray, classes: np.ndarray) -> None:
        """Count one window: probabilities [S, 5], classes int [S] (-1 unknown). Windows come in order."""
        if window != len(self._windows):
            raise ValueError(f"window {window} added after window {len(self._windows) - 1}")
        known = classes >= 0
        found = [
            keep_decisive(probabilities[known, c].astype(np.float64), classes[known] == c)
            for c in range(SiteClass.NONE)
        ]
        self._windows.append(found)

    def estimates(self, weights: np.ndarray) -> Estimates:
        """Metric `auprc`, per class, under bootstrap weights [R, W]; classes without a site are undefined."""
        pairs = [
            precision_estimate([window[c] for window in self._windows], weights)
            for c in range(SiteClass.NONE)
        ]
        values = np.array([estimate.value for estimate, _ in pairs])
        if not np.isfinite(values).any():
            return {}
        has = np.isfinite(values)
        samples = np.stack([s for _, s in pairs])[has].mean(0)
        n = sum(estimate.n for estimate, _ in pairs)
        mean = Estimate(float(values[has].mean()), *interval(samples), n)
        return {"auprc": (mean, [estimate for estimate, _ in pairs])}


class UsageCorrelation:
    """Pearson of splice-site usage over the labelled sites of the channel's strand."""

    def __init__(self, n_windows: int, n_tracks: int) -> None:
        self.sums = np.zeros((n_windows, n_tracks, 6))

    def add(self, window: int, predicted: np.ndarray, observed: np.ndarray, classes: np.ndarray) -> None:
        """Count one window: usage [S, P] (+ half, - half; NaN = missing), classes int [S]."""
        half = predicted.shape[1] // 2
        plus = (SiteClass.DONOR_PLUS, SiteClass.ACCEPTOR_PLUS)
        minus = (SiteClass.DONOR_MINUS, SiteClass.ACCEPTOR_MINUS)
        for channels, strand in ((slice(0, half), plus), (slice(half, None), minus)):
            at = np.flatnonzero(np.isin(classes, strand))
            self.sums[window, channels] = moments(predicted[at, channels], observed[at, channels])

    def estimates(self, weights: np.ndarray) -> Estimates:
        """Metric `pearson` under bootstrap weights [R, W]."""
        return {"pearson": correlate(self.sums, weights)}


def splice_ratios(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PSI5 and PSI3 [D, A, P] of junction counts [D, A, P] (0 where there is none); NaN without any read.

    PSI5 is a junction's share of its donor's reads, PSI3 its share of its acceptor's reads.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return counts / counts.sum(1, keepdims=True), counts / counts.sum(0, keepdims=True)


class JunctionCorrelation:
    """Correlation over observed junctions (with a read in any biosample) of log1p counts, PSI5 and PSI3."""

    METRICS = ("pearson_log1p", "psi5_pearson", "psi3_pearson")

    def __init__(self, n_windows: int, n_tracks: int) -> None:
        self.sums = {name: np.zeros((n_windows, n_tracks, 6)) for name in self.METRICS}

    def add(self, window: int, predicted: np.ndarray, observed: np.ndarray, mask: np.ndarray) -> None:
        """Count one window: counts [D, A, P] at the same sites; mask bool [D, A, P]: pairs of real sites."""
        half = predicted.shape[2] // 2
        for channels in (slice(0, half), slice(half, None)):
            x = np.where(mask[..., channels], predicted[..., channels], 0).astype(np.float64)
            y = np.where(mask[..., channels], observed[..., channels], 0).astype(np.float64)
            seen = (np.nan_to_num(y) > 0).any(2)
            pairs = [(np.log1p(np.maximum(x, 0)), np.log1p(y))]
            pairs += list(zip(splice_ratios(x), splice_ratios(y), strict=True))
            for name, (a, b) in zip(self.METRICS, pairs, strict=True):
                self.sums[name][window, channels] = moments(a[seen], b[seen])

    def estimates(self, weights: np.ndarray) -> Estimates:
        """Metrics under bootstrap weights [R, W]."""
        return {name: correlate(sums, weights) for name, sums in self.sums.items()}
