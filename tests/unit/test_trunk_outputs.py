"""Heads that do not shape the trunk: their losses change themselves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from parallel_stand_ins import run_ranks, small_model
from test_recompute import make_batch
from torch import Tensor
from training_stand_ins import ORGANISMS, fold_settings, make_world, model_settings, train_settings

from megabase.model import AlphaGenome, load_model
from megabase.optimise import batch_loss
from megabase.parallel import SINGLE, Layout, attach, sum_gradients
from megabase.settings.training import TrainSettings
from megabase.spec import OUTPUTS, OutputType
from megabase.train import train_teacher

OT = OutputType
GROUP = [OT.RNA_SEQ, OT.CAGE]
OTHERS = [o for o in OT if o not in GROUP]


def one_step(
    layout: Layout,
    trunk: list[OutputType],
    bases: int = 0,
    resolution: int = 1,
    weights: dict[str, float] | None = None,
    **more: Any,
) -> dict[str, Tensor]:
    """Loss, parts and gradients of one forward and backward pass. resolution: where the decoder stops."""
    sizes = replace(small_model().sizes, resolution=resolution)
    model = small_model().train() if resolution == 1 else AlphaGenome(sizes, seed=0).train()
    attach(model, layout)
    settings = TrainSettings(
        trunk_outputs=trunk, recompute_bases=bases, segment_bases=4096, loss_weights=weights or {}, **more
    )
    loss, parts = batch_loss(model, make_batch(model, layout), settings)
    (loss / layout.ranks).backward()
    sum_gradients(model.parameters(), layout)
    left = {f"gradient/{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return left | {f"part/{n}": p.detach() for n, p in parts.items()} | {"loss": loss.detach()}


def of_heads(found: dict[str, Tensor], outputs: list[OutputType]) -> dict[str, Tensor]:
    names = tuple(f"gradient/head.{OUTPUTS[o].published_head}." for o in outputs)
    return {name: value for name, value in found.items() if name.startswith(names)}


def of_trunk(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: v for n, v in found.items() if n.startswith("gradient/") and ".head." not in f".{n[9:]}"}


@pytest.mark.parametrize("bases", [0, 16])
def test_only_the_chosen_losses_reach_the_trunk(bases: int) -> None:
    everything = one_step(SINGLE, [], bases)
    found = one_step(SINGLE, GROUP, bases)
    alone = one_step(SINGLE, [], bases, weights=dict.fromkeys(OTHERS, 0.0))
    for name, value in everything.items():
        if not name.startswith("gradient/"):
            assert torch.equal(found[name], value), name  # the losses are the same
    for name, value in of_heads(everything, list(OT)).items():
        assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-7), name  # and what heads learn
    trunk = of_trunk(alone)
    assert of_trunk(found).keys() <= trunk.keys() and len(of_trunk(found)) > 200
    for name, value in trunk.items():
        wanted = found.get(name, torch.zeros_like(value))
        assert torch.allclose(wanted, value, rtol=1e-4, atol=1e-6), name
    changed = [n for n, v in of_trunk(found).items() if not torch.allclose(v, everything[n], rtol=1e-3)]
    assert len(changed) > 100


def test_other_heads_alone_give_the_trunk_nothing() -> None:
    found = one_step(SINGLE, GROUP, weights=dict.fromkeys(GROUP, 0.0), gene_loss_weight=0)
    assert all((value == 0).all() for value in of_trunk(found).values())
    assert any((value != 0).any() for value in of_heads(found, OTHERS).values())


def test_naming_all_is_naming_none() -> None:
    none, named = one_step(SINGLE, []), one_step(SINGLE, list(OT))
    assert none.keys() == named.keys()
    assert all(torch.equal(named[name], value) for name, value in none.items())


WAYS = ({}, {"bases": 128}, {"bases": 128, "resolution": 32})  # of one step, on many ranks


def every_way(layout: Layout, trunk: list[OutputType]) -> list[dict[str, Tensor]]:
    return [one_step(layout, trunk, **way) for way in WAYS]


def test_many_ranks_do_it_together_and_with_a_coarse_decoder(tmp_path: Path) -> None:
    group = [OT.RNA_SEQ, OT.CONTACT_MAPS]
    wanted = every_way(SINGLE, group)
    for rank in run_ranks(every_way, 2, 2, tmp_path, group):
        for found, one in zip(rank, wanted, strict=True):
            assert float(found["loss"]) == pytest.approx(float(one["loss"]), rel=1e-5)
            assert found.keys() == one.keys()
            for name, value in one.items():
                distance = (found[name] - value).norm() / value.norm().clamp_min(1e-6)
                assert float(distance) < 1e-4, name


def test_a_group_that_the_model_has_nothing_of() -> None:
    model = small_model()
    del model.head[OUTPUTS[OT.ATAC].published_head]
    model.sizes.channels[OT.ATAC] = 0
    with pytest.raises(ValueError, match="trunk_outputs names atac, and the model has heads for rna_seq, "):
        batch_loss(model, make_batch(model), TrainSettings(trunk_outputs=[OT.ATAC]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(tmp_path_factory.mktemp("trunk"))


def _train(world: dict[str, Any], output: Path, **changes: Any) -> Path:
    return train_teacher(
        **world, output_dir=output, scheme="fold0", seed=0, settings=train_settings(**changes),
        model_settings=model_settings(), fold_settings=fold_settings(), organisms=ORGANISMS,
    )  # fmt: skip


def test_a_run_says_which_outputs_shaped_it_and_repeats(world: dict[str, Any], tmp_path: Path) -> None:
    kept = {"steps": 3, "trunk_outputs": [OT.CONTACT_MAPS], "dropout": 0.0}
    runs = [_train(world, tmp_path / name / "model", **kept) for name in "ab"]
    names = ("model.safetensors", "model.json", "training.tsv")
    assert all((runs[0] / name).read_bytes() == (runs[1] / name).read_bytes() for name in names)
    model, info = load_model(runs[0])
    assert info["settings"]["train"]["trunk_outputs"] == ["contact_maps"]
    # the decoder is read by heads alone that do not shape it: it is as it began
    plain, other = load_model(_train(world, tmp_path / "plain", steps=3, dropout=0.0))
    assert "trunk_outputs" not in other["settings"]["train"] and "window" not in other["settings"]["train"]
    name = "sequence_decoder.up_res_block.conv_in.standardized_conv1_d.w"
    fresh = AlphaGenome(model.sizes, seed=0).state_dict()[name]
    assert torch.equal(model.state_dict()[name], fresh)
    assert not torch.equal(plain.state_dict()[name], fresh)
