"""config/alphagenome.yaml is what the publication states; the numbers are written here a second time.

Source: AlphaGenome (bioRxiv 2025.06.25.661532), Methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from megabase.config import Config, load_config
from megabase.optimise import check_schedule, learning_rate, make_optimizer

MEGABASE = 1 << 20


@pytest.fixture(scope="module")
def values(root: Path) -> dict[str, Any]:
    """The file as it is written: what is published stands there, and not only in a default."""
    return yaml.safe_load((root / "config/alphagenome.yaml").read_text())


@pytest.fixture(scope="module")
def config(values: dict[str, Any]) -> Config:
    return load_config(values, "config/alphagenome.yaml")


def test_pre_training(values: dict[str, Any]) -> None:
    stated = {
        "steps": 15_000, "warmup_steps": 5_000, "constant_steps": 0, "batch_size": 64, "peak_rate": 0.004,
        "weight_decay": 0.4, "dropout": 0.3, "max_shift": 1024, "reverse_complement": 0.5,
        "gene_loss_weight": 0.1, "segment_bases": 131_072, "max_sites": 512, "precision": "bfloat16",
    }  # fmt: skip
    found = values["teachers"]["train"]
    assert {key: found[key] for key in stated} == stated


def test_distillation(values: dict[str, Any]) -> None:
    stated = {
        "steps": 250_000, "warmup_steps": 5_000, "constant_steps": 120_000, "batch_size": 64,
        "peak_rate": 0.002, "weight_decay": 0.04, "dropout": 0.1, "max_shift": 1024,
        "reverse_complement": 0.5, "segment_bases": 131_072, "max_sites": 512, "precision": "bfloat16",
        "mutation_rate": 0.04, "structural_rate": 1.0, "structural_max": 20,
        "structural_types": ["insertion", "deletion", "inversion"],
    }  # fmt: skip
    found = values["student"]["distill"]
    assert {key: found[key] for key in stated} == stated


def test_what_is_not_published_is_off(config: Config) -> None:
    for train in (config.teachers.train, config.student.distill):
        assert (train.clip_norm, train.bias_windows, train.loss_weights) == (0.0, 0, {})
        assert train.organism_weights == {}  # windows of both organisms alike: the ratio is not stated
    assert config.student.distill.start == "random"
    assert config.model.preset == "alphagenome" and config.model.overrides == {}


def test_schedules_at_their_corners(config: Config) -> None:
    teacher, student = config.teachers.train, config.student.distill
    for train in (teacher, student):
        check_schedule(train)
    assert learning_rate(2_500, teacher) == pytest.approx(0.002, rel=1e-3)
    assert learning_rate(5_000, teacher) == pytest.approx(0.004, rel=1e-3)
    assert learning_rate(10_000, teacher) == pytest.approx(0.002, rel=1e-3)  # half-way down the cosine
    assert learning_rate(14_999, teacher) == pytest.approx(0.0, abs=1e-6)
    rates = [learning_rate(step, student) for step in (2_500, 5_000, 60_000, 124_999, 187_500, 249_999)]
    assert rates == pytest.approx([0.001, 0.002, 0.002, 0.002, 0.001, 0.0], rel=1e-3, abs=1e-9)


def test_optimiser(config: Config) -> None:
    optimiser = make_optimizer(torch.nn.Linear(2, 2), config.teachers.train)
    group = optimiser.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0.4)


def test_models(config: Config) -> None:
    assert config.fold_teachers == [f"teacher-fold{fold}-seed0" for fold in range(4)]
    assert config.ensemble == [f"teacher-all-seed{seed}" for seed in range(64)]
    assert config.students == ["student-seed0"]
    assert config.organisms == ["human", "mouse"]


def test_folds(config: Config) -> None:
    found = {n: (s.valid, s.test) for n, s in config.folds.schemes.items()}
    assert found == {
        "fold0": (["fold0"], ["fold1"]), "fold1": (["fold3"], ["fold4"]), "fold2": (["fold2"], ["fold5"]),
        "fold3": (["fold6"], ["fold7"]), "all": ([], []),
    }  # fmt: skip
    assert config.folds.names == [f"fold{n}" for n in range(8)] and config.folds.reserved == []
    assert (config.folds.source, config.folds.window) == ("manifest", MEGABASE)


def test_genomes_and_tracks(values: dict[str, Any]) -> None:
    names = {n: (g["fasta"], g["genes"]) for n, g in values["genomes"].items()}
    assert names == {
        "human": ("GRCh38.p13.genome", "gencode.v46.annotation"),
        "mouse": ("GRCm38.p6.genome", "gencode.vM23.annotation"),
    }
    stated = {"total": 1e8, "atac_shift": [4, -4], "dnase_shift": [0, 1], "contact_resolution": 1000,
              "contact_coarse_grain": True}  # fmt: skip
    assert {key: values["tracks"][key] for key in stated} == stated


def test_scoring(config: Config) -> None:
    scoring = config.scoring
    assert (scoring.window, scoring.bins, scoring.scorers) == (MEGABASE, 1000, ["recommended"])
    assert not scoring.reverse_complement
    background = config.variant_set(scoring.background)
    assert (background.genome, background.max_variants) == ("human", None)
    assert config.variants_of("eqtl_effect") == "eqtl_sign"  # the same variants, scored once
