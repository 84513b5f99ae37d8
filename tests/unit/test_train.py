"""The training loop: schedule, kill and resume to the same bytes, loss curve, errors."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_stand_ins import ORGANISMS, fold_settings, make_world, model_settings, train_settings

import megabase.rolling
from megabase.batches import Batch
from megabase.files import read_tsv
from megabase.model import Sizes, load_model
from megabase.optimise import batch_loss, learning_rate, make_optimizer, train_step
from megabase.rolling import Progressed, RollingCheckpoint
from megabase.spec import OutputType
from megabase.train import make_model, plan_of, set_up, train, train_teacher

FILES = ("model.safetensors", "model.json", "training.tsv")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def teacher(world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(world, tmp_path_factory.mktemp("models") / "teacher-fold0-seed0")


def _train(world: dict[str, Any], output: Path, seed: int = 0, **changes: Any) -> Path:
    return train_teacher(
        **world, output_dir=output, scheme="fold0", seed=seed, settings=train_settings(**changes),
        model_settings=model_settings(), fold_settings=fold_settings(), organisms=ORGANISMS,
    )  # fmt: skip


def _fresh(world: dict[str, Any], **changes: Any) -> tuple[Any, Callable[[int], Batch], Any]:
    """Model, batches and settings of a run, without its folder."""
    settings = train_settings(**changes)
    setup = set_up(**world, organisms=ORGANISMS, scheme="fold0", folds=fold_settings(), max_shift=256)
    given = model_settings()
    sizes = Sizes.preset(
        given.preset, channels=setup.channels.widths, dropout=settings.dropout, **given.overrides
    )
    windows = setup.windows("train", plan_of(settings, 0))
    return make_model(setup.channels, sizes, 0), windows.batch, settings


def test_schedule_is_that_of_the_paper() -> None:
    settings = train_settings(steps=15_000, warmup_steps=5_000, constant_steps=0, peak_rate=0.004)
    assert learning_rate(0, settings) == pytest.approx(0.004 / 5_000)
    assert learning_rate(4_999, settings) == 0.004
    assert learning_rate(5_000, settings) == 0.004
    assert learning_rate(10_000, settings) == pytest.approx(0.002)
    assert 0 < learning_rate(14_999, settings) < 1e-9
    student = train_settings(steps=250, warmup_steps=5, constant_steps=120, peak_rate=0.002)
    assert {learning_rate(step, student) for step in range(5, 126)} == {0.002}
    assert learning_rate(187, student) == pytest.approx(0.001, rel=0.02)


def test_a_schedule_that_does_not_fit_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"warmup_steps 5 \+ constant_steps 2 = 7 exceed steps 6"):
        _train(world, tmp_path / "m", warmup_steps=5, constant_steps=2)


def test_same_seed_same_bytes(world: dict[str, Any], teacher: Path, tmp_path: Path) -> None:
    again = _train(world, tmp_path / "teacher-fold0-seed0")
    for name in FILES:
        assert (again / name).read_bytes() == (teacher / name).read_bytes(), name
    other = _train(world, tmp_path / "other" / "teacher-fold0-seed0", seed=1)
    assert (other / FILES[0]).read_bytes() != (teacher / FILES[0]).read_bytes()
    assert not Path(f"{again}.checkpoint").exists()


KILLED = """
import sys
import threading
sys.path.insert(0, {here!r})
from pathlib import Path
import megabase.train as train
from test_train import _train
from training_stand_ins import checkpoint_and_die
checkpoint_and_die(train, {after})
_train({world!r}, Path({output!r}))
"""


def test_kill_and_rerun_end_with_the_same_bytes(world: dict[str, Any], teacher: Path, tmp_path: Path) -> None:
    output = tmp_path / "teacher-fold0-seed0"
    text = KILLED.format(here=str(Path(__file__).parent), world=_plain(world), output=str(output), after=4)
    for _ in range(2):  # killed twice: after 3 steps, then after 3 more less the one that was not saved
        found = subprocess.run([sys.executable, "-c", text], env=os.environ | {"OMP_NUM_THREADS": "1"})
        if found.returncode == 0:
            break
        assert found.returncode == -signal.SIGKILL
        assert not (output / FILES[0]).exists()
        assert len(list(Path(f"{output}.checkpoint").glob("step-*"))) in (1, 2)
    _train(world, output)
    for name in FILES:
        assert (output / name).read_bytes() == (teacher / name).read_bytes(), name


def _plain(world: dict[str, Any]) -> dict[str, Any]:
    def text(value: Any) -> Any:
        return [text(v) for v in value] if isinstance(value, list) else value and str(value)

    return {name: text(value) for name, value in world.items()}


def test_a_damaged_checkpoint_is_passed_over(world: dict[str, Any], tmp_path: Path) -> None:
    model, _, settings = _fresh(world)
    optimizer = make_optimizer(model, settings)
    rolling = RollingCheckpoint(tmp_path / "m.checkpoint", "same")
    for step in (1, 2, 3):
        rolling.save(model, optimizer, Progressed(step, [(step, "train", "loss", 0.1)], [{"loss": 1 / 3}]))
    rolling.finish()
    assert [f.name[:14] for f in rolling.files()] == ["step-000000002", "step-000000003"]
    newest = rolling.files()[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    found = rolling.load(model, optimizer)
    assert found == Progressed(2, [(2, "train", "loss", 0.1)], [{"loss": 1 / 3}])
    assert RollingCheckpoint(rolling.folder, "other").load(model, optimizer) == Progressed()


def test_training_goes_on_while_a_checkpoint_is_written(
    world: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, settings = _fresh(world)
    optimizer = make_optimizer(model, settings)
    rolling, go = RollingCheckpoint(tmp_path / "m.checkpoint", "same"), threading.Event()
    write = megabase.rolling.save_file
    monkeypatch.setattr(megabase.rolling, "save_file", lambda *given: (go.wait(60), write(*given)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rolling.save(model, optimizer, Progressed(1))
    assert rolling.files() == []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    go.set()
    assert rolling.load(model, optimizer).step == 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_checkpoint_that_cannot_be_written_stops_the_training(
    world: dict[str, Any], tmp_path: Path
) -> None:
    model, _, settings = _fresh(world)
    optimizer = make_optimizer(model, settings)
    (tmp_path / "m.checkpoint").write_text("a file where the folder should be")
    rolling = RollingCheckpoint(tmp_path / "m.checkpoint", "same")
    rolling.save(model, optimizer, Progressed(1))
    with pytest.raises(FileExistsError, match="checkpoint"):
        rolling.save(model, optimizer, Progressed(2))
    rolling.finish()  # told once


def test_other_settings_are_not_resumed(world: dict[str, Any], teacher: Path, tmp_path: Path) -> None:
    output = tmp_path / "teacher-fold0-seed0"
    model, _, settings = _fresh(world)
    older = RollingCheckpoint(f"{output}.checkpoint", "an older run")
    older.save(model, make_optimizer(model, settings), Progressed(5))
    older.finish()
    _train(world, output)
    assert (output / FILES[0]).read_bytes() == (teacher / FILES[0]).read_bytes()


def test_recomputing_is_the_same_run_in_less_memory(
    world: dict[str, Any], teacher: Path, tmp_path: Path
) -> None:
    found = _train(world, tmp_path / teacher.name, recompute_bases=128)
    curves = [read_tsv(folder / "training.tsv", "training") for folder in (teacher, found)]
    assert curves[0].drop("value").equals(curves[1].drop("value"))  # validation losses too
    assert curves[1]["value"].to_list() == pytest.approx(curves[0]["value"].to_list(), rel=1e-2)
    hashes = [load_model(folder)[1]["config_hash"] for folder in (teacher, found)]
    assert hashes[0] == hashes[1]  # so that a checkpoint is resumed with either


def test_loss_falls(world: dict[str, Any]) -> None:
    model, batch, settings = _fresh(
        world, steps=40, warmup_steps=5, peak_rate=0.01, batch_size=2, dropout=0.0
    )
    fixed = batch(0)
    rows = train(model, lambda step: fixed, lambda b, step: b, settings, seed=0)
    losses = [value for _, split, name, value in rows if (split, name) == ("train", "loss")]
    assert losses[-1] < 0.95 * losses[0]


def test_rows_of_the_loss_curve(teacher: Path) -> None:
    table = read_tsv(teacher / "training.tsv", "training")
    assert table.columns == ["step", "split", "quantity", "value"]
    train_rows = table.filter(split="train", quantity="learning_rate")
    assert train_rows["step"].to_list() == [2, 4, 6]
    assert train_rows["value"][0] == pytest.approx(0.004 * 0.75)  # mean of 0.5 and 1 of the peak
    assert table.filter(split="valid", quantity="loss")["step"].to_list() == [4, 6]
    heads = {q for q in table["quantity"] if q.startswith("loss/")}
    assert {"loss/rna_seq", "loss/contact_maps", "loss/splice_junctions", "loss/genes"} <= heads


def test_model_folder_tells_what_it_is(teacher: Path, world: dict[str, Any]) -> None:
    model, info = load_model(teacher)
    assert info["name"] == "teacher-fold0-seed0" and info["predictor"] == "alphagenome"
    assert (info["scheme"], info["seed"], info["window"]) == ("fold0", 0, 2048)
    assert info["organisms"] == list(ORGANISMS)
    assert [row["name"] for row in info["tracks"]["mouse"]["atac"]] == ["brain atac", "liver atac"]
    assert model.sizes.dropout == train_settings().dropout
    mean = info["tracks"]["human"]["atac"][0]["nonzero_mean"]
    assert float(model.track_mean(OutputType.ATAC)[0, 0]) == pytest.approx(mean)


def test_padded_channels_learn_nothing(world: dict[str, Any]) -> None:
    """What a target holds in a padded channel does not change the loss."""
    model, make, settings = _fresh(world, dropout=0.0)
    batch = make(0)
    model.train()
    loss = batch_loss(model, batch, settings)[0].item()
    rna = OutputType.RNA_SEQ
    mask = batch.masks[rna]
    assert not mask.all()
    batch.targets[rna] = torch.where(mask[:, None], batch.targets[rna], 1e6)
    assert batch_loss(model, batch, settings)[0].item() == pytest.approx(loss, rel=1e-6)


def test_a_loss_that_is_not_finite_names_the_windows(world: dict[str, Any]) -> None:
    model, make, settings = _fresh(world)
    batch = make(0)
    batch.targets[OutputType.CONTACT_MAPS] = torch.full_like(batch.targets[OutputType.CONTACT_MAPS], math.inf)
    where = f"{batch.intervals[0].chrom}:{batch.intervals[0].start}"
    with pytest.raises(ValueError, match=rf"training step 3: the loss is (inf|nan) .*{where}"):
        train_step(model, make_optimizer(model, settings), batch, settings, step=3, seed=0)


def test_the_loss_is_the_sum_of_its_parts(world: dict[str, Any]) -> None:
    model, make, settings = _fresh(world)
    found = train_step(model, make_optimizer(model, settings), make(0), settings, step=0, seed=0)
    parts = [value for name, value in found.items() if name.startswith("loss/")]
    assert len(parts) > 5 and found["loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_clipping_limits_the_step(world: dict[str, Any]) -> None:
    model, make, settings = _fresh(world, clip_norm=0.01)
    found = train_step(model, make_optimizer(model, settings), make(0), settings, step=0, seed=0)
    assert found["gradient_norm"] > 0.01  # the norm before clipping is reported
    norm = torch.sqrt(sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None))
    assert float(norm) == pytest.approx(0.01, rel=1e-3)
