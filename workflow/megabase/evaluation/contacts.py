"""Correlation of predicted and observed contact maps, over all pairs and by distance."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from megabase.evaluation.correlation import correlate, moments
from megabase.evaluation.tracks import Estimates
from megabase.spec import PAIR


def distance_classes(bins: int) -> list[tuple[int, int]]:
    """Octaves [low, high) of the distance in bins between pair bins: (1, 2), (2, 4), (4, 8), ..."""
    edges = [1]
    while edges[-1] < bins:
        edges.append(2 * edges[-1])
    return list(pairwise(edges))


class ContactCorrelation:
    """Pearson of the upper triangle of maps [Q, Q, P]: whole (`pearson`) and per octave of distance."""

    def __init__(self, n_windows: int, n_tracks: int, bins: int) -> None:
        self.rows, self.columns = np.triu_indices(bins)
        distance = self.columns - self.rows
        self.masks = {"pearson": distance >= 0}
        for low, high in distance_classes(bins):
            self.masks[f"pearson_distance_{low * PAIR}"] = (distance >= low) & (distance < high)
        self.sums = {name: np.zeros((n_windows, n_tracks, 6)) for name in self.masks}

    def add(self, window: int, predicted: np.ndarray, observed: np.ndarray) -> None:
        """Count one window: predicted and observed [Q, Q, P], NaN = missing."""
        x, y = predicted[self.rows, self.columns], observed[self.rows, self.columns]
        for name, mask in self.masks.items():
            self.sums[name][window] += moments(x[mask], y[mask])

    def estimates(self, weights: np.ndarray) -> Estimates:
        """Metrics under bootstrap weights [R, W]; `pearson_distance_D` holds distances D up to 2D."""
        return {name: correlate(sums, weights) for name, sums in self.sums.items()}
