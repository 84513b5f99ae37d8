"""Same seed, same bytes: the whole workflow twice on a small portal, once killed while it trains."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from megabase.alone import processes, send
from megabase.files import read_json, read_table, read_tsv
from megabase.simulate import DemoSize, simulate_demo
from megabase.spec import ABLATION_COLUMNS

SIZE = DemoSize(
    alpha={"chrA1": 160_000, "chrA2": 120_000}, beta={"chrB1": 100_000}, variants=80, eqtls=5, sqtls=2
)  # fmt: skip
KEPT = (  # files of the portal: two organisms and every kind of track
    "alpha_(genome|genes|variants)", "alpha_hepatic_(eqtl|hic|procap.*|h3k4me3.*|hepa1.*)",
    "alpha_hepatic_(atac|rna|cage|junctions|usage)_rep1.*",
    "beta_(genome|genes)", "beta_hepatic_(dnase|ctcf)_rep1",
)  # fmt: skip
TRAIN = {
    "steps": 30, "warmup_steps": 4, "batch_size": 1, "max_shift": 256, "segment_bases": 4096, "max_sites": 16,
    "validate_steps": 15, "validate_windows": 2, "checkpoint_seconds": 1,
}  # fmt: skip
SIZES = {
    "channels_1bp": 4, "channels_step": 2, "tower_blocks": 2, "attention_heads": 2, "query_channels": 4,
    "value_channels": 4, "pair_channels": 4, "pair_heads": 2, "pair_query_channels": 4,
    "pair_position_features": 8, "junction_hidden": 4, "max_sites": 16,
}  # fmt: skip
QTL = {"tables": ["alpha_hepatic_eqtl"], "genome": "alpha", "scorers": ["rna_seq"], "bootstrap": 20}
SETTINGS = {
    "release": "toy",
    "seed": 3,
    "organisms": ["alpha", "beta"],
    "genomes": {n: {"organism": n, "fasta": f"{n}_genome", "genes": f"{n}_genes"} for n in ("alpha", "beta")},
    "folds": {
        "names": ["fold0", "fold1", "fold2"], "unit": 16_384, "window": 4096, "reserved": ["fold2"],
        "schemes": {
            "fold0": {"valid": ["fold0"], "test": ["fold2"]}, "all": {"valid": ["fold2"], "test": ["fold2"]},
        },
    },
    "model": {"preset": "tiny", "overrides": SIZES},
    "teachers": {"folds": ["fold0"], "all_seeds": 1, "train": TRAIN},
    "student": {"distill": TRAIN | {"start": "teacher", "steps": 6, "spread": "variance"}},
    "uncertainty": {"max_windows": 6, "bootstrap": 10},
    "evaluation": {"max_windows": 4, "bootstrap": 10, "baselines": ["baseline-kmer"], "kmer": 3},
    "scoring": {"window": 4096, "bins": 20},
    "variants": {"background": {"genome": "alpha", "vcf": "alpha_variants", "max_variants": 12}},
    "benchmarks": {
        "sign": QTL | {"task": "eqtl_sign"},
        "effect": QTL | {"task": "eqtl_effect", "variants": "sign"},
    },
    "report": {"explain": "sign", "ism_width": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small portal, and `manifest.tsv` with a part of its files."""
    folder = tmp_path_factory.mktemp("portal")
    simulate_demo(folder / "files", 3, folder / "all.tsv", SIZE)
    rows = pl.read_csv(folder / "all.tsv", separator="\t", infer_schema=False)
    kept = rows.filter(pl.col("accession").str.contains(f"^({'|'.join(KEPT)})$"))
    kept.write_csv(folder / "manifest.tsv", separator="\t")
    return folder


@pytest.fixture(scope="module")
def copies(portal: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders to run the workflow in, with the same portal and settings."""
    folders = tuple(tmp_path_factory.mktemp(name) for name in ("first", "second"))
    for folder in folders:
        for part in ("workflow", "profiles", "resources", "envs"):
            shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "Snakefile", folder)
        shutil.copy(portal / "manifest.tsv", folder / "resources/manifests/toy.tsv")
        (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folders


def _start(folder: Path, *more: str, config: str = "config.yaml") -> subprocess.Popen[bytes]:
    command = ["snakemake", *more, "--cores", "2", "--configfile", config]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (folder / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "megabase.alone", *command],
            cwd=folder,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(folder / "workflow"), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _finish(folder: Path, driver: subprocess.Popen[bytes]) -> None:
    assert driver.wait(timeout=600) == 0, (folder / "driver.log").read_text()[-6000:]


def _digests(folder: Path) -> dict[str, str]:
    """Hash of every result by path, the report and its figures included."""
    files = sorted(p for p in (folder / "results").rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def first(copies: tuple[Path, Path]) -> dict[str, str]:
    """Hashes of a run that nothing disturbed."""
    _finish(copies[0], _start(copies[0]))
    return _digests(copies[0])


def _training(folder: Path) -> list[int]:
    """Process ids of the training jobs that work in a folder."""
    return [pid for pid, arguments, _ in processes(folder) if "train-teacher" in arguments[:4]]


@pytest.fixture
def killed(copies: tuple[Path, Path]) -> Iterator[Path]:
    """A folder whose driver and training jobs were killed after a checkpoint; nothing outlives the test."""
    folder = copies[1]
    driver = _start(folder)
    until = time.monotonic() + 300
    while not list((folder / "results/models").glob("*.checkpoint/step-*")) and time.monotonic() < until:
        assert driver.poll() is None, (folder / "driver.log").read_text()[-6000:]
        time.sleep(0.02)
    jobs = _training(folder)
    for pid in (driver.pid, *jobs):
        os.kill(pid, signal.SIGKILL)
    driver.wait(timeout=60)
    assert jobs and not list((folder / "results/models").glob("teacher-*/model.safetensors"))
    yield folder
    for pid, _, _ in processes(folder):
        if send(pid, 0):
            os.kill(pid, signal.SIGKILL)


def test_every_stage_left_its_results(first: dict[str, str]) -> None:
    for path in ("models/student-seed0/model.safetensors", "evaluation/student-seed0/beta.tsv",
                 "uncertainty/student-seed0/alpha.tsv",
                 "scores/sign/student-seed0/summary.vcf.gz", "benchmarks/effect/student-seed0.tsv",
                 "explanations/sign/student-seed0.npz", "report/index.html"):  # fmt: skip
        assert f"results/{path}" in first
    assert not [path for path in first if path.startswith("results/scores/effect/")]  # shares those of `sign`


def test_finished_run_has_nothing_left_to_do(copies: tuple[Path, Path], first: dict[str, str]) -> None:
    before = len((copies[0] / "driver.log").read_text())
    _finish(copies[0], _start(copies[0], "--dry-run"))
    assert "Nothing to be done" in (copies[0] / "driver.log").read_text()[before:]


def test_own_variants_are_scored_with_the_trained_model(
    copies: tuple[Path, Path], first: dict[str, str], portal: Path
) -> None:
    shutil.copy(portal / "files/alpha_variants.vcf.gz", copies[0] / "my.vcf.gz")
    mine = {"genome": "alpha", "vcf": "my.vcf.gz", "max_variants": 6, "scorers": ["atac", "rna_seq"]}
    settings = SETTINGS | {"variants": SETTINGS["variants"] | {"mine": mine}}
    (copies[0] / "mine.yaml").write_text(yaml.safe_dump(settings))
    before = len((copies[0] / "driver.log").read_text())
    target = "results/scores/mine/student-seed0"
    _finish(copies[0], _start(copies[0], target, config="mine.yaml"))
    jobs = (copies[0] / "driver.log").read_text()[before:].split("Job stats:")[1].split("\n\n")[0]
    assert set(re.findall(r"^(\w+) +\d", jobs, re.M)) == {
        "split_variants", "score_variants", "merge_scores", "total",
    }  # fmt: skip
    counts = read_json(copies[0] / target / "scores.json", "scores")
    assert counts["alleles_in"] == counts["scored"] + counts["rejected"] == counts["scored"] == 6
    table = read_table(next((copies[0] / target / "atac").glob("part-*")), "scores")
    assert table["quantile"].null_count() == 0
    again = _digests(copies[0])
    assert {path: again[path] for path in first} == first  # nothing of the finished run was touched


def test_an_ablation_is_one_command_and_uses_what_the_run_has(
    copies: tuple[Path, Path], first: dict[str, str]
) -> None:
    study = {"kind": "resolution", "values": [1, 128], "organisms": ["alpha"]}
    (copies[0] / "ablations.yaml").write_text(yaml.safe_dump(SETTINGS | {"ablations": {"fine": study}}))
    before, target = len((copies[0] / "driver.log").read_text()), "results/ablations/fine.tsv"
    _finish(copies[0], _start(copies[0], target, config="ablations.yaml"))
    jobs = (copies[0] / "driver.log").read_text()[before:].split("Job stats:")[1].split("\n\n")[0]
    assert dict(re.findall(r"^(\w+) +(\d)", jobs, re.M)) == {
        "train_ablated": "1", "evaluate_tracks": "1", "tabulate_ablation": "1", "total": "3",
    }  # fmt: skip
    table = read_tsv(copies[0] / target, "ablation")
    assert table.columns == list(ABLATION_COLUMNS)
    models = dict(table.select("level", "model").unique().rows())
    assert models == {1: "teacher-fold0-seed0", 128: "ablation-fine-128-fold0-seed0"}
    reached = table.filter(pl.col("output_type") == "rna_seq", pl.col("metric") == "pearson")
    assert sorted(reached["level"].to_list()) == [1, 1, 128, 128]  # at 1 and at 128 bp
    sizes = read_json(copies[0] / f"results/models/{models[128]}/model.json", "model")["sizes"]
    assert sizes["resolution"] == 128
    assert (copies[0] / target).with_suffix(".png").stat().st_size > 1000
    again = _digests(copies[0])
    assert {path: again[path] for path in first} == first  # nothing of the finished run was touched


def test_killed_in_the_middle_and_run_again_ends_with_the_same_bytes(
    first: dict[str, str], killed: Path
) -> None:
    _finish(killed, _start(killed))
    second = _digests(killed)
    assert set(second) == set(first)
    assert [path for path in first if first[path] != second[path]] == []
    logs = "".join(p.read_text() for p in sorted((killed / "logs/train_teacher").glob("*.log")))
    assert "resuming after step" in logs
