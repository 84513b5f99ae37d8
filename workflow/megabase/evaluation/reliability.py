"""Is a spread as wide as the errors? Its calibration on some held-out values, its reliability on others.

All values are in the even space (`model/even.py`). An error is the measured value less the prediction. A
spread says how far models differ; errors are wider by the noise of the measurement and by what all models
get wrong alike. So the calibrated variance is `noise + scale * spread**2`, fitted by maximum likelihood.
Errors have longer tails than a normal distribution; the central interval of a level is therefore `factor`
calibrated deviations either side, the quantile of the errors that the fit was made on (split conformal
prediction).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from megabase.evaluation.correlation import Estimate, correlate, interval, ranked_moments
from megabase.predictors.calibrated import OutputCalibration

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of central intervals
HEADLINE = 0.9  # the level that tables show
_LEAST = 1e-12  # variance: errors that are all zero have some


def fit_variance(spread: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """(noise, scale) >= 0 of variances noise + scale * spread**2, the likeliest for normal errors [N]."""
    squares, errors = np.square(spread.astype(np.float64)), np.square(error.astype(np.float64))
    size, width = max(errors.mean(), _LEAST), max(squares.mean(), _LEAST)
    units = np.array([size, size / width])

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        noise, scale = units * np.exp(logs)
        variance = noise + scale * squares + _LEAST
        slope = (1 - errors / variance) / variance / 2
        value = (np.log(variance) + errors / variance).mean() / 2
        return value, np.array([noise * slope.mean(), scale * (slope * squares).mean()])

    lowest = -25.0
    found = [
        minimize(cost, start, jac=True, method="L-BFGS-B", bounds=[(lowest, 6.0)] * 2)
        for start in ((-0.7, -0.7), (0.0, -6.0), (-6.0, 0.0))
    ]
    logs = min(found, key=lambda one: one.fun).x
    noise, scale = np.where(logs <= lowest + 1, 0.0, units * np.exp(logs))
    return float(noise), float(scale)


def fit_spread(spread: np.ndarray, error: np.ndarray) -> OutputCalibration:
    """The calibration of spreads [N] by errors [N], with a factor a level of `LEVELS`."""
    plain = OutputCalibration(*fit_variance(spread, error), {})
    deviation = np.maximum(plain.deviation(spread), _LEAST**0.5)
    factors = np.quantile(np.abs(error) / deviation, LEVELS)
    return replace(plain, factors=dict(zip(LEVELS, map(float, factors), strict=True)))


def normal_factors() -> np.ndarray:
    """Deviations either side of central intervals of a normal distribution, [levels]."""
    return norm.ppf((1 + np.array(LEVELS)) / 2)


def coverage(
    deviation: np.ndarray, factors: np.ndarray, error: np.ndarray, window: np.ndarray, weights: np.ndarray
) -> list[Estimate]:
    """Share of errors [N] inside `factors` deviations [N], a value a level, with intervals over windows.

    window: int [N]; weights float [R, W]: bootstrap resamples of the windows.
    """
    count = np.bincount(window, minlength=weights.shape[1])
    found = []
    for factor in factors:
        inside = np.bincount(window, weights=np.abs(error) <= factor * deviation, minlength=weights.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = (weights @ inside) / (weights @ count)
        found.append(Estimate(float(inside.sum() / count.sum()), *interval(samples), int(count.sum())))
    return found


def rank_agreement(
    spread: np.ndarray, error: np.ndarray, window: np.ndarray, weights: np.ndarray
) -> Estimate:
    """Spearman of the spread [N] and the size of the error [N]: does it know where it is wrong?"""
    sums = ranked_moments(spread[:, None], np.abs(error)[:, None], window, weights.shape[1])
    return correlate(sums, weights)[1][0]
