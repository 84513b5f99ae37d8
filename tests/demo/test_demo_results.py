"""What a finished demo must show. Reads the results of `make demo` in this checkout; skips before it has run.

`make check-demo` runs it after the demo. The truth of the simulation is read here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from megabase.benchmark.truth import truth_agreement
from megabase.files import read_json, read_table, read_tsv
from megabase.spec import OutputType

pytestmark = pytest.mark.demo

# Headline metric of every output type, as the report shows it.
HEADLINES = {
    **{o: ("pearson", 128) for o in list(OutputType)[:7]},
    OutputType.CONTACT_MAPS: ("pearson", 2048),
    OutputType.SPLICE_SITES: ("auprc", 1),
    OutputType.SPLICE_SITE_USAGE: ("pearson", 1),
    OutputType.SPLICE_JUNCTIONS: ("psi5_pearson", 1),
}
BETA = [o for o in OutputType if o is not OutputType.PROCAP]  # what is measured in the second species


@pytest.fixture(scope="module")
def results(root: Path) -> Path:
    """`results/` of a demo that has ended."""
    folder = root / "results"
    if not (folder / "report" / "index.html").exists() or not (folder / "demo" / "truth").exists():
        pytest.skip("NO DEMO RESULTS: run `make demo` first")
    return folder


def headline(results: Path, model: str, output: OutputType, organism: str, metric: str = "") -> float:
    """Mean over tracks of `metric`, the headline by default, on held-out windows; null counts as 0."""
    usual, resolution = HEADLINES[output]
    metric = metric or usual
    rows = read_tsv(results / "evaluation" / model / f"{organism}.tsv", "evaluation").filter(
        pl.col("output_type") == output,
        pl.col("metric") == metric,
        pl.col("resolution") == resolution,
        pl.col("track") == "mean",
        pl.col("split") == "test",
    )
    assert rows.height == 1, f"{model} {output}: {rows.height} headline rows"
    return float(rows["value"][0] or 0.0)


def benchmark(results: Path, name: str, model: str) -> dict[str, float]:
    """`{scorer: value}` of the rows over all tissues."""
    rows = read_tsv(results / "benchmarks" / name / f"{model}.tsv", "result").filter(
        pl.col("group") == "all", pl.col("metric") != "coverage"
    )
    return dict(zip(rows["scorer"].to_list(), rows["value"].to_list(), strict=True))


@pytest.mark.parametrize(
    ("organism", "output"), [("alpha", o) for o in OutputType] + [("beta", o) for o in BETA]
)
def test_the_student_beats_both_baselines(results: Path, organism: str, output: OutputType) -> None:
    student = headline(results, "student-seed0", output, organism)
    for baseline in ("baseline-mean", "baseline-kmer"):
        assert student > headline(results, baseline, output, organism), f"{output} against {baseline}"


def test_the_student_beats_both_baselines_in_counts_of_junctions(results: Path) -> None:
    found = {
        model: headline(results, model, OutputType.SPLICE_JUNCTIONS, "alpha", "pearson_log1p")
        for model in ("student-seed0", "baseline-mean", "baseline-kmer")
    }
    assert max(found, key=found.__getitem__) == "student-seed0", found


def test_no_held_out_base_was_trained_on(results: Path) -> None:
    windows = read_table(results / "folds" / "intervals.parquet", "intervals")
    held = windows.filter(pl.col("fold") == "fold3")
    trained = windows.filter(pl.col("fold") != "fold3")
    pairs = held.join(trained, on=["organism", "chrom"], suffix="_trained").filter(
        pl.col("start") < pl.col("end_trained"), pl.col("start_trained") < pl.col("end")
    )
    assert held.height > 50
    assert pairs.height == 0


def test_sign_of_expression_effects(results: Path) -> None:
    assert benchmark(results, "eqtl_sign", "student-seed0")["rna_seq"] >= 0.80


@pytest.mark.parametrize(
    ("name", "distance"), [("eqtl_causality", "tss_distance"), ("sqtl_causality", "splice_distance")]
)
def test_causal_variants_are_told_from_their_neighbours(results: Path, name: str, distance: str) -> None:
    alone = benchmark(results, name, "baselines")[distance]
    scorers = benchmark(results, name, "student-seed0")
    headline_scorer = next(iter(scorers))
    assert scorers[headline_scorer] >= 1.5 * alone


def test_scores_agree_with_the_known_truth(results: Path) -> None:
    truth = results / "demo" / "truth" / "effects.parquet"
    agreement = truth_agreement(truth, results / "scores" / "eqtl_sign" / "student-seed0")
    assert agreement is not None
    assert agreement >= 0.6


def test_every_variant_is_scored_or_rejected(results: Path) -> None:
    for folder in sorted((results / "scores").glob("*/student-seed0")):
        info = read_json(folder / "scores.json", "scores")
        chunks = sorted((results / "variants" / folder.parent.name).glob("*-of-*.parquet"))
        accepted = pl.concat([read_table(chunk, "variants") for chunk in chunks])["variant_id"]
        assert info["scored"] == accepted.n_unique() == len(accepted) > 0, folder
        assert info["rejected"] == read_table(folder / "rejected.parquet", "rejected").height
        assert info["alleles_in"] == info["scored"] + info["rejected"]


@pytest.mark.parametrize("model", ["ensemble-all", "student-seed0"])
def test_calibrated_intervals_hold_what_they_say(results: Path, model: str) -> None:
    """Of most output types: nine of ten values inside the 90% interval, and wider where errors are larger."""
    rows = read_tsv(results / "uncertainty" / model / "alpha.tsv", "uncertainty")
    inside = rows.filter(pl.col("quantity") == "coverage", (pl.col("level") - 0.9).abs() < 1e-6)
    raw = rows.filter(pl.col("quantity") == "coverage_raw", (pl.col("level") - 0.9).abs() < 1e-6)
    assert set(inside["output_type"]) == {str(o) for o in OutputType}
    assert float((inside["value"] - 0.9).abs().median()) < 0.03
    assert float((inside["value"] - 0.9).abs().median()) < float((raw["value"] - 0.9).abs().median())
    assert float(rows.filter(pl.col("quantity") == "spearman")["value"].median()) > 0.1


def test_the_report_stands_alone(results: Path) -> None:
    page = (results / "report" / "index.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert 'src="http' not in page and 'href="http' not in page
