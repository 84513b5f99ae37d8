"""Training on pieces of the windows: which, that they stay inside, and what the model is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from training_stand_ins import ORGANISMS, WINDOW, fold_settings, make_world, model_settings, train_settings

from megabase.distill import distill_student
from megabase.examples import pieces
from megabase.files import FileError, Stamp, read_table, write_table
from megabase.genome import Interval
from megabase.model import load_model
from megabase.predictors.base import model_info
from megabase.settings.data import FoldSettings
from megabase.settings.training import DistillSettings
from megabase.train import plan_of, set_up, train_teacher

WIDE = 4 * WINDOW


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Windows of 8,192 bp, the whole chromosomes in two."""
    folder = tmp_path_factory.mktemp("pieces")
    world = make_world(folder)
    table = read_table(world["intervals"], "intervals").filter(pl.col("start") % WIDE == 0)
    write_table(table.with_columns(end=pl.col("start") + WIDE), world["intervals"], Stamp("intervals"))
    return world


def _folds() -> FoldSettings:
    return fold_settings().model_copy(update={"window": WIDE})


def test_pieces_fill_the_windows() -> None:
    windows = [Interval("chr1", 8192, 16_384), Interval("chr2", 0, 8192)]
    assert pieces(windows, None) == windows == pieces(windows, 8192)
    cut = pieces(windows, 2048)
    assert [(p.chrom, p.start, p.end) for p in cut[:4]] == [
        ("chr1", start, start + 2048) for start in range(8192, 16_384, 2048)
    ]
    assert len(cut) == 8 and {p.length for p in cut} == {2048}
    with pytest.raises(ValueError, match=r"6144 bp does not divide the 8192 bp of chr1:8192-16384"):
        pieces(windows, 6144)


def test_windows_of_a_run_are_pieces_of_its_training_windows(world: dict[str, Any]) -> None:
    given = {"organisms": ORGANISMS, "scheme": "fold0", "folds": _folds(), "max_shift": 64}
    whole, cut = (set_up(**world, **given, window=window) for window in (None, WINDOW))
    plan = plan_of(train_settings(max_shift=64), 0)
    assert whole.windows("train", plan).length == WIDE
    windows = cut.windows("train", plan)
    assert windows.length == WINDOW
    for organism, intervals in windows.intervals.items():
        assert intervals == pieces(whole.splits["train"][organism], WINDOW)
    assert windows.batch(0).sequence.shape[1] == WINDOW


def _train(world: dict[str, Any], output: Path, scheme: str = "fold0", **changes: Any) -> Path:
    return train_teacher(
        **world, output_dir=output, scheme=scheme, seed=0, settings=train_settings(steps=2, **changes),
        model_settings=model_settings(), fold_settings=_folds(), organisms=ORGANISMS,
    )  # fmt: skip


def _distill(world: dict[str, Any], teachers: list[Path], output: Path, **changes: Any) -> Path:
    settings = DistillSettings(**train_settings(steps=2, **changes).model_dump())
    return distill_student(
        teachers, **world, output_dir=output, seed=0, settings=settings, fold_settings=_folds(),
        organisms=ORGANISMS,
    )  # fmt: skip


def test_the_model_knows_its_window_and_its_students_theirs(world: dict[str, Any], tmp_path: Path) -> None:
    short, whole = _train(world, tmp_path / "short", window=WINDOW), _train(world, tmp_path / "whole")
    assert [model_info(m)["window"] for m in (short, whole)] == [WINDOW, WIDE]
    assert load_model(short)[0].sizes == load_model(whole)[0].sizes
    assert model_info(short)["settings"]["train"]["window"] == WINDOW
    student = _distill(world, [short], tmp_path / "student", window=2 * WINDOW)
    assert model_info(student)["window"] == 2 * WINDOW
    assert model_info(student)["scheme"] == "fold0"  # held out from the teacher, held out from the student


def test_teachers_of_two_schemes_are_refused(world: dict[str, Any], tmp_path: Path) -> None:
    teachers = [_train(world, tmp_path / scheme, scheme) for scheme in ("fold0", "all")]
    with pytest.raises(FileError, match=r"all: was trained by scheme all, .*fold0 by fold0"):
        _distill(world, teachers, tmp_path / "student")
