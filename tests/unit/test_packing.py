"""Chunks are contiguous, part no window, cost the same, and are worth the loading of a model."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabase.packing import (
    Packing,
    chunk_bounds,
    chunks_needed,
    reachable_genes,
    variant_costs,
    window_starts,
)
from megabase.settings.scoring import ChunkSettings, ScoringSettings

ANY_SIZE = ChunkSettings(load_seconds=0)


def table(positions: list[int], chroms: list[str] | None = None) -> pl.DataFrame:
    chroms = chroms or ["chr1"] * len(positions)
    return pl.DataFrame(
        {"chrom": chroms, "position": positions}, schema={"chrom": pl.String, "position": pl.Int64}
    )


@settings(max_examples=200, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3000)), max_size=80),
    jobs=st.integers(1, 12), window_cost=st.floats(0, 5),
)  # fmt: skip
def test_chunks_are_contiguous_whole_and_even(
    places: list[tuple[int, int]], jobs: int, window_cost: float
) -> None:
    places.sort()
    variants = table([p for _, p in places], [f"chr{c}" for c, _ in places])
    chunks = ChunkSettings(load_seconds=0, window_cost=window_cost)
    packing = Packing(chunks)
    bounds = chunk_bounds(lambda: [variants], jobs, packing)
    assert len(bounds) == jobs + 1 and bounds[0] == 0 and bounds[-1] == len(places)
    assert bounds == sorted(bounds)
    sizes = np.diff(bounds)
    assert not sizes.size or (np.sort(sizes > 0)[::-1] == (sizes > 0)).all(), (
        "an empty chunk before a full one"
    )
    windows = [(c, p // 128) for c, p in places]
    for bound in bounds[1:-1]:
        assert bound in (0, len(places)) or windows[bound - 1] != windows[bound]
    if places:
        costs = variant_costs(window_starts(variants, 128), np.zeros(len(places)), chunks)
        whole = np.add.reduceat(costs, np.flatnonzero(window_starts(variants, 128)))
        spent = [costs[a:b].sum() for a, b in itertools.pairwise(bounds)]
        assert max(spent) <= costs.sum() / jobs + whole.max() + 1e-9


@settings(max_examples=200, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3000)), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6), jobs=st.integers(1, 9),
    shared=st.sampled_from(["centered", "binned", "tiled"]),
)  # fmt: skip
def test_chunks_do_not_depend_on_the_blocks(
    places: list[tuple[int, int]], cuts: list[int], jobs: int, shared: str
) -> None:
    """Windows that blocks part are one, and costs add up to the same bit."""
    places.sort()
    variants = table([p for _, p in places], [f"chr{c}" for c, _ in places])
    genes = pl.DataFrame({"chrom": ["chr0", "chr1"], "start": [100, 40], "end": [1000, 2900]})
    scoring = ScoringSettings(placement=shared, tile=384, window=4096)
    packing = Packing(ChunkSettings(load_seconds=0, window_cost=0.7, gene_cost=0.3), scoring, genes)
    edges = [0, *sorted(min(cut, len(places)) for cut in cuts), len(places)]
    blocks = [variants[a:b] for a, b in itertools.pairwise(edges)]
    assert chunk_bounds(lambda: blocks, jobs, packing) == chunk_bounds(lambda: [variants], jobs, packing)


def test_a_dense_stretch_makes_chunks_of_more_variants() -> None:
    """Forty variants in one bin cost less than forty in bins of their own."""
    dense, sparse = [10_000 * 128 + i for i in range(40)], [128 * i for i in range(40)]
    bounds = chunk_bounds(lambda: [table(sparse + dense)], 2, Packing(ANY_SIZE))
    assert bounds == [0, 30, 80]  # 40 x 2 + 41 = 121: 60 in the first, 61 in the second
    no_windows = Packing(ChunkSettings(load_seconds=0, window_cost=0))
    even = chunk_bounds(lambda: [table(sparse + dense)], 2, no_windows)
    assert even == [0, 40, 80]


def test_genes_in_reach_cost() -> None:
    genes = pl.DataFrame(
        {"chrom": ["chr1", "chr1", "chr2"], "start": [5000, 5500, 0], "end": [5600, 9000, 10]}
    )
    packing = Packing(ANY_SIZE, ScoringSettings(window=2048), genes)
    variants = table([0, 3976, 3977, 5200, 6623, 6624, 20_000], ["chr1"] * 6 + ["chr3"])
    # A window reaches 1,024 bases to either side: [p - 1024, p + 1024) against [5000, 5600) and [5500, 9000)
    assert reachable_genes(variants, packing).tolist() == [0, 0, 1, 2, 2, 1, 0]
    costs = variant_costs(np.array([True, False]), np.array([0, 3]), ChunkSettings(gene_cost=0.5))
    assert costs.tolist() == [2.0, 2.5]


@pytest.mark.parametrize(
    ("variants", "jobs", "wanted"),
    [(10, 800, 1), (949, 800, 1), (1900, 800, 2), (10**6, 800, 800), (0, 3, 1)],
)
def test_chunks_are_worth_the_loading(variants: int, jobs: int, wanted: int) -> None:
    """5 s of loading are 5% of a job that scores for 95 s: 950 variants at 10 a second."""
    assert chunks_needed(variants, jobs, ChunkSettings()) == wanted


def test_small_sets_leave_jobs_empty() -> None:
    bounds = chunk_bounds(lambda: [table([1000 * i for i in range(100)])], 8, Packing())
    assert bounds == [0] + [100] * 8
    assert chunk_bounds(lambda: [table([])], 3, Packing()) == [0, 0, 0, 0]


def test_what_shares_a_window_follows_the_placement() -> None:
    def shared(**scoring: object) -> int:
        return Packing(ANY_SIZE, ScoringSettings(**scoring)).shared

    assert shared(placement="centered") == 1
    assert shared(placement="binned") == 128
    assert shared(placement="tiled", tile=4096) == 4096
    variants = table([0, 0, 1, 127, 128])
    assert window_starts(variants, 1).tolist() == [True, False, True, True, True]
    assert window_starts(variants, 128).tolist() == [True, False, False, False, True]
