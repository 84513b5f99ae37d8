"""Metrics of track evaluation against scipy and scikit-learn, and what missing data does to them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score

from megabase.evaluation.contacts import ContactCorrelation, distance_classes
from megabase.evaluation.correlation import (
    correlate,
    moments,
    pearson,
    ranked_moments,
    resample_weights,
    weighted_mean,
)
from megabase.evaluation.edges import FLANK, ExonEdges, exon_edges
from megabase.evaluation.genes import (
    GeneExpression,
    GeneSpans,
    assign_genes,
    log_expression,
    merge_spans,
    quantile_normalize,
    stranded_columns,
)
from megabase.evaluation.precision import average_precision, keep_decisive, precision_estimate
from megabase.evaluation.splicing import (
    JunctionCorrelation,
    SiteClassification,
    UsageCorrelation,
    splice_ratios,
)
from megabase.evaluation.tracks import TrackCorrelation, sum_tokens
from megabase.genome import Interval
from megabase.seeds import generator

RNG = generator(0, "evaluation tests")
WEIGHTS = resample_weights(4, 50, generator(0, "weights"))
COLUMNS = [
    {"name": "a +", "strand": "+", "strand_partner": 1}, {"name": "a -", "strand": "-", "strand_partner": 0},
    {"name": "b", "strand": ".", "strand_partner": 2},
]  # fmt: skip


def _pair(*shape: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    observed = RNG.gamma(1, 2, shape)
    return (observed + noise * RNG.gamma(1, 2, shape)).astype(np.float32), observed.astype(np.float32)


def test_pearson_is_scipys_and_leaves_missing_values_out() -> None:
    x, y = _pair(300, 3)
    y[RNG.random(y.shape) < 0.3] = np.nan
    sums = np.stack([moments(a, b) for a, b in zip(np.split(x, 4), np.split(y, 4), strict=True)])
    mean, tracks = correlate(sums, WEIGHTS)
    for p in range(3):
        known = np.isfinite(y[:, p])
        expected = pearsonr(x[known, p].astype(float), y[known, p].astype(float)).statistic
        assert tracks[p].value == pytest.approx(expected, abs=1e-9)
        assert tracks[p].low <= expected <= tracks[p].high and tracks[p].n == known.sum()
    assert mean.value == pytest.approx(np.mean([t.value for t in tracks])) and mean.n == 4


def test_large_offsets_do_not_hurt() -> None:
    x, y = _pair(500, 1)
    expected = pearsonr(x[:, 0].astype(float), y[:, 0].astype(float)).statistic
    assert pearson(moments(x.astype(float) + 1e4, y)[0]) == pytest.approx(expected, abs=1e-6)


def test_constant_predictions_have_no_correlation() -> None:
    x, y = _pair(40, 2)
    x[:, 0] = 0.1
    sums = moments(x, y)[None].repeat(4, 0)
    mean, tracks = correlate(sums, WEIGHTS)
    assert np.isnan(tracks[0].value) and np.isnan(tracks[0].low)
    assert mean.value == pytest.approx(tracks[1].value / 2)  # the constant track counts as 0
    y[:, 0] = 0  # nothing to be seen: the track does not count at all
    assert correlate(moments(x, y)[None].repeat(4, 0), WEIGHTS)[0].value == pytest.approx(tracks[1].value)
    x[:, 1] = 7
    assert np.isnan(correlate(moments(x, y)[None].repeat(4, 0), WEIGHTS)[0].value)


def test_spearman_is_scipys() -> None:
    x, y = _pair(200, 2)
    y = np.floor(y)  # ties
    y[::7, 1] = np.nan
    window = np.repeat(np.arange(4), 50)
    sums = ranked_moments(x, y, window, 4)
    known = np.isfinite(y[:, 1])
    assert pearson(sums.sum(0))[0] == pytest.approx(spearmanr(x[:, 0], y[:, 0]).statistic, abs=1e-9)
    assert pearson(sums.sum(0))[1] == pytest.approx(spearmanr(x[known, 1], y[known, 1]).statistic, abs=1e-9)


def test_interval_covers_and_shrinks() -> None:
    widths = []
    for windows in (8, 128):
        x, y = _pair(windows, 50, 1)
        sums = np.stack([moments(a, b) for a, b in zip(x, y, strict=True)])
        weights = resample_weights(windows, 400, generator(1, "weights"))
        mean, _ = correlate(sums, weights)
        assert mean.low < mean.value < mean.high
        widths.append(mean.high - mean.low)
    assert widths[1] < widths[0] / 2
    assert (weights.sum(1) == 128).all()


def test_weighted_mean() -> None:
    totals = np.array([[[2.0, 6.0], [0, 0]], [[1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    mean, tracks = weighted_mean(totals, WEIGHTS)
    assert tracks[0].value == 1.5 and np.isnan(tracks[1].value) and mean.value == 1.5


def test_tracks_accumulate_windows() -> None:
    x, y = _pair(4, 256, 2)
    y[1, :50] = np.nan
    found = TrackCorrelation(4, 2, generator(0, "sample"))
    for w in range(4):
        found.add(w, x[w], y[w])
    estimates = found.estimates(WEIGHTS)
    a, b = x.reshape(-1, 2)[:, 0], y.reshape(-1, 2)[:, 0]
    known = np.isfinite(b)
    a, b = a[known].astype(float), b[known].astype(float)
    assert estimates["pearson"][1][0].value == pytest.approx(pearsonr(a, b).statistic, abs=1e-9)
    logs = pearsonr(np.log1p(a), np.log1p(b)).statistic
    assert estimates["pearson_log1p"][1][0].value == pytest.approx(logs, abs=1e-6)
    assert estimates["spearman"][1][0].value == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)


def test_token_with_a_missing_base_is_missing() -> None:
    values = np.ones((256, 1), np.float32)
    values[200] = np.nan
    assert sum_tokens(values)[0] == 128 and np.isnan(sum_tokens(values)[1])


def test_average_precision_is_sklearns() -> None:
    scores = np.round(RNG.random(400), 2)  # ties
    positive = RNG.random(400) < 0.1 + 0.3 * scores
    weight = RNG.integers(0, 4, 400).astype(float)
    assert average_precision(scores, positive, np.ones(400)) == pytest.approx(
        average_precision_score(positive, scores)
    )
    assert average_precision(scores, positive, weight) == pytest.approx(
        average_precision_score(positive, scores, sample_weight=weight)
    )
    assert np.isnan(average_precision(scores, np.zeros(400, bool), np.ones(400)))


def test_kept_negatives_decide_the_area() -> None:
    scores = RNG.random(5_000)
    positive = np.zeros(5_000, bool)
    positive[np.argsort(scores)[-40::2]] = True
    exact = average_precision_score(positive, scores)
    found, samples = precision_estimate([keep_decisive(scores, positive, kept=100)], np.ones((3, 1)))
    assert found.value == pytest.approx(exact) and samples == pytest.approx([exact] * 3)
    positive[np.argmin(scores)] = True  # below all that is kept: never too high
    low, _ = precision_estimate([keep_decisive(scores, positive, kept=100)], np.ones((3, 1)))
    assert low.value == pytest.approx(average_precision_score(positive, scores), abs=1e-3)


def test_contact_distances() -> None:
    assert distance_classes(8) == [(1, 2), (2, 4), (4, 8)]
    x, y = _pair(4, 8, 8, 1)
    y = (y + y.swapaxes(1, 2)) / 2
    y[0, 2] = y[0, :, 2] = np.nan
    found = ContactCorrelation(4, 1, 8)
    for w in range(4):
        found.add(w, x[w], y[w])
    estimates = found.estimates(WEIGHTS)
    assert list(estimates) == ["pearson", *(f"pearson_distance_{d}" for d in (2048, 4096, 8192))]
    a, b = (np.concatenate([v[w].diagonal(1).ravel() for w in range(4)]).astype(float) for v in (x, y))
    known = np.isfinite(b)
    expected = pearsonr(a[known], b[known]).statistic
    assert estimates["pearson_distance_2048"][1][0].value == pytest.approx(expected, abs=1e-9)
    assert estimates["pearson"][1][0].n == 4 * 36 - 8


def test_genes_are_assigned_to_one_window() -> None:
    rows = [("t1", "g1", 100, 200), ("t1", "g1", 900, 1100), ("t2", "g1", 150, 260), ("t3", "g2", 1990, 2100)]
    exons = pl.DataFrame(
        [{"transcript_id": t, "gene_id": g, "chrom": "c", "start": s, "end": e, "strand": "+", "number": 1}
         for t, g, s, e in rows]
    )  # fmt: skip
    windows = [Interval("c", 0, 1000), Interval("c", 1000, 2000), Interval("d", 0, 1000)]
    found = assign_genes(exons, windows)
    assert list(found) == [0]  # g2 has 10 of 110 bases in any window
    assert found[0][0].gene_id == "g1" and found[0][0].length == 360
    assert found[0][0].spans.tolist() == [[100, 260], [900, 1000]]
    assert merge_spans(np.array([[5, 9], [0, 3], [2, 4], [1, 2]])).tolist() == [[0, 4], [5, 9]]


def test_expression_reads_the_genes_own_strand() -> None:
    columns = stranded_columns(COLUMNS)
    assert [(c.name, c.plus, c.minus) for c in columns] == [("a +", 0, 1), ("b", 2, 2)]
    values = np.zeros((100, 3), np.float32)
    values[10:20] = [1, 2, 3]
    values[15:20, 2] = np.nan
    gene = GeneSpans("g", "-", np.array([[10, 20], [30, 40]]), 20)
    assert log_expression(values, gene, columns) == pytest.approx(np.log([1.001, 1.001]))
    values[30:40, 2] = np.nan
    assert np.isnan(log_expression(values, gene, columns)[1])  # 5 of 20 bases measured


def test_quantile_normalized_columns_share_a_distribution() -> None:
    values = RNG.random((30, 3)) * [1, 10, 100]
    found = quantile_normalize(values)
    assert np.allclose(np.sort(found, 0), np.sort(values, 0).mean(1)[:, None])
    assert (found.argsort(0) == values.argsort(0)).all()
    assert np.ptp(quantile_normalize(np.ones((5, 1)))) == 0


def test_differences_between_samples_need_differences() -> None:
    genes = {
        w: [GeneSpans(f"g{w}{i}", "+", np.array([[i * 10, i * 10 + 10]]), 10) for i in range(9)]
        for w in range(4)
    }
    x, y = _pair(4, 100, 3, noise=0.2)
    good, flat = GeneExpression(4, COLUMNS, genes), GeneExpression(4, COLUMNS, genes)
    for w in range(4):
        good.add(w, x[w], y[w])
        flat.add(w, np.ones_like(x[w]), y[w])
    estimates = good.estimates(WEIGHTS)
    assert estimates["gene_pearson"][0].value > 0.7 and estimates["gene_lfc_pearson"][0].value > 0.7
    assert len(estimates["gene_lfc_pearson"][1]) == 2 and estimates["gene_pearson"][1][0].n == 36
    for mean, _ in flat.estimates(WEIGHTS).values():
        assert np.isnan(mean.value)
    assert GeneExpression(4, COLUMNS, {}).estimates(WEIGHTS) == {}


def test_exon_edges_step_down_into_the_intron() -> None:
    spans = [("t", 200, 400), ("t", 600, 800), ("u", 390, 450)]
    exons = pl.DataFrame(
        [{"transcript_id": t, "gene_id": "g", "chrom": "c", "start": s, "end": e, "strand": "+", "number": 1}
         for t, s, e in spans]
    )  # fmt: skip
    edges = exon_edges(exons)
    assert edges.select("position", "exon_left").rows() == [(600, False)]  # u covers the intron side of 400
    exons = exons.filter(pl.col("transcript_id") == "t")
    edges = exon_edges(exons)
    assert edges.select("position", "exon_left").rows() == [(400, True), (600, False)]
    values = np.full((1000, 3), 1.0, np.float32)
    values[400:600] = 0.25
    windows = [
        Interval("c", 0, 1000),
        Interval("c", 400 - FLANK + 1, 1300),
        Interval("d", 0, 1000),
        Interval("d", 0, 1),
    ]
    found = ExonEdges(windows, COLUMNS, edges)
    found.add(0, np.ones_like(values), values)
    found.add(1, np.ones_like(values), values)  # 400 is too near its start
    estimates = found.estimates(WEIGHTS)
    assert estimates["exon_edge_predicted"][0].value == 0
    whole = found._sums[0, 0]
    assert whole[0] == 2 and whole[2] / 2 == pytest.approx(np.log2(1.001 / 0.251), abs=1e-6)
    assert found._sums[1, 0, 0] == 1


def test_site_classes_are_told_apart() -> None:
    classes = np.full((4, 500), 4)
    classes[:, [50, 60, 70]], classes[:, 80], classes[:, 400:] = 0, 1, -1
    perfect = SiteClassification()
    for w in range(4):
        probabilities = np.full((500, 5), 0.01)
        probabilities[np.arange(400), classes[w, :400]] = 0.9
        probabilities[400:, 0] = 1.0  # unknown bases count for nothing
        perfect.add(w, probabilities, classes[w])
    mean, tracks = perfect.estimates(WEIGHTS)["auprc"]
    assert [t.value for t in tracks[:2]] == [1, 1] and np.isnan(tracks[2].value) and mean.value == 1
    assert mean.n == 16
    with pytest.raises(ValueError, match="window 9 added after window 3"):
        perfect.add(9, probabilities, classes[0])


def test_usage_is_read_at_sites_of_its_strand() -> None:
    classes = np.full(100, 4)
    classes[[3, 9, 40, 70]], classes[[5, 6, 7]] = 0, 3
    x, y = _pair(100, 4)
    found = UsageCorrelation(1, 4)
    found.add(0, x, y, classes)
    estimates = found.estimates(np.ones((2, 1)))["pearson"][1]
    plus, minus = [3, 9, 40, 70], [5, 6, 7]
    assert estimates[0].value == pytest.approx(pearsonr(x[plus, 0], y[plus, 0]).statistic, abs=1e-5)
    assert estimates[3].value == pytest.approx(pearsonr(x[minus, 3], y[minus, 3]).statistic, abs=1e-5)


def test_splice_ratios_by_hand() -> None:
    counts = np.array([[3.0, 1.0], [1.0, 0.0]])[..., None]
    psi5, psi3 = splice_ratios(counts)
    assert psi5[..., 0].tolist() == [[0.75, 0.25], [1, 0]]
    assert psi3[..., 0].tolist() == [[0.75, 1], [0.25, 0]]


def test_junctions_of_a_perfect_model() -> None:
    counts = RNG.gamma(1, 3, (5, 5, 4)) * (RNG.random((5, 5, 1)) < 0.6)
    mask = np.ones((5, 5, 4), bool)
    mask[4] = False
    found = JunctionCorrelation(1, 4)
    found.add(0, counts, np.where(mask, counts, 0), mask)
    for mean, _ in found.estimates(np.ones((2, 1))).values():
        assert mean.value == pytest.approx(1)
    seen = (counts[..., :2] > 0).any(2) & mask[..., 0]
    assert found.sums["pearson_log1p"][0, 0, 0] == seen.sum()
