"""Ablations from a config: which models, with which settings, and what cannot be run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from test_config import values

from megabase.ablation_jobs import AblationJobs
from megabase.ablations import Ablations, asked
from megabase.config import load_config
from megabase.model.sizes import RESOLUTIONS
from megabase.settings.section import parse_settings
from megabase.settings.training import EvaluationSettings, ModelSettings, TrainSettings
from megabase.spec import MODALITIES, OutputType

SHORT = {"steps": 7, "warmup_steps": 2}


def make(**studies: dict[str, Any]) -> Ablations:
    return Ablations(load_config(values(ablations=studies), "c.yaml"))


def names(ablations: Ablations, study: str = "a") -> list[str]:
    return [run.name for run in ablations.runs(study)]


def test_resolution_is_a_size_of_the_model() -> None:
    found = make(a={"kind": "resolution", "values": [1, 8], "train": SHORT, "seeds": 2})
    assert names(found) == [f"ablation-a-{r}-fold0-seed{s}" for r in (1, 8) for s in (0, 1)]
    assert found.model_settings("a", "1") == found.config.model
    assert found.model_settings("a", "8").overrides == {"resolution": 8}
    settings = found.train_settings("a", "8")
    assert (settings.steps, settings.warmup_steps, settings.batch_size) == (7, 2, 64)


def test_what_differs_in_nothing_is_the_runs_own_model() -> None:
    studies = {
        "a": {"kind": "resolution", "values": [1, 2], "seeds": 2},
        "b": {"kind": "length", "values": [16_384, 4096]},
        "c": {"kind": "modality", "values": ["all", "tf"], "scheme": "all"},
        "d": {"kind": "teachers", "values": [1, 3]},
        "e": {"kind": "resolution", "values": [1], "evaluation": {"max_windows": 3}},
    }
    found = make(**studies)
    assert names(found)[:2] == ["teacher-fold0-seed0", "ablation-a-1-fold0-seed1"]  # fold_seeds is 1
    assert names(found, "b")[0] == "teacher-fold0-seed0"
    assert names(found, "c") == ["teacher-all-seed0", "ablation-c-tf-all-seed0"]
    assert (
        names(found, "d")[2] == "student-seed0" and names(found, "d")[0] == "ablation-d-distilled1-all-seed0"
    )
    assert names(found, "e") == ["ablation-e-1-fold0-seed0"]  # is evaluated otherwise
    assert found.evaluation_settings(names(found, "e")[0]).max_windows == 3
    assert found.evaluation_settings("teacher-fold0-seed0") == EvaluationSettings()


def test_every_pair_of_lengths_is_evaluated() -> None:
    found = make(a={"kind": "length", "values": [4096, 16_384], "train": SHORT})
    runs = [(run.series, run.level, run.window) for run in found.runs("a")]
    assert runs == [("4096", "4096", 4096), ("4096", "16384", None), ("16384", "4096", 4096),
                    ("16384", "16384", None)]  # fmt: skip
    assert names(found)[0] == "ablation-a-4096-fold0-seed0@4096"
    settings = found.train_settings("a", "4096")
    assert (settings.window, settings.batch_size) == (4096, 4 * 64)  # as many bases a step
    assert found.train_settings("a", "16384").window is None
    assert found.evaluation_settings(names(found)[0]).window == 4096
    other = make(a={"kind": "length", "values": [4096], "inference": [8192], "train": {"batch_size": 3}})
    assert names(other) == ["ablation-a-4096-fold0-seed0@8192"]
    assert other.train_settings("a", "4096").batch_size == 3


def test_a_window_may_be_part_of_a_models_name() -> None:
    assert asked("student-seed0") == ("student-seed0", None)
    assert asked("student-seed0@4096") == ("student-seed0", 4096)


def test_students_have_the_first_teachers_and_ensembles_go_round_them() -> None:
    found = make(a={"kind": "teachers", "values": [1, 2, 3], "seeds": 2, "train": SHORT})
    assert names(found) == [
        f"ablation-a-{method}{n}-all-seed{s}"
        for n in (1, 2, 3) for s in (0, 1) for method in ("distilled", "ensemble")
        if (method, n, s) != ("ensemble", 3, 1)  # has the same members as that of seed 0
    ]  # fmt: skip
    assert found.students_teachers("a", 2) == ["teacher-all-seed0", "teacher-all-seed1"]
    assert found.members("a", 2, 0) == ["teacher-all-seed0", "teacher-all-seed1"]
    assert found.members("a", 2, 2) == ["teacher-all-seed2", "teacher-all-seed0"]
    assert found.distill_settings("a").steps == 7 and found.distill_settings("a").mutation_rate == 0.04
    fold = make(a={"kind": "teachers", "values": [2, 5], "scheme": "fold0", "methods": ["ensemble"]})
    assert names(fold) == ["ablation-a-ensemble2-fold0-seed0", "ablation-a-ensemble5-fold0-seed0"]
    assert fold.members("a", 5, 0)[4] == "teacher-fold0-seed4"  # is trained for it


def test_modality_groups_shape_the_trunk_alone_or_not_at_all() -> None:
    found = make(a={"kind": "modality", "values": ["all", "tf", "without_splicing"], "train": SHORT})
    assert [(r.level, r.series) for r in found.runs("a")] == [
        ("all", "all"), ("tf", "only"), ("splicing", "without"),
    ]  # fmt: skip
    assert found.train_settings("a", "all").trunk_outputs == []
    assert found.train_settings("a", "tf").trunk_outputs == [OutputType.CHIP_TF]
    without = found.train_settings("a", "without_splicing").trunk_outputs
    assert without == [o for o in OutputType if not o.startswith("splice")]
    own = make(a={"kind": "modality", "values": ["dna"], "groups": {"dna": ["dnase"]}})
    assert own.train_settings("a", "dna").trunk_outputs == [OutputType.DNASE]


def test_ablations_of_the_configs_can_be_run(root: Path) -> None:
    counts = {}
    for name in ("alphagenome", "config"):
        found = Ablations(load_config(yaml.safe_load((root / f"config/{name}.yaml").read_text()), name))
        kinds = {study: settings.kind for study, settings in found.config.ablations.items()}
        assert kinds == {kind: kind for kind in ("resolution", "length", "teachers", "modality")}
        assert found.config.report.ablations == []  # no part of `rule all`
        counts[name] = {study: len(found.runs(study)) for study in kinds}
    assert counts["config"] == {"resolution": 3, "length": 4, "teachers": 4, "modality": 5}
    assert counts["alphagenome"] == {"resolution": 32, "length": 64, "teachers": 8, "modality": 104}


def test_every_output_type_is_in_one_group() -> None:
    members = [output for group in MODALITIES.values() for output in group]
    assert sorted(members) == sorted(OutputType)


def test_resolutions_are_those_of_the_network() -> None:
    from megabase import ablations

    assert ablations.RESOLUTIONS == RESOLUTIONS


ABLATION = {"kind": "resolution", "values": [1]}


@pytest.mark.parametrize(
    ("study", "words"),
    [({"values": [3]}, r"ablations.a.values: 3 is not one of \[1, 2, 4"),
     ({"values": ["fine"]}, "'fine' is not a whole number above 0"),
     ({"values": [1, 1]}, "one is named twice"),
     ({"kind": "length", "values": [6144]}, "6144 is not a multiple of 2048 that divides folds.window 16384"),
     ({"kind": "length", "values": [4096], "inference": [10_240]}, "a.inference: 10240 does not divide"),
     ({"kind": "teachers", "values": [4]}, "a.values: 4 teachers, but teachers.all_seeds is 3"),
     ({"kind": "teachers", "values": [1], "train": {"mutation_rat": 0}}, "nearest.*mutation_rate"),
     ({"kind": "modality", "values": ["tff"]}, "'tff' is not known; wanted `all`, a group, or .*tf"),
     ({"train": {"stepz": 1}}, "ablations.a.train: unknown key stepz; nearest valid key: steps"),
     ({"evaluation": {"bootstrap": 0}}, "ablations.a.evaluation: bootstrap: "),
     ({"scheme": "fold9"}, "a.scheme: fold9 is not one of"),
     ({"organisms": ["y"]}, "a.organisms: y is not one of"),
     ({"benchmarks": ["s"]}, r"a.benchmarks: s is not one of \['sign'\]")],
)  # fmt: skip
def test_what_cannot_be_run(study: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(a=ABLATION | study)


def test_names_are_parts_of_file_names() -> None:
    with pytest.raises(ValueError, match=r"ablations\.a-b: a name is made of letters, digits and _"):
        make(**{"a-b": ABLATION})


def test_the_report_names_ablations_that_are_there() -> None:
    config = load_config(values(ablations={"a": ABLATION}, report={"ablations": ["b"]}), "c.yaml")
    with pytest.raises(ValueError, match=r"report\.ablations: b has no entry under ablations"):
        Ablations(config)


def test_models_that_nothing_is_held_out_from_need_a_benchmark() -> None:
    folds = values()["folds"]
    folds = folds | {"schemes": folds["schemes"] | {"all": {"valid": [], "test": []}}}
    study = {"kind": "teachers", "values": [1], "methods": ["ensemble"]}
    with pytest.raises(ValueError, match="scheme all holds no window out and no benchmark is named"):
        Ablations(load_config(values(folds=folds, ablations={"a": study}), "c.yaml"))
    config = load_config(values(folds=folds, ablations={"a": study | {"benchmarks": ["sign"]}}), "c.yaml")
    jobs, a = AblationJobs(Ablations(config)), SimpleNamespace(ablation="a")
    assert jobs.evaluations(a) == []
    assert jobs.benchmarks(a) == ["<results>/benchmarks/sign/ablation-a-ensemble1-all-seed0.tsv"]


def test_what_jobs_get() -> None:
    studies = {"a": {"kind": "length", "values": [4096], "train": SHORT, "benchmarks": ["sign"]},
               "b": {"kind": "teachers", "values": [2], "train": SHORT}}  # fmt: skip
    jobs = AblationJobs(make(**studies))
    one = SimpleNamespace(ablation="a", value="4096", seed="0", scheme="fold0")
    assert parse_settings(TrainSettings, jobs.training(one)) == jobs.ablations.train_settings("a", "4096")
    assert parse_settings(ModelSettings, jobs.network(one)) == ModelSettings()
    evaluated = jobs.evaluations(one)
    assert evaluated == ["<results>/evaluation/ablation-a-4096-fold0-seed0@4096/x.tsv"]
    given = SimpleNamespace(evaluations=evaluated, benchmarks=jobs.benchmarks(one))
    assert jobs.places(one, given) == [f"{path}=4096=4096=0" for path in (*evaluated, *jobs.benchmarks(one))]
    two = SimpleNamespace(ablation="b", number="2", seed="0")
    cards = [f"<results>/models/teacher-all-seed{i}/model.json" for i in (0, 1)]
    assert jobs.teacher_cards(two) == jobs.member_cards(two) == cards
    assert jobs.tables() == []
