"""The small parts of the network: activations, norms, linear maps, rotary positions.

Parameter names and shapes are those of the published checkpoint, so that loading one is a renaming.
Parameters stay float32; activations keep the dtype they come in; statistics are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megabase.parallel import SINGLE, Layout, Sharded

EPSILON = 1e-5
EMA_DECAY = 0.9
GELU_SLOPE = 1.702


_moving_statistics = ContextVar("moving_statistics", default=True)


@contextmanager
def frozen_statistics() -> Iterator[None]:
    """Running averages of batch norms stay as they are, in this thread and for the time of the block."""
    token = _moving_statistics.set(False)
    try:
        yield
    finally:
        _moving_statistics.reset(token)


def gelu_sigmoid(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x): the GELU of the convolutions and of the output embedders.

    Written with `silu`, which torch computes in one pass forward and one backward.
    """
    return F.silu(x * GELU_SLOPE) * (1 / GELU_SLOPE)


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU: in the attention bias and in the sequence-to-pair block."""
    return F.gelu(x, approximate="tanh")


class Linear(nn.Module):
    """y = x w + b over the last axis, with w [in, out] as published."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(n_in, n_out))
        if bias:
            self.b = nn.Parameter(torch.zeros(n_out))
        else:
            self.register_parameter("b", None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.w.t().to(x.dtype), None if self.b is None else self.b.to(x.dtype))


class Embed(nn.Module):
    """One learned vector an organism."""

    def __init__(self, n: int, channels: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.empty(n, channels))

    def forward(self, index: Tensor) -> Tensor:
        """int64 [B] -> [B, channels]."""
        return self.embeddings[index]


class BatchNormalize(torch.autograd.Function):
    """y = x * scale / sqrt(square + 1e-5) + offset, where `square` is the batch's `mean_square` of x.

    One function rather than a chain of operations, because the chain reads and writes the long tensors
    near 1 bp about twice as often in its backward pass. The gradient counts that `square` follows from x.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        scale: Tensor,
        offset: Tensor,
        square: Tensor,
        layout: Layout = SINGLE,
    ) -> Tensor:
        """y; scale and square have x's rank and one axis longer than 1, offset broadcasts to x."""
        inverse = torch.rsqrt(square + EPSILON)
        ctx.save_for_backward(x, scale, inverse)
        ctx.axes = [a for a in range(x.ndim) if square.shape[a] == 1]
        ctx.count, ctx.offset_shape, ctx.layout = (
            x.numel() // square.numel() * layout.ranks,
            offset.shape,
            layout,
        )
        return torch.addcmul(offset.to(x.dtype), x, (scale * inverse).to(x.dtype))

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of x, and this rank's share of those of scale and offset."""
        x, scale, inverse = ctx.saved_tensors
        dot = sum_products(gradient, x, ctx.axes).to(inverse.dtype)
        gain = (scale * inverse).to(x.dtype)
        pull = (-ctx.layout.total(dot) * scale * inverse.pow(3) / ctx.count).to(x.dtype)
        to_offset = gradient.sum_to_size(ctx.offset_shape)
        return torch.addcmul(gradient * gain, x, pull), dot * inverse, to_offset.to(scale.dtype), None, None


@torch.no_grad()
def mean_square(x: Tensor, axis: int, layout: Layout = SINGLE) -> Tensor:
    """Mean square of every channel over the batch of all ranks, float32; its other axes have length 1."""
    axes = [a for a in range(x.ndim) if a != axis % x.ndim]
    dtype = torch.promote_types(x.dtype, torch.float32)
    square = torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=dtype).square()
    return layout.total(square) / (x.numel() // x.shape[axis] * layout.ranks)


def sum_products(a: Tensor, b: Tensor, axes: list[int]) -> Tensor:
    """Sum of a * b over axes, which are kept with length 1; [B, C, S] without a product tensor."""
    if axes == [0, 2] and a.dtype == torch.float32:
        rows = torch.bmm(a.reshape(-1, 1, a.shape[2]), b.reshape(-1, b.shape[2], 1))
        return rows.view(a.shape[:2]).sum(0).view(1, -1, 1)
    return (a.to(torch.promote_types(a.dtype, torch.float32)) * b).sum(axes, keepdim=True)


class RMSBatchNorm(Sharded):
    """Batch norm without mean subtraction: x * scale / sqrt(mean square + 1e-5) + offset.

    In training the mean square of each channel is taken over batch and positions (of all ranks), and its
    running average (decay 0.9) is kept for evaluation. ndim: rank of the published parameters, (1, .., 1, C).
    """

    def __init__(self, channels: int, ndim: int = 3) -> None:
        super().__init__()
        shape = (1,) * (ndim - 1) + (channels,)
        self.scale = nn.Parameter(torch.ones(shape))
        self.offset = nn.Parameter(torch.zeros(shape))
        self.register_buffer("var_ema", torch.ones(shape))

    def forward(
        self, x: Tensor, axis: int = -1, *, slope: float = 1.0, shift: Tensor | None = None
    ) -> Tensor:
        """slope * (norm of x along the channel `axis` + shift); axis is 1 for [B, C, S].

        slope and shift (broadcastable to x) let a caller fold what follows into the same pass.
        """
        scale, offset = self.affine(x.ndim, axis, slope)
        if shift is not None:
            offset = offset + slope * shift
        return self.normalize(x, scale, offset, self.statistics(x, axis), self.training)

    def affine(self, ndim: int, axis: int, slope: float = 1.0) -> tuple[Tensor, Tensor]:
        """slope times (scale, offset), with `ndim` axes."""
        shape = [1] * ndim
        shape[axis] = -1
        return slope * self.scale.view(shape), slope * self.offset.view(shape)

    def statistics(self, x: Tensor, axis: int) -> Tensor:
        """What x is normalized by, float32: its `mean_square`, or in evaluation the running average.

        In training this moves the running average.
        """
        if not self.training:
            shape = [1] * x.ndim
            shape[axis] = -1
            return self.var_ema.view(shape)
        square = mean_square(x, axis, self.layout)
        if _moving_statistics.get():
            with torch.no_grad():
                self.var_ema.mul_(EMA_DECAY).add_(square.view_as(self.var_ema), alpha=1 - EMA_DECAY)
        return square

    def normalize(self, x: Tensor, scale: Tensor, offset: Tensor, square: Tensor, of_batch: bool) -> Tensor:
        """x * scale / sqrt(square + 1e-5) + offset, of `affine` and `statistics`.

        of_batch: whether `square` follows from x, so that its gradient passes through it.
        """
        if of_batch:
            return BatchNormalize.apply(x, scale, offset, square, self.layout)
        gain = scale * torch.rsqrt(square + EPSILON)
        return torch.addcmul(offset.to(x.dtype), x, gain.to(x.dtype))


class LayerNorm(nn.Module):
    """Layer norm over the last axis in float32; with rms, the mean is not subtracted."""

    def __init__(self, channels: int, rms: bool = False) -> None:
        super().__init__()
        self.rms = rms
        self.scale = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        y = x.float()
        if not self.rms:
            return F.layer_norm(y, y.shape[-1:], self.scale, self.offset, EPSILON).to(x.dtype)
        gain = torch.rsqrt(y.square().mean(-1, keepdim=True) + EPSILON)
        return torch.addcmul(self.offset, y * gain, self.scale).to(x.dtype)


def rope_frequencies(channels: int, max_position: int, device: torch.device | str = "cpu") -> Tensor:
    """Inverse wavelengths float32 [channels / 2] of the rotary positions.

    Published form: 1 / (i + g_i), g a geometric series from 1 to max_position - n + 1. Sum and inverse are
    rounded to float32 as the published code rounds them: at positions far into a window the phase is the
    frequency times thousands, and shows the last bit.
    """
    n = channels // 2
    series = np.geomspace(1, max_position - n + 1, n).astype(np.float32)
    return torch.from_numpy(1 / (np.arange(n, dtype=np.float32) + series)).to(device)


def rope_angles(positions: Tensor, channels: int, max_position: int) -> tuple[Tensor, Tensor]:
    """(cos, sin) float32 [..., channels / 2] of integer positions [...]."""
    frequencies = rope_frequencies(channels, max_position, positions.device)
    theta = positions[..., None].float() * frequencies
    return torch.cos(theta), torch.sin(theta)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs (0, 1), (2, 3), ... of x [..., C] by angles [..., C / 2]; float32 inside."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2).to(x.dtype)


def truncated_normal(parameter: Tensor, sigma: float, generator: torch.Generator) -> None:
    """Fill with a normal cut at two deviations and rescaled to deviation `sigma` (Haiku's rule)."""
    correction = 0.87962566103423978  # deviation of a unit normal cut at -2 and 2
    nn.init.trunc_normal_(parameter, 0.0, 1.0, -2.0, 2.0, generator=generator)
    with torch.no_grad():
        parameter.mul_(sigma / correction)


def fan_in_sigma(fan_in: int) -> float:
    """1 / sqrt(fan_in)."""
    return 1 / math.sqrt(fan_in)
