"""A decoder that stops at r bp: what is left out, what stays constant, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from parallel_stand_ins import CHANNELS, small_model
from test_recompute import make_batch
from torch import Tensor

from megabase import losses
from megabase.model import AlphaGenome, Sizes, load_model, save_model
from megabase.model.sizes import RESOLUTIONS
from megabase.optimise import batch_loss
from megabase.sequence import one_hot
from megabase.settings.training import TrainSettings
from megabase.spec import OUTPUTS, Kind, OutputType

LENGTH = 4096
SITES = torch.tensor([[[10, 2047], [2048, 3000], [1, -1], [4095, 12]]])


def model_of(resolution: int) -> AlphaGenome:
    sizes = replace(small_model().sizes, resolution=resolution)
    return AlphaGenome(sizes, seed=0)


def predictions(model: AlphaGenome) -> dict[OutputType, dict[str, Tensor]]:
    codes = torch.randint(0, 4, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    return model(one_hot(codes.to(torch.uint8)), torch.tensor([1]), splice_positions=SITES)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_predictions_are_constant_in_bins_and_of_the_same_shapes(resolution: int) -> None:
    with torch.no_grad():
        wanted, found = predictions(model_of(1).eval()), predictions(model_of(resolution).eval())
    for output, values in wanted.items():
        for name, value in values.items():
            assert found[output][name].shape == value.shape, (output, name)
    tracks = found[OutputType.RNA_SEQ]["scaled_1bp"]
    bins = tracks.unflatten(1, (-1, resolution))
    assert torch.equal(bins, bins[:, :, :1].expand_as(bins))
    if resolution < 128:  # and no coarser: the finest level is there
        assert not torch.equal(tracks[:, resolution:-resolution], tracks[:, 2 * resolution :])


def test_resolution_1_is_the_published_network() -> None:
    plain = AlphaGenome(small_model().sizes, seed=0).state_dict()
    given = model_of(1).state_dict()
    assert plain.keys() == given.keys()
    assert all(torch.equal(value, given[name]) for name, value in plain.items())
    assert "resolution" not in small_model().sizes.as_dict()  # cards keep their bytes


def test_only_finer_levels_are_left_out_and_others_start_the_same() -> None:
    whole, coarse = model_of(1).state_dict(), model_of(16).state_dict()
    gone = {name.split(".")[1] for name in whole.keys() - coarse.keys()}
    assert gone == {f"up_res_block_{i}" for i in (3, 4, 5, 6)}
    assert coarse.keys() <= whole.keys()
    changed = {n for n, value in coarse.items() if value.shape != whole[n].shape}
    assert changed == {"output_embedder_1.linear.w"}
    assert all(torch.equal(value, whole[name]) for name, value in coarse.items() if name not in changed)


@pytest.mark.parametrize("resolution", [0, 3, 256])
def test_a_resolution_that_no_level_has(resolution: int) -> None:
    with pytest.raises(ValueError, match=rf"resolution is {resolution}; it must be (one of|at least)"):
        Sizes.preset("tiny", CHANNELS, resolution=resolution)


def test_a_coarse_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = model_of(32).eval()
    save_model(tmp_path, model, {"name": "coarse"})
    found, _ = load_model(tmp_path)
    assert found.sizes.resolution == 32
    with torch.no_grad():
        for output, values in predictions(model).items():
            for name, value in values.items():
                assert torch.equal(predictions(found)[output][name], value)


def test_the_loss_is_that_of_bins_up_to_a_constant() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(1, 256, 3, generator=generator) * 4
    rates = [torch.rand(1, 16, 3, generator=generator) for _ in range(2)]

    def difference(fine: bool) -> Tensor:
        """Of the positional losses of two predictions, per base of the window; totals are the same sums."""
        target = truth if fine else truth.unflatten(1, (16, 16)).sum(2)
        found = []
        for rate in rates:
            y = rate.repeat_interleave(16, 1) if fine else 16 * rate
            mask = torch.ones_like(target, dtype=torch.bool)
            total, positional = losses.multinomial_parts(
                y_true=target, y_pred=y, mask=mask, segment=target.shape[1]
            )
            found.append(torch.stack((total, positional)) * target.shape[1])
        return found[0] - found[1]

    assert torch.allclose(difference(True), difference(False), rtol=1e-3, atol=1e-3)


def one_step(resolution: int, bases: int) -> dict[str, Tensor]:
    """Loss, gradients and running averages of one forward and backward pass."""
    model = model_of(resolution).train()
    settings = TrainSettings(recompute_bases=bases, gene_loss_weight=0.1, segment_bases=4096)
    loss, _ = batch_loss(model, make_batch(model), settings)
    loss.backward()
    left = {f"gradient/{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    left |= {f"state/{n}": b for n, b in model.named_buffers()}
    return left | {"loss": loss.detach()}


@pytest.mark.parametrize(("resolution", "bases"), [(4, 16), (128, 128)])
def test_recomputing_changes_nothing(resolution: int, bases: int) -> None:
    wanted, found = one_step(resolution, 0), one_step(resolution, bases)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-6), name


def test_every_output_type_at_1_bp_becomes_coarse() -> None:
    with torch.no_grad():
        found = predictions(model_of(64).eval())
    for output, values in found.items():
        if OUTPUTS[output].kind in (Kind.TRACKS, Kind.SITES, Kind.USAGE) and 1 in OUTPUTS[output].resolutions:
            value = next(v for name, v in values.items() if name in ("scaled_1bp", "logits"))
            assert torch.equal(value[:, ::64].repeat_interleave(64, 1), value), output
