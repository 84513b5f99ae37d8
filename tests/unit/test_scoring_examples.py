"""The README reads a store of scores with polars and with DuckDB: both are run, and agree with a query."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from megabase.files import Stamp
from megabase.scoring.keys import matrix_column
from megabase.scoring.parts import part_name, write_part

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
FOLDER = "results/scores/mine/student-seed0/dnase"


def _example(language: str) -> str:
    (text,) = (t for t in re.findall(rf"```{language}\n(.*?)```", README, re.S) if FOLDER in t)
    return text


@pytest.fixture
def wanted(tmp_path, monkeypatch) -> list[tuple[str, float]]:
    """A store of two parts, in the folder that the examples name; what they must find."""
    rng, tables = np.random.default_rng(0), []
    (tmp_path / FOLDER).mkdir(parents=True)
    for part in range(2):
        position = np.sort(rng.integers(0, 300_000, 200))
        place = {"chrom": f"chrA{part + 1}", "position": position, "ref": "A", "alt": "C"}
        name = pl.format("{}:{}:A:C", "chrom", pl.col("position") + 1).alias("variant_id")
        raw = rng.normal(size=(200, 5)).astype(np.float32)
        numbers = [matrix_column("raw", raw, 5), matrix_column("quantile", np.tanh(raw), 5)]
        tables.append(pl.DataFrame(place).select(name, pl.all()).with_columns(*numbers))
        with write_part(tmp_path / FOLDER / part_name(part), Stamp("scores")) as writer:
            writer.write(tables[-1])
    monkeypatch.chdir(tmp_path)
    here = tables[0].filter(pl.col("position") < 200_000)
    largest = np.abs(np.stack(here["quantile"].to_list())).max(1)
    order = np.argsort(-largest)[:10]
    return [(here["variant_id"][int(i)], float(largest[i])) for i in order]


def test_polars(wanted, capsys):
    found: list[pl.DataFrame] = []
    exec(_example("python").replace("print(", "keep("), {"keep": found.append})
    assert found[0].rows() == wanted


def test_duckdb(wanted):
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(_example("sql")).fetchall() == wanted


def test_numbers_come_back_bit_by_bit(tmp_path):
    """Byte streams and differences lose nothing, nor do nulls, NaN and empty tables."""
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(40, 3)).astype(np.float32)
    raw[3], raw[4, 1], raw[5, 2] = np.nan, np.inf, -0.0
    keys = {"variant_id": [f"chr1:{i}:A:C" for i in range(40)], "chrom": "chr1", "position": range(40)}
    table = pl.DataFrame(keys).with_columns(matrix_column("raw", raw, 3), matrix_column("quantile", None, 3))
    for name, rows in (("all", table), ("none", table[:0])):
        with write_part(tmp_path / name, Stamp("scores")) as writer:
            writer.write(rows)
        back = pl.read_parquet(tmp_path / name)
        assert back.schema == rows.schema and back.equals(rows)
    back = pl.read_parquet(tmp_path / "all")
    assert np.stack(back["raw"].to_list()).astype(np.float32).tobytes() == raw.tobytes()
