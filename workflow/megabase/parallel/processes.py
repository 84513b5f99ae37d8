"""Joining the processes that torchrun started: who this one is, and over what it talks.

torchrun gives every process WORLD_SIZE, RANK and LOCAL_RANK and the address of the first; without them a
process is alone. Torch and the standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from megabase.parallel.layout import SINGLE, Layout

PATIENCE = timedelta(minutes=30)  # the longest that one rank may keep the others waiting


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """Number of processes that torchrun started; 1 without it."""
    return int(environment.get("WORLD_SIZE", "1"))


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Number of this process among them."""
    return int(environment.get("RANK", "0")) if world_size(environment) > 1 else 0


def place(ranks: int, rank: int, sequence_ranks: int) -> Layout:
    """The place of `rank` among `ranks`, without groups; the ranks of a window are neighbours.

    ValueError where the number of ranks is not a multiple of sequence_ranks.
    """
    if ranks % sequence_ranks:
        raise ValueError(
            f"{ranks} processes do not split into windows of train.sequence_ranks {sequence_ranks}; start a "
            f"multiple of {sequence_ranks} processes or set train.sequence_ranks to a divisor of {ranks}"
        )
    data_rank, sequence_rank = divmod(rank, sequence_ranks)
    return Layout(ranks // sequence_ranks, sequence_ranks, data_rank, sequence_rank)


@contextmanager
def joined(device: str, sequence_ranks: int = 1) -> Iterator[tuple[Layout, str]]:
    """(layout, device of this process) for the time of the block; `SINGLE` where torchrun started none.

    device: `cuda` becomes this process's own device. gloo on the CPU, NCCL on CUDA.
    """
    ranks = world_size()
    found = place(ranks, rank(), sequence_ranks)
    if ranks == 1:
        yield SINGLE, device
        return
    own = _own_device(device)
    dist.init_process_group("nccl" if own.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield with_groups(found), own
        dist.barrier()  # rank 0 writes last; nobody leaves before
    finally:
        dist.destroy_process_group()


def with_groups(found: Layout) -> Layout:
    """The place with its groups; every rank of the default group must call."""
    rows = [
        dist.new_group(range(d * found.sequence_ranks, (d + 1) * found.sequence_ranks))
        for d in range(found.data_ranks)
    ]
    return Layout(
        found.data_ranks, found.sequence_ranks, found.data_rank, found.sequence_rank,
        world=dist.group.WORLD, row=rows[found.data_rank],
    )  # fmt: skip


def _own_device(device: str) -> str:
    """`cuda` -> this process's device on its node."""
    if device != "cuda":
        return device
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise ValueError(
            f"process {local} of this node has no GPU of its own ({count} found); start at most {count} "
            "processes a node, or ask for --device cpu"
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"
