"""How alike replicates are: Pearson correlation of means over bins, summed up while a track is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from megabase.spec import PAIR

BIN = PAIR  # bases of a bin; a divisor of tracks.bigwig.BLOCK, so that no bin lies in two blocks
DIGITS = 6  # kept of a correlation: sums of another order differ beyond them


@dataclass
class Agreement:
    """Sums over the bins that every one of R replicates measured whole."""

    bins: int
    sums: np.ndarray  # float64 [R]
    products: np.ndarray  # float64 [R, R]

    @classmethod
    def of(cls, replicates: int) -> Agreement:
        """Nothing yet, of a number of replicates."""
        return cls(0, np.zeros(replicates), np.zeros((replicates, replicates)))

    def add(self, means: np.ndarray) -> None:
        """Take in means over bins, float64 [R, n]; a bin that is NaN in one replicate does not count."""
        kept = means[:, ~np.isnan(means).any(0)]
        self.bins += kept.shape[1]
        self.sums += kept.sum(1)
        self.products += kept @ kept.T

    def join(self, other: Agreement) -> None:
        """Take in the sums over other bins."""
        self.bins += other.bins
        self.sums += other.sums
        self.products += other.products

    def correlations(self) -> np.ndarray:
        """float64 [R, R]: Pearson correlation of each pair; NaN for a replicate that never varies."""
        if self.bins < 2:
            return np.full(self.products.shape, np.nan)
        means = self.sums / self.bins
        covariance = self.products / self.bins - np.outer(means, means)
        variance = np.where(np.diag(covariance) > 1e-12 * means**2, np.diag(covariance), np.nan)
        with np.errstate(invalid="ignore"):
            return np.clip(covariance / np.sqrt(np.outer(variance, variance)), -1.0, 1.0)


def bin_means(values: np.ndarray) -> np.ndarray:
    """float64 [n // BIN]: mean of each whole bin of values [n]; NaN where a base of it is missing."""
    whole = len(values) // BIN
    return values[: whole * BIN].reshape(whole, BIN).mean(1)


def summarize(correlations: np.ndarray, names: Sequence[str]) -> dict[str, object]:
    """Mean over pairs of replicates, and the replicate least like the others, with its mean correlation.

    All null for a single replicate, or where no pair has a correlation. A replicate without one (it is the
    same everywhere) counts as 0.
    """
    n = len(names)
    if n < 2 or np.isnan(correlations).all():
        return dict.fromkeys(("replicate_correlation", "worst_replicate", "worst_correlation"))
    known = np.nan_to_num(correlations)
    np.fill_diagonal(known, 0.0)
    each = known.sum(1) / (n - 1)
    worst = int(np.argmin(each.round(DIGITS)))
    return {
        "replicate_correlation": round(float(each.mean()), DIGITS),
        "worst_replicate": names[worst],
        "worst_correlation": round(float(each[worst]), DIGITS),
    }
