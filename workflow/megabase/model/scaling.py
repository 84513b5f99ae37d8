"""Between the units of the tracks and the space in which the network predicts and the losses compare.

A target is divided by its track's mean (of its non-zero bases) and by the bases that a value sums over,
RNA-seq is raised to the power 0.75, and what then exceeds 10 is compressed by a square root. The way back
is the exact inverse. Source: AlphaGenome preprint, Methods, target scaling.
"""

from __future__ import annotations

import torch
from torch import Tensor

SQUASH = 0.75
SOFT_CLIP = 10.0


def soft_clip(x: Tensor) -> Tensor:
    """x up to 10, 2 sqrt(10 x) - 10 above: continuous with its first derivative; x is not negative."""
    return torch.where(x > SOFT_CLIP, 2 * torch.sqrt(SOFT_CLIP * x.clamp_min(SOFT_CLIP)) - SOFT_CLIP, x)


def soft_unclip(x: Tensor) -> Tensor:
    """Inverse of `soft_clip`: (x + 10)**2 / 40 above 10."""
    return torch.where(x > SOFT_CLIP, (x + SOFT_CLIP).square() / (4 * SOFT_CLIP), x)


def scale_targets(targets: Tensor, track_mean: Tensor, resolution: int, *, squash: bool) -> Tensor:
    """Track units [B, S, P] to scaled space; NaN stays NaN.

    track_mean broadcasts to targets ([B, 1, P] or [P]); resolution: bases that a value is the sum of.
    """
    x = targets / (track_mean * resolution)
    return soft_clip(x.clamp_min(0).pow(SQUASH) if squash else x)


def unscale_predictions(scaled: Tensor, track_mean: Tensor, resolution: int, *, squash: bool) -> Tensor:
    """Scaled space [B, S, P] to track units: the inverse of `scale_targets`."""
    x = soft_unclip(scaled)
    return (x.pow(1 / SQUASH) if squash else x) * (track_mean * resolution)
