"""Which junctions are kept: each published rule on counts small enough to check by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from megabase.tracks.junction_filter import kept_junctions
from megabase.tracks.junction_samples import JunctionSamples

A, B, C = ("chr1", 100, 200, "+"), ("chr1", 100, 300, "+"), ("chr1", 500, 600, "-")


def _samples(*counts: dict[tuple, int]) -> list[pl.DataFrame]:
    schema = {"chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "strand": pl.String, "count": pl.Int64}
    return [pl.DataFrame([(*j, n) for j, n in c.items()], schema=schema, orient="row") for c in counts]


def _held(tables: list[pl.DataFrame]) -> JunctionSamples:
    samples = JunctionSamples()
    for number, table in enumerate(tables):
        samples.add(f"S{number}", table)
    return samples


def _kept(biosamples: list[list[pl.DataFrame]], rule: str, min_reads: int = 2) -> dict[tuple, float]:
    table = kept_junctions([_held(samples) for samples in biosamples], rule, min_reads)
    return {row[:4]: row[4] for row in table.select("chrom", "start", "end", "strand", "reads").rows()}


def test_total_counts_over_all_biosamples() -> None:
    groups = [_samples({A: 1, C: 1}), _samples({A: 1, B: 5})]
    assert _kept(groups, "total") == {A: 2, B: 5}
    assert _kept(groups, "total", 0) == {A: 2, B: 5, C: 1}
    assert _kept([], "total") == _kept([[]], "gtex") == {}


def test_gtex_asks_for_the_90th_percentile_over_samples_with_zeros() -> None:
    """Of 11 samples the 90th percentile is the second largest count."""
    others = [{C: 9}] * 9
    assert A in _kept([_samples({A: 2, B: 90}, {A: 2, B: 90}, *[{B: 90}] * 9)], "gtex")
    assert A not in _kept([_samples({A: 2, B: 90}, {A: 1, B: 90}, *[{B: 90}] * 9)], "gtex")
    assert A not in _kept([_samples({A: 99, B: 90}, *[{B: 90}] * 10)], "gtex"), "one deep sample"
    assert set(_kept([_samples({A: 5}, {A: 5}, *others)], "gtex")) == {C}, "its donor is read in 2 of 11"


def test_gtex_needs_one_event_with_a_median_read() -> None:
    """A is read in 2 of 11 samples; B shares its donor and is read in all of them."""
    rare = [{A: 5, B: 3}, {A: 5, B: 3}]
    assert set(_kept([_samples(*rare, *[{B: 3}] * 9)], "gtex")) == {A, B}
    shifted = ("chr1", 101, 300, "+")
    assert set(_kept([_samples(*[{A: 5, shifted: 3}] * 2, *[{shifted: 3}] * 9)], "gtex")) == {shifted}
    sharing_acceptor = ("chr1", 50, 200, "+")
    found = _kept([_samples(*[{A: 5, sharing_acceptor: 3}] * 2, *[{sharing_acceptor: 3}] * 9)], "gtex")
    assert set(found) == {A, sharing_acceptor}


def test_median_is_above_three_in_some_biosample() -> None:
    four, three = _samples({A: 4}, {A: 4}, {}), _samples({A: 3}, {A: 3}, {A: 90})
    assert _kept([four], "median") == {A: 8}
    assert _kept([three], "median") == {}
    assert _kept([three, four], "median") == {A: 104}, "kept by one biosample, counted in all"
    assert _kept([_samples({A: 4}, {A: 3})], "median") == {A: 7}, "3.5, between the two"


@pytest.mark.parametrize("samples", [1, 2, 3, 10, 11])
def test_percentiles_are_numpys(samples: int) -> None:
    draws = np.random.default_rng(samples).poisson(1.2, (samples, 60))
    junctions = [("chr1", 1_000 * n, 1_000 * n + 100, "+") for n in range(60)]
    tables = _samples(*({j: int(c) for j, c in zip(junctions, row, strict=True) if c} for row in draws))
    often = np.percentile(draws, 90, axis=0) > 1
    events = np.median(draws, axis=0) >= 1
    wanted = {j for j, keep in zip(junctions, often & events, strict=True) if keep}
    assert set(_kept([tables], "gtex")) == wanted
    wanted = {j for j, keep in zip(junctions, np.median(draws, axis=0) > 3, strict=True) if keep}
    assert set(_kept([tables], "median")) == wanted
