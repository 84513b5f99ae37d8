"""Parameter gradients summed over ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from megabase.parallel.layout import Layout

BUCKET = 1 << 25  # numbers that are summed in one message


def sum_gradients(parameters: Iterable[nn.Parameter], layout: Layout) -> None:
    """Replace every gradient by its sum over all ranks; the same bits on each of them."""
    if layout.single:
        return
    for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
        joined = torch.cat([g.flatten() for g in bucket])
        dist.all_reduce(joined, group=layout.world)
        for gradient, part in zip(bucket, joined.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in order, in lists of up to BUCKET numbers."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and sum(g.numel() for g in bucket) + gradient.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
