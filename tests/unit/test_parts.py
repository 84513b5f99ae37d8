"""A part of the store has the same bytes, however its rows are cut in blocks, and full row groups."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabase.files import Stamp
from megabase.scoring import parts

ROWS, GROUP = 50, 8


def rows(count: int) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    values = pl.Series("raw", rng.normal(size=(ROWS, 3)).astype(np.float32), dtype=pl.Array(pl.Float32, 3))
    table = pl.DataFrame({
        "variant_id": [f"chr1:{i + 1}:A:C" for i in range(ROWS)], "chrom": ["chr1"] * ROWS,
        "position": range(ROWS), "gene_id": [f"g{i // 7}" if i % 5 else None for i in range(ROWS)],
    })  # fmt: skip
    return table.with_columns(values)[:count]


def written(path: Path, table: pl.DataFrame, cuts: list[int]) -> bytes:
    edges = [0, *sorted(min(c, table.height) for c in cuts), table.height]
    with parts.write_part(path, Stamp(parts.SCORES)) as writer:
        for first, last in itertools.pairwise(edges):
            writer.write(table[first:last])
    return path.read_bytes()


@pytest.fixture(autouse=True, scope="module")
def small_groups():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "GROUP_ROWS", GROUP)
        yield


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, ROWS), cuts=st.lists(st.integers(0, ROWS), max_size=12))
def test_bytes_do_not_depend_on_blocks(tmp_path_factory, count: int, cuts: list[int]) -> None:
    folder, table = tmp_path_factory.mktemp("parts"), rows(count)
    assert written(folder / "a.parquet", table, cuts) == written(folder / "b.parquet", table, [])
    found = pq.ParquetFile(folder / "a.parquet")
    groups = [found.metadata.row_group(i).num_rows for i in range(found.num_row_groups)]
    assert groups[:-1] == [GROUP] * (len(groups) - 1) and sum(groups) == count
    read = pl.concat(parts.read_blocks(folder / "a.parquet", parts.SCORES))
    assert read.equals(table) and read.schema == table.schema
