"""Losses: masks take values out of every sum and gradient, and the optimum is where it should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from megabase import losses


def random(*shape: int, seed: int = 0, high: float = 5.0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * high + 0.05


def whole(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool)


def multinomial(**values: Tensor) -> Tensor:
    return losses.multinomial(**values, segment=values["y_true"].shape[1])


def ratios(**values: Tensor) -> Tensor:
    return losses.ratio_cross_entropy(**values, axis=1)


POSITIONAL: dict[str, Callable[..., Tensor]] = {
    "poisson": losses.poisson,
    "multinomial": multinomial,
    "mse": losses.mse,
    "binary_cross_entropy": losses.binary_cross_entropy_from_logits,
}


@pytest.mark.parametrize("name", POSITIONAL)
def test_masked_positions_equal_a_shorter_array(name: str) -> None:
    y_true, y_pred = random(2, 32, 3, high=0.9), random(2, 32, 3, seed=1)
    mask = torch.ones(1, 32, 1, dtype=torch.bool)
    mask[:, 20:] = False
    short = {"y_true": y_true[:, :20], "y_pred": y_pred[:, :20], "mask": mask[:, :20]}
    found = POSITIONAL[name](y_true=y_true, y_pred=y_pred, mask=mask)
    torch.testing.assert_close(found, POSITIONAL[name](**short))


@pytest.mark.parametrize("name", POSITIONAL)
def test_masked_channels_equal_fewer_channels(name: str) -> None:
    y_true, y_pred = random(2, 32, 3, high=0.9), random(2, 32, 3, seed=1)
    mask = torch.tensor([True, False, True]).view(1, 1, 3)
    kept = {"y_true": y_true[..., [0, 2]], "y_pred": y_pred[..., [0, 2]], "mask": mask[..., [0, 2]]}
    found = POSITIONAL[name](y_true=y_true, y_pred=y_pred, mask=mask)
    torch.testing.assert_close(found, POSITIONAL[name](**kept))


@pytest.mark.parametrize("name", [*POSITIONAL, "ratios", "junctions", "genes"])
def test_no_gradient_and_no_nan_from_what_is_masked(name: str) -> None:
    shape = (2, 6, 8, 4) if name in ("ratios", "junctions") else (2, 24, 4)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.6
    mask[:, :, :2] = False  # whole rows and, of tracks, whole channels
    mask[0, :5] = False
    y_true = random(*shape, high=0.9).masked_fill(~mask, float("nan"))
    y_pred = random(*shape, seed=1).requires_grad_()
    bodies = torch.zeros(2, 3, 24, dtype=torch.bool)
    bodies[:, 0, 3:15], bodies[:, 1, 10:20] = True, True

    def genes(**values: Tensor) -> Tensor:
        channels = torch.ones(2, 3, 4, dtype=torch.bool)
        return losses.gene_tracks(**values, bodies=bodies, channels=channels)

    function = {**POSITIONAL, "ratios": ratios, "junctions": losses.junctions, "genes": genes}[name]
    loss = function(y_true=y_true, y_pred=y_pred, mask=mask)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(y_pred.grad).all()
    assert (y_pred.grad[~mask] == 0).all()
    assert (y_pred.grad[mask] != 0).float().mean() > 0.4


@pytest.mark.parametrize("name", [*POSITIONAL, "ratios", "junctions"])
def test_everything_masked_is_zero(name: str) -> None:
    shape = (2, 6, 8, 4) if name in ("ratios", "junctions") else (2, 24, 4)
    y_pred = random(*shape).requires_grad_()
    function = {**POSITIONAL, "ratios": ratios, "junctions": losses.junctions}[name]
    nothing = torch.zeros(shape, dtype=torch.bool)
    loss = function(y_true=torch.full(shape, float("nan")), y_pred=y_pred, mask=nothing)
    loss.backward()
    assert loss.item() == 0 and (y_pred.grad == 0).all()


def test_poisson_and_mse_are_least_at_the_target() -> None:
    y = random(2, 16, 3)
    for function in (losses.poisson, losses.mse):
        assert abs(function(y_true=y, y_pred=y, mask=whole(y)).item()) < 1e-6
        for factor in (0.5, 0.99, 1.01, 2.0):
            assert function(y_true=y, y_pred=factor * y, mask=whole(y)) > 0


def test_multinomial_gradient_vanishes_at_the_target() -> None:
    y = random(2, 16, 3)
    y_pred = y.clone().requires_grad_()
    losses.multinomial(y_true=y, y_pred=y_pred, mask=whole(y), segment=8).backward()
    assert y_pred.grad.abs().max() < 1e-5


def test_multinomial_parts_see_total_and_shape_apart() -> None:
    y = random(1, 32, 2)
    mask = whole(y)
    total, shape = losses.multinomial_parts(y_true=y, y_pred=y, mask=mask, segment=16)
    doubled_total, same_shape = losses.multinomial_parts(y_true=y, y_pred=2 * y, mask=mask, segment=16)
    flat = y.unflatten(1, (2, 16)).mean(2, keepdim=True).expand(1, 2, 16, 2).flatten(1, 2)
    same_total, flat_shape = losses.multinomial_parts(y_true=y, y_pred=flat, mask=mask, segment=16)
    assert doubled_total > total and same_shape.item() == pytest.approx(shape.item(), rel=1e-5)
    assert flat_shape > shape and same_total.item() == pytest.approx(total.item(), abs=1e-6)


def test_multinomial_refuses_a_segment_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="segment of 5"):
        losses.multinomial(
            y_true=random(1, 16, 1), y_pred=random(1, 16, 1), mask=whole(random(1, 16, 1)), segment=5
        )


def test_cross_entropy_by_hand_and_with_unknown_bases() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 9.0, 0.0]]], requires_grad=True)
    target = torch.tensor([[[1.0, 0.0, 0.0], [float("nan")] * 3]])
    mask = torch.tensor([[[True], [False]]])
    loss = losses.cross_entropy_from_logits(y_true=target, y_pred=logits, mask=mask)
    assert loss.item() == pytest.approx(
        -torch.log_softmax(torch.tensor([2.0, 0.0, 0.0]), 0)[0].item(), rel=1e-5
    )
    loss.backward()
    assert (logits.grad[0, 1] == 0).all() and (logits.grad[0, 0] != 0).all()


def test_ratio_loss_ignores_the_scale_of_counts() -> None:
    y_true, y_pred = random(1, 5, 6, 2), random(1, 5, 6, 2, seed=1)
    first = ratios(y_true=y_true, y_pred=y_pred, mask=whole(y_true))
    scaled = ratios(y_true=7 * y_true, y_pred=3 * y_pred, mask=whole(y_true))
    torch.testing.assert_close(first, scaled, rtol=1e-5, atol=1e-5)
    assert ratios(y_true=y_true, y_pred=y_true, mask=whole(y_true)) < first


def test_junction_totals_are_compressed_above_ten() -> None:
    y_true = torch.full((1, 4, 1, 1), 10.0)  # sum 40 counts as 2 * sqrt(400) - 10 = 30
    at = {
        total: losses.junction_counts(
            y_true=y_true, y_pred=torch.full((1, 4, 1, 1), total / 4), mask=whole(y_true), axis=1
        ).item()
        for total in (20.0, 30.0, 40.0)
    }
    assert at[30.0] == pytest.approx(0, abs=1e-5) and at[20.0] > 0.1 and at[40.0] > 0.1


def test_gene_loss_by_hand() -> None:
    y_true = torch.tensor([[[1.0, 4.0], [3.0, 4.0], [9.0, 9.0]]])
    y_pred = torch.tensor([[[2.0, 2.0], [2.0, 2.0], [7.0, 7.0]]])
    bodies = torch.tensor([[[True, True, False]]])
    channels = torch.ones(1, 1, 2, dtype=torch.bool)
    values = {
        "y_true": y_true,
        "y_pred": y_pred,
        "mask": whole(y_true),
        "bodies": bodies,
        "channels": channels,
    }
    # Means over the body: true 2 and 4, predicted 2 and 2.
    true, pred = torch.tensor(6.0), torch.tensor(4.0)
    total = ((pred - true * pred.log()) - (true - true * true.log())) / 2
    shares = 6 * torch.log(torch.tensor(2.0)) / 2
    assert losses.gene_tracks(**values).item() == pytest.approx((total + 5 * shares).item(), rel=1e-5)
    perfect = losses.gene_tracks(**{**values, "y_pred": y_true})
    assert perfect < losses.gene_tracks(**values)


def test_gene_loss_of_absent_genes_and_other_strands() -> None:
    y_true, y_pred = random(2, 12, 4), random(2, 12, 4, seed=1)
    bodies = torch.zeros(2, 3, 12, dtype=torch.bool)
    bodies[:, 0, 2:9] = True
    channels = torch.tensor([True, False, True, False]).expand(2, 3, 4)
    values = {"y_true": y_true, "y_pred": y_pred, "mask": whole(y_true)}
    padded = losses.gene_tracks(**values, bodies=bodies, channels=channels)
    kept = {k: v[..., [0, 2]] for k, v in values.items()}
    alone = losses.gene_tracks(**kept, bodies=bodies[:, :1], channels=channels[:, :1, [0, 2]])
    torch.testing.assert_close(padded, alone)
