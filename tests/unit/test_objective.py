"""The sum of all heads' losses: what is missing stays out, what is scaled comes back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from megabase import losses
from megabase.model import AlphaGenome, Sizes
from megabase.objective import (
    JUNCTION_WEIGHT,
    scale_targets,
    site_loss,
    soft_clip,
    soft_unclip,
    sum_tokens,
    target_at,
    training_loss,
    unscale_predictions,
)
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, TRACK_OUTPUTS, Kind, OutputType

CHANNELS = {
    "rna_seq": 4, "cage": 4, "procap": 2, "dnase": 3, "atac": 3, "chip_histone": 2, "chip_tf": 2,
    "contact_maps": 2, "splice_sites": 5, "splice_site_usage": 4, "splice_junctions": 4,
}  # fmt: skip
LENGTH, SITES = 2048, 3
ORGANISM = torch.tensor([0, 1])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def make_predictions(seed: int = 1) -> dict[OutputType, dict[str, Tensor]]:
    """Leaf tensors of every output's shape."""
    out: dict[OutputType, dict[str, Tensor]] = {}
    for output_type, spec in OUTPUTS.items():
        p = CHANNELS[output_type]
        if spec.kind is Kind.TRACKS:
            shapes = {f"scaled_{r}bp": (2, LENGTH // r, p) for r in spec.resolutions}
        elif spec.kind is Kind.CONTACTS:
            shapes = {"values": (2, 1, 1, p)}
        elif spec.kind is Kind.JUNCTIONS:
            shapes = {"values": (2, SITES, SITES, p)}
        else:
            shapes = {"logits": (2, LENGTH, p)}
        out[output_type] = {k: (noise(*s, seed=seed) + 0.1).requires_grad_() for k, s in shapes.items()}
    out[OutputType.SPLICE_JUNCTIONS]["mask"] = noise(2, SITES, SITES, 4, seed=9) < 0.7
    return out


def make_targets() -> dict[OutputType, Tensor]:
    targets: dict[OutputType, Tensor] = {}
    for output_type in TRACK_OUTPUTS:
        n = LENGTH // OUTPUTS[output_type].resolutions[0]
        targets[output_type] = 20 * noise(2, n, CHANNELS[output_type], seed=2)
    targets[OutputType.CONTACT_MAPS] = noise(2, 1, 1, 2, seed=3)
    targets[OutputType.SPLICE_SITES] = torch.arange(2 * LENGTH).view(2, LENGTH) % 6 - 1
    targets[OutputType.SPLICE_SITE_USAGE] = noise(2, LENGTH, 4, seed=4)
    targets[OutputType.SPLICE_JUNCTIONS] = 10 * noise(2, SITES, SITES, 4, seed=5)
    return targets


def make_masks() -> dict[OutputType, Tensor]:
    masks = {OutputType(o): torch.ones(2, p, dtype=torch.bool) for o, p in CHANNELS.items()}
    masks[OutputType.ATAC][1, 2] = False
    return masks


MEANS = {o: 1 + noise(2, CHANNELS[o], seed=6) for o in TRACK_OUTPUTS}


def loss_of(predictions: dict, targets: dict, **changes: object) -> tuple[Tensor, dict[str, Tensor]]:
    settings = {"organism": ORGANISM, "track_means": MEANS, **changes}
    return training_loss(predictions, targets, make_masks(), **settings)


def test_loss_is_the_sum_of_one_part_an_output_type() -> None:
    loss, parts = loss_of(make_predictions(), make_targets())
    assert list(parts) == [str(o) for o in OutputType]
    torch.testing.assert_close(loss, sum(parts.values()))
    assert all(torch.isfinite(v) and v > 0 for v in parts.values())


def test_missing_values_and_channels_reach_no_gradient() -> None:
    predictions, targets = make_predictions(), make_targets()
    for output_type, target in targets.items():
        if output_type is not OutputType.SPLICE_SITES:
            target.view(2, -1)[:, : target[0].numel() // 2] = float("nan")
    loss, _ = loss_of(predictions, targets)
    loss.backward()
    for output_type, values in predictions.items():
        for key, value in values.items():
            assert not value.requires_grad or torch.isfinite(value.grad).all(), (output_type, key)
    atac = predictions[OutputType.ATAC]
    assert (atac["scaled_1bp"].grad[:, : LENGTH // 2 - 1] == 0).all()
    assert (atac["scaled_128bp"].grad[:, : LENGTH // 256] == 0).all()
    assert (atac["scaled_1bp"].grad[0, LENGTH // 2 + 1 :] != 0).all()
    assert (atac["scaled_1bp"].grad[1, :, 2] == 0).all()  # a channel that the organism lacks
    unknown = targets[OutputType.SPLICE_SITES] < 0
    assert (predictions[OutputType.SPLICE_SITES]["logits"].grad[unknown] == 0).all()
    junctions = predictions[OutputType.SPLICE_JUNCTIONS]
    assert (junctions["values"].grad[~junctions["mask"]] == 0).all()


def test_track_part_is_the_multinomial_of_both_resolutions() -> None:
    predictions, targets = make_predictions(), make_targets()
    mean = MEANS[OutputType.RNA_SEQ][ORGANISM][:, None]
    raw, found = targets[OutputType.RNA_SEQ], predictions[OutputType.RNA_SEQ]
    wanted = torch.zeros(())
    for r, target in ((1, raw), (128, raw.unflatten(1, (-1, 128)).sum(2))):
        wanted = wanted + losses.multinomial(
            y_true=scale_targets(target, mean, r, squash=True), y_pred=found[f"scaled_{r}bp"],
            mask=torch.ones(1, 1, 1, dtype=torch.bool), segment=1024 // r,
        )  # fmt: skip
    _, parts = loss_of(predictions, targets, segment_bases=1024)
    torch.testing.assert_close(parts["rna_seq"], wanted)


def test_a_segment_longer_than_the_window_is_the_window() -> None:
    predictions, targets = make_predictions(), make_targets()
    torch.testing.assert_close(
        loss_of(predictions, targets)[0], loss_of(predictions, targets, segment_bases=LENGTH)[0]
    )
    assert loss_of(predictions, targets, segment_bases=1024)[0] != loss_of(predictions, targets)[0]


def test_a_students_targets_may_be_by_resolution_and_soft() -> None:
    predictions, targets = make_predictions(), make_targets()
    hard, parts = loss_of(predictions, targets)
    soft = dict(targets)
    for output_type in TRACK_OUTPUTS:
        target, resolutions = targets[output_type], OUTPUTS[output_type].resolutions
        soft[output_type] = {r: target if r == resolutions[0] else sum_tokens(target) for r in resolutions}
    sites = targets[OutputType.SPLICE_SITES]
    classes = torch.nn.functional.one_hot(sites.clamp_min(0), 5).float()
    soft[OutputType.SPLICE_SITES] = classes.masked_fill((sites < 0)[..., None], float("nan"))
    again, same = loss_of(predictions, soft)
    torch.testing.assert_close(hard, again)
    for name, value in parts.items():
        torch.testing.assert_close(value, same[name])


def test_sites_of_an_organism_without_annotation_are_not_learned() -> None:
    """A teacher's head of such an organism was never trained: its guesses are no targets."""
    predictions, targets, masks = make_predictions(), make_targets(), make_masks()
    sites = OutputType.SPLICE_SITES
    classes = F.one_hot(targets[sites].clamp_min(0), 5).float()
    for target in (targets[sites], classes):
        masks[sites] = torch.tensor([[True] * 5, [False] * 5])
        logits = predictions[sites]["logits"].detach().requires_grad_()
        loss = site_loss({"logits": logits}, target, masks[sites])
        loss.backward()
        assert (logits.grad[1] == 0).all() and (logits.grad[0] != 0).any()
        assert torch.isclose(loss, site_loss({"logits": logits[:1]}, target[:1], masks[sites][:1]))


def test_gene_loss_is_weighted_and_only_where_there_are_genes() -> None:
    predictions, targets = make_predictions(), make_targets()
    bodies = torch.zeros(2, 2, LENGTH, dtype=torch.bool)
    bodies[:, 0, 100:900] = True
    genes = {"bodies": bodies, "channels": torch.ones(2, 2, 4, dtype=torch.bool)}
    without, _ = loss_of(predictions, targets, gene_masks=genes)
    once, parts = loss_of(predictions, targets, gene_masks=genes, gene_loss_weight=0.1)
    _, double = loss_of(predictions, targets, gene_masks=genes, gene_loss_weight=0.2)
    torch.testing.assert_close(once, without + parts["genes"])
    torch.testing.assert_close(double["genes"], 2 * parts["genes"])
    parts["genes"].backward()
    gradient = predictions[OutputType.RNA_SEQ]["scaled_1bp"].grad
    assert (gradient[:, 100:900] != 0).all() and (gradient[:, 900:] == 0).all()


def test_junction_part_carries_its_weight() -> None:
    predictions, targets = make_predictions(), make_targets()
    junctions = predictions[OutputType.SPLICE_JUNCTIONS]
    whole = losses.junctions(
        y_true=targets[OutputType.SPLICE_JUNCTIONS], y_pred=junctions["values"], mask=junctions["mask"]
    )
    _, parts = loss_of(predictions, targets)
    torch.testing.assert_close(parts["splice_junctions"], JUNCTION_WEIGHT * whole)


def test_outputs_without_a_target_are_left_out_but_not_all() -> None:
    predictions, targets = make_predictions(), make_targets()
    _, parts = loss_of(predictions, {OutputType.ATAC: targets[OutputType.ATAC]})
    assert list(parts) == ["atac"]
    with pytest.raises(ValueError, match="no target"):
        loss_of(predictions, {})


def test_a_target_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="100 positions, predictions at 1 bp have 2048"):
        target_at(torch.zeros(1, 100, 2), 1, 2048)


def test_sums_over_tokens_keep_what_is_missing_missing() -> None:
    x = torch.ones(1, 256, 1)
    x[0, 130] = float("nan")
    assert sum_tokens(x)[0, 0, 0] == 128 and torch.isnan(sum_tokens(x)[0, 1, 0])


def test_soft_clip_is_smooth_at_ten_and_inverts() -> None:
    x = torch.tensor([0.0, 3.0, 9.999, 10.0, 10.001, 50.0, 1e5])
    torch.testing.assert_close(soft_unclip(soft_clip(x)), x)
    assert soft_clip(torch.tensor(10.0)) == 10 and soft_clip(torch.tensor(40.0)) == 30
    y = torch.tensor([9.99, 10.01], requires_grad=True)
    soft_clip(y).sum().backward()
    assert torch.allclose(y.grad, torch.ones(2), atol=1e-3)


@pytest.mark.parametrize("squash", [False, True])
def test_scaling_inverts_and_keeps_nan(squash: bool) -> None:
    x = 300 * noise(2, 64, 3)
    mean = torch.tensor([0.5, 1.0, 7.0])
    scaled = scale_targets(x, mean, 128, squash=squash)
    torch.testing.assert_close(unscale_predictions(scaled, mean, 128, squash=squash), x, rtol=1e-4, atol=1e-4)
    assert torch.isnan(scale_targets(torch.full((1, 1, 3), float("nan")), mean, 1, squash=squash)).all()


def test_a_few_steps_lower_the_loss_of_a_real_model() -> None:
    sizes = Sizes.preset("tiny", CHANNELS, channels_step=4, max_sites=SITES, dropout=0.0)
    model = AlphaGenome(sizes).train()
    codes = torch.randint(0, 4, (2, LENGTH), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    positions = torch.arange(12).view(1, 4, SITES).repeat(2, 1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 0.003)
    history = []
    for _ in range(15):
        predictions = model(one_hot(codes), ORGANISM, splice_positions=positions)
        loss, _ = loss_of(predictions, make_targets())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] - 0.5


def test_weights_change_the_sum_but_not_the_parts() -> None:
    organism = torch.zeros(1, dtype=torch.long)
    predictions = {OutputType.CONTACT_MAPS: {"values": torch.ones(1, 2, 2, 1)}}
    targets = {OutputType.CONTACT_MAPS: torch.zeros(1, 2, 2, 1)}
    masks = {OutputType.CONTACT_MAPS: torch.ones(1, 1, dtype=torch.bool)}
    common = {"organism": organism, "track_means": {}}
    plain, parts = training_loss(predictions, targets, masks, **common)
    weighted, same = training_loss(predictions, targets, masks, **common, weights={"contact_maps": 3.0})
    assert weighted.item() == pytest.approx(3 * plain.item())
    assert same["contact_maps"].item() == parts["contact_maps"].item()
