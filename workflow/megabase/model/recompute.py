"""Activation checkpointing by level: blocks near 1 bp forget what they computed and do it again backwards.

A level is the number of bases that a position of a block stands for: 1 to 64 in the convolutions, 128 in the
tower. The finest levels hold almost all of the memory, so that `mark_levels(model, 1)` frees most of it for
the least time. The gradients and running statistics of a block are those that it has without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from megabase.model.layers import frozen_statistics

T = TypeVar("T")


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Of the first pass and of the repeated one, which must not move the running averages once more."""
    return nullcontext(), frozen_statistics()


def again(function: Callable[..., T], *args: Any) -> T:
    """function(*args), computed again for its gradient instead of kept; dropout masks are the same ones."""
    return checkpoint(function, *args, use_reentrant=False, context_fn=_contexts)


def run(block: nn.Module, *args: Any) -> Any:
    """block(*args); `again` where `mark_levels` has marked the block and gradients are wanted."""
    if getattr(block, "recomputed", False) and torch.is_grad_enabled():
        return again(block, *args)
    return block(*args)


def mark_levels(blocks: Iterator[tuple[int, nn.Module]], bases: int) -> None:
    """Mark the blocks of levels up to `bases`, and no others; 0 marks none. blocks: (level, block)."""
    for level, block in blocks:
        block.recomputed = level <= bases
