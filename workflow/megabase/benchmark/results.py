"""Benchmark results: one metric a scorer and group, the weighted mean over groups, and bootstrap intervals.

Result rows are BENCHMARK_COLUMNS. Beside the metric, every scorer has one row `coverage`: the share of the
benchmark's rows that it scored (`n` = rows of the benchmark), so that a missing variant is never silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from megabase.benchmark.features import FEATURES, baseline_features
from megabase.benchmark.metrics import Value, interval, measure, resample, weighted_mean
from megabase.benchmark.predictions import MATCHED, predict_rows, read_scores
from megabase.benchmark.tasks import TASKS, Task
from megabase.files import Stamp, hash_inputs, read_table, write_tsv
from megabase.logs import LOGGER
from megabase.seeds import generator
from megabase.spec import BENCHMARK_COLUMNS

if TYPE_CHECKING:
    from megabase.settings.scoring import BenchmarkSettings

BASELINE = "baseline"  # model name of the baselines' rows
ALL = "all"
_TYPES = (*[pl.String] * 5, *[pl.Float64] * 3, pl.Int64, pl.Int64)
RESULT_SCHEMA = dict(zip(BENCHMARK_COLUMNS, _TYPES, strict=True))


def evaluate_benchmark(
    table: str | Path,
    scores: str | Path,
    model: str,
    output: str | Path,
    settings: BenchmarkSettings,
    name: str,
    seed: int,
) -> None:
    """Write a model's rows of one benchmark (`results/benchmarks/{benchmark}/{model}.tsv`).

    table: `table.parquet` of the benchmark; scores: `results/scores/{variants}/{model}`. MPRA scorers give
    the mean over all tracks, and, named `{scorer}:matched`, over the tracks of the element's own cell line
    where the model has any. FileError if a scorer of the settings has no scores.
    """
    rows = read_table(table, "benchmark")
    predictions: dict[str, np.ndarray] = {}
    for scorer in settings.scorers:
        found = read_scores(scores, scorer, rows["variant_id"].unique())
        predictions[scorer] = predict_rows(rows, found, agnostic=settings.task == "mpra")
        if settings.task == "mpra":
            matched = predict_rows(rows, found, own_only=True)
            if np.isfinite(matched).any():
                predictions[f"{scorer}:{MATCHED}"] = matched
    result = measure_predictions(rows, predictions, settings, name, model, seed)
    write_tsv(result, output, Stamp("result", settings.hash(), hash_inputs([table])))


def evaluate_baselines(
    table: str | Path,
    genome_folder: str | Path,
    output: str | Path,
    settings: BenchmarkSettings,
    name: str,
    seed: int,
) -> None:
    """Write the baselines' rows of one benchmark: distances, GC change and k-mer change (see `features`)."""
    from megabase.genome import Genome

    rows = read_table(table, "benchmark")
    features = baseline_features(rows, Genome.open(genome_folder))
    predictions = {
        f: features[f].to_numpy().astype(float)
        for f in FEATURES
        if features[f].null_count() < features.height
    }
    result = measure_predictions(rows, predictions, settings, name, BASELINE, seed)
    write_tsv(result, output, Stamp("result", settings.hash(), hash_inputs([table])))


def measure_predictions(
    rows: pl.DataFrame,
    predictions: Mapping[str, np.ndarray],
    settings: BenchmarkSettings,
    name: str,
    model: str,
    seed: int,
) -> pl.DataFrame:
    """Result rows (BENCHMARK_COLUMNS) of predictions {scorer: float [N], NaN = not scored} on table rows [N].

    Resamples depend on benchmark, group and seed alone: every scorer and model sees the same ones, where it
    scored the same rows.
    """
    task = TASKS[settings.task]
    result: list[tuple] = []
    for scorer, score in predictions.items():
        groups = _measure_groups(rows, score, task, settings.bootstrap, name, seed)
        values = [value for value, _ in groups.values()]
        overall = weighted_mean(values, [s for _, s in groups.values()], equal=task.equal_groups)
        found = {ALL: overall} | {group: value for group, (value, _) in groups.items()}
        result += [_row(name, model, scorer, task.metric, group, value) for group, value in found.items()]
        covered = np.isfinite(score) & rows[task.target].is_not_null().to_numpy()
        share = Value(float(covered.mean()), n=rows.height)
        result.append(_row(name, model, scorer, "coverage", ALL, share))
        _log(name, model, scorer, task, overall, covered, groups)
    return pl.DataFrame(result, schema=RESULT_SCHEMA, orient="row")


def _measure_groups(
    rows: pl.DataFrame, score: np.ndarray, task: Task, bootstrap: int, name: str, seed: int
) -> dict[str, tuple[Value, np.ndarray]]:
    """{group: (value, resamples [bootstrap])} over the scored rows; resamples are empty where degenerate."""
    target = rows[task.target].cast(pl.Float64).to_numpy()
    score = np.abs(score) if task.absolute else score
    group_of = rows["group"].to_numpy()
    variant = rows["variant_id"].rank("dense").to_numpy()
    usable = np.isfinite(score) & np.isfinite(target)
    result = {}
    for group in rows["group"].unique().sort():
        at = np.flatnonzero((group_of == group) & usable)
        value, samples = measure(task.metric, target[at], score[at]), np.empty(0)
        if value.value is not None:
            draws = generator(seed, "bootstrap", name, group)
            samples = resample(task.metric, target[at], score[at], variant[at], bootstrap, draws)
            low, high = interval(samples)
            value = Value(value.value, low, high, value.n, value.n_positive)
        result[group] = (value, samples)
    return result


def _row(name: str, model: str, scorer: str, metric: str, group: str, value: Value) -> tuple:
    return (
        name, model, scorer, metric, group, value.value, value.low, value.high, value.n, value.n_positive,
    )  # fmt: skip


def _log(
    name: str,
    model: str,
    scorer: str,
    task: Task,
    overall: Value,
    covered: np.ndarray,
    groups: Mapping[str, tuple[Value, np.ndarray]],
) -> None:
    text = "none" if overall.value is None else f"{overall.value:.3f}"
    LOGGER.info(
        "%s: %s %s: %s %s on %d rows of %d",
        name,
        model,
        scorer,
        task.metric,
        text,
        covered.sum(),
        len(covered),
    )
    for group, (value, _) in groups.items():
        if value.reason:
            LOGGER.info("%s: %s %s: %s has no %s: %s", name, model, scorer, group, task.metric, value.reason)
