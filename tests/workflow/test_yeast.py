"""A whole real genome from files to the report: nucleosome dyads, ATAC, Hi-C and splice sites of yeast.

The fast form trains for seconds: it shows that every stage runs on real files and that a model learns. The
full form is `config/yeast.yaml` as it stands; its figures are in docs/benchmarks.md.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from real_runs import BASELINES, STUDENT, evaluation, figures, finish, make_run, mean_of

pytestmark = pytest.mark.timeout(1800)  # minutes on 2 free cores, more on busy ones

TEACHERS = ("teacher-fold0-seed0", "teacher-fold1-seed0", "teacher-all-seed0", "teacher-all-seed1")
FEW = [name for name in TEACHERS if "fold1" not in name]  # of the fast run
SHORT = {"steps": 40, "warmup_steps": 10, "validate_steps": 40, "validate_windows": 4, "bias_windows": 16}
FAST = {
    "folds": {"window": 8192},
    "teachers": {"folds": ["fold0"], "train": SHORT | {"segment_bases": 8192}},
    "student": {"distill": {"steps": 20, "warmup_steps": 5, "validate_steps": 20, "validate_windows": 4,
                            "segment_bases": 8192}},
    "evaluation": {"max_windows": 24, "bootstrap": 20},
}  # fmt: skip


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory, root: Path, real_data: Path) -> Path:
    folder = make_run(tmp_path_factory.mktemp("yeast") / "run", root, real_data, "yeast", FAST)
    finish(folder)
    return folder


def test_every_stage_left_its_files(fast: Path) -> None:
    page = (fast / "results" / "report" / "index.html").read_text()
    assert "<html" in page and len(page) > 10_000
    for model in (*FEW, STUDENT, *BASELINES):
        outputs = set(evaluation(fast, model, "yeast")["output_type"])
        assert outputs >= {"atac", "contact_maps", "splice_sites"}, model


def test_whole_chromosomes_are_held_out(fast: Path) -> None:
    intervals = pl.read_parquet(fast / "results" / "folds" / "intervals.parquet")
    folds = intervals.group_by("chrom").agg(pl.col("fold").n_unique())
    assert folds["fold"].max() == 1 and intervals["fold"].n_unique() == 4 and folds.height == 16


def test_models_learn(fast: Path) -> None:
    for model in (*FEW, STUDENT):
        curve = pl.read_csv(fast / "results/models" / model / "training.tsv", separator="\t",
                            comment_prefix="#")  # fmt: skip
        loss = curve.filter(pl.col("quantity") == "loss", pl.col("split") == "train")["value"]
        assert loss.is_finite().all() and loss.len() >= 2, model
    correlation = {m: mean_of(fast, m, "yeast", output_type="atac", resolution=128, metric="pearson")
                   for m in (STUDENT, *BASELINES)}  # fmt: skip
    # seconds of training beat the mean of the training windows; the full form is held to the k-mer model too
    assert correlation[STUDENT] > correlation["baseline-mean"] == 0


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_full_run(tmp_path: Path, root: Path, real_data: Path) -> None:
    folder = make_run(tmp_path / "run", root, real_data, "yeast", {})
    seconds = finish(folder)
    models = (*TEACHERS, STUDENT, *BASELINES)
    table = figures(folder, "yeast", models, ("pearson", "pearson_log1p", "auprc"))
    (root / "build").mkdir(exist_ok=True)
    (root / "build" / "figures_yeast.md").write_text(f"{seconds:.0f} s\n\n{table}")
    dyads = evaluation(folder, STUDENT, "yeast", split="test", metric="pearson_log1p")
    dyads = dyads.filter(pl.col("track").str.contains("dyads"))
    assert dyads.height == 2
    for row in dyads.iter_rows(named=True):
        same = {key: row[key] for key in ("track", "resolution", "metric")}
        for baseline in BASELINES:
            assert row["value"] > mean_of(folder, baseline, "yeast", **same), (same, baseline)
    where = {"output_type": "contact_maps", "metric": "pearson"}
    student = mean_of(folder, STUDENT, "yeast", **where)
    assert all(student > mean_of(folder, baseline, "yeast", **where) for baseline in BASELINES)
