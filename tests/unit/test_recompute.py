"""Activation checkpointing: the same loss, gradients and running averages in less memory, on any ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parallel_stand_ins import run_ranks, small_model
from torch import Tensor

from megabase.batches import Batch
from megabase.model import AlphaGenome
from megabase.optimise import batch_loss
from megabase.parallel import SINGLE, Layout, attach, sum_gradients
from megabase.seeds import torch_generator
from megabase.settings.training import TrainSettings
from megabase.spec import OUTPUTS, Kind, OutputType

LENGTH = 8192
LEVELS = (1, 16, 128)


def make_batch(model: AlphaGenome, layout: Layout = SINGLE) -> Batch:
    """Two windows with a target for every head."""
    generator = torch_generator(0, "recompute")
    rows, part = layout.rows(2), layout.part(LENGTH)
    codes = torch.randint(0, 4, (2, LENGTH), generator=generator, dtype=torch.uint8)
    targets: dict[Any, Tensor] = {}
    for output in model.sizes.outputs():
        kind, n = OUTPUTS[output].kind, model.sizes.channels[output]
        if kind is Kind.SITES:
            targets[output] = torch.randint(-1, 5, (2, LENGTH), generator=generator)
        elif kind is Kind.CONTACTS:
            targets[output] = torch.randn(2, LENGTH // 2048, LENGTH // 2048, n, generator=generator)
        elif kind is Kind.JUNCTIONS:
            targets[output] = torch.rand(2, 3, 3, n, generator=generator)
        else:
            step = min(OUTPUTS[output].resolutions)
            targets[output] = torch.rand(2, LENGTH // step, n, generator=generator)
    targets = {
        o: t[rows] if OUTPUTS[o].kind is Kind.JUNCTIONS else t[rows][:, layout.part(t.shape[1])]
        for o, t in targets.items()
    }
    sites = [[[10, 2047, 4096], [2048, 5000, -1], [1, 8191, -1], [4095, 6143, 6144]]] * 2
    targets["splice_positions"] = torch.tensor(sites)[rows]
    masks = {o: torch.ones(2, model.sizes.channels[o], dtype=torch.bool)[rows] for o in model.sizes.outputs()}
    genes = {
        "spans": torch.tensor([[[100, 3000], [5000, 8000]]] * 2)[rows],
        "channels": torch.ones(2, 2, model.sizes.channels[OutputType.RNA_SEQ], dtype=torch.bool)[rows],
    }
    organism, first = torch.tensor([0, 1])[rows], part.start or 0
    return Batch(codes[rows][:, part], organism, [], targets, masks, genes, first_base=first)


def one_step(layout: Layout, bases: int, dropout: float = 0.2) -> dict[str, Tensor]:
    """Loss, parts, gradients and running averages of one forward and backward pass."""
    model = small_model(dropout=dropout).train()
    attach(model, layout)
    settings = TrainSettings(recompute_bases=bases, gene_loss_weight=0.1, segment_bases=4096)
    torch.manual_seed(1)
    loss, parts = batch_loss(model, make_batch(model, layout), settings)
    (loss / layout.ranks).backward()
    sum_gradients(model.parameters(), layout)
    left = {f"gradient/{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    left |= {f"state/{n}": b for n, b in model.named_buffers()}
    return left | {f"part/{n}": p.detach() for n, p in parts.items()} | {"loss": loss.detach()}


@pytest.mark.parametrize("bases", LEVELS)
def test_recomputing_changes_nothing(bases: int) -> None:
    wanted, found = one_step(SINGLE, 0), one_step(SINGLE, bases)
    assert wanted.keys() == found.keys()
    assert {f"part/{o}" for o in OutputType} | {"part/genes"} <= set(found)
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-6), name


def kept_bytes(work: Callable[[], Any]) -> int:
    """Bytes of distinct tensors that autograd keeps for the backward pass of `work`."""
    seen: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        alive = work()
    del alive
    return sum(seen.values())


def test_finer_levels_are_forgotten_first() -> None:
    model = small_model().train()
    batch = make_batch(model)

    def kept(bases: int) -> int:
        return kept_bytes(lambda: batch_loss(model, batch, TrainSettings(recompute_bases=bases)))

    sizes = [kept(bases) for bases in (0, *LEVELS)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    assert sizes[1] < 0.6 * sizes[0]


def test_recomputing_passes_between_ranks(tmp_path: Path) -> None:
    wanted = one_step(SINGLE, 0, dropout=0.0)
    for found in run_ranks(one_step, 2, 2, tmp_path, 128, 0.0):
        assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-5)
        for name, value in wanted.items():
            if name.startswith(("gradient/", "state/")):
                distance = (found[name] - value).norm() / value.norm().clamp_min(1e-6)
                assert float(distance) < 1e-4, name
