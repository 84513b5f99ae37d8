"""Settings: unknown keys, names that must exist, and the model and variant sets that follow from a config."""

from __future__ import annotations

from typing import Any

import pytest

from megabase.config import Config, load_config
from megabase.files import FileError
from megabase.settings.data import FoldSettings
from megabase.settings.scoring import ScoringSettings, is_bed_path, is_vcf_path
from megabase.settings.section import parse_settings, section_json
from megabase.settings.training import TrainSettings

FOLDS = {
    "names": ["a", "b", "c"],
    "reserved": ["c"],
    "schemes": {"fold0": {"valid": ["a"], "test": ["c"]}, "all": {"valid": [], "test": ["c"]}},
}


def values(**more: Any) -> dict[str, Any]:
    """A small valid config."""
    base: dict[str, Any] = {
        "release": "r", "organisms": ["x"], "genomes": {"x": {"organism": "x", "fasta": "f"}},
        "folds": FOLDS, "teachers": {"folds": ["fold0"], "all_seeds": 3},
        "variants": {"background": {"genome": "x", "vcf": "v"}},
        "benchmarks": {"sign": {"task": "eqtl_sign", "tables": ["t"], "genome": "x", "scorers": ["rna_seq"]}},
    }  # fmt: skip
    return base | more


def test_names_that_follow_from_a_config() -> None:
    config = load_config(values(), "c.yaml")
    assert config.fold_teachers == ["teacher-fold0-seed0"]
    assert config.ensemble == [f"teacher-all-seed{i}" for i in range(3)]
    assert config.models == [
        *config.fold_teachers,
        *config.ensemble,
        "student-seed0",
        "baseline-mean",
        "baseline-kmer",
    ]
    assert config.variant_sets == ["background", "sign"]
    schemes = {"teacher-fold0-seed0": "fold0", "ensemble-fold0": "fold0", "ensemble-all": "all",
               "student-seed0": "all", "baseline-kmer": "all"}  # fmt: skip
    assert {model: config.scheme_of(model) for model in schemes} == schemes
    assert config.teachers_of("all") == config.ensemble


def test_models_without_held_out_windows_are_not_evaluated() -> None:
    folds = FOLDS | {"schemes": FOLDS["schemes"] | {"all": {"valid": [], "test": []}}}
    config = load_config(values(folds=folds), "c.yaml")
    assert config.evaluated_models == ["teacher-fold0-seed0"]


def test_models_that_tell_a_spread() -> None:
    assert load_config(values(), "c.yaml").uncertain_models == []
    more = {"uncertainty": {"ensembles": ["all"]}, "student": {"distill": {"spread": "variance"}}}
    assert load_config(values(**more), "c.yaml").uncertain_models == ["ensemble-all", "student-seed0"]
    folds = FOLDS | {"schemes": FOLDS["schemes"] | {"all": {"valid": [], "test": []}}, "reserved": []}
    config = load_config(values(folds=folds, student=more["student"]), "c.yaml")
    assert config.uncertain_models == []  # no window to calibrate on
    wrong = {
        "fold0 has one teacher, wanted two: raise teachers.fold_seeds": values(
            uncertainty={"ensembles": ["fold0"]}
        ),
        "fold9 is not in folds.schemes": values(uncertainty={"ensembles": ["fold9"]}),
        "scheme all holds out no test fold": values(folds=folds, uncertainty={"ensembles": ["all"]}),
    }
    for message, given in wrong.items():
        with pytest.raises(FileError, match=message):
            load_config(given, "c.yaml")


def test_the_ensemble_whose_spread_is_the_uncertainty_of_scores() -> None:
    config = load_config(values(scoring={"uncertainty": "ensemble-all"}), "c.yaml")
    assert config.scoring.uncertainty == "ensemble-all"
    assert load_config(values(), "c.yaml").scoring.uncertainty is None
    assert "uncertainty" not in section_json(ScoringSettings())  # what was made without it is not made again
    for name, words in (
        ("teacher-all-seed0", "teacher-all-seed0 has no members, wanted ensemble-"),
        ("ensemble-fold0", "scoring.uncertainty: fold0 has one teacher, wanted two"),
        ("ensemble-fold9", "scoring.uncertainty: fold9 is not in folds.schemes"),
    ):
        with pytest.raises(FileError, match=words):
            load_config(values(scoring={"uncertainty": name}), "c.yaml")


def test_benchmark_variants_have_the_benchmarks_scorers() -> None:
    config = load_config(values(), "c.yaml")
    assert config.variant_set("sign").vcf is None
    assert config.scoring_of("sign").scorers == ["rna_seq"]
    assert config.scoring_of("background").scorers == ["recommended"]


def test_a_set_of_short_constructs_has_its_own_window() -> None:
    sign = values()["benchmarks"]["sign"]
    config = load_config(values(benchmarks={"sign": sign | {"window": 4096}}), "c.yaml")
    assert config.scoring_of("sign").window == 4096
    assert config.scoring_of("background").window == config.scoring.window == 16_384
    with pytest.raises(FileError, match=r"benchmarks\.sign\.window"):
        load_config(values(benchmarks={"sign": sign | {"window": 4000}}), "c.yaml")


def _sharing(**more: Any) -> dict[str, Any]:
    """A config whose second benchmark, `effect`, uses the scores of `sign`."""
    sign = values()["benchmarks"]["sign"]
    effect = sign | {"task": "eqtl_effect", "variants": "sign"} | more
    return values(benchmarks={"sign": sign, "effect": effect})


def test_benchmark_may_use_the_scores_of_another() -> None:
    config = load_config(_sharing(), "c.yaml")
    assert config.variant_sets == ["background", "sign"]
    assert [config.variants_of(name) for name in config.benchmarks] == ["sign", "sign"]
    given = load_config(_sharing(variants="background", scorers=["dnase"]), "c.yaml")
    assert given.variants_of("effect") == "background"  # scored by the recommended scorers


@pytest.mark.parametrize(
    ("change", "words"),
    [({"variants": "sgn"}, "benchmarks.effect.variants: sgn is no variant set that is scored; nearest: sign"),
     ({"scorers": ["rna_seq", "dnase"]}, "sign is not scored by dnase"),
     ({"genome": "z"}, "sign is on genome x, the benchmark on z")],
)  # fmt: skip
def test_shared_scores_must_fit_the_benchmark(change: dict[str, Any], words: str) -> None:
    genomes = values()["genomes"] | {"z": {"organism": "x", "fasta": "f"}}
    with pytest.raises(FileError, match=words):
        load_config(_sharing(**change) | {"genomes": genomes}, "c.yaml")


def test_shared_scores_are_not_shared_on() -> None:
    config = _sharing()
    config["benchmarks"]["third"] = config["benchmarks"]["effect"] | {"variants": "effect"}
    with pytest.raises(FileError, match=r"benchmarks\.third\.variants: effect is no variant set"):
        load_config(config, "c.yaml")


def test_member_seeds_never_meet() -> None:
    seeds = {load_config(values(seed=seed), "c").member_seed(m) for seed in range(4) for m in range(64)}
    assert len(seeds) == 4 * 64


@pytest.mark.parametrize(
    ("path", "nearest"),
    [(("sede",), "seed"), (("folds", "windwo"), "window"), (("genomes", "x", "fast"), "fasta"),
     (("teachers", "train", "batchsize"), "batch_size"), (("benchmarks", "sign", "tasks"), "task"),
     (("folds", "schemes", "all", "vald"), "valid")],
)  # fmt: skip
def test_unknown_key_names_file_key_and_nearest(path: tuple[str, ...], nearest: str) -> None:
    import copy

    wrong = copy.deepcopy(values())
    place = wrong
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = 1
    with pytest.raises(FileError) as caught:
        load_config(wrong, "config/mine.yaml")
    message = str(caught.value)
    assert message.startswith("config/mine.yaml: ") and "\n" not in message
    assert f"unknown key {'.'.join(path)}; nearest valid key: {nearest}" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [({"organisms": ["y"]}, "y has no entry under genomes"),
     ({"organisms": []}, "0 given, wanted one or two"),
     ({"variants": {}}, "background has no entry under variants"),
     ({"variants": {"background": {"genome": "z", "vcf": "v"}}}, "genome z has no entry"),
     ({"variants": {"background": {"genome": "x"}}}, "vcf is not given"),
     ({"teachers": {"folds": ["fold9"]}}, "fold9 missing"),
     ({"report": {"explain": "nothing"}}, "nothing is not one of"),
     ({"genomes": {"x": {"organism": "q", "fasta": "f"}}}, "organism q is not one of"),
     ({"teachers": {"train": {"steps": 0}}}, "teachers.train.steps"),
     ({"folds": FOLDS | {"window": 1000}}, "multiple of 2048"),
     ({"teachers": {"folds": [], "train": {"window": 6144}}}, "teachers.train.window: 6144 does not divide"),
     ({"evaluation": {"window": 10240}}, "evaluation.window: 10240 does not divide folds.window 16384"),
     ({"folds": FOLDS | {"divide": {"train": ["z"]}}}, "divide train")],
)  # fmt: skip
def test_what_does_not_fit_together(change: dict[str, Any], words: str) -> None:
    with pytest.raises(FileError, match=words):
        load_config(values(**change), "c.yaml")


def test_without_variants_no_background_is_needed() -> None:
    assert load_config(values(variants={}, benchmarks={}), "c.yaml").variant_sets == []


def test_section_survives_the_command_line() -> None:
    section = TrainSettings(steps=7, peak_rate=1e-3)
    assert parse_settings(TrainSettings, section_json(section)) == section
    assert parse_settings(TrainSettings, "") == TrainSettings()
    config = Config.model_validate(values())
    assert parse_settings(Config, section_json(config)) == config


def test_hash_depends_on_values_alone() -> None:
    assert TrainSettings(steps=7).hash() == TrainSettings.model_validate({"steps": 7}).hash()
    assert TrainSettings(steps=7).hash() != TrainSettings(steps=8).hash()


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"stepz": 1}', "unknown key stepz; nearest valid key: steps"), ('{"steps": "many"}', "steps"),
     ('{"steps": ', "not JSON or YAML")],
)  # fmt: skip
def test_bad_settings_of_a_command(text: str, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught:
        parse_settings(TrainSettings, text)
    assert "\n" not in str(caught.value)


def test_later_settings_are_silent_where_they_are_not_used() -> None:
    plain, cut = TrainSettings(), TrainSettings(window=2048, trunk_outputs=["cage"])
    assert not {"window", "trunk_outputs"} & set(plain.model_dump(mode="json"))
    assert cut.model_dump(mode="json") == plain.model_dump(mode="json") | {
        "window": 2048, "trunk_outputs": ["cage"],
    }  # fmt: skip
    assert parse_settings(TrainSettings, section_json(cut)) == cut
    assert plain.hash() != cut.hash()


def test_a_set_of_every_snv_takes_nothing_else() -> None:
    given = {"genome": "x", "saturate": "locus.bed"}
    background = values()["variants"]
    config = load_config(
        values(variants=background | {"locus": given, "atlas": given | {"saturate": "genome"}}), "c"
    )
    assert config.saturated_sets == ["locus", "atlas"]
    assert [config.variants[name].saturated_file for name in config.variants] == [None, "locus.bed", None]
    assert "saturate" not in section_json(config.variants["background"])  # made before: keeps its hash
    for more, words in (
        ({"vcf": "v"}, "saturate: every SNV is scored, vcf does not go with it"),
        ({"max_variants": 5}, "max_variants does not go with it"),
        ({"sample": "s"}, "sample does not go with it"),
    ):
        with pytest.raises(FileError, match=words):
            load_config(values(variants=background | {"locus": given | more}), "c")
    with pytest.raises(FileError, match="sign: a benchmark has this name; saturate a set of another"):
        load_config(values(variants=background | {"sign": given}), "c")


def test_settings_from_a_file(tmp_path) -> None:
    path = tmp_path / "folds.yaml"
    path.write_text("names: [a]\nschemes: {all: {valid: [a], test: [a]}}\n")
    assert parse_settings(FoldSettings, str(path)).names == ["a"]


def test_paths_of_vcfs_are_told_from_accessions() -> None:
    assert all(map(is_vcf_path, ("my.vcf", "my.vcf.gz", "a/b", "x.bcf")))
    assert not is_vcf_path("alpha_variants")
    assert all(map(is_bed_path, ("my.bed", "my.bed.gz", "a/b"))) and not is_bed_path("alpha_regions")


def test_a_benchmark_may_use_a_split_of_the_chromosomes() -> None:
    eqtl = {"task": "eqtl_sign", "tables": ["t"], "genome": "x", "scorers": ["rna_seq"]}
    config = load_config(values(benchmarks={"b": eqtl, "c": eqtl | {"split": "zero_shot/test"}}), "c.yaml")
    assert config.benchmark_chromosomes("b") == []
    assert config.benchmark_chromosomes("c") == config.folds.variant_splits["zero_shot"]["test"]
    with pytest.raises(
        FileError, match=r"benchmarks\.b\.split: zero_shot/train is not one of zero_shot/valid"
    ):
        load_config(values(benchmarks={"b": eqtl | {"split": "zero_shot/train"}}), "c.yaml")
