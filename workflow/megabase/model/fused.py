"""Steps of autograd that keep their input alone, where torch's operations one by one keep long tensors.

`convolve_active` is norm, GELU and convolution: of its chain, the normalized and the activated input and what
follows from the weights would be kept until the gradient, at published widths two thirds of what a training
step keeps. Computing them again costs one pass over the input; the convolution itself is not repeated.
Gradients are those of the chain, to the last bit.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from megabase.model.layers import RMSBatchNorm

CHANNELS = 1  # axis of [B, C, S]


class Form(Protocol):
    """How a convolution is computed: linear in its input and in its filters."""

    def filters(self, *parameters: Tensor, dtype: torch.dtype) -> Tensor:
        """The filters [out, in, width] that follow from the parameters."""
        ...

    def reach(self, x: Tensor) -> Tensor:
        """x [B, in, S] with what the convolution sees beyond either end."""
        ...

    def convolve(self, x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
        """[B, out, S] of a reached x."""
        ...

    def gradients(self, gradient: Tensor, x: Tensor, filters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the reached x, of the filters and of the bias."""
        ...


class ConvolveActive(torch.autograd.Function):
    """`convolve_active`; inputs that are no tensors are its norm and its form."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        norm: RMSBatchNorm,
        form: Form,
        x: Tensor,
        square: Tensor,
        scale: Tensor,
        offset: Tensor,
        bias: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """x [B, in, S] -> [B, out, S]."""
        ctx.norm, ctx.form, ctx.training, ctx.bias_dtype = norm, form, norm.training, bias.dtype
        ctx.save_for_backward(x, square, scale, offset, *parameters)
        active = F.silu(norm.normalize(x, scale, offset, square, norm.training), inplace=True)
        filters = form.filters(*parameters, dtype=x.dtype)
        return form.convolve(form.reach(active), filters, bias.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, scale, offset, bias and parameters."""
        x, square, *others = ctx.saved_tensors
        inputs = [t.detach().requires_grad_() for t in (x, *others)]
        with torch.enable_grad():
            again, scale, offset, *parameters = inputs
            normal = ctx.norm.normalize(again, scale, offset, square, ctx.training)
            reached = ctx.form.reach(F.silu(normal))
            filters = ctx.form.filters(*parameters, dtype=x.dtype)
        to_reached, to_filters, to_bias = ctx.form.gradients(gradient, reached.detach(), filters.detach())
        found = torch.autograd.grad((reached, filters), inputs, (to_reached, to_filters))
        return None, None, found[0], None, found[1], found[2], to_bias.to(ctx.bias_dtype), *found[3:]


def convolve_active(
    x: Tensor, norm: RMSBatchNorm, slope: float, form: Form, bias: Tensor, *parameters: Tensor
) -> Tensor:
    """Convolution by `form` of silu(slope * norm(x)): [B, in, S] -> [B, out, S], keeping x for the gradient.

    bias: float32 [out]; parameters: those of `form.filters`. In training, the norm's running average moves.
    """
    square = norm.statistics(x, CHANNELS)
    scale, offset = norm.affine(x.ndim, CHANNELS, slope)
    return ConvolveActive.apply(norm, form, x, square, scale, offset, bias, *parameters)


class MaxPool(torch.autograd.Function):
    """The larger of two neighbours; keeps its input, which others keep too, and not the places (int64)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        """[B, C, S] -> [B, C, S / 2]."""
        ctx.save_for_backward(x)
        return F.max_pool1d(x, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        """To the larger one, of equals to the first."""
        left, right = ctx.saved_tensors[0].unflatten(-1, (-1, 2)).unbind(-1)
        first = left >= right
        return torch.stack((gradient * first, gradient * ~first), -1).flatten(-2)


class ScaledSoftplus(torch.autograd.Function):
    """gain * softplus(x), keeping x alone; gain broadcasts to x."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, gain: Tensor) -> Tensor:
        """[B, S, P] and gain [B, 1, P] -> [B, S, P]."""
        ctx.save_for_backward(x, gain)
        return F.softplus(x) * gain

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of x and gain."""
        x, gain = ctx.saved_tensors
        to_gain = (gradient * F.softplus(x)).sum_to_size(gain.shape)
        return torch.ops.aten.softplus_backward(gradient * gain, x, 1, 20), to_gain
