"""Encoder and decoder: the convolutional U-net around the tower. Tensors are [B, C, S] here.

Source: AlphaGenome preprint, Methods, sequence encoder and sequence decoder. [B, C, S] keeps the long
axis innermost, which is the fast layout for the wide, shallow levels near 1 bp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megabase.model import winograd
from megabase.model.constants import Constants
from megabase.model.fused import MaxPool, convolve_active
from megabase.model.layers import GELU_SLOPE, Linear, RMSBatchNorm
from megabase.model.recompute import run
from megabase.model.sizes import N_DOWNSAMPLE, STEM_WIDTH, WIDTH, Sizes
from megabase.parallel import Layout, Sharded


class Conv1D(Sharded):
    """Plain convolution, w [width, in, out], same length; beyond a part of a window lie its neighbours."""

    def __init__(self, n_in: int, n_out: int, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(width, n_in, n_out))
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, S] -> [B, out, S]."""
        weight, bias, reach = self.w.permute(2, 1, 0).to(x.dtype), self.b.to(x.dtype), len(self.w) // 2
        if self.layout.split:
            return F.conv1d(self.layout.halo(x, reach), weight, bias)
        return F.conv1d(x, weight, bias, padding=reach)


def standardized(w: Tensor, scale: Tensor, gain: float = 1.0) -> Tensor:
    """w [width, in, out], scale [1, 1, out] -> gain * standardized weights, the same shape and dtype.

    Centred and scaled by output channel; the variance is the biased one.
    """
    variance, mean = torch.var_mean(w, dim=(0, 1), correction=0, keepdim=True)
    fan_in = w.shape[0] * w.shape[1]
    return (w - mean) * (scale * torch.rsqrt((fan_in * variance).clamp_min(1e-4))) * gain


@dataclass(frozen=True)
class Standardized:
    """Form of a convolution with `standardized` weights; tiled: by `winograd`."""

    gain: float
    layout: Layout
    tiled: bool

    def filters(self, w: Tensor, scale: Tensor, *, dtype: torch.dtype) -> Tensor:
        """[width, in, out] and [1, 1, out] -> [out, in, width]."""
        return standardized(w, scale, self.gain).permute(2, 1, 0).to(dtype)

    def reach(self, x: Tensor) -> Tensor:
        """Two positions more at either end: the neighbours', or zeros (which the direct form adds itself)."""
        if self.layout.split:
            return self.layout.halo(x, WIDTH // 2)
        return winograd.padded(x) if self.tiled else x

    def convolve(self, x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
        """[B, out, S]."""
        if self.tiled:
            return winograd.correlate(x, winograd.transform_quickly(filters), bias)
        return F.conv1d(x, filters, bias, padding=self._padding())

    def gradients(self, gradient: Tensor, x: Tensor, filters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x, filters and bias."""
        if self.tiled:
            return winograd.gradients(gradient, x, filters)
        return torch.ops.aten.convolution_backward(
            gradient, x, filters, [len(filters)], [1], [self._padding()], [1], False, [0], 1, [True] * 3
        )

    def _padding(self) -> int:
        return 0 if self.layout.split else WIDTH // 2


@dataclass(frozen=True)
class Pointwise:
    """Form of a convolution of width 1: a plain linear map w [in, out]."""

    gain: float

    def filters(self, w: Tensor, *, dtype: torch.dtype) -> Tensor:
        """[in, out] -> [out, in]."""
        return (w * self.gain).t().to(dtype)

    def reach(self, x: Tensor) -> Tensor:
        """It sees its own position alone."""
        return x

    def convolve(self, x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
        """[B, out, S]."""
        return torch.baddbmm(bias[:, None], filters.expand(x.shape[0], -1, -1), x)

    def gradients(self, gradient: Tensor, x: Tensor, filters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x, filters and bias."""
        to_filters = torch.bmm(gradient, x.transpose(1, 2)).sum(0)
        return torch.matmul(filters.t(), gradient), to_filters, gradient.sum((0, 2))


class StandardizedConv1D(Sharded):
    """Convolution whose weights are centred and scaled to unit variance per output channel."""

    def __init__(self, n_in: int, n_out: int, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(width, n_in, n_out))
        self.scale = nn.Parameter(torch.ones(1, 1, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.constants = Constants()

    def form(self, x: Tensor, gain: float = 1.0) -> Standardized:
        """How gain * x [B, in, S] is convolved."""
        return Standardized(gain, self.layout, winograd.suits(x, len(self.bias), self.w.shape[0]))

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[B, in, S] -> [B, out, S] of gain * x, without gradients: filters are kept if `constants` are."""
        form = self.form(x, gain)

        def prepare() -> Tensor:
            filters = form.filters(self.w, self.scale, dtype=x.dtype)
            return winograd.transform(filters) if form.tiled else filters.contiguous()

        filters = self.constants.get((x.dtype, gain, form.tiled), (self.w, self.scale), prepare)
        bias = self.bias.to(x.dtype)
        if form.tiled:
            return winograd.correlate(form.reach(x), filters, bias)
        return form.convolve(form.reach(x), filters, bias)


class ConvBlock(nn.Module):
    """Norm, GELU, convolution; of width 1, the convolution is a plain linear map."""

    def __init__(self, n_in: int, n_out: int, width: int) -> None:
        super().__init__()
        self.rms_batch_norm = RMSBatchNorm(n_in)
        if width == 1:
            self.linear = Linear(n_in, n_out)
        else:
            self.standardized_conv1_d = StandardizedConv1D(n_in, n_out, width)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, S] -> [B, out, S].

        x sigmoid(1.702 x) = silu(1.702 x) / 1.702: the slope is folded into the norm before and into the
        weights behind, so that activation costs one pass over the long axis.
        """
        gain, norm = 1 / GELU_SLOPE, self.rms_batch_norm
        if torch.is_grad_enabled():
            if self.width == 1:
                return convolve_active(x, norm, GELU_SLOPE, Pointwise(gain), self.linear.b, self.linear.w)
            conv = self.standardized_conv1_d
            return convolve_active(x, norm, GELU_SLOPE, conv.form(x, gain), conv.bias, conv.w, conv.scale)
        active = F.silu(norm(x, axis=1, slope=GELU_SLOPE), inplace=True)
        if self.width > 1:
            return self.standardized_conv1_d(active, gain)
        form = Pointwise(gain)
        filters = form.filters(self.linear.w, dtype=x.dtype)
        return form.convolve(active, filters, self.linear.b.to(x.dtype))


def max_pool(x: Tensor) -> Tensor:
    """[B, C, S] -> [B, C, S / 2]: the larger of two neighbours."""
    return MaxPool.apply(x)


class DnaEmbedder(nn.Module):
    """One-hot bases to channels at 1 bp."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1_d = Conv1D(4, channels, STEM_WIDTH)
        self.conv_block = ConvBlock(channels, channels, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 4, S] -> [B, C, S]."""
        x = self.conv1_d(x)
        return x + self.conv_block(x)


class DownResBlock(nn.Module):
    """Two residual convolutions; the first widens, its skip is padded with zero channels."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv_block = ConvBlock(n_in, n_out, WIDTH)
        self.conv_block_1 = ConvBlock(n_out, n_out, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, S] -> [B, out, S]."""
        y = self.conv_block(x)
        y = y + F.pad(x, (0, 0, 0, y.shape[1] - x.shape[1]))
        return y + self.conv_block_1(y)


class SequenceEncoder(nn.Module):
    """One-hot DNA to 128-bp tokens, keeping what every resolution saw."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dna_embedder = DnaEmbedder(sizes.channels_1bp)
        for i in range(N_DOWNSAMPLE):
            block = DownResBlock(sizes.stage_channels(i), sizes.stage_channels(i + 1))
            self.add_module(f"downres_block_{i}", block)

    def forward(self, sequence: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 4, S] -> ([B, C, S / 128], skips at 1, 2, 4, ..., 64 bp, each [B, C_i, S / 2**i])."""
        skips = [run(self.dna_embedder, sequence)]
        for i in range(N_DOWNSAMPLE):
            skips.append(run(self.get_submodule(f"downres_block_{i}"), max_pool(skips[-1])))
        return max_pool(skips[-1]), skips

    def levels(self) -> Iterator[tuple[int, nn.Module]]:
        """(bases a position, block) of every block."""
        yield 1, self.dna_embedder
        for i in range(N_DOWNSAMPLE):
            yield 2 ** (i + 1), self.get_submodule(f"downres_block_{i}")


class UpResBlock(nn.Module):
    """Doubles the resolution and joins what the encoder saw there."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.residual_scale = nn.Parameter(torch.tensor(0.9))
        self.conv_in = ConvBlock(n_in, n_out, WIDTH)
        self.pointwise_conv_unet_skip = ConvBlock(n_out, n_out, 1)
        self.conv_out = ConvBlock(n_out, n_out, WIDTH)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x [B, in, S], skip [B, out, 2 S] -> [B, out, 2 S]."""
        return self.join(x, self.pointwise_conv_unet_skip(skip))

    def join(self, x: Tensor, adapted: Tensor) -> Tensor:
        """The same, of a skip that `pointwise_conv_unet_skip` was applied to before."""
        y = (self.conv_in(x) + x[:, : adapted.shape[1]]) * self.residual_scale.to(x.dtype)
        y = (adapted.unflatten(-1, (-1, 2)) + y[..., None]).flatten(-2)
        return y + self.conv_out(y)


class SequenceDecoder(nn.Module):
    """128-bp tokens back to the finest level: 1 bp as published, or `Sizes.resolution`."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.blocks = sizes.decoder_blocks
        n_in = sizes.trunk
        for i in range(self.blocks):
            n_out = sizes.stage_channels(N_DOWNSAMPLE - i)
            self.add_module(block_name("up_res_block", i), UpResBlock(n_in, n_out))
            n_in = n_out

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """x [B, C, S / 128] and the encoder's skips -> [B, C_r, S / r] of the finest level, r bp."""
        for i, skip in enumerate(reversed(skips[N_DOWNSAMPLE + 1 - self.blocks :])):
            x = run(self.get_submodule(block_name("up_res_block", i)), x, skip)
        return x

    def adapt(self, skips: list[Tensor]) -> list[Tensor]:
        """Skips as `UpResBlock.join` takes them; of levels without a block [B, 0, S]. Local to a position."""
        found = [x[:, :0] for x in skips]
        for i, (_, block) in enumerate(self.levels()):
            found[N_DOWNSAMPLE - i] = block.pointwise_conv_unet_skip(skips[N_DOWNSAMPLE - i])
        return found

    def levels(self) -> Iterator[tuple[int, UpResBlock]]:
        """(bases a position, block) of every block."""
        for i in range(self.blocks):
            yield 2 ** (N_DOWNSAMPLE - i), self.get_submodule(block_name("up_res_block", i))


def block_name(name: str, index: int) -> str:
    """Published name of the index-th block: the first has no number."""
    return f"{name}_{index}" if index else name
