"""Calibration of spreads: known truth, what is compared, and the table of a real ensemble and student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from training_stand_ins import ORGANISMS, fold_settings, make_world, model_settings, train_settings

from megabase.distill import distill_student
from megabase.evaluate import evaluate_tracks
from megabase.evaluation.correlation import resample_weights
from megabase.evaluation.reliability import (
    LEVELS,
    coverage,
    fit_spread,
    fit_variance,
    normal_factors,
    rank_agreement,
)
from megabase.files import FileError, read_tsv
from megabase.predictors.calibrated import calibrated, read_calibration, table_of
from megabase.predictors.ensemble import gather_ensemble
from megabase.settings.training import DistillSettings, EvaluationSettings, UncertaintySettings
from megabase.spec import UNCERTAINTY_COLUMNS, OutputType
from megabase.train import train_teacher
from megabase.uncertainty import calibrate_spread, compared, errors, halves, uncertainty_table

SETTINGS = UncertaintySettings(max_windows=8, values=200, batch_size=3, bootstrap=20)
ATAC, JUNCTIONS = OutputType.ATAC, OutputType.SPLICE_JUNCTIONS


def heteroscedastic(
    noise: float, scale: float, tails: float = 0.0, n: int = 40_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, spread and error: variance noise + scale * spread**2, of Student's t where `tails` > 0."""
    rng = np.random.default_rng(3)
    spread = rng.lognormal(-1, 0.8, n)
    unit = rng.standard_t(tails, n) * np.sqrt((tails - 2) / tails) if tails else rng.standard_normal(n)
    return rng.integers(0, 40, n), spread, unit * np.sqrt(noise + scale * spread**2)


@pytest.mark.parametrize(("noise", "scale"), [(0.2, 1.5), (0.0, 3.0), (0.5, 0.0), (1e-4, 2e-3)])
def test_the_fit_finds_noise_and_scale(noise: float, scale: float) -> None:
    _, spread, error = heteroscedastic(noise, scale)
    found = fit_variance(spread, error)
    size = noise + scale * float((spread**2).mean())
    assert found[0] == pytest.approx(noise, rel=0.1, abs=0.02 * size)
    assert found[1] == pytest.approx(scale, rel=0.1, abs=0.05 * size / float((spread**2).mean()))


def test_errors_that_are_all_zero_have_no_variance() -> None:
    found = fit_variance(np.array([0.1, 0.2, 0.3]), np.zeros(3))
    assert max(found) < 1e-9


@pytest.mark.parametrize("tails", [0.0, 3.0])
def test_calibrated_intervals_hold_what_they_say_and_raw_ones_do_not(tails: float) -> None:
    window, spread, error = heteroscedastic(0.3, 2.0, tails)
    first = window < 20
    fit = fit_spread(spread[first], error[first])
    place, weights = window[~first] - 20, resample_weights(20, 50, np.random.default_rng(0))
    after = coverage(
        fit.deviation(spread[~first]), np.array(list(fit.factors.values())), error[~first], place, weights
    )
    before = coverage(spread[~first], normal_factors(), error[~first], place, weights)
    for level, one in zip(LEVELS, after, strict=True):
        assert one.value == pytest.approx(level, abs=0.015)
        assert one.low < one.value < one.high and one.n == (~first).sum()
    assert before[LEVELS.index(0.9)].value < 0.75
    if not tails:  # of a normal distribution the factors are known
        np.testing.assert_allclose(list(fit.factors.values()), normal_factors(), rtol=0.06)
    agreement = rank_agreement(spread[~first], error[~first], place, weights)
    assert agreement.value > 0.2 and agreement.low < agreement.value < agreement.high


def test_a_spread_that_knows_nothing_agrees_with_nothing() -> None:
    window, spread, _ = heteroscedastic(0.3, 2.0)
    error = np.random.default_rng(9).standard_normal(len(spread))
    weights = resample_weights(40, 50, np.random.default_rng(0))
    assert abs(rank_agreement(spread, error, window, weights).value) < 0.02
    assert fit_variance(spread, error)[1] < 0.05


def test_windows_are_halved_by_seed() -> None:
    first = halves(9, 0, "alpha")
    assert first.sum() == 4 and (first == halves(9, 0, "alpha")).all()
    assert any((first != halves(9, seed, "alpha")).any() for seed in range(1, 5))


def test_what_is_compared() -> None:
    maps = np.arange(8.0).reshape(2, 2, 2)
    maps[0, 1, 0] = np.nan
    _, _, known = compared(OutputType.CONTACT_MAPS, {"values": maps}, {"contact_maps": maps})
    assert known[..., 1].tolist() == [[True, True], [False, True]] and not known[0, 1, 0]
    classes = np.array([0, 4, 4, -1, 3])
    chances = np.zeros((5, 5))
    chances[:, 4], chances[2, 1], chances[3, 0] = 1, 0.3, 0.9
    found = {"probabilities": chances}
    predicted, measured, known = compared(OutputType.SPLICE_SITES, found, {"splice_sites": classes})
    assert known.all(1).tolist() == [True, False, True, False, True] == known.any(1).tolist()
    assert predicted.shape == (5, 4) and measured[0].tolist() == [1, 0, 0, 0]
    usage = np.full((5, 4), 0.5)
    targets = {"splice_site_usage": usage, "splice_sites": classes}
    _, _, known = compared(OutputType.SPLICE_SITE_USAGE, {"probabilities": usage}, targets)
    assert known[0].tolist() == [True, True, False, False] and known[4].tolist() == [False, False, True, True]
    assert not known[1:4].any()
    counts = np.zeros((2, 2, 4))
    counts[0, 1, 1] = counts[1, 1, 3] = 2
    found = {"values": counts, "mask": np.ones((2, 2, 4))}
    _, _, known = compared(JUNCTIONS, found, {JUNCTIONS: counts})
    assert known[0, 1].tolist() == [True, True, False, False]
    assert known[1, 1].tolist() == [False, False, True, True] and known.sum() == 4


def test_errors_are_in_the_even_space() -> None:
    targets = np.full((256, 2), 2.0, np.float32)  # two bins of 256
    targets[130, 0] = np.nan
    found = {"128bp": np.full((2, 2), 128.0), "spread": np.array([[0.1, 0.2], [0.3, 0.4]])}
    rows = [{"nonzero_mean": 1.0}, {"nonzero_mean": 2.0}]
    values = errors(ATAC, found, {ATAC: targets}, rows, 10, np.random.default_rng(0))
    wanted = np.log1p([2.0, 1.0, 1.0]) - np.log1p([1.0, 0.5, 0.5])
    np.testing.assert_allclose(values, np.column_stack([[0.1, 0.2, 0.4], wanted]), rtol=1e-5)
    few = errors(ATAC, found, {ATAC: targets}, rows, 2, np.random.default_rng(0))
    assert few.shape == (2, 2) and all(row in values.tolist() for row in few.tolist())


def test_an_output_type_without_values_in_a_half_is_left_out() -> None:
    samples = {ATAC: np.array([[0.0, 0.1, 0.2]] * 5)}
    assert uncertainty_table(samples, 4, SETTINGS, "alpha", 0).height == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Results with two teachers, their ensemble, and a student with a variance output."""
    results = tmp_path_factory.mktemp("uncertainty") / "results"
    world, models = make_world(results / "world"), results / "models"
    common = {**world, "fold_settings": fold_settings(), "organisms": ORGANISMS}
    teachers = [
        train_teacher(
            output_dir=models / f"teacher-all-seed{seed}", scheme="all", seed=seed,
            settings=train_settings(steps=2, warmup_steps=1), model_settings=model_settings(), **common,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    gather_ensemble(teachers, models / "ensemble-all")
    settings = DistillSettings(**train_settings(steps=3).model_dump(), start="teacher", spread="variance")
    distill_student(teachers, output_dir=models / "student-seed0", seed=0, settings=settings, **common)
    return results, world


def _calibrate(results: Path, world: dict[str, Any], model: str, output: Path, **changes: Any) -> Path:
    inputs = (world["shards"][0], world["genomes"][0], world["intervals"])
    settings = SETTINGS.model_copy(update=changes)
    return calibrate_spread(results / "models" / model, *inputs, output, settings, fold_settings(), "human")


@pytest.mark.parametrize("model", ["ensemble-all", "student-seed0"])
def test_the_table_of_a_model(run: tuple[Path, dict[str, Any]], model: str, tmp_path: Path) -> None:
    results, world = run
    path = _calibrate(results, world, model, table_of(results / "models" / model, "human"))
    assert path == results / "uncertainty" / model / "human.tsv"
    table = read_tsv(path, "uncertainty")
    assert tuple(table.columns) == UNCERTAINTY_COLUMNS and set(table["model"]) == {model}
    known = set(table["output_type"])
    assert {"rna_seq", "atac", "contact_maps", "splice_sites", "splice_junctions"} <= known
    for output in known:
        own = table.filter(pl.col("output_type") == output)
        assert own.filter(pl.col("quantity") == "coverage")["level"].to_list() == list(LEVELS)
        inside = own.filter(pl.col("quantity") == "coverage")["value"].to_numpy()
        assert (np.diff(inside) >= 0).all() and 0 <= inside[0] and inside[-1] <= 1
    again = _calibrate(results, world, model, tmp_path / "again.tsv")
    assert again.read_bytes() == path.read_bytes()
    found = read_calibration(path, results / "models" / model)
    spread = {ATAC: torch.tensor([0.0, 0.5])}
    one = found[ATAC]
    wanted = (one.noise + one.scale * spread[ATAC] ** 2).sqrt()
    torch.testing.assert_close(calibrated(spread, found)[ATAC], wanted)
    assert one.half_width(2.0, 0.9) == pytest.approx(2 * one.factors[0.9])
    with pytest.raises(ValueError, match=r"level 0\.42 is not calibrated; known: 0\.05"):
        one.half_width(2.0, 0.42)
    with pytest.raises(FileError, match=r"made for another model than .*teacher-all-seed0; run calibrate"):
        read_calibration(path, results / "models/teacher-all-seed0")


def test_an_ensemble_is_evaluated_as_any_model(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    results, world = run
    inputs = [world[name][0] for name in ("shards", "genomes", "genes")]
    settings = EvaluationSettings(bootstrap=5, max_windows=4)
    tables = []
    for model in ("ensemble-all", "teacher-all-seed0"):
        folder, output = results / "models" / model, tmp_path / f"{model}.tsv"
        evaluate_tracks(folder, *inputs, world["intervals"], output, settings, fold_settings(), "human")
        tables.append(read_tsv(output, "evaluation"))
    keys = ["split", "output_type", "track", "resolution", "metric"]
    assert tables[0].select(keys).equals(tables[1].select(keys))
    assert set(tables[0]["model"]) == {"ensemble-all"}


def test_models_without_a_spread_and_too_few_windows_are_one_error(
    run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    results, world = run
    with pytest.raises(ValueError, match="teacher-all-seed0: tells no spread; wanted an ensemble"):
        _calibrate(results, world, "teacher-all-seed0", tmp_path / "x.tsv")
    with pytest.raises(ValueError, match="holds out 1 windows of human; wanted two or more"):
        _calibrate(results, world, "ensemble-all", tmp_path / "x.tsv", max_windows=1)
    assert not (tmp_path / "x.tsv").exists()
