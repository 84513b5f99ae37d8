"""Pearson and Spearman correlation per track from per-window sums, with bootstrap intervals over windows.

A window contributes six sums a track (`MOMENTS`); a bootstrap resample is a weighting of windows, so that
200 resamples cost one matrix product. Missing observations (NaN) are in no sum. Where the prediction or the
observation does not vary the correlation is undefined: NaN here, null in the table, 0 in comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

MOMENTS = ("n", "x", "y", "xx", "yy", "xy")  # x is predicted, y is observed
_CONSTANT = 1e-9  # variance below this share of the mean square is rounding, not variation


def moments(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Sums float64 [P, 6] over the first axis of predicted and observed [N, P]; NaN in either is left out."""
    known = np.isfinite(observed) & np.isfinite(predicted)
    x = np.where(known, predicted, 0).astype(np.float64)
    y = np.where(known, observed, 0).astype(np.float64)
    sums = (known, x, y, x * x, y * y, x * y)
    return np.stack([s.sum(0) for s in sums], axis=-1).astype(np.float64)


def pearson(sums: np.ndarray) -> np.ndarray:
    """Pearson [...] of sums [..., 6]; NaN with fewer than three values or without variation."""
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        var_x, var_y = xx - x * x / n, yy - y * y / n
        r = (xy - x * y / n) / np.sqrt(var_x * var_y)
        varies = (n >= 3) & (var_x > _CONSTANT * xx) & (var_y > _CONSTANT * yy)
    return np.where(varies, np.clip(r, -1, 1), np.nan)


def observed_varies(sums: np.ndarray) -> np.ndarray:
    """bool [...]: the observation varies, so a correlation could be defined; constant predictions score 0."""
    n, _, y, _, yy, _ = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (n >= 3) & (yy - y * y / n > _CONSTANT * yy)


def ranked_moments(
    predicted: np.ndarray, observed: np.ndarray, window: np.ndarray, n_windows: int
) -> np.ndarray:
    """Sums [W, P, 6] of the ranks of predicted and observed [N, P]; `window` int [N] says whose value it is.

    Ranks are those of the whole sample: Spearman is `pearson(sums.sum(0))`; a bootstrap resample keeps them
    fixed, which narrows its interval by far less than the sampling of windows widens it.
    """
    sums = np.zeros((n_windows, predicted.shape[1], 6))
    for track in range(predicted.shape[1]):
        known = np.isfinite(observed[:, track]) & np.isfinite(predicted[:, track])
        if not known.any():
            continue
        x, y = (rankdata(v[known, track]) / known.sum() for v in (predicted, observed))
        for column, values in enumerate((np.ones_like(x), x, y, x * x, y * y, x * y)):
            sums[:, track, column] = np.bincount(window[known], weights=values, minlength=n_windows)
    return sums


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95% bootstrap interval over windows; NaN where undefined. n: windows or values."""

    value: float
    low: float
    high: float
    n: int


def resample_weights(n_windows: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """float64 [R, W]: how often each resample of the windows holds each window."""
    draws = rng.multinomial(n_windows, np.full(n_windows, 1 / n_windows), size=resamples)
    return draws.astype(np.float64)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """2.5% and 97.5% of the defined bootstrap samples; NaN where fewer than half of them are defined."""
    defined = samples[np.isfinite(samples)]
    if 2 * defined.size < max(samples.size, 1):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def mean_over_tracks(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean [...] over the last axis of values [..., P] where `counted` [..., P]; undefined values count as 0.

    NaN where no counted track is defined at all (a constant model has no correlation to average).
    """
    defined = counted & np.isfinite(values)
    total = np.where(defined, values, 0).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(defined.any(-1), total / counted.sum(-1), np.nan)


def correlate(sums: np.ndarray, weights: np.ndarray) -> tuple[Estimate, list[Estimate]]:
    """Mean over tracks, and every track, of the Pearson of per-window sums [W, P, 6] under weights [R, W]."""
    whole = sums.sum(0)
    resampled = np.einsum("rw,wpm->rpm", weights, sums, optimize=True)
    values, samples = pearson(whole), pearson(resampled)
    mean = mean_over_tracks(values, observed_varies(whole))
    mean_samples = mean_over_tracks(samples, observed_varies(resampled))
    tracks = [
        Estimate(float(values[p]), *interval(samples[:, p]), int(whole[p, 0])) for p in range(values.size)
    ]
    return Estimate(float(mean), *interval(mean_samples), int((sums[:, :, 0].sum(1) > 0).sum())), tracks


def weighted_mean(totals: np.ndarray, weights: np.ndarray) -> tuple[Estimate, list[Estimate]]:
    """Mean over tracks, and every track, of totals [W, P, 2] (count, sum of values) under weights [R, W]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = totals.sum(0)
        values = whole[:, 1] / whole[:, 0]
        resampled = np.einsum("rw,wpm->rpm", weights, totals, optimize=True)
        samples = resampled[..., 1] / resampled[..., 0]
    mean = mean_over_tracks(values, whole[:, 0] > 0)
    mean_samples = mean_over_tracks(samples, resampled[..., 0] > 0)
    tracks = [
        Estimate(float(values[p]), *interval(samples[:, p]), int(whole[p, 0])) for p in range(values.size)
    ]
    return Estimate(float(mean), *interval(mean_samples), int((totals[:, :, 0].sum(1) > 0).sum())), tracks
