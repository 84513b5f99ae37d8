"""Collective operations with their adjoints, for tensors that take part in a gradient.

The gradient of what many ranks compute together is that of the sum of what each back-propagates; so the
backward of every operation here is its transpose: a sum for a sum, a scattered sum for a gather, the
halo's gradient back to its owner. Every rank of the group must call in the same order. Torch only.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

Context = torch.autograd.function.FunctionCtx
Group = dist.ProcessGroup


def gathered(x: Tensor, group: Group) -> list[Tensor]:
    """The tensor of every rank of the group, all of one shape, in rank order."""
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(group.size())]
    dist.all_gather(parts, x.contiguous(), group=group)
    return parts


def exchanged(x: Tensor, group: Group) -> Tensor:
    """x [ranks, ...], one block a rank: block j goes to rank j; block i of the result came from rank i."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    dist.all_to_all_single(out, x.contiguous(), group=group)
    return out


class Total(torch.autograd.Function):
    """Sum over ranks."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, group: Group) -> Tensor:
        """[...] of each rank -> their sum, on every rank."""
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None]:
        """The sum of all ranks' gradients."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None


class Gather(torch.autograd.Function):
    """Parts of a dimension, joined."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, dim: int, group: Group) -> Tensor:
        """[..., n, ...] -> [..., n * ranks, ...]."""
        ctx.dim, ctx.group = dim, group
        return torch.cat(gathered(x, group), dim)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Own part of the sum of all ranks' gradients, summed in float32 in rank order."""
        blocks = torch.stack(gradient.chunk(ctx.group.size(), ctx.dim))
        return exchanged(blocks, ctx.group).sum(0, dtype=_wide(gradient)).to(gradient.dtype), None, None


class Halo(torch.autograd.Function):
    """Both neighbours' nearest positions beside one's own; zeros beyond the ends of the window."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, width: int, group: Group) -> Tensor:
        """[..., n] -> [..., width + n + width]."""
        ctx.width, ctx.group = width, group
        edges = gathered(torch.cat((x[..., :width], x[..., -width:]), -1), group)
        left, right = _neighbours(edges, group)
        return torch.cat((left[..., width:], x, right[..., :width]), -1)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Own gradient, plus at either end what a neighbour computed with this rank's edge."""
        width = ctx.width
        edges = torch.cat((gradient[..., :width], gradient[..., -width:]), -1)
        left, right = _neighbours(gathered(edges, ctx.group), ctx.group)
        own = gradient[..., width:-width].clone(memory_format=torch.contiguous_format)
        own[..., :width] += left[..., width:]
        own[..., -width:] += right[..., :width]
        return own, None, None


class Transpose(torch.autograd.Function):
    """Rows of the transposed matrix, from rows of the matrix."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, group: Group) -> Tensor:
        """[B, q, Q, C], this rank's rows -> [B, q, Q, C], the same rows of the transpose."""
        ctx.group = group
        return _transposed(x, group)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None]:
        """Transposing is its own adjoint: the gradient, transposed."""
        return _transposed(gradient, ctx.group), None


def _transposed(x: Tensor, group: Group) -> Tensor:
    blocks = torch.stack(x.chunk(group.size(), 2))  # [ranks, B, q, q, C]
    return torch.cat(exchanged(blocks, group).transpose(2, 3).unbind(0), 2)


def _neighbours(parts: list[Tensor], group: Group) -> tuple[Tensor, Tensor]:
    rank, zeros = group.rank(), torch.zeros_like(parts[0])
    return (
        parts[rank - 1] if rank > 0 else zeros,
        parts[rank + 1] if rank + 1 < group.size() else zeros,
    )


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
