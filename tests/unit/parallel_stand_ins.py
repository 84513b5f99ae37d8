"""Several processes on this machine, joined as torchrun joins them, for the tests of many ranks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from megabase.model import AlphaGenome, Sizes
from megabase.parallel.processes import joined
from megabase.seeds import torch_generator
from megabase.spec import OutputType


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


CHANNELS = {
    OutputType.RNA_SEQ: 4, OutputType.CAGE: 2, OutputType.PROCAP: 1, OutputType.DNASE: 2, OutputType.ATAC: 2,
    OutputType.CHIP_HISTONE: 2, OutputType.CHIP_TF: 3, OutputType.CONTACT_MAPS: 2, OutputType.SPLICE_SITES: 5,
    OutputType.SPLICE_SITE_USAGE: 4, OutputType.SPLICE_JUNCTIONS: 4,
}  # fmt: skip


def small_model(seed: int = 0, dropout: float = 0.0, spread: bool = False) -> AlphaGenome:
    """Every part of the network, a few channels wide; with gains and offsets that are not 1 and 0."""
    sizes = Sizes.preset(
        "tiny", channels=CHANNELS, channels_1bp=8, channels_step=2, tower_blocks=3, attention_heads=2,
        query_channels=6, value_channels=8, pair_channels=6, pair_heads=2, pair_query_channels=4,
        pair_position_features=8, junction_hidden=8, max_sites=8, site_threshold=0.0, dropout=dropout,
    )  # fmt: skip
    model = AlphaGenome(replace(sizes, spread=spread), seed=seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.endswith(".w"):
                value += 0.2 * torch.randn(value.shape, generator=torch_generator(seed, "shake", name))
    return model
