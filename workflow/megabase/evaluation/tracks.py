"""Correlation of predicted and observed coverage along the genome, per track, at 1 bp and 128 bp."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from megabase.evaluation.correlation import Estimate, correlate, moments, ranked_moments
from megabase.spec import TOKEN

SAMPLE = 65_536  # positions, over all windows, whose ranks give Spearman
Estimates = dict[str, tuple[Estimate, list[Estimate]]]  # metric -> (mean over tracks, every track)


def sum_tokens(values: np.ndarray) -> np.ndarray:
    """Sums [S/128, P] of 128 bases of values [S, P]; NaN where a base is missing."""
    return values.reshape(-1, TOKEN, values.shape[-1]).sum(1)


@dataclass
class TrackCorrelation:
    """Pearson, Pearson of log1p, and Spearman (on a seeded sample of positions) of one output type."""

    n_windows: int
    n_tracks: int
    rng: np.random.Generator
    _raw: np.ndarray = field(init=False)
    _log: np.ndarray = field(init=False)
    _sample: list[tuple[int, np.ndarray, np.ndarray]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._raw = np.zeros((self.n_windows, self.n_tracks, 6))
        self._log = np.zeros((self.n_windows, self.n_tracks, 6))

    def add(self, window: int, predicted: np.ndarray, observed: np.ndarray) -> None:
        """Count one window: predicted and observed [N, P], NaN = missing."""
        self._raw[window] += moments(predicted, observed)
        logs = (np.log1p(np.maximum(v, 0), dtype=np.float32) for v in (predicted, observed))
        self._log[window] += moments(*logs)
        measured = np.flatnonzero(np.isfinite(observed).any(1))
        share = -(-SAMPLE // self.n_windows)
        if measured.size > share:
            measured = np.sort(self.rng.choice(measured, share, replace=False))
        self._sample.append((window, predicted[measured], observed[measured]))

    def estimates(self, weights: np.ndarray) -> Estimates:
        """Metrics under bootstrap weights [R, W]."""
        source = np.concatenate([np.full(len(x), w) for w, x, _ in self._sample])
        predicted = np.concatenate([x for _, x, _ in self._sample])
        observed = np.concatenate([y for _, _, y in self._sample])
        ranked = ranked_moments(predicted, observed, source, self.n_windows)
        return {
            "pearson": correlate(self._raw, weights),
            "pearson_log1p": correlate(self._log, weights),
            "spearman": correlate(ranked, weights),
        }
