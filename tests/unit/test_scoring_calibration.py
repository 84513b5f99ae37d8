"""Quantiles: spaced, monotone, bounded, and the same whatever is scored beside."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from megabase.scoring.calibration import (
    FLOOR,
    LARGEST,
    apply_quantiles,
    background_quantiles,
    bin_probabilities,
)
from megabase.scoring.keys import row_keys
from megabase.seeds import draws, text_keys


@pytest.fixture(scope="module")
def background():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 3)).astype(np.float32)
    scores[:12_000, 1] = 0  # a track with many ties
    scores[:, 2] = np.nan
    scores[::7, 0] = np.nan
    return scores


def _keys(n: int) -> np.ndarray:
    return row_keys(
        pl.DataFrame({"variant_id": [f"v{i}" for i in range(n)]}, schema={"variant_id": pl.String})
    )


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
    alone = _apply(raw[:1], bins, keys=_keys(124)[123:])[:, 1]
    assert alone[0] == found[123]
    assert not np.array_equal(found, _apply(raw, bins, seed=1)[:, 1])


def test_nan_scores_have_no_quantile(background):
    bins = background_quantiles(background, 100)
    assert np.isnan(_apply([[np.nan, 1, 0]], bins)[0, 0])


def test_a_single_background_score_is_no_calibration():
    assert np.isnan(background_quantiles(np.array([[1.0], [np.nan]]), 10)).all()


def test_the_published_rule_line_by_line(background):
    """1,000 sigmoid-spaced bins, NaN ignored, floor 1e-5, ties spread, signed 2p - 1, never over 0.99999."""
    bins = background_quantiles(background, 1000)
    assert bins.shape == (3, 1000)
    known = np.sort(background[:, 0][~np.isnan(background[:, 0])])
    assert np.allclose(bins[0], np.quantile(known, bin_probabilities(1000)), atol=1e-6)  # NaN ignored
    ends = np.array([[-99, -99, 0], [99, 99, 0]])
    assert _apply(ends, bins)[:, 0] == pytest.approx([FLOOR, 1 - FLOOR], abs=1e-7)
    assert _apply(ends, bins, signed=True)[:, 0] == pytest.approx([2 * FLOOR - 1, 1 - 2 * FLOOR], abs=1e-7)
    for signed in (True, False):
        found = _apply(np.stack([known, known, known], -1), bins, signed=signed)[:, :2]
        assert np.abs(found).max() <= np.float32(LARGEST) and np.float64(np.float32(LARGEST)) < 0.99999
        assert found.min() < -0.9999 if signed else found.min() >= 0
    # 0 takes up 0.2..0.8 of the background: a draw falls evenly there
    ties = _apply(np.zeros((20_000, 3)), bins)[:, 1]
    assert np.allclose(np.quantile(ties, [0.25, 0.5, 0.75]), [0.35, 0.5, 0.65], atol=0.02)


def test_draws_depend_on_key_and_track_alone_and_are_uniform():
    keys = _keys(2000)
    assert len(np.unique(keys)) == 2000
    grid = np.stack([draws(3, "ties", "s", keys=keys, columns=np.full(2000, c)) for c in range(8)])
    assert grid.min() >= 0 and grid.max() < 1 and len(np.unique(grid)) == grid.size
    assert np.histogram(grid, 16, (0, 1))[0] == pytest.approx(1000, abs=150)
    assert np.abs(np.corrcoef(grid) - np.eye(8)).max() < 0.1
    alone = draws(3, "ties", "s", keys=keys[7:8], columns=np.array([5]))
    assert alone[0] == grid[5, 7]
    other = [draws(4, "ties", "s", keys=keys, columns=np.zeros(2000)),
             draws(3, "ties", "t", keys=keys, columns=np.zeros(2000))]  # fmt: skip
    assert all(np.abs(np.corrcoef(grid[0], o)[0, 1]) < 0.1 for o in other)


def test_text_keys_are_those_of_the_text_wherever_it_lies():
    """Fixed numbers: a store's quantiles must not change with a version of numpy or of polars."""
    texts = [b"chr1:5:A:T", b"", b"chr1:5:A:C", b"chr1:5:A:T", "é".encode()]
    data, offsets = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)])
    keys = text_keys(data, offsets)
    assert keys[0] == keys[3] and len(np.unique(keys)) == 4
    assert np.array_equal(text_keys(data, offsets[2:4]), keys[2:3])
    assert [hex(k) for k in keys[:2]] == ["0x8b4d83c3bd49379c", "0x0"]
    table = pl.DataFrame({"variant_id": ["a", "b"], "gene_id": ["g", None], "junction_start": [1, None]})
    assert np.array_equal(row_keys(table)[1:], row_keys(table[1:]))
    assert row_keys(table)[0] != row_keys(table.with_columns(junction_start=2))[0]
