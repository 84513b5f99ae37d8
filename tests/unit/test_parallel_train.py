"""Training on many ranks: the loss and gradients of one, one set of weights, killed and resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from parallel_stand_ins import run_ranks
from training_stand_ins import LENGTH, ORGANISMS, fold_settings, make_world, model_settings, train_settings

from megabase.batches import part
from megabase.config import FoldSettings, TrainSettings
from megabase.files import Stamp, read_json, write_table
from megabase.model import AlphaGenome, Sizes
from megabase.optimise import batch_loss
from megabase.parallel import SINGLE, Layout, attach, sum_gradients
from megabase.train import Setup, make_model, plan_of, set_up, train_teacher, validation_rows

WINDOW = 8192
SEGMENTS = (131_072, 6144, 4096, 2048)  # the window, three quarters of it, two ranks' and one rank's part
FILES = ("model.safetensors", "training.tsv")


def _folds() -> FoldSettings:
    return fold_settings().model_copy(update={"window": WINDOW})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("many")
    found = make_world(folder)
    rows = [
        {"organism": o, "chrom": f"chr{n + 1}", "start": s, "end": s + WINDOW, "fold": f"fold{n}"}
        for o in ORGANISMS for n in range(4) for s in range(0, LENGTH, WINDOW)
    ]  # fmt: skip
    write_table(pl.DataFrame(rows), folder / "long.parquet", Stamp("intervals"))
    return {k: _text(v) for k, v in {**found, "intervals": folder / "long.parquet"}.items()}


def _text(value: Any) -> Any:
    return [_text(v) for v in value] if isinstance(value, list) else value and str(value)


def _settings(**changes: Any) -> TrainSettings:
    values = {"batch_size": 4, "dropout": 0.0, "steps": 4, "validate_steps": 4, "validate_windows": 8}
    return train_settings(**values | changes)


def _made(world: dict[str, Any], settings: TrainSettings) -> tuple[Setup, AlphaGenome]:
    setup = set_up(**world, organisms=ORGANISMS, scheme="fold0", folds=_folds(), max_shift=256)
    given = model_settings()
    sizes = Sizes.preset("tiny", channels=setup.channels.widths, dropout=settings.dropout, **given.overrides)
    return setup, make_model(setup.channels, sizes, 0)


def _losses(layout: Layout, world: dict[str, Any]) -> dict[str, Any]:
    """Loss, parts and gradients of one batch of both organisms, at several segment lengths.

    Windows stay inside their chromosome: in a run of N all positions are alike, and which of two equal ones
    a max-pooling takes (and so the gradient) hangs on the last bit, on one rank as on many.
    """
    settings = _settings(max_shift=0)
    setup, model = _made(world, settings)
    attach(model, layout)
    windows = setup.windows("train", plan_of(settings, 3))
    batch = part(windows.batch(0, layout.rows(settings.batch_size)), layout)
    out: dict[str, Any] = {"organisms": batch.organism.tolist()}
    for segment in SEGMENTS:
        changed = settings.model_copy(update={"segment_bases": segment})
        if (
            WINDOW % segment and segment < WINDOW
        ):  # a segment that divides no window is an error, on all ranks
            with pytest.raises(ValueError, match="does not divide 8192"):
                batch_loss(model, batch, changed)
            continue
        model.train().zero_grad()
        loss, parts = batch_loss(model, batch, changed)
        (loss / layout.ranks).backward()
        sum_gradients(model.parameters(), layout)
        out[f"{segment}/loss"] = {"loss": loss.item()} | {name: v.item() for name, v in parts.items()}
        out[f"{segment}/gradient"] = {n: p.grad.clone() for n, p in model.named_parameters()}
    held = setup.windows("valid", plan_of(settings, 3)).in_order(6, layout)
    out["valid"] = validation_rows(model, held, settings, 1)
    return out


@pytest.fixture(scope="module")
def alone(world: dict[str, Any]) -> dict[str, Any]:
    return _losses(SINGLE, world)


@pytest.mark.parametrize(("ranks", "sequence_ranks"), [(2, 1), (2, 2), (4, 2), (4, 4)])
def test_loss_and_gradients_are_those_of_one_rank(
    ranks: int, sequence_ranks: int, world: dict[str, Any], alone: dict[str, Any], tmp_path: Path
) -> None:
    assert set(alone["organisms"]) == {0, 1} and "genes" in alone["2048/loss"]
    found = run_ranks(_losses, ranks, sequence_ranks, tmp_path, world)
    for one in found:
        for name, wanted in alone.items():
            if name.endswith("/loss"):
                assert one[name] == pytest.approx(wanted, rel=1e-5)
            elif name.endswith("/gradient"):
                for parameter, gradient in wanted.items():
                    difference = (one[name][parameter] - gradient).norm()
                    assert difference <= 1e-4 * gradient.norm() + 1e-9, (name, parameter)
        assert [row[:3] for row in one["valid"]] == [row[:3] for row in alone["valid"]]
        values = [[row[3] for row in rows] for rows in (one["valid"], alone["valid"])]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


def _train(world: dict[str, Any], output: Path, **changes: Any) -> Path:
    return train_teacher(
        **world, output_dir=output, scheme="fold0", seed=0, settings=_settings(**changes),
        model_settings=model_settings(), fold_settings=_folds(), organisms=ORGANISMS,
    )  # fmt: skip


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
import megabase.train as train
from test_parallel_train import _distill, _train
rank, after = int(os.environ.get("RANK", 0)), {after}
step, count = train.train_step, [0]
def dying(*args, **values):
    count[0] += 1
    if count[0] == after and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args, **values)
train.train_step = dying
inner = train.train
def ticking(*args, **values):
    ticks = iter(range(0, 10**6, 10))
    return inner(*args, **values, clock=lambda: next(ticks))
train.train = ticking
{call}
"""


def _torchrun(call: str, ranks: int, after: int = 0) -> subprocess.CompletedProcess:
    text = SCRIPT.format(here=str(Path(__file__).parent), after=after, call=call)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command += ["--no-python", sys.executable, "-c", text]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def test_a_killed_rank_and_a_rerun_end_with_the_same_bytes(world: dict[str, Any], tmp_path: Path) -> None:
    """Two ranks share every window; dropout is on. The first of two runs loses a rank after two steps."""
    outputs = [tmp_path / name / "teacher-fold0-seed0" for name in ("killed", "whole")]
    calls = [f"_train({world!r}, Path({str(o)!r}), dropout=0.2, sequence_ranks=2, steps=4)" for o in outputs]
    killed = _torchrun(calls[0], 2, after=3)
    assert killed.returncode != 0 and not (outputs[0] / FILES[0]).exists()
    steps = [p.name[:14] for p in Path(f"{outputs[0]}.checkpoint").glob("step-*")]
    assert "step-000000002" in steps
    for call in calls:
        found = _torchrun(call, 2)
        assert found.returncode == 0, found.stderr[-3000:]
    for name in FILES:
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes(), name
    info = read_json(outputs[1] / "model.json", "model")["info"]
    assert info["ranks"] == "1 x 2 (data x sequence)" and "sequence_ranks" not in info["settings"]["train"]
    assert not Path(f"{outputs[0]}.checkpoint").exists()
