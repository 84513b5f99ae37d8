"""Pure parts of the report's figures: what is drawn, before it is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scoring_stand_ins import ToyPredictor, make_annotation, make_genome, some_variants
from test_report_page import make_config, make_results

from megabase.files import Stamp, write_json
from megabase.locus import rows_of_genes, thin, track_label
from megabase.logos import logo_heights, substitution_effects
from megabase.report.blocks import count, number, plural, with_interval
from megabase.report.explanation import Explanation
from megabase.report.figures_benchmark import benchmark_label, best_rows, chance, row_label
from megabase.report.figures_locus import (
    contact_panels,
    locus_figure,
    mutagenesis_figure,
    zoom_figure,
)
from megabase.report.figures_tracks import (
    distance_rows,
    extra_metrics,
    family_means,
    headline,
    modality_figure,
)
from megabase.report.figures_training import loss_curves, smooth
from megabase.report.inputs import find_inputs
from megabase.report.style import colours, family, family_order, in_output_order, spread
from megabase.scoring.engine import Engine
from megabase.scoring.explain import Choice, explain
from megabase.scoring.scorers import RECOMMENDED
from megabase.settings.scoring import ScoringSettings
from megabase.spec import BENCHMARK_COLUMNS, EVALUATION_COLUMNS
from megabase.style import png


def _evaluation(rows: list[tuple]) -> pl.DataFrame:
    """Evaluation rows of (model, output_type, track, resolution, metric, value)."""
    full = [(m, "human", "test", o, t, r, k, v, None, None, 9) for m, o, t, r, k, v in rows]
    kinds = dict.fromkeys(EVALUATION_COLUMNS, pl.String)
    kinds |= dict.fromkeys(("value", "low", "high"), pl.Float64) | {"resolution": pl.Float64, "n": pl.Float64}
    return pl.DataFrame(full, schema=kinds, orient="row")


def test_smooth_keeps_length_and_level() -> None:
    assert smooth(np.ones(50), 8) == pytest.approx(np.ones(50))
    noisy = np.tile([0.0, 2.0], 50)
    assert np.abs(smooth(noisy, 20) - 1).max() < 0.2
    assert smooth(np.array([1.0, 5.0]), 9).tolist() == [1, 5]


def test_thin_means_peaks_and_missing() -> None:
    values = np.array([0.0, 4.0, np.nan, 2.0, np.nan, np.nan, 6.0])
    assert thin(values, 4)[[0, 1, 3]].tolist() == [2, 2, 6]
    assert np.isnan(thin(values, 4)[2])
    assert thin(values, 4, peaks=True)[0] == 4
    assert len(thin(np.ones(16_384))) <= 1_500


def test_spread_keeps_equal_values_apart_and_stays_inside() -> None:
    values = np.array([0.5] * 5 + [0.9])
    offsets = spread(values, 0.3)
    assert len(set(offsets[:5])) == 5
    assert np.abs(offsets).max() <= 0.15 and offsets[5] == 0


def test_genes_that_overlap_get_rows_of_their_own() -> None:
    genes = [{"start": s, "end": e} for s, e in ((0, 100), (50, 200), (150, 300), (500, 600))]
    rows = rows_of_genes(genes, 10)
    assert rows == [0, 1, 0, 0]


def test_logo_shows_the_reference_base_only() -> None:
    ism = np.array([[1.0, -2, 3, 4], [1, 2, -3, 4]])
    assert logo_heights(ism, "aG").tolist() == [[1, 0, 0, 0], [0, 0, -3, 0]]
    assert logo_heights(ism, "NT").tolist() == [[0, 0, 0, 0], [0, 0, 0, 4]]


def test_headline_takes_the_coarsest_resolution_and_drops_nulls() -> None:
    table = _evaluation(
        [
            ("student-seed0", "dnase", "mean", 1, "pearson", 0.4),
            ("student-seed0", "dnase", "mean", 128, "pearson", 0.7),
            ("student-seed0", "dnase", "mean", 128, "spearman", 0.9),
            ("baseline-mean", "dnase", "mean", 128, "pearson", None),
            ("student-seed0", "splice_sites", "mean", 1, "auprc", 0.5),
            ("student-seed0", "unheard_of", "mean", 1, "pearson", 0.5),
        ]
    )
    found = headline(table)
    assert sorted(found["value"]) == [0.5, 0.7]
    assert set(found["family"]) == {"student"}


def test_family_means_average_models() -> None:
    rows = [(f"teacher-fold{i}-seed0", "atac", "mean", 128, "pearson", v) for i, v in enumerate((0.4, 0.6))]
    found = family_means(headline(_evaluation(rows)))
    assert found["value"].to_list() == pytest.approx([0.5])
    assert found["models"].to_list() == [2]


def test_one_model_and_no_intervals_can_be_drawn() -> None:
    figure = modality_figure(_evaluation([("enformer", "dnase", "mean", 128, "pearson", 0.5)]))
    assert png(figure).startswith(b"\x89PNG")


def test_distances_and_further_metrics_are_found() -> None:
    table = _evaluation(
        [
            ("student-seed0", "contact_maps", "mean", 2048, "pearson_distance_4096", 0.4),
            ("student-seed0", "contact_maps", "t", 2048, "pearson_distance_4096", 0.3),
            ("student-seed0", "rna_seq", "mean", 1, "gene_pearson", 0.6),
        ]
    )
    assert distance_rows(table).select("distance", "value").rows() == [(4096, 0.4)]
    assert extra_metrics(table) == [("rna_seq", "gene_pearson")]


def _result(rows: list[tuple]) -> pl.DataFrame:
    kinds = dict.fromkeys(BENCHMARK_COLUMNS, pl.String) | dict.fromkeys(("value", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema=kinds | {"n": pl.Int64, "n_positive": pl.Int64}, orient="row")


def test_best_baseline_and_chance() -> None:
    table = _result(
        [
            ("b", "student-seed0", "rna_seq", "auprc", "all", 0.8, 0.7, 0.9, 40, 10),
            ("b", "baseline", "gc_change", "auprc", "all", 0.3, None, None, 40, 10),
            ("b", "baseline", "tss_distance", "auprc", "all", 0.5, None, None, 40, 10),
            ("b", "baseline", "kmer_change", "auprc", "all", None, None, None, 0, 0),
            ("b", "student-seed0", "rna_seq", "coverage", "all", 1.0, None, None, 40, None),
        ]
    )
    ours, plain = best_rows(table, "rna_seq")
    assert ours["value"] == 0.8 and plain["scorer"] == "tss_distance"
    assert chance(table.filter(metric="auprc")) == 0.25
    assert best_rows(table, "cage")[0] is None


def test_names_for_people() -> None:
    assert row_label("baseline", "tss_distance") == "distance to TSS"
    assert row_label("student-seed0", "dnase:matched") == "student-seed0: dnase, own cell line"
    assert benchmark_label("sqtl_causality") == "sQTL causality"
    assert [family(m) for m in ("student-seed0", "teacher-all-seed1", "teacher-fold0-seed0", "enformer")] == [
        "student", "teacher (all folds)", "teacher (fold)", "enformer",
    ]  # fmt: skip
    assert family_order({"baseline: mean", "enformer", "student"}) == [
        "student",
        "enformer",
        "baseline: mean",
    ]
    assert len(set(colours({"student", "x", "y"}).values())) == 3
    assert in_output_order(["splice_sites", "cage", "rna_seq", "cage"]) == ["rna_seq", "cage", "splice_sites"]
    assert (
        track_label({"target": "CTCF", "biosample_name": "liver", "strand": "-"}) == "CTCF, liver, − strand"
    )
    assert track_label({}) == ""


def test_numbers_for_people() -> None:
    assert with_interval(0.5, None, 0.6) == "0.500"
    assert with_interval(0.5, 0.4, 0.6, 2) == "0.50 [0.40, 0.60]"
    assert number(None) == "–" and count(12_345) == "12,345" and count(None) == "–"
    assert plural(1, "gene") == "1 gene" and plural(2, "assay") == "2 assays"


def test_figures_are_the_same_bytes_twice() -> None:
    rows = [(i, "train", "loss", 1 / (i + 1)) for i in range(20)]
    table = pl.DataFrame(rows, schema=["step", "split", "quantity", "value"], orient="row")
    assert png(loss_curves({"a": table})) == png(loss_curves({"a": table}))


@pytest.fixture(scope="module")
def explanation(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    root = tmp_path_factory.mktemp("explained")
    make_results(root)
    return Explanation.read(root / "explanations/eqtl_sign/student-seed0.json")


def test_lanes_show_the_explained_biosample(explanation: Explanation) -> None:
    lanes = {lane.output_type: lane for lane in explanation.lanes()}
    assert "contact_maps" not in lanes
    assert lanes["rna_seq"].label == "hepatic, + strand"
    assert lanes["dnase"].label == "hepatic"
    assert lanes["dnase"].bases == 1 and lanes["chip_tf"].bases == 128
    assert lanes["splice_sites"].ref == pytest.approx(explanation.arrays["ref/splice_sites"][:, :4].max(1))


def test_contact_panels_share_a_scale(explanation: Explanation) -> None:
    panels = contact_panels(explanation)
    assert [title for title, _, _ in panels] == ["observed", "predicted, REF", "predicted, ALT", "ALT − REF"]
    assert len({limit for _, _, limit in panels[:3]}) == 1


def test_inputs_follow_the_config_not_the_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("inputs")
    make_results(root)
    (root / "models" / "old-model").mkdir()
    (root / "models/old-model/training.tsv").write_text("left by another config")
    found = find_inputs(root, root / "toy.tsv", make_config())
    assert "old-model" not in found.training and len(found.training) == 4
    assert [len(paths) for paths in found.benchmarks.values()] == [2, 2, 2]
    assert find_inputs(root, None, make_config()).manifest is None


@pytest.mark.parametrize("index", [0, 2])  # an SNV, a deletion
def test_what_scoring_explains_can_be_drawn(tmp_path: Path, index: int) -> None:
    genome = make_genome(tmp_path)
    settings = ScoringSettings(window=4096, batch_size=8)
    engine = Engine(ToyPredictor(), genome, make_annotation(), [RECOMMENDED["dnase"]], settings)
    variant = some_variants(genome)[index]
    choice = Choice(variant.variant_id, RECOMMENDED["dnase"], 1, None, None, 0.5, 0.99)
    arrays, info = explain(engine, choice, variant, None, 6)
    np.savez(tmp_path / "m.npz", **arrays)
    write_json(info, tmp_path / "m.json", Stamp("explanation"))
    found = Explanation.read(tmp_path / "m.json")
    assert [name for name, _, _ in found.logos()] == ["REF", "ALT"]
    assert all(len(matrix) == len(sequence) == 6 for _, matrix, sequence in found.logos())
    for name, figure in (("locus", locus_figure), ("zoom", zoom_figure), ("ism", mutagenesis_figure)):
        (tmp_path / f"{name}.png").write_bytes(png(figure(found)))
    assert (tmp_path / "ism.png").stat().st_size > 5_000


def test_substitution_effects_are_what_the_scorer_said() -> None:
    effects = np.array(
        [[0.0, -2.0, -1.5, -2.5], [0.3, 0.0, 0.0, -0.3]]
    )  # by position; 0 at the reference base
    reference = np.array([[True, False, False, False], [False, True, False, False]])
    means = effects.sum(axis=1, keepdims=True) / 3
    shown = substitution_effects(effects - means, reference)
    assert shown.mask.tolist() == reference.tolist()
    np.testing.assert_allclose(shown.filled(0.0), effects, atol=1e-12)
