"""Convolutions of width 5 in eight products for four outputs instead of twenty, for inference on CPUs.

Four outputs of a correlation with five weights need eight products only, if inputs and weights are first
evaluated at eight points (0, 1, -1, 2, -2, 1/2, -1/2 and infinity) and the products interpolated: Winograd's
minimal filtering F(4, 5). The sums over channels are eight matrix products, which is where the time goes, and
2.5 times fewer. In float32 the result is about 1e-6 of its size from the exact one (a direct sum: 2e-7).
Source: S. Winograd, Arithmetic Complexity of Computations (1980); for networks, Lavin and Gray (2016).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 4  # outputs of a tile
WIDTH = 5  # weights of the filter
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity
COUNT = TILE + WIDTH - 1  # products of a tile
LEAST_CHANNELS = 256  # below, evaluating and interpolating costs more than it saves


def _powers(degree: int) -> np.ndarray:
    """float64 [COUNT, degree]: value of every power at every point; at infinity, the highest one's factor."""
    rows = [[point**k for k in range(degree)] for point in POINTS]
    return np.array([*rows, [0.0] * (degree - 1) + [1.0]])


def matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(inputs [8, 8], weights [8, 5], outputs [4, 8]), float64: y = outputs ((weights g) * (inputs x)).

    Rows of `inputs` are scaled to a largest entry of 1, and those of `weights` back, so that no product is
    much larger than the others.
    """
    inputs = np.linalg.inv(_powers(COUNT)).T
    size = np.abs(inputs).max(axis=1, keepdims=True)
    return inputs / size, _powers(WIDTH) * size, _powers(TILE).T


_INPUTS, _WEIGHTS, _OUTPUTS = (torch.from_numpy(m) for m in matrices())


def suits(x: Tensor, channels_out: int, width: int) -> bool:
    """Whether `correlate` is for the convolution of x [B, C, S] with filters of `width`: and faster."""
    wide = min(x.shape[1], channels_out) >= LEAST_CHANNELS
    whole = width == WIDTH and x.shape[-1] % TILE == 0
    return wide and whole and x.dtype == torch.float32 and x.device.type == "cpu"


def transform(weight: Tensor) -> Tensor:
    """Filters [out, in, 5] -> their values at the points, [8, out, in]."""
    return (
        torch.einsum("kr,oir->koi", _WEIGHTS.to(weight.device), weight.double()).to(weight.dtype).contiguous()
    )


def correlate(x: Tensor, transformed: Tensor, bias: Tensor) -> Tensor:
    """x [B, in, S + 4], with 2 positions beyond either end; filters of `transform` -> [B, out, S]."""
    batch, _, length = x.shape
    tiles = (length - WIDTH + 1) // TILE
    evaluated = torch.einsum("kn,bctn->kcbt", _INPUTS.to(x), x.unfold(-1, COUNT, TILE))
    products = torch.bmm(transformed, evaluated.flatten(2)).unflatten(-1, (batch, tiles))
    y = torch.einsum("mk,kobt->botm", _OUTPUTS.to(x), products).reshape(batch, -1, tiles * TILE)
    return y.add_(bias[:, None])


def padded(x: Tensor) -> Tensor:
    """x [B, C, S] -> [B, C, S + 4], with zeros beyond the ends."""
    return F.pad(x, (WIDTH // 2, WIDTH // 2))
