"""Quantiles: spaced, monotone, bounded, and the same whatever is scored beside."""

from __future__ import annotations

import numpy as np
import pytest

from megabase.scoring.calibration import LARGEST, apply_quantiles, background_quantiles, bin_probabilities


@pytest.fixture(scope="module")
def background():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 3)).astype(np.float32)
    scores[:12_000, 1] = 0  # a track with many ties
    scores[:, 2] = np.nan
    scores[::7, 0] = np.nan
    return scores


def _keys(n: int) -> list[str]:
    return [f"v{i}" for i in range(n)]


def _apply(raw, bins, **more):
    raw = np.asarray(raw, np.float32)
    return apply_quantiles(raw, bins, **({"signed": False, "scorer": "s", "keys": _keys(len(raw))} | more))


def test_bins_are_sigmoid_spaced_and_floored():
    p = bin_probabilities(1000)
    assert p[0] == pytest.approx(1e-5) and p[-1] == pytest.approx(1 - 1e-5)
    assert np.allclose(p + p[::-1], 1) and np.all(np.diff(p) > 0)
    logits = np.log(p / (1 - p))
    assert np.allclose(np.diff(logits), np.diff(logits)[0], rtol=1e-3)


def test_quantile_is_the_rank_in_the_background(background):
    bins = background_quantiles(background, 1000)
    column = background[:, 0][~np.isnan(background[:, 0])]
    x = np.quantile(column, [0.01, 0.1, 0.5, 0.9, 0.99])
    raw = np.stack([x, np.zeros(5), np.zeros(5)], -1)
    assert np.allclose(_apply(raw, bins)[:, 0], [0.01, 0.1, 0.5, 0.9, 0.99], atol=2e-3)
    assert np.allclose(_apply(raw, bins, signed=True)[:, 0], [-0.98, -0.8, 0, 0.8, 0.98], atol=4e-3)


def test_quantiles_never_fall_as_scores_rise(background):
    bins = background_quantiles(background, 200)
    x = np.sort(np.concatenate([np.linspace(-6, 6, 4001), bins[0], bins[1]]))
    found = _apply(np.stack([x, x, x], -1), bins, signed=True)
    distinct = np.concatenate([[True], np.diff(x.astype(np.float32)) > 0])
    for track in (0, 1):
        assert np.all(np.diff(found[distinct, track]) >= 0)
        assert np.abs(found[:, track]).max() <= LARGEST
    assert np.isnan(found[:, 2]).all()  # no background: not calibrated


def test_ties_are_spread_over_their_range_by_row_alone(background):
    bins = background_quantiles(background, 1000)
    raw = np.zeros((500, 3), np.float32)
    found = _apply(raw, bins)[:, 1]
    assert 0.15 < found.min() < 0.25 and 0.75 < found.max() < 0.85  # 0 takes up 0.2..0.8 of the track
    assert len(np.unique(found)) > 400
    alone = _apply(raw[:1], bins, keys=["v123"])[:, 1]
    assert alone[0] == found[123]
    assert not np.array_equal(found, _apply(raw, bins, seed=1)[:, 1])


def test_nan_scores_have_no_quantile(background):
    bins = background_quantiles(background, 100)
    assert np.isnan(_apply([[np.nan, 1, 0]], bins)[0, 0])


def test_a_single_background_score_is_no_calibration():
    assert np.isnan(background_quantiles(np.array([[1.0], [np.nan]]), 10)).all()
