"""Predictions at some positions of a window. Torch only; part of the numerical core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """values [n, ...] at the positions (or bins) of spans, one after the other; spans sorted and apart."""

    spans: tuple[Span, ...]
    values: Tensor

    @classmethod
    def whole(cls, values: Tensor) -> Reading:
        """Of every position [S, ...]."""
        return cls(((0, len(values)),), values)

    def span(self, first: int, last: int) -> Tensor:
        """Values [last - first, ...]; ValueError unless one span holds them all."""
        at = 0
        for start, end in self.spans:
            if start <= first and last <= end:
                return self.values[at + first - start : at + last - start]
            at += end - start
        raise ValueError(f"positions [{first}, {last}) were not read; read are {list(self.spans)}")

    def at(self, positions: Tensor) -> Tensor:
        """Values [n, ...] of positions int64 [n]; ValueError for one that was not read."""
        if not len(positions):
            return self.values[:0]
        starts = torch.tensor([a for a, _ in self.spans])
        lengths = torch.tensor([b - a for a, b in self.spans])
        which = torch.searchsorted(starts, positions, right=True) - 1
        within = positions - starts[which.clamp_min(0)]
        if bool(((which < 0) | (within >= lengths[which.clamp_min(0)])).any()):
            raise ValueError(f"positions were not read; read are {list(self.spans)}")
        place = (lengths.cumsum(0) - lengths)[which] + within
        first, last = int(place[0]), int(place[-1]) + 1
        if last - first == len(place) and bool((place.diff() == 1).all()):
            return self.values[first:last]
        return self.values[place.to(self.values.device)]


def mean_reading(readings: Sequence[Reading]) -> Reading:
    """The mean of readings of the same spans."""
    if len(readings) == 1:
        return readings[0]
    return Reading(readings[0].spans, torch.stack([r.values.float() for r in readings]).mean(0))
