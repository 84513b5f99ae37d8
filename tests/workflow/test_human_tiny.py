"""Real human and mouse data from files to the report: teachers, a student, 1000 Genomes variants, an MPRA.

The fast form has a few tracks of each kind, shorter windows and seconds of training: it shows that every
stage runs on real files, that nothing is lost on the way and that a model learns. The full form is
`config/human_tiny.yaml` as it stands; its figures are in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest
from real_runs import BASELINES, STUDENT, evaluation, figures, finish, make_run, mean_of, read

pytestmark = pytest.mark.timeout(1800)  # minutes on 2 free cores, more on busy ones

TEACHERS = ("teacher-fold0-seed0", "teacher-fold1-seed0", "teacher-all-seed0", "teacher-all-seed1")
FEW = [name for name in TEACHERS if "fold1" not in name]  # of the fast run
ORGANISMS = ("human", "mouse")
MODALITIES = ("cage", "dnase", "rna_seq")
VARIANTS = 28_998  # of chr20_1mb
MPRA_VARIANTS = 240
TRACKS = ("CNhs10752", "CNhs10853", "ENCFF890OGQ", "ENCFF136DBS", "ENCFF427FEF", "ENCFF520NFI", "ENCFF946ZPT",
          "CNhs10586", "ENCFF299KAN", "ENCFF135YCH")  # fmt: skip
SCORERS = ["dnase", "rna_seq:center:501:diff_log2_sum"]
SHORT = {"steps": 60, "warmup_steps": 10, "validate_steps": 60, "validate_windows": 4, "bias_windows": 16}
FAST = {
    "folds": {"window": 8192},
    "teachers": {"folds": ["fold0"], "train": SHORT | {"segment_bases": 8192}},
    "student": {"distill": {"steps": 20, "warmup_steps": 5, "validate_steps": 20, "validate_windows": 4,
                            "segment_bases": 8192}},
    "evaluation": {"max_windows": 32, "bootstrap": 20},
    "scoring": {"window": 8192},
    "variants": {
        "background": {"max_variants": 100},
        "chr20_1mb": {"max_variants": 1000},
        "mpra": {"genome": "mpra", "window": 2048, "max_variants": MPRA_VARIANTS,
                 "scorers": SCORERS},
    },
    "benchmarks": {"mpra": {"scorers": SCORERS, "bootstrap": 100}},
}  # fmt: skip


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory, root: Path, real_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("human") / "run"
    make_run(folder, root, real_data, "human_tiny", FAST, TRACKS)
    finish(folder)
    return folder


def check_variants(folder: Path, chosen: int) -> None:
    """Each of the `chosen` variants is scored or rejected with a reason; gene scores are of the 15 genes."""
    scores = folder / "results" / "scores" / "chr20_1mb" / STUDENT
    counts = json.loads((scores / "scores.json").read_text())
    rejected = pl.read_parquet(scores / "rejected.parquet")
    assert counts["scored"] + counts["rejected"] == counts["alleles_in"] >= chosen
    assert rejected.height == counts["rejected"] and (rejected["reason"] != "").all()
    dnase = pl.read_parquet(scores / "dnase")
    assert dnase["variant_id"].n_unique() == dnase.height == counts["scored"]
    raw = dnase["raw"].explode()
    assert raw.is_finite().all() and raw.std() > 0
    assert dnase["quantile"].explode().is_between(-1, 1).all()
    rna = pl.read_parquet(scores / "rna_seq")
    genes = pl.read_parquet(folder / "results" / "genome" / "chr20_1mb" / "genes" / "genes.parquet")
    assert genes.height == 15 and set(rna["gene_id"]) <= set(genes["gene_id"]) and rna.height > 0


def check_mpra(folder: Path, bootstrap_wanted: bool) -> None:
    """Pearson of every element with DNase and RNA scorers, beside the plain baselines."""
    result = read(folder / "results" / "benchmarks" / "mpra" / f"{STUDENT}.tsv")
    pearson = result.filter(pl.col("metric") == "pearson", pl.col("group") != "all")
    for scorer in SCORERS:
        own = pearson.filter(pl.col("scorer") == scorer)
        assert own.height >= 20 and own["value"].drop_nulls().is_between(-1, 1).all(), scorer
        whole = result.filter(
            pl.col("scorer") == scorer, pl.col("group") == "all", pl.col("metric") == "pearson"
        )
        assert math.isfinite(whole["value"].item())
        if bootstrap_wanted:
            assert whole["low"].item() < whole["value"].item() < whole["high"].item()
    assert read(folder / "results" / "benchmarks" / "mpra" / "baselines.tsv").height > 0


def test_every_stage_left_its_files(fast: Path) -> None:
    page = (fast / "results" / "report" / "index.html").read_text()
    assert "<html" in page and len(page) > 10_000
    for model in (*FEW, STUDENT, *BASELINES):
        for organism in ORGANISMS:
            assert set(evaluation(fast, model, organism)["output_type"]) >= set(MODALITIES), (model, organism)


def test_windows_lie_where_signal_was_measured(fast: Path, real_data: Path) -> None:
    intervals = pl.read_parquet(fast / "results" / "folds" / "intervals.parquet")
    for organism in ORGANISMS:
        regions = pl.read_csv(real_data / f"{organism}_tiny" / "target_regions.bed", separator="\t",
                              has_header=False, new_columns=["chrom", "begin", "stop", "label"])  # fmt: skip
        own = intervals.filter(pl.col("organism") == organism).join(regions, on="chrom")
        assert own.filter((pl.col("start") < pl.col("begin")) | (pl.col("end") > pl.col("stop"))).is_empty()
        assert (own["label"].is_in(["valid", "test"]) == (own["label"] == own["fold"])).all()
        assert own["chrom"].n_unique() == regions.height


def test_student_learns(fast: Path) -> None:
    """Seconds of training beat the mean of the training windows; the full form must beat the k-mers too."""
    for modality in MODALITIES:
        where = {"output_type": modality, "resolution": 128, "metric": "pearson"}
        value = {model: mean_of(fast, model, "human", **where) for model in (STUDENT, *BASELINES)}
        assert value["baseline-mean"] == 0, modality
        assert modality != "dnase" or value[STUDENT] > 0.1, value


def test_coverage_steps_down_at_measured_exon_edges(fast: Path) -> None:
    edges = evaluation(fast, STUDENT, "human", metric="exon_edge_observed", split="test", track="mean")
    assert edges.height == 1 and edges["low"].item() > 0  # log2 of exon over intron
    assert evaluation(fast, STUDENT, "human", metric="exon_edge_predicted", track="mean").height == 1


def test_every_chosen_variant_is_accounted_for(fast: Path) -> None:
    check_variants(fast, 1000)


def test_mpra_is_a_benchmark(fast: Path) -> None:
    check_mpra(fast, bootstrap_wanted=False)


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_full_run(tmp_path: Path, root: Path, real_data: Path) -> None:
    folder = make_run(tmp_path / "run", root, real_data, "human_tiny", {})
    seconds = finish(folder)
    models = (*TEACHERS, STUDENT, *BASELINES)
    metrics = (
        "pearson",
        "pearson_log1p",
        "auprc",
        "exon_edge_observed",
        "exon_edge_predicted",
        "exon_edge_pearson",
    )
    parts = [f"{seconds:.0f} s"] + [
        f"{name}\n\n{figures(folder, name, models, metrics)}" for name in ORGANISMS
    ]
    parts += [
        (folder / "results/benchmarks/mpra" / f"{name}.tsv").read_text() for name in (STUDENT, "baselines")
    ]
    (root / "build").mkdir(exist_ok=True)
    (root / "build" / "figures_human_tiny.md").write_text("\n\n".join(parts))
    check_variants(folder, VARIANTS)
    check_mpra(folder, bootstrap_wanted=True)
    for modality in MODALITIES:
        where = {"output_type": modality, "resolution": 128, "metric": "pearson"}
        value = {model: mean_of(folder, model, "human", **where) for model in (STUDENT, *BASELINES)}
        assert all(value[STUDENT] > value[baseline] for baseline in BASELINES), (modality, value)
    edges = evaluation(folder, STUDENT, "human", metric="exon_edge_predicted", split="test", track="mean")
    assert edges["low"].item() > 0  # its coverage steps down from exon to intron, beyond chance
