"""The variance output of a student: what it learns, and that nothing else notices it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from parallel_stand_ins import run_ranks, small_model
from safetensors.torch import load_file
from test_recompute import make_batch
from torch import Tensor
from training_stand_ins import ORGANISMS, fold_settings, make_world, model_settings, train_settings

from megabase import losses
from megabase.distill import distill_student
from megabase.files import read_json, read_tsv
from megabase.model import AlphaGenome, Sizes, load_model, to_haiku
from megabase.model.even import even, even_key, even_unit
from megabase.model.spread import FLOOR
from megabase.objective import spread_losses
from megabase.optimise import batch_loss, make_optimizer, train_step
from megabase.parallel import SINGLE, Layout, attach, sum_gradients
from megabase.predictors.base import gives_spread, load_predictor
from megabase.seeds import torch_generator
from megabase.sequence import one_hot
from megabase.settings.training import DistillSettings, TrainSettings
from megabase.spec import OUTPUTS, TRACK_OUTPUTS, Kind, OutputType
from megabase.train import train_teacher

JUNCTIONS = OutputType.SPLICE_JUNCTIONS


def _taught(model: AlphaGenome, layout: Layout = SINGLE) -> Any:
    """A batch whose targets are fractions where a teacher's are."""
    batch = make_batch(model, layout)
    sites = batch.targets[OutputType.SPLICE_SITES].clamp_min(0)
    batch.targets[OutputType.SPLICE_SITES] = torch.nn.functional.one_hot(sites, 5).float()
    return batch


def _loss(model: AlphaGenome, batch: Any, bases: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    settings = TrainSettings(recompute_bases=bases, gene_loss_weight=0.1, segment_bases=4096)
    return batch_loss(model, batch, settings)


def test_the_published_model_has_no_variance_output() -> None:
    plain, spread = small_model(), small_model(spread=True)
    assert not Sizes.preset("alphagenome").spread and "spread" not in plain.sizes.as_dict()
    assert spread.sizes.as_dict()["spread"] is True and Sizes(**spread.sizes.as_dict()) == spread.sizes
    own = {name for name in spread.state_dict() if name.startswith("spread.")}
    assert spread.state_dict().keys() - own == plain.state_dict().keys()
    assert {name.split(".")[1] for name in own} == {str(o) for o in OutputType}
    for found, wanted in zip(to_haiku(spread.state_dict()), to_haiku(plain.state_dict()), strict=True):
        assert found.keys() == wanted.keys()
        assert all((found[name] == wanted[name]).all() for name in wanted)
    with pytest.raises(ValueError, match="sizes \\['spread'\\] are unknown"):
        Sizes.preset("tiny", spread=1)


def test_its_losses_reach_no_other_parameter_and_the_total_is_that_without() -> None:
    model = small_model(spread=True).train()
    loss, parts = _loss(model, _taught(model))
    spread = [part for name, part in parts.items() if name.startswith("spread/")]
    assert len(spread) == len(OutputType)
    sum(spread).backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached and all(name.startswith("spread.") for name in reached)
    assert {name.split(".")[1] for name in reached} == {str(o) for o in OutputType}
    plain = small_model().train()
    wanted, others = _loss(plain, _taught(plain))
    assert torch.equal(loss, wanted) and all(torch.equal(parts[name], v) for name, v in others.items())
    model.eval()
    assert not any(name.startswith("spread/") for name in _loss(model, _taught(model))[1])


@pytest.mark.parametrize("bases", [0, 128])
def test_the_rest_of_the_network_learns_the_same_to_the_last_bit(bases: int) -> None:
    """Also where gradients are clipped: the variance output has a norm of its own."""
    settings = train_settings(clip_norm=0.5, recompute_bases=bases, dropout=0.2, segment_bases=4096)
    left = []
    for spread in (False, True):
        model = small_model(dropout=0.2, spread=spread)
        optimizer = make_optimizer(model, settings)
        for step in range(2):
            rows = train_step(model, optimizer, _taught(model), settings, step=step, seed=0)
        left.append((model.state_dict(), rows))
    (plain, rows), (found, more) = left
    assert all(torch.equal(found[name], value) for name, value in plain.items())
    assert {name: more[name] for name in rows} == rows
    assert more["gradient_norm/spread"] > 0 and "loss/spread/atac" in more


def test_it_learns_how_far_known_teachers_lie_apart() -> None:
    """Teachers drawn about the student with deviations by channel, known in the even space."""
    model = small_model(spread=True).eval()
    batch = make_batch(model)
    positions, outputs = batch.targets["splice_positions"], model.sizes.outputs()
    with torch.no_grad():
        for name, value in model.named_parameters():  # signal well above 0, which it may not cross
            if name.startswith("head."):
                value *= 0.1 if name.endswith(("linear.w", "_logits.embeddings")) else 1
                value += 8 if name.endswith("learnt_scale") else 0
        kept = model.embeddings(one_hot(batch.sequence), batch.organism, outputs)
        raw = model.predict_heads(kept, batch.organism, outputs, positions)
        units = model.unscale(raw, batch.organism)
    means = {o: model.track_mean(o) for o in outputs if o in TRACK_OUTPUTS}
    known = {o: 0.1 * 1.5 ** torch.arange(model.sizes.channels[o]) for o in outputs}
    coins = {o: units[o].get("probabilities", torch.full((), 0.5)) for o in outputs}
    scale = {o: (p * (1 - p) + FLOOR).sqrt() for o, p in coins.items()}  # tracks: a half
    optimizer = torch.optim.Adam(model.spread.parameters(), lr=0.02)
    draws = torch_generator(0, "teachers")
    for step in range(200):
        targets = {o: _teacher(o, units[o], known[o] * scale[o], draws) for o in outputs}
        found = model.spread(kept, raw, batch.organism, positions)
        parts = spread_losses(raw, found, targets, batch.masks, organism=batch.organism, track_means=means)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 200)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
    assert parts.keys() == {f"spread/{o}" for o in outputs}
    for output in outputs:
        log = found[output].detach()
        if output is JUNCTIONS:
            log = torch.where(raw[output]["mask"], log, torch.nan)
        found_scale = (log / 2).exp() / scale[output]
        ratio = found_scale.flatten(0, -2).nanmedian(0).values / known[output]
        assert 0.75 < float(ratio.median()) < 1.25, output
        if output is not JUNCTIONS:  # of which there are few, some of them always 0
            assert ((ratio > 0.6) & (ratio < 1.4)).all(), (output, ratio)


def _teacher(output: OutputType, found: dict[str, Tensor], known: Tensor, draws: torch.Generator) -> Any:
    """A teacher's prediction in the units of the tracks, whose means are 1."""
    value = even(output, found[even_key(output)], torch.ones(()))
    drawn = value + known * torch.randn(value.shape, generator=draws)
    if OUTPUTS[output].kind in (Kind.TRACKS, Kind.JUNCTIONS):
        drawn = torch.special.expm1(drawn)
    if OUTPUTS[output].kind is Kind.TRACKS:
        drawn = drawn * even_unit(output, torch.ones(()))
    return {128: drawn} if OUTPUTS[output].kind is Kind.TRACKS else drawn


def test_gaussian_loss_is_the_likelihood_and_leaves_out_what_is_masked() -> None:
    true, pred, log = torch.tensor([1.0, torch.nan, 3.0]), torch.tensor([0.5, 2.0, 3.5]), torch.tensor(0.3)
    mask = torch.tensor([True, False, True])
    found = losses.gaussian(y_true=true, y_pred=pred, log_variance=log.expand(3), mask=mask)
    normal = torch.distributions.Normal(pred[mask], torch.exp(log / 2))
    wanted = -normal.log_prob(true[mask]).mean() - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(found, wanted)


def test_a_value_far_out_pulls_like_one_at_three_deviations() -> None:
    def pull(difference: float) -> float:
        log, mask = torch.zeros(1, requires_grad=True), torch.ones(1, dtype=torch.bool)
        true = torch.tensor([difference])
        losses.gaussian(y_true=true, y_pred=torch.zeros(1), log_variance=log, mask=mask).backward()
        return float(log.grad)

    assert [pull(d) for d in (0.0, 1.0, 2.0)] == pytest.approx([0.5, 0.0, -1.5])
    assert [pull(d) for d in (3.0, 5.0, 1e4)] == pytest.approx([-4.0] * 3)


def _step(layout: Layout, bases: int = 0) -> dict[str, Tensor]:
    model = small_model(spread=True).train()
    attach(model, layout)
    _, parts = _loss(model, _taught(model, layout), bases)
    spread = {name: part for name, part in parts.items() if name.startswith("spread/")}
    (sum(spread.values()) / layout.ranks).backward()
    sum_gradients(model.parameters(), layout)
    left = {name: p.grad for name, p in model.spread.named_parameters()}
    return left | {name: part.detach() for name, part in spread.items()}


def test_two_ranks_of_a_window_learn_together_what_one_learns(tmp_path: Path) -> None:
    """With recomputation on the ranks and none on the one."""
    wanted = _step(SINGLE)
    for found in run_ranks(_step, 2, 2, tmp_path, 128):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            distance = (found[name] - value).norm() / value.norm().clamp_min(1e-6)
            assert float(distance) < 1e-4, name


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Students of two teachers, without and with a variance output."""
    folder = tmp_path_factory.mktemp("spread")
    world = make_world(folder / "world")
    common = {**world, "fold_settings": fold_settings(), "organisms": ORGANISMS}
    teachers = [
        train_teacher(
            output_dir=folder / f"teacher-all-seed{seed}", scheme="all", seed=seed,
            settings=train_settings(steps=2, warmup_steps=1), model_settings=model_settings(), **common,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    made = {}
    for spread in ("none", "variance"):
        settings = DistillSettings(**train_settings(steps=4).model_dump(), start="teacher", spread=spread)
        output = folder / spread / "student-seed0"
        made[spread] = distill_student(teachers, output_dir=output, seed=0, settings=settings, **common)
    return made


def test_a_student_has_the_same_weights_with_and_without(students: dict[str, Path]) -> None:
    plain, found = (load_file(students[name] / "model.safetensors") for name in ("none", "variance"))
    assert all(torch.equal(found[name], value) for name, value in plain.items())
    assert {name.split(".")[0] for name in found.keys() - plain.keys()} == {"spread"}
    rows = read_tsv(students["variance"] / "training.tsv", "training")
    assert "loss/spread/rna_seq" in rows["quantity"].to_list()
    before = read_tsv(students["none"] / "training.tsv", "training")
    assert rows.filter(~rows["quantity"].str.contains("spread")).equals(before)
    card = read_json(students["none"] / "model.json", "model")
    assert "spread" not in card["sizes"] and "spread" not in card["info"]["settings"]["distill"]
    assert load_model(students["variance"])[1]["settings"]["distill"]["spread"] == "variance"


def test_a_student_tells_its_spread(students: dict[str, Path]) -> None:
    plain, student = (load_predictor(students[name]) for name in ("none", "variance"))
    codes = torch.randint(0, 4, (2, 4096), generator=torch_generator(0, "codes"), dtype=torch.uint8)
    positions = torch.tensor([[[5, 90], [60, -1], [70, 12], [10, 40]]]).expand(2, -1, -1)
    found, spread = student.predict_with_spread(codes, "human", splice_positions=positions)
    wanted = plain.predict(codes, "human", splice_positions=positions)
    assert list(found) == list(spread) == list(wanted)
    for output, deviation in spread.items():
        assert deviation.shape == found[output][even_key(output)].shape
        assert torch.equal(found[output][even_key(output)], wanted[output][even_key(output)])
        assert deviation.isfinite().all() and float(deviation.min()) >= FLOOR**0.5
    _, own = student.predict_with_spread(codes, "human", channels={OutputType.RNA_SEQ: [1]})
    torch.testing.assert_close(own["rna_seq"], spread["rna_seq"][..., [1]], rtol=1e-5, atol=1e-6)
    assert gives_spread(student) and not gives_spread(plain)
    with pytest.raises(ValueError, match="student-seed0 has no variance output; distil with"):
        plain.predict_with_spread(codes, "human")
