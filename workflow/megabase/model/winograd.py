"""Convolutions of width 5 in eight products for four outputs instead of twenty, on CPUs.

Four outputs of a correlation with five weights need eight products only, if inputs and weights are first
evaluated at eight points (0, 1, -1, 2, -2, 1/2, -1/2 and infinity) and the products interpolated: Winograd's
minimal filtering F(4, 5). The sums over channels are eight matrix products, which is where the time goes, and
2.5 times fewer. In float32 the result is about 1e-6 of its size from the exact one (a direct sum: 2e-7).
Source: S. Winograd, Arithmetic Complexity of Computations (1980); for networks, Lavin and Gray (2016).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 4  # outputs of a tile
WIDTH = 5  # weights of the filter
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity
COUNT = TILE + WIDTH - 1  # products of a tile
STRETCH = 1 << 22  # elements of the evaluated tiles that are alive at once
LEAST_TILES = 64  # fewer make the products narrow
LEAST_CHANNELS = 256  # evaluating and interpolating cost what is saved at about 192 (2 cores, 16,384 bp)


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
    return torch.einsum("kr,oir->koi", _WEIGHTS, weight.double()).to(weight.dtype).contiguous()


def padded(x: Tensor) -> Tensor:
    """x [B, C, S] -> [B, C, S + 4], with zeros beyond the ends."""
    return F.pad(x, (WIDTH // 2, WIDTH // 2))


def correlate(x: Tensor, transformed: Tensor, bias: Tensor) -> Tensor:
    """x [B, in, S + 4], with 2 positions beyond either end; filters of `transform` -> [B, out, S]."""
    found = x.new_empty(len(x), len(bias), x.shape[-1] - WIDTH + 1)
    for positions, seen in _stretches(x):
        products = torch.bmm(transformed, _evaluate(x[..., seen]))
        found[..., positions] = _interpolate(products, len(x)) + bias[:, None]
    return found


def _stretches(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """(positions, what they see of x [B, C, S + 4]): stretches whose tiles take no more than `STRETCH`."""
    length = x.shape[-1] - WIDTH + 1
    most = STRETCH // (COUNT * x.shape[0] * x.shape[1])
    step = TILE * max(LEAST_TILES, most // LEAST_TILES * LEAST_TILES)
    for start in range(0, length, step):
        end = min(start + step, length)
        yield slice(start, end), slice(start, end + WIDTH - 1)


def _evaluate(x: Tensor) -> Tensor:
    """Tiles of x [B, C, S + 4] at the points: [8, C, B * tiles]."""
    return torch.einsum("kn,bctn->kcbt", _INPUTS.to(x), x.unfold(-1, COUNT, TILE)).flatten(2)


def _interpolate(products: Tensor, batch: int) -> Tensor:
    """[8, C, B * tiles] -> the tiles' outputs, [B, C, S]."""
    found = products.unflatten(-1, (batch, -1))
    return torch.einsum("mk,kobt->botm", _OUTPUTS.to(products), found).flatten(2)


def transform_quickly(weight: Tensor) -> Tensor:
    """`transform` in the precision of the weights, for those that change in every step.

    They lie in memory as published, [5, in, out], and so does what they are transformed to: [8, in, out].
    """
    flat = weight.permute(2, 1, 0).flatten(1)
    return torch.mm(_WEIGHTS.to(flat), flat).view(COUNT, *weight.shape[1::-1]).transpose(1, 2)


def gradients(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of x [B, in, S + 4], weight [out, in, 5] and bias, each in eight products too.

    `correlate` is y = outputs ((weights g) * (inputs x)) in every tile, linear in g and in x, and the
    gradients are its adjoints. gradient: of y, [B, out, S].
    """
    pull = transform_quickly(weight).transpose(1, 2)
    products, to_x = x.new_zeros(COUNT, *weight.shape[1::-1]), torch.zeros_like(x)
    for positions, seen in _stretches(x):
        tiles = gradient[..., positions].unflatten(-1, (-1, TILE))
        spread = torch.einsum("mk,botm->kobt", _OUTPUTS.to(x), tiles).flatten(2)
        products.baddbmm_(_evaluate(x[..., seen]), spread.transpose(1, 2))
        pulled = torch.bmm(pull, spread).unflatten(-1, (len(x), -1))
        near, far = torch.einsum("kn,kcbt->bctn", _INPUTS.to(x), pulled).split(TILE, -1)
        own = to_x[..., seen]
        own[..., :-TILE] += near.flatten(2)
        own[..., TILE:] += far.flatten(2)
    to_weight = torch.mm(_WEIGHTS.to(x).t(), products.flatten(1)).view(WIDTH, *products.shape[1:])
    return to_x, to_weight.permute(2, 1, 0), gradient.sum((0, 2))
