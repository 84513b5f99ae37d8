"""The space in which errors are even: where one standard deviation means as much for high values as for low.

Tracks are compared as log(1 + x) of 128-bp sums and junctions as log(1 + x) of counts; contact maps (which
are logarithms already) and probabilities as they are. Spread, its calibration and its figures all live here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from megabase.spec import OUTPUTS, TOKEN, Kind, OutputType

_LOGARITHMIC = (Kind.TRACKS, Kind.JUNCTIONS)


def even_key(output: OutputType) -> str:
    """Key of a predictor's values of an output type that are compared."""
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        return f"{TOKEN}bp"
    return "probabilities" if kind in (Kind.SITES, Kind.USAGE) else "values"


def even(output: OutputType, values: Tensor) -> Tensor:
    """Values in the units of the tracks (tracks: sums of 128 bases) -> float32 in the even space.

    NaN stays NaN; what is below 0 counts as 0 where the space is logarithmic.
    """
    values = values.float()
    return torch.log1p(values.clamp_min(0)) if OUTPUTS[output].kind in _LOGARITHMIC else values


def even_predictions(output: OutputType, found: Mapping[str, Tensor]) -> Tensor:
    """Predictions of one output type in the even space: tracks [B, T, P], the others as they are shaped."""
    return even(output, found[even_key(output)])
