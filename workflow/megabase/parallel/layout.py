"""Which rows of a batch and which bases of a window a process has, and how it talks to the others.

The ranks are a grid of data ranks (rows of the batch) by sequence ranks (parts of a window). `SINGLE` is the
grid of one: every method of it gives back what it was given. Torch only; part of the numerical core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from megabase.parallel.collectives import Gather, Halo, Total, Transpose, gathered
from megabase.spec import PAIR


@dataclass(frozen=True)
class Layout:
    """Place of one process. world: the group of all ranks; row: of the ranks that share a window."""

    data_ranks: int = 1
    sequence_ranks: int = 1
    data_rank: int = 0
    sequence_rank: int = 0
    world: dist.ProcessGroup | None = None
    row: dist.ProcessGroup | None = None

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return self.data_ranks * self.sequence_ranks

    @property
    def single(self) -> bool:
        """Whether there is one process only."""
        return self.ranks == 1

    @property
    def split(self) -> bool:
        """Whether a window is split over processes."""
        return self.sequence_ranks > 1

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.data_rank * self.sequence_ranks + self.sequence_rank

    @property
    def leader(self) -> bool:
        """Whether this process writes files and tells how far the run is."""
        return self.rank == 0

    @property
    def window(self) -> Layout:
        """The ranks of this process's window alone: what a data rank does by itself."""
        return replace(self, data_ranks=1, data_rank=0, world=self.row)

    def rows(self, batch_size: int) -> slice:
        """This process's rows of a batch."""
        each = batch_size // self.data_ranks
        return slice(self.data_rank * each, (self.data_rank + 1) * each)

    def part(self, length: int) -> slice:
        """This process's part of a dimension along the window."""
        each = length // self.sequence_ranks
        return slice(self.sequence_rank * each, (self.sequence_rank + 1) * each)

    def offset(self, each: int) -> int:
        """Where this process's part begins, if every part has `each` positions."""
        return self.sequence_rank * each

    def total(self, x: Tensor) -> Tensor:
        """Sum over all ranks."""
        return x if self.single else Total.apply(x, self.world)

    def row_total(self, x: Tensor) -> Tensor:
        """Sum over the ranks of the window."""
        return Total.apply(x, self.row) if self.split else x

    def gather(self, x: Tensor, dim: int) -> Tensor:
        """All parts of the window, joined along `dim`."""
        return Gather.apply(x, dim, self.row) if self.split else x

    def halo(self, x: Tensor, width: int) -> Tensor:
        """[..., n] with `width` positions of either neighbour; only where the window is split."""
        if x.shape[-1] < width:
            raise ValueError(f"a part of {x.shape[-1]} positions is shorter than its halo of {width}")
        return Halo.apply(x, width, self.row)

    def transpose(self, pair: Tensor) -> Tensor:
        """Own rows [B, q, Q, C] of the pair tensor with its two bin axes exchanged."""
        return Transpose.apply(pair, self.row) if self.split else pair.transpose(1, 2)

    def maximum(self, x: Tensor) -> Tensor:
        """Largest value over all ranks; no gradient."""
        if self.single:
            return x
        return torch.stack(gathered(x.detach(), self.world)).amax(0)

    def everyone(self, value: Any) -> list[Any]:
        """The value of every rank, in rank order; small picklable things of our own processes."""
        if self.single:
            return [value]
        found: list[Any] = [None] * self.ranks
        dist.all_gather_object(found, value, group=self.world)
        return found


SINGLE = Layout()


class Sharded(nn.Module):
    """A part of the network that communicates where the window or the batch is split."""

    layout: Layout = SINGLE


def attach(model: nn.Module, layout: Layout) -> None:
    """Let every part of `model` that communicates do so in `layout`."""
    for module in model.modules():
        if isinstance(module, Sharded):
            module.layout = layout


def check_sizes(layout: Layout, *, batch_size: int, window: int) -> None:
    """ValueError unless the batch splits over data ranks and the window, in whole bins, over the others."""
    if batch_size % layout.data_ranks:
        raise ValueError(
            f"train.batch_size {batch_size} does not split over {layout.data_ranks} data ranks "
            f"({layout.ranks} processes / train.sequence_ranks {layout.sequence_ranks}); "
            f"wanted a multiple of {layout.data_ranks}"
        )
    wanted = layout.sequence_ranks * PAIR
    if window % wanted:
        raise ValueError(
            f"a window of {window} bp does not split into whole {PAIR}-bp bins for each of "
            f"train.sequence_ranks {layout.sequence_ranks}; wanted a multiple of {wanted}"
        )
