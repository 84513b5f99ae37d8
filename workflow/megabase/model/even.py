"""The space in which errors are even: where one standard deviation means as much for high values as for low.

Tracks are compared as log(1 + x / u) of 128-bp sums, so that their depth and units do not matter: u is 128
times the track's mean over its non-zero bases, a bin of ordinary signal, and once that mean where the signal
is of single bases (CAGE, PRO-cap). Junctions are compared as log(1 + x) of counts; contact maps (which are
logarithms already) and probabilities as they are. Spread, its calibration and its figures all live here.
Torch only; part of the numerical core.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from megabase.spec import OUTPUTS, TOKEN, Kind, OutputType

_OF_SINGLE_BASES = (OutputType.CAGE, OutputType.PROCAP)


def even_key(output: OutputType) -> str:
    """Key of a predictor's values of an output type that are compared."""
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        return f"{TOKEN}bp"
    return "probabilities" if kind in (Kind.SITES, Kind.USAGE) else "values"


def even_unit(output: OutputType, track_mean: Tensor) -> Tensor:
    """What a 128-bp sum of a track is divided by; track_mean: of its non-zero bases."""
    return track_mean if output in _OF_SINGLE_BASES else track_mean * TOKEN


def even(output: OutputType, values: Tensor, track_mean: Tensor | None = None) -> Tensor:
    """Values in the units of the tracks (tracks: sums of 128 bases) -> float32 in the even space.

    track_mean: of tracks, the mean of their non-zero bases; broadcasts to the values. NaN stays NaN; what is
    below 0 counts as 0 where the space is logarithmic.
    """
    values, kind = values.float(), OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        if track_mean is None:
            raise ValueError(f"{output}: the means of the tracks are needed")
        return torch.log1p(values.clamp_min(0) / even_unit(output, track_mean.to(values)))
    return torch.log1p(values.clamp_min(0)) if kind is Kind.JUNCTIONS else values


def row_means(rows: Sequence[Mapping[str, Any]]) -> Tensor:
    """float32 [P]: nonzero_mean of track rows; 1 where it is missing, zero or not finite."""
    means = [row.get("nonzero_mean") or 1.0 for row in rows]
    return torch.tensor([mean if math.isfinite(mean) else 1.0 for mean in means], dtype=torch.float32)


def even_predictions(
    output: OutputType, found: Mapping[str, Tensor], rows: Sequence[Mapping[str, Any]]
) -> Tensor:
    """Predictions of one output type in the even space: tracks [B, T, P], the others as they are shaped.

    rows: of TRACK_COLUMNS, of the channels of the predictions.
    """
    means = row_means(rows) if OUTPUTS[output].kind is Kind.TRACKS else None
    return even(output, found[even_key(output)], means)
