"""What the report is made from: files of one run, named by its config; what is missing is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from megabase.config import Config
from megabase.files import read_tsv
from megabase.spec import BENCHMARK_COLUMNS, EVALUATION_COLUMNS, UNCERTAINTY_COLUMNS

BASELINES = "baselines"  # file of a benchmark's baselines


@dataclass(frozen=True)
class Inputs:
    """Paths of one run, by model, organism, variant set or benchmark; every path exists."""

    manifest: Path | None = None
    folds: Path | None = None
    tracks: dict[str, Path] = field(default_factory=dict)
    qualities: dict[str, Path] = field(default_factory=dict)
    training: dict[str, Path] = field(default_factory=dict)
    cards: dict[str, Path] = field(default_factory=dict)
    evaluations: list[Path] = field(default_factory=list)
    uncertainties: list[Path] = field(default_factory=list)
    scores: dict[str, Path] = field(default_factory=dict)
    benchmarks: dict[str, list[Path]] = field(default_factory=dict)
    placements: Path | None = None
    explanation: Path | None = None
    ablations: list[Path] = field(default_factory=list)


def _existing(paths: dict[str, Path]) -> dict[str, Path]:
    return {name: path for name, path in paths.items() if path.exists()}


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def find_inputs(results: str | Path, manifest: str | Path | None, config: Config) -> Inputs:
    """The files under `results` that the config's names lead to; older files of other names are not read."""
    root = Path(results)
    students, explain = config.students[:1], config.report.explain
    models = config.models
    benchmarks = {
        name: [p for m in [*students, BASELINES] if (p := root / "benchmarks" / name / f"{m}.tsv").exists()]
        for name in config.benchmarks
    }
    return Inputs(
        manifest=_first([Path(manifest)] if manifest else []),
        folds=_first([root / "folds/folds.json"]),
        tracks=_existing({o: root / "tracks" / o / "tracks.parquet" for o in config.organisms}),
        qualities=_existing({o: root / "tracks" / o / "quality.tsv" for o in config.organisms}),
        training=_existing({m: root / "models" / m / "training.tsv" for m in config.trained_models}),
        cards=_existing({m: root / "models" / m / "model.json" for m in models}),
        evaluations=[
            p
            for m in models
            for o in config.organisms
            if (p := root / "evaluation" / m / f"{o}.tsv").exists()
        ],
        uncertainties=[
            p
            for m in config.uncertain_models
            for o in config.organisms
            if (p := root / "uncertainty" / m / f"{o}.tsv").exists()
        ],
        scores=_existing({v: root / "scores" / v / s for v in config.variant_sets for s in students}),
        benchmarks={name: paths for name, paths in benchmarks.items() if paths},
        placements=_first(root / "placements" / explain / f"{s}.tsv" for s in students) if explain else None,
        explanation=_first(root / "explanations" / explain / f"{s}.json" for s in students)
        if explain
        else None,
        ablations=[p for n in config.report.ablations if (p := root / "ablations" / f"{n}.tsv").exists()],
    )


def read_training(paths: dict[str, Path]) -> dict[str, pl.DataFrame]:
    """Loss curves by model: step, split, quantity, value (finite)."""
    tables = {name: read_tsv(path, "training") for name, path in paths.items()}
    return {name: t.with_columns(pl.col("value").cast(pl.Float64)) for name, t in tables.items()}


_TEXT = {
    "model", "organism", "split", "output_type", "track", "metric", "benchmark", "scorer", "group",
    "quantity",
}  # fmt: skip


def _typed(table: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """The columns of a result file as text and numbers, whatever a file of nulls was read as."""
    kinds = {c: pl.String if c in _TEXT else pl.Float64 for c in columns}
    return table.select(pl.col(c).cast(kind, strict=False) for c, kind in kinds.items())


def _stacked(paths: Iterable[Path], kind: str, columns: tuple[str, ...]) -> pl.DataFrame:
    tables = [_typed(read_tsv(path, kind), columns) for path in paths]
    empty = pl.DataFrame(schema={c: pl.String if c in _TEXT else pl.Float64 for c in columns})
    table = pl.concat(tables) if tables else empty
    return table.with_columns(pl.col("value", "low", "high").fill_nan(None))


def read_evaluations(paths: Iterable[Path]) -> pl.DataFrame:
    """Evaluation tables of all models and organisms, stacked; values that are not numbers are null."""
    return _stacked(paths, "evaluation", EVALUATION_COLUMNS)


def read_uncertainties(paths: Iterable[Path]) -> pl.DataFrame:
    """Uncertainty tables of all models and organisms, stacked; values that are not numbers are null."""
    return _stacked(paths, "uncertainty", UNCERTAINTY_COLUMNS)


def read_benchmarks(paths: dict[str, list[Path]]) -> dict[str, pl.DataFrame]:
    """Result tables by benchmark, models and baselines stacked."""
    tables = {name: _stacked(files, "result", BENCHMARK_COLUMNS) for name, files in paths.items()}
    whole = [pl.col("n").cast(pl.Int64), pl.col("n_positive").cast(pl.Int64)]
    return {name: table.with_columns(whole) for name, table in tables.items()}
