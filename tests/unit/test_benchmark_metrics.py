"""Metrics of the benchmarks: reference libraries, repeated items, degenerate cases, intervals."""

from __future__ import annotations

import numpy as np
import pytest

from megabase.benchmark.metrics import METRICS, Value, interval, measure, resample, weighted_mean
from megabase.seeds import generator


def _data(classes: bool, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    draws = generator(1, "metrics")
    target = draws.integers(0, 2, n).astype(float) if classes else np.round(draws.normal(size=n), 1)
    return target, np.round(draws.normal(size=n) + target, 1)  # rounded, so that there are ties


@pytest.mark.parametrize("name", METRICS)
def test_weighted_form_equals_metric_of_repeated_items(name: str) -> None:
    rule = METRICS[name]
    target, score = _data(rule.classes)
    counts = generator(2, "counts").integers(0, 4, (5, len(target)))
    weighted = rule.weighted(target, score, counts.astype(float))
    for row, value in zip(counts, weighted, strict=True):
        assert value == pytest.approx(rule.point(np.repeat(target, row), np.repeat(score, row)), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_perfect_and_reversed_scores(name: str) -> None:
    target = np.array([0.0, 0.0, 1.0, 1.0])
    assert measure(name, target, target * 2 + 1).value == pytest.approx(1)
    assert measure(name, target, -target).value < 0.6


def test_reference_values() -> None:
    label = np.array([1, 0, 1, 0])
    score = np.array([0.9, 0.8, 0.7, 0.1])
    assert measure("auroc", label, score).value == pytest.approx(0.75)  # 3 of 4 pairs in order
    assert measure("auprc", label, score).value == pytest.approx((1 + 2 / 3) / 2)
    assert measure("auroc", label, score).n_positive == 2
    assert measure("spearman", np.array([1.0, 2, 3]), np.array([1.0, 9, 4])).value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "target", "score", "reason"),
    [
        ("auroc", [1, 1, 1], [1, 2, 3], "one class only"),
        ("auprc", [1], [1], "1 rows"),
        ("pearson", [1, 1], [1, 2], "constant target"),
        ("spearman", [1, 2], [3, 3], "constant score"),
        ("pearson", [1, np.nan], [1, 2], "not finite"),
    ],
)
def test_degenerate_cases_tell_why(name: str, target: list, score: list, reason: str) -> None:
    value = measure(name, np.array(target, float), np.array(score, float))
    assert value.value is None
    assert reason in value.reason


def test_constant_scores_are_chance_for_auroc() -> None:
    assert measure("auroc", np.array([0, 1, 1]), np.zeros(3)).value == pytest.approx(0.5)


def test_resample_is_seeded_and_covers_the_truth() -> None:
    target, score = _data(False, 400)
    clusters = np.arange(400)
    one = resample("pearson", target, score, clusters, 300, generator(3, "boot"))
    two = resample("pearson", target, score, clusters, 300, generator(3, "boot"))
    assert np.array_equal(one, two)
    low, high = interval(one)
    assert low < measure("pearson", target, score).value < high
    assert 0 < high - low < 0.3


def test_clusters_are_drawn_together() -> None:
    target, score = _data(False, 40)
    clusters = np.zeros(40, dtype=int)  # one variant: every resample is the whole table
    samples = resample("pearson", target, score, clusters, 20, generator(4, "boot"))
    assert np.allclose(samples, measure("pearson", target, score).value)


def test_interval_of_mostly_degenerate_resamples_is_none() -> None:
    assert interval(np.array([np.nan, np.nan, 1.0])) == (None, None)


def test_weighted_mean_is_weighted_by_rows() -> None:
    values = [Value(0.5, n=10), Value(0.9, n=30), Value(None, n=50), Value(1.0, n=1)]
    samples = [np.full(4, 0.5), np.full(4, 0.9), np.empty(0), np.full(4, 1.0)]
    mean = weighted_mean(values, samples)
    assert mean.value == pytest.approx((0.5 * 10 + 0.9 * 30) / 40)  # neither the null nor the single row
    assert mean.n == 40
    assert mean.low == pytest.approx(mean.value)
    assert weighted_mean(values, samples, equal=True).value == pytest.approx(0.7)


def test_weighted_mean_survives_degenerate_resamples_of_one_group() -> None:
    values = [Value(0.5, n=2), Value(0.8, n=98)]
    mean = weighted_mean(values, [np.array([np.nan, 0.5] * 10), np.full(20, 0.8)])
    assert mean.low is not None and mean.high == pytest.approx(0.8)


def test_weighted_mean_of_nothing() -> None:
    assert weighted_mean([Value(None)], [np.empty(0)]).value is None
