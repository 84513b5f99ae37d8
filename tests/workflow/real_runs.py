"""Runs of the workflow on real data in a folder of their own, and what their tables say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

LINKED = ("Snakefile", "workflow", "profiles", "envs")
CORES = 2
BASELINES = ("baseline-mean", "baseline-kmer")
STUDENT = "student-seed0"


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes`, section by section."""
    result = dict(values)
    for key, change in changes.items():
        old = result.get(key)
        deeper = isinstance(old, Mapping) and isinstance(change, Mapping)
        result[key] = merged(old, change) if deeper else change
    return result


def make_run(
    folder: Path,
    root: Path,
    data: Path,
    base: str,
    changes: Mapping[str, Any],
    tracks: Collection[str] | None = None,
) -> Path:
    """A folder to run `config/run.yaml` in: `base` with `changes`, of its tracks the experiments `tracks`."""
    folder.mkdir(parents=True)
    for part in LINKED:
        (folder / part).symlink_to(root / part)
    shutil.copytree(root / "resources", folder / "resources")
    (folder / "config").mkdir()
    values = merged(yaml.safe_load((root / "config" / f"{base}.yaml").read_text()), changes)
    values |= {"release": "run", "data": str(data)}
    (folder / "config" / "run.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    manifest = pl.read_csv(
        root / "resources" / "manifests" / f"{base}.tsv", separator="\t", infer_schema=False
    )
    if tracks is not None:
        manifest = manifest.filter(pl.col("strand").is_null() | pl.col("experiment").is_in(list(tracks)))
    manifest.write_csv(folder / "resources" / "manifests" / "run.tsv", separator="\t")
    return folder


def finish(folder: Path) -> float:
    """Run the workflow to the end and return its seconds; what failed is in the assertion."""
    variables = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "workflow"),
        "OMP_NUM_THREADS": "1",
    }
    command = ["snakemake", "--cores", str(CORES), "--configfile", "config/run.yaml", "--show-failed-logs"]
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return time.monotonic() - start


def read(path: Path) -> pl.DataFrame:
    """An evaluation or benchmark result."""
    table = pl.read_csv(path, separator="\t", comment_prefix="#", infer_schema_length=None)
    return table.with_columns(pl.col("value", "low", "high").cast(pl.Float64))  # all null: read as text


def evaluation(folder: Path, model: str, organism: str, **wanted: Any) -> pl.DataFrame:
    """Rows of a model's track evaluation where the columns have the values of `wanted`."""
    table = read(folder / "results" / "evaluation" / model / f"{organism}.tsv")
    for name, value in wanted.items():
        table = table.filter(pl.col(name) == value)
    return table


def mean_of(folder: Path, model: str, organism: str, **wanted: Any) -> float:
    """The one value that `wanted` names; an undefined one (a constant prediction) counts as 0."""
    rows = evaluation(folder, model, organism, **({"track": "mean", "split": "test"} | wanted))
    assert rows.height == 1, rows
    return rows["value"].fill_null(0.0).item()


def figures(folder: Path, organism: str, models: Sequence[str], metrics: Sequence[str]) -> str:
    """Markdown rows of the held-out means of `metrics`: a line an output type, resolution and metric."""
    lines = [f"| output | bp | metric | {' | '.join(models)} |", "|---" * (3 + len(models)) + "|"]
    tables = [evaluation(folder, model, organism, track="mean", split="test") for model in models]
    for row in tables[0].filter(pl.col("metric").is_in(list(metrics))).iter_rows(named=True):
        same = [pl.col(name) == row[name] for name in ("output_type", "resolution", "metric")]
        cells = [_cell(table.filter(*same)) for table in tables]
        keys = f"{row['output_type']} | {row['resolution']} | {row['metric']}"
        lines.append(f"| {keys} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(rows: pl.DataFrame) -> str:
    """`value (low-high)`, or a dash where the value is undefined."""
    if rows.is_empty() or rows["value"].item() is None:
        return "-"
    value, low, high = rows.select("value", "low", "high").row(0)
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
