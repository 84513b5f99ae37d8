"""Several processes on this machine, joined as torchrun joins them, for the tests of many ranks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from megabase.parallel.processes import joined


def run_ranks(
    work: Callable[..., Any], ranks: int, sequence_ranks: int, folder: Path, *args: Any
) -> list[Any]:
    """work(layout, *args) in `ranks` processes; what each returns (tensors and plain things), in rank order.

    work must be a function of a module, because the processes import it anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (work, ranks, sequence_ranks, folder, port, args)
    torch.multiprocessing.spawn(_process, given, nprocs=ranks, join=True)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def _process(
    rank: int, work: Callable[..., Any], ranks: int, sequence_ranks: int, folder: Path, port: int, args: tuple
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined("cpu", sequence_ranks) as (layout, _):
        torch.save(work(layout, *args), folder / f"{rank}.pt")
