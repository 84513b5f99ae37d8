"""Losses, scaling and reverse complement against the published functions' numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from megabase import losses
from megabase.augment import reverse_contacts, reverse_tracks
from megabase.objective import scale_targets, unscale_predictions

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def arrays(references: Path) -> dict[str, Tensor]:
    with np.load(references / "alphagenome_functions.npz") as found:
        wanted = [n for n in found.files if n.split("/")[0] in ("loss", "scaling", "rc")]
        return {name: torch.from_numpy(found[name]) for name in wanted}


def triple(arrays: dict[str, Tensor], true: str, pred: str, mask: str) -> dict[str, Tensor]:
    return {"y_true": arrays[true], "y_pred": arrays[pred], "mask": arrays[mask]}


def test_track_losses(arrays: dict[str, Tensor]) -> None:
    values = triple(arrays, "loss/y_true", "loss/y_pred", "loss/mask")
    torch.testing.assert_close(losses.poisson(**values), arrays["loss/poisson"], **CLOSE)
    torch.testing.assert_close(losses.mse(**values), arrays["loss/mse"], **CLOSE)
    for segment in (128, 256, 1024):
        name = f"loss/multinomial_{segment}"
        total, positional = losses.multinomial_parts(**values, segment=segment)
        torch.testing.assert_close(total, arrays[f"{name}/loss_total"], **CLOSE)
        torch.testing.assert_close(positional, arrays[f"{name}/loss_positional"], **CLOSE)
        whole = losses.multinomial(**values, segment=segment)
        torch.testing.assert_close(whole, arrays[f"{name}/loss"], **CLOSE)


def test_splice_losses(arrays: dict[str, Tensor]) -> None:
    sites = triple(arrays, "loss/onehot", "loss/logits", "loss/onehot_mask")
    found = losses.cross_entropy_from_logits(**sites)
    torch.testing.assert_close(found, arrays["loss/cross_entropy_from_logits"], **CLOSE)
    usage = {"y_true": arrays["loss/usage"], "y_pred": arrays["loss/logits"]}
    found = losses.binary_cross_entropy_from_logits(**usage, mask=torch.ones(1, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(found, arrays["loss/bce_from_logits"], **CLOSE)
    junctions = triple(arrays, "loss/junction_true", "loss/junction_pred", "loss/junction_mask")
    for axis in (1, 2):
        found = losses.ratio_cross_entropy(**junctions, axis=axis)
        torch.testing.assert_close(found, arrays[f"loss/junction_cross_entropy_axis{axis}"], **CLOSE)


@pytest.mark.parametrize("resolution", [1, 128])
@pytest.mark.parametrize("squash", [False, True])
def test_scaling(arrays: dict[str, Tensor], resolution: int, squash: bool) -> None:
    mean, targets = arrays["scaling/track_means"][:, None], arrays["scaling/targets"]
    name = f"{resolution}_{int(squash)}"
    scaled = scale_targets(targets, mean, resolution, squash=squash)
    torch.testing.assert_close(scaled, arrays[f"scaling/targets_{name}"], **CLOSE)
    back = unscale_predictions(arrays[f"scaling/targets_{name}"], mean, resolution, squash=squash)
    torch.testing.assert_close(back, arrays[f"scaling/predictions_{name}"], **CLOSE)


def test_reverse_complement(arrays: dict[str, Tensor]) -> None:
    x, partners = arrays["rc/x"], arrays["rc/strand_index"].long().expand(2, -1)
    assert torch.equal(reverse_tracks(x, partners), arrays["rc/ATAC"])
    assert torch.equal(reverse_tracks(x, partners, shift=1, missing=0.0), arrays["rc/DNASE"])
    assert torch.equal(reverse_contacts(arrays["rc/contact_in"]), arrays["rc/CONTACT_MAPS"])
