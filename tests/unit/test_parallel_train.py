"""Training on many ranks: the loss and gradients of one, one set of weights, killed and resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from parallel_stand_ins import run_ranks
from training_stand_ins import LENGTH, ORGANISMS, fold_settings, make_world, model_settings, train_settings

from megabase.batches import WHOLE, part
from megabase.distill import Ensemble, distill_student, in_rotation, load_teachers, used_teachers
from megabase.files import Stamp, read_json, write_table
from megabase.model import AlphaGenome, Sizes, load_model, save_model
from megabase.optimise import batch_loss, make_optimizer, train_step
from megabase.parallel import SINGLE, Layout, attach, sum_gradients
from megabase.rolling import Progressed, RollingCheckpoint
from megabase.settings.data import FoldSettings
from megabase.settings.section import section_json
from megabase.settings.training import DistillSettings, TrainSettings
from megabase.spec import OutputType
from megabase.train import (
    Setup,
    describe,
    make_model,
    plan_of,
    set_up,
    settings_of,
    train_teacher,
    validation_rows,
)

WINDOW = 8192
SEGMENTS = (131_072, 6144, 4096)  # the window, three quarters of it, one rank's part or two
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
    batch = windows.batch(0, layout)
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


@pytest.mark.parametrize("sequence_ranks", [2, 4])
def test_a_rank_reads_its_part_of_what_one_rank_reads(world: dict[str, Any], sequence_ranks: int) -> None:
    """Parts that are read alone are parts of the whole, bit for bit, on both strands and beyond ends."""
    settings = _settings(max_shift=256, batch_size=12)
    setup, _ = _made(world, settings)
    windows = setup.windows("train", plan_of(settings, 1))
    whole = windows.batch(0)
    strands = {(int(o), i.strand) for o, i in zip(whole.organism, whole.intervals, strict=True)}
    assert len(strands) == 4 and min(i.start for i in whole.intervals) < 0
    for rank in range(sequence_ranks):
        place = Layout(sequence_ranks=sequence_ranks, sequence_rank=rank)
        read, cut = windows.batch(0, place), part(whole, place)
        assert read.first_base == cut.first_base == rank * WINDOW // sequence_ranks
        assert torch.equal(read.sequence, cut.sequence) and read.targets.keys() == cut.targets.keys()
        for name, wanted in cut.targets.items():
            torch.testing.assert_close(read.targets[name], wanted, rtol=0, atol=0, equal_nan=True)
            assert (wanted.shape == whole.targets[name].shape) is (name in WHOLE)
        assert torch.equal(read.gene_masks["spans"], whole.gene_masks["spans"])


@pytest.fixture(scope="module")
def alone(world: dict[str, Any]) -> dict[str, Any]:
    return _losses(SINGLE, world)


@pytest.mark.parametrize(("ranks", "sequence_ranks"), [(4, 1), (2, 2), (4, 2), (4, 4)])
def test_loss_and_gradients_are_those_of_one_rank(
    ranks: int, sequence_ranks: int, world: dict[str, Any], alone: dict[str, Any], tmp_path: Path
) -> None:
    assert set(alone["organisms"]) == {0, 1} and "genes" in alone["4096/loss"]
    found = run_ranks(_losses, ranks, sequence_ranks, tmp_path, world)
    for one in found:
        for name, wanted in alone.items():
            if name.endswith("/loss"):
                assert one[name] == pytest.approx(wanted, rel=1e-5)
            elif name.endswith("/gradient"):
                whole = torch.stack([gradient.norm() for gradient in wanted.values()]).norm()
                for parameter, gradient in wanted.items():
                    difference = (one[name][parameter] - gradient).norm()
                    assert difference <= 1e-4 * gradient.norm() + 1e-8 * whole, (name, parameter)
        assert [row[:3] for row in one["valid"]] == [row[:3] for row in alone["valid"]]
        values = [[row[3] for row in rows] for rows in (one["valid"], alone["valid"])]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


def _train(world: dict[str, Any], output: Path, **changes: Any) -> Path:
    return train_teacher(
        **world, output_dir=output, scheme="fold0", seed=0, settings=_settings(**changes),
        model_settings=model_settings(), fold_settings=_folds(), organisms=ORGANISMS,
    )  # fmt: skip


def _distill(world: dict[str, Any], teachers: list[str], output: Path, **changes: Any) -> Path:
    settings = DistillSettings(**_settings(**changes).model_dump(), mutation_rate=0.04)
    return distill_student(
        teachers, **world, output_dir=output, seed=0, settings=settings, fold_settings=_folds(),
        organisms=ORGANISMS,
    )  # fmt: skip


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
import megabase.train as train
from test_parallel_train import _distill, _train
from training_stand_ins import checkpoint_and_die
checkpoint_and_die(train, {after}, rank=1)
{call}
"""


def _torchrun(call: str, ranks: int, after: int = 0) -> subprocess.CompletedProcess:
    text = SCRIPT.format(here=str(Path(__file__).parent), after=after, call=call)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command += ["--no-python", sys.executable, "-c", text]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_a_killed_rank_and_a_rerun_end_with_the_same_bytes(world: dict[str, Any], tmp_path: Path) -> None:
    """Two ranks share every window; dropout is on. The first of two runs loses a rank after two steps."""
    outputs = [tmp_path / name / "teacher-fold0-seed0" for name in ("killed", "whole")]
    calls = [f"_train({world!r}, Path({str(o)!r}), dropout=0.2, sequence_ranks=2, steps=4)" for o in outputs]
    killed = _torchrun(calls[0], 2, after=3)
    assert killed.returncode != 0 and not (outputs[0] / FILES[0]).exists()
    steps = [p.name[:14] for p in Path(f"{outputs[0]}.checkpoint").glob("step-*")]
    # the first rank may be stopped in its writing
    assert steps and max(steps) <= "step-000000002", killed.stderr[-3000:]
    for call in calls:
        found = _torchrun(call, 2)
        assert found.returncode == 0, found.stderr[-3000:]
    for name in FILES:
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes(), name
    info = read_json(outputs[1] / "model.json", "model")["info"]
    assert info["ranks"] == "1 x 2 (data x sequence)" and "sequence_ranks" not in info["settings"]["train"]
    assert not Path(f"{outputs[0]}.checkpoint").exists()


def test_every_teacher_is_asked_equally_often_whatever_the_ranks() -> None:
    for count, ranks in ((4, 2), (4, 4), (2, 4), (3, 2), (64, 8), (5, 4)):
        places = [Layout(data_ranks=ranks, data_rank=d) for d in range(ranks)]
        asked = [in_rotation(step, count, place) for step in range(count) for place in places]
        assert {asked.count(number) for number in range(count)} == {ranks}
        for place in places:
            own = {in_rotation(step, count, place) for step in range(3 * count)}
            assert sorted(own) == used_teachers(count, place)
    assert used_teachers(64, Layout(data_ranks=64, data_rank=5)) == [5]  # one frozen teacher a rank
    assert used_teachers(64, Layout(data_ranks=8, data_rank=5)) == list(range(5, 64, 8))
    assert used_teachers(3, SINGLE) == [0, 1, 2]


def _targets(layout: Layout, world: dict[str, Any], folders: list[str]) -> dict[str, Any]:
    """What a student is taught in steps 0 and 1, on this rank."""
    settings = DistillSettings(**_settings(max_shift=0).model_dump())
    setup = set_up(**world, organisms=ORGANISMS, scheme="all", folds=_folds(), max_shift=0)
    teachers, _, _ = load_teachers(folders, setup.channels, "cpu", layout)
    ensemble = Ensemble(teachers, settings, 0, layout)
    windows = setup.windows("train", plan_of(settings, 3), targets=False)
    batches = [ensemble(windows.batch(step, layout), step) for step in (0, 1)]
    return {
        "held": [n for n, teacher in enumerate(teachers) if teacher is not None],
        "asked": [ensemble.chosen(step) for step in (0, 1)],
        "codes": [b.sequence for b in batches],
        "atac": [b.targets[OutputType.ATAC][128] for b in batches],
        "contacts": [b.targets[OutputType.CONTACT_MAPS] for b in batches],
        "sites": [b.targets["splice_positions"] for b in batches],
    }


@pytest.fixture(scope="module")
def teachers(world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("teachers")
    settings, paths = _settings(), []
    for seed in (0, 1):
        setup = set_up(**world, organisms=ORGANISMS, scheme="all", folds=_folds(), max_shift=256)
        sizes = Sizes.preset("tiny", channels=setup.channels.widths, **model_settings().overrides)
        about = describe(
            f"teacher-all-seed{seed}", setup.channels, scheme="all", seed=seed, window=WINDOW,
            settings={"train": settings_of(settings), "model": model_settings().model_dump(mode="json")},
        )  # fmt: skip
        path = folder / f"teacher-all-seed{seed}"
        save_model(path, make_model(setup.channels, sizes, seed), about)
        paths.append(str(path))
    return paths


def test_each_data_rank_has_a_teacher_and_its_ranks_share_it(
    world: dict[str, Any], teachers: list[str], tmp_path: Path
) -> None:
    """Four ranks, two of them a window: a data rank's rows are taught as one rank would by its teacher."""
    found = run_ranks(_targets, 4, 2, tmp_path, world, teachers)
    assert [one["held"] for one in found] == [[0], [0], [1], [1]]
    assert [one["asked"] for one in found] == [[0, 0], [0, 0], [1, 1], [1, 1]]
    for data_rank in (0, 1):
        rows = slice(2 * data_rank, 2 * data_rank + 2)
        wanted = _targets(SINGLE, world, [teachers[data_rank]])
        parts = found[2 * data_rank : 2 * data_rank + 2]
        for step in (0, 1):
            assert torch.equal(torch.cat([p["codes"][step] for p in parts], 1), wanted["codes"][step][rows])
            for name in ("atac", "contacts"):
                joined = torch.cat([p[name][step] for p in parts], 1)
                torch.testing.assert_close(joined, wanted[name][step][rows], rtol=1e-4, atol=1e-5)
            assert torch.equal(parts[0]["sites"][step], parts[1]["sites"][step])


def test_a_resident_network_takes_the_weights_of_the_teacher_that_is_asked(
    world: dict[str, Any], teachers: list[str]
) -> None:
    settings = DistillSettings(**_settings().model_dump())
    setup = set_up(**world, organisms=ORGANISMS, scheme="all", folds=_folds(), max_shift=256)
    loaded, sizes, _ = load_teachers(teachers, setup.channels, "cpu")
    direct = Ensemble(loaded, settings, 0)
    copied = Ensemble(loaded, settings, 0, resident=make_model(setup.channels, sizes, 5))
    batch = setup.windows("train", plan_of(settings, 0), targets=False).batch(0)
    for step in range(3):
        a, b = (ensemble(batch, step).targets[OutputType.ATAC][1] for ensemble in (direct, copied))
        assert torch.equal(a, b)
    assert len({direct.chosen(step) for step in range(20)}) == 2


def test_a_student_is_distilled_on_two_ranks(
    world: dict[str, Any], teachers: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "student-seed0"
    found = _torchrun(f"_distill({world!r}, {teachers!r}, Path({str(output)!r}), steps=3)", 2)
    assert found.returncode == 0, found.stderr[-3000:]
    model, info = load_model(output)
    assert info["ranks"] == "2 x 1 (data x sequence)" and all(p.isfinite().all() for p in model.parameters())


def _nowhere(layout: Layout, world: dict[str, Any]) -> str:
    """The error of a step whose target is infinite on the last rank alone."""
    settings = _settings(batch_size=2)
    setup, model = _made(world, settings)
    attach(model, layout)
    batch = setup.windows("train", plan_of(settings, 0)).batch(0, layout)
    if layout.rank == layout.ranks - 1:
        batch.targets[OutputType.CONTACT_MAPS] = torch.full_like(
            batch.targets[OutputType.CONTACT_MAPS], torch.inf
        )
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError) as error:
        train_step(model, make_optimizer(model, settings), batch, settings, step=7, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    names = [f"{i.chrom}:{i.start}-{i.end}" for i in batch.intervals]
    return f"{error.value}|{','.join(names)}"


def test_a_loss_that_is_not_finite_names_the_windows_of_every_rank(
    world: dict[str, Any], tmp_path: Path
) -> None:
    errors = [text.split("|") for text in run_ranks(_nowhere, 2, 1, tmp_path, world)]
    assert errors[0][0] == errors[1][0] and errors[0][0].startswith("training step 7: the loss is ")
    assert all(name in errors[0][0] for _, names in errors for name in names.split(","))


def _command(
    world: dict[str, Any],
    folder: Path,
    *options: str,
    environment: dict[str, str] | None = None,
    **changes: Any,
) -> subprocess.CompletedProcess:
    """`megabase train-teacher` with options, by default `--processes 2`, as a rule calls it."""
    genomes = folder / "genomes"
    genomes.mkdir(parents=True)
    for organism, genome in zip(ORGANISMS, world["genomes"], strict=True):
        (genomes / organism).symlink_to(genome)
    command = [sys.executable, "-m", "megabase", "train-teacher", *world["shards"], "--scheme", "fold0"]
    command += ["--genomes", genomes, "--intervals", world["intervals"], "--folds", section_json(_folds())]
    command += ["--organisms", ",".join(ORGANISMS), "--model", section_json(model_settings())]
    command += ["--settings", section_json(_settings(**changes)), "--device", "cpu"]
    command += [*(options or ("--processes", "2")), "-o", folder / "teacher-fold0-seed0"]
    known = os.environ | {"OMP_NUM_THREADS": "2"} | (environment or {})
    return subprocess.run(command, env=known, capture_output=True, text=True, timeout=600)


def test_the_command_starts_its_processes_itself(world: dict[str, Any], tmp_path: Path) -> None:
    found = _command(world, tmp_path, steps=2)
    assert found.returncode == 0, found.stderr[-3000:]
    assert load_model(tmp_path / "teacher-fold0-seed0")[1]["ranks"] == "2 x 1 (data x sequence)"
    assert found.stderr.count("megabase train-teacher | version") == 1  # only the first tells how far it is


SRUN = """#!/bin/sh
# Two tasks, as on two nodes: what follows the options, twice at a time.
while [ "${1#--}" != "$1" ]; do echo "$1" >> "$(dirname "$0")/given"; shift; done
"$@" & first=$!
"$@" & second=$!
wait $first && wait $second
"""


def test_nodes_of_a_job_meet_and_train_together(world: dict[str, Any], tmp_path: Path) -> None:
    """A stand-in of srun starts both agents here; that they find each other is torchrun's own work."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\necho localhost\necho other\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "gpu[1-2]", "SLURM_CPUS_PER_TASK": "2"}
    job["PATH"] = f"{tools}:{os.environ['PATH']}"
    found = _command(world, tmp_path, "--processes", "1", "--nodes", "2", environment=job, steps=2)
    assert found.returncode == 0, found.stderr[-3000:]
    assert load_model(tmp_path / "teacher-fold0-seed0")[1]["ranks"] == "2 x 1 (data x sequence)"
    given = (tools / "given").read_text().split()
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=2"} <= set(given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sequence_ranks": 3}, "2 processes do not split into windows of train.sequence_ranks 3"),
     ({"batch_size": 3}, "train.batch_size 3 does not split over 2 data ranks")],
)  # fmt: skip
def test_ranks_that_do_not_divide_are_one_clear_error(
    changes: dict[str, int], message: str, world: dict[str, Any], tmp_path: Path
) -> None:
    found = _command(world, tmp_path, **changes)
    assert found.returncode == 1 and f"error: {message}" in found.stderr
    assert not (tmp_path / "teacher-fold0-seed0").exists()


def test_a_run_may_go_on_over_other_numbers_of_ranks(
    world: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings()
    _, model = _made(world, settings)
    optimizer = make_optimizer(model, settings)
    written = RollingCheckpoint(tmp_path / "c", "same")
    written.save(model, optimizer, Progressed(3))
    written.finish()
    assert RollingCheckpoint(tmp_path / "c", "same").load(model, optimizer).step == 3
    assert "ranks" not in caplog.text
    assert RollingCheckpoint(tmp_path / "c", "same", "2 x 4").load(model, optimizer).step == 3
    assert "split over 1 x 1 ranks, now 2 x 4: last bits will differ" in caplog.text


def test_a_gradient_that_is_not_finite_changes_no_weight(world: dict[str, Any]) -> None:
    settings = _settings(batch_size=1)
    setup, model = _made(world, settings)
    batch = setup.windows("train", plan_of(settings, 0)).batch(0)
    model.head_of(OutputType.ATAC).at(128).learnt_scale.register_hook(lambda g: g * torch.nan)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=r"step 2: the gradient norm is nan .* on windows chr"):
        train_step(model, make_optimizer(model, settings), batch, settings, step=2, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
