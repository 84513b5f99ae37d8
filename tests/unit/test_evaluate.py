"""Predictors, baselines, students and their evaluation, on two tiny organisms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from training_stand_ins import (
    MOTIF,
    ORGANISMS,
    WINDOW,
    fold_settings,
    make_world,
    model_settings,
    train_settings,
)

from megabase.distill import Ensemble, distill_student, perturbed, teacher_targets
from megabase.evaluate import check_tracks, evaluate_tracks
from megabase.files import FileError, read_tsv
from megabase.genome import Genome
from megabase.model import load_model
from megabase.objective import training_loss
from megabase.predictors.base import Predictor, load_predictor
from megabase.predictors.baselines import fit_baseline
from megabase.predictors.kmer import token_features
from megabase.sequence import one_hot
from megabase.settings.training import DistillSettings, EvaluationSettings
from megabase.spec import EVALUATION_COLUMNS, OUTPUTS, TRACK_OUTPUTS, Kind, OutputType
from megabase.train import plan_of, set_up, train_teacher

SETTINGS = EvaluationSettings(bootstrap=20, kmer=3, batch_size=3)
DISTILL = DistillSettings(**train_settings().model_dump())
MODELS = ("student-seed0", "baseline-mean", "baseline-kmer")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def models(world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two teachers, a student and both baselines."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        train_teacher(
            **world, output_dir=folder / f"teacher-all-seed{seed}", scheme="all", seed=seed,
            settings=train_settings(), model_settings=model_settings(), fold_settings=fold_settings(),
            organisms=ORGANISMS,
        )  # fmt: skip
    _distill(world, folder, folder / MODELS[0])
    for name in MODELS[1:]:
        _fit(world, folder / name)
    return folder


def _distill(world: dict[str, Any], models: Path, output: Path, settings: DistillSettings = DISTILL) -> Path:
    teachers = [models / f"teacher-all-seed{seed}" for seed in (0, 1)]
    return distill_student(
        teachers, **world, output_dir=output, seed=0, settings=settings, fold_settings=fold_settings(),
        organisms=ORGANISMS,
    )  # fmt: skip


def _fit(world: dict[str, Any], output: Path) -> Path:
    inputs = (world["shards"], world["genomes"], world["intervals"])
    return fit_baseline(*inputs, output, SETTINGS, fold_settings(), ORGANISMS)


def _evaluate(
    world: dict[str, Any], model: Path, output: Path, number: int = 0, **changes: Any
) -> pl.DataFrame:
    settings = SETTINGS.model_copy(update=changes)
    inputs = [world[name][number] for name in ("shards", "genomes", "genes")]
    organism = ORGANISMS[number]
    evaluate_tracks(model, *inputs, world["intervals"], output, settings, fold_settings(), organism)
    return read_tsv(output, "evaluation")


def _codes(world: dict[str, Any], rows: int = 2) -> np.ndarray:
    genome = Genome.open(world["genomes"][0])
    return np.stack([genome.codes("chr3", s, s + 2 * WINDOW) for s in range(0, rows * 4096, 4096)])


@pytest.mark.parametrize("name", MODELS)
def test_every_predictor_meets_the_protocol(world: dict[str, Any], models: Path, name: str) -> None:
    predictor = load_predictor(models / name)
    assert isinstance(predictor, Predictor)
    assert (predictor.name, predictor.window, predictor.organisms) == (name, WINDOW, list(ORGANISMS))
    codes = _codes(world)
    positions = torch.tensor([[[300, -1], [600, -1], [-1, -1], [-1, -1]]] * 2)
    found = predictor.predict(codes, "human", splice_positions=positions)
    tracks = predictor.tracks("human")
    assert list(found) == list(tracks) and len(tracks) == 8
    tokens, length = 2 * WINDOW // 128, 2 * WINDOW
    for output, values in found.items():
        count, kind = len(tracks[output]), OUTPUTS[output].kind
        shapes = {
            Kind.TRACKS: {"1bp": (2, length, count), "128bp": (2, tokens, count)},
            Kind.CONTACTS: {"values": (2, 2, 2, count)},
            Kind.SITES: {"probabilities": (2, length, 5)},
            Kind.USAGE: {"probabilities": (2, length, count)},
            Kind.JUNCTIONS: {"values": (2, 2, 2, count), "mask": (2, 2, 2, count), "positions": (2, 4, 2)},
        }[kind]
        if kind is Kind.TRACKS and 1 not in OUTPUTS[output].resolutions:
            del shapes["1bp"]
        assert {k: tuple(v.shape) for k, v in values.items()} == shapes
        assert all(v.isfinite().all() for v in values.values() if v.is_floating_point())
    assert found[OutputType.SPLICE_SITES]["probabilities"].sum(-1).numpy() == pytest.approx(1, abs=1e-5)
    junctions = found[OutputType.SPLICE_JUNCTIONS]
    assert junctions["mask"].nonzero()[:, 1:].tolist() == [[0, 0, 0], [0, 0, 1]] * 2
    assert (junctions["values"][~junctions["mask"]] == 0).all()
    some = predictor.predict(codes, "mouse", outputs=[OutputType.ATAC])
    assert list(some) == [OutputType.ATAC] and some[OutputType.ATAC]["1bp"].shape[-1] == 2
    with pytest.raises(ValueError, match="organism 'rat' is not one of the model's: human, mouse"):
        predictor.predict(codes, "rat")
    with pytest.raises(ValueError, match="length 100 is not a multiple of 2048"):
        predictor.predict(codes[:, :100], "human")


def test_a_folder_that_is_no_model_is_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"model\.json: not found; wanted a model folder"):
        load_predictor(tmp_path)
    card = json.loads((models / "baseline-mean" / "model.json").read_text())
    card["info"]["predictor"] = "oracle"
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(FileError, match="predictor 'oracle' is not known; known: alphagenome"):
        load_predictor(tmp_path)


def test_mean_baseline_is_the_mean_of_the_training_windows(world: dict[str, Any], models: Path) -> None:
    setup = set_up(**world, organisms=ORGANISMS, scheme="all", folds=fold_settings(), max_shift=0)
    windows = setup.windows("train", plan_of(train_settings(), 0))
    wanted = {}
    for name in (OutputType.ATAC, OutputType.SPLICE_SITE_USAGE, OutputType.CONTACT_MAPS):
        found = [windows.example("human", i).targets[name] for i in setup.splits["train"]["human"]]
        wanted[name] = torch.stack(found).flatten(0, -2).nanmean(0)
    found = load_predictor(models / "baseline-mean").predict(_codes(world), "human")
    torch.testing.assert_close(found[OutputType.ATAC]["1bp"][0, 5], wanted[OutputType.ATAC])
    usage = OutputType.SPLICE_SITE_USAGE
    torch.testing.assert_close(found[usage]["probabilities"][1, 7], wanted[usage])
    contacts = OutputType.CONTACT_MAPS
    torch.testing.assert_close(found[contacts]["values"][0, 0, 0], wanted[contacts])


def test_kmer_features_by_hand() -> None:
    codes = np.zeros(256, np.uint8)
    codes[:4] = MOTIF[:4]  # ACGT
    codes[200] = 4
    found = token_features(codes, 2)
    assert found.shape == (2, 16 + 4)
    assert found[0, [1, 6, 11, 12]].tolist() == [1, 1, 1, 1] and found[0, 0] == 124  # AC CG GT TA, then AA
    assert found[1, :16].sum() == 127 - 2  # the last base starts no 2-mer, the unknown one spoils two
    assert found[0, 16:].tolist() == [2, 2, 0.5, 1]


def test_kmer_baseline_finds_the_motif(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    table = _evaluate(world, models / "baseline-kmer", tmp_path / "kmer.tsv")
    rows = table.filter(track="mean", metric="pearson", resolution=128)
    found = dict(rows.select("output_type", "value").iter_rows())
    assert found["atac"] > 0.3 and found["chip_tf"] > 0.3


def test_baselines_of_another_name_are_refused(world: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'baseline-mode' is no plain model"):
        _fit(world, tmp_path / "baseline-mode")


def test_evaluation_table(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    table = _evaluate(world, models / MODELS[0], tmp_path / "a.tsv", splits=["valid", "test"])
    assert table.columns == list(EVALUATION_COLUMNS)
    assert set(table["split"]) == {"test"}  # scheme `all` validates on nothing; reserved folds are its test
    tracks = table.filter(output_type="rna_seq", metric="pearson", resolution=128)
    assert tracks["track"].to_list() == ["mean", "brain rna", "liver rna +", "liver rna -"]
    found = {(o, m) for o, m in table.select("output_type", "metric").iter_rows()}
    assert {
        ("rna_seq", "gene_pearson"), ("rna_seq", "gene_lfc_pearson"), ("rna_seq", "exon_edge_predicted"),
        ("contact_maps", "pearson"), ("splice_sites", "auprc"), ("splice_site_usage", "pearson"),
        ("splice_junctions", "psi5_pearson"), ("dnase", "spearman"), ("chip_tf", "pearson_log1p"),
    } <= found  # fmt: skip
    assert table.filter(output_type="chip_tf")["resolution"].unique().to_list() == [128]
    edges = table.filter(metric="exon_edge_observed", track="liver rna +")
    assert edges["value"][0] > 4 and edges["low"][0] > 3  # the simulated exons stand out
    again = tmp_path / "b.tsv"
    _evaluate(world, models / MODELS[0], again, splits=["valid", "test"])
    assert again.read_bytes() == (tmp_path / "a.tsv").read_bytes()


def test_mean_baseline_has_no_correlation(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    table = _evaluate(world, models / "baseline-mean", tmp_path / "mean.tsv")
    correlations = table.filter(table["metric"].is_in(["pearson", "pearson_log1p", "spearman"]))
    tracks = correlations.filter(correlations["output_type"].is_in([str(o) for o in TRACK_OUTPUTS]))
    assert len(tracks) > 20 and tracks.filter(tracks["value"].is_not_null()).rows() == []
    prevalence = table.filter(metric="auprc", track="mean")["value"][0]
    assert prevalence == pytest.approx(8 / 16_384, rel=1e-3)


def test_batch_size_changes_no_value(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    a = _evaluate(world, models / MODELS[0], tmp_path / "a.tsv", batch_size=1)
    b = _evaluate(world, models / MODELS[0], tmp_path / "b.tsv", batch_size=8)
    assert a.select("output_type", "track", "metric", "n").equals(
        b.select("output_type", "track", "metric", "n")
    )
    for x, y in zip(a["value"], b["value"], strict=True):
        assert (x is None and y is None) or x == pytest.approx(y, abs=2e-3)


def test_unknown_organism_is_refused(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"knows \['human', 'mouse'\], not 'rat'"):
        evaluate_tracks(
            models / MODELS[1], world["shards"][0], world["genomes"][0], None, world["intervals"],
            tmp_path / "x.tsv", SETTINGS, fold_settings(), "rat",
        )  # fmt: skip


def test_a_store_of_other_tracks_is_refused(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    predictor = load_predictor(models / MODELS[1])
    setup = set_up(**world, organisms=ORGANISMS, scheme="all", folds=fold_settings(), max_shift=0)
    check_tracks(predictor, setup.sources[0], "model")
    predictor.info["tracks"]["human"]["atac"][0]["name"] = "another"
    with pytest.raises(FileError, match=r"model: its atac channels are \['another'\]\.\.\., the store's"):
        check_tracks(predictor, setup.sources[0], "model")


def test_student_repeats_to_the_byte(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    again = _distill(world, models, tmp_path / MODELS[0])
    for name in ("model.safetensors", "model.json", "training.tsv"):
        assert (again / name).read_bytes() == (models / MODELS[0] / name).read_bytes()
    info = json.loads((again / "model.json").read_text())["info"]
    assert info["scheme"] == "all" and {f"teacher/teacher-all-seed{s}" for s in (0, 1)} <= set(info["inputs"])


def test_teacher_and_student_read_the_same_mutated_sequence(world: dict[str, Any], models: Path) -> None:
    setup = set_up(**world, organisms=ORGANISMS, scheme="all", folds=fold_settings(), max_shift=256)
    batch = setup.windows("train", plan_of(DISTILL, 0), targets=False).batch(0)
    assert batch.targets == {}
    loaded = [load_model(models / f"teacher-all-seed{s}")[0] for s in (0, 1)]
    ensemble = Ensemble(loaded, DISTILL, seed=0)
    learned = ensemble(batch, 5)
    share = float((learned.sequence != batch.sequence).float().mean())
    assert 0.01 < share < 0.06  # 4% are drawn anew, a quarter of them stays
    torch.testing.assert_close(learned.sequence, perturbed(batch.sequence, DISTILL, 0, 5))
    assert not torch.equal(learned.sequence, perturbed(batch.sequence, DISTILL, 0, 6))
    expected = teacher_targets(loaded[ensemble.chosen(5)], learned.sequence, batch.organism)
    torch.testing.assert_close(learned.targets[OutputType.ATAC][1], expected[OutputType.ATAC][1])
    assert {ensemble.chosen(step) for step in range(20)} == {0, 1}
    assert learned.masks.keys() == batch.masks.keys()


def test_a_copy_of_the_teacher_has_the_least_loss(world: dict[str, Any], models: Path) -> None:
    """The objective of a student is least at its teacher's own predictions (no gradient is left)."""
    teacher, _ = load_model(models / "teacher-all-seed0")
    codes = torch.from_numpy(_codes(world))
    organism = torch.tensor([0, 1])
    targets = teacher_targets(teacher, codes, organism)
    positions = targets.get("splice_positions")
    means = {o: teacher.track_mean(o) for o in TRACK_OUTPUTS if o in teacher.sizes.outputs()}
    masks = {o: torch.ones(2, n, dtype=torch.bool) for o, n in teacher.sizes.channels.items()}
    masks = {OutputType(o): mask for o, mask in masks.items()}
    found = teacher(one_hot(codes), organism, splice_positions=positions)
    _, parts = training_loss(found, targets, masks, organism=organism, track_means=means)
    for scale in (0.8, 1.25):
        worse = {
            o: {k: v * scale if k.startswith("scaled") else v for k, v in d.items()} for o, d in found.items()
        }
        _, other = training_loss(worse, targets, masks, organism=organism, track_means=means)
        for output in means:
            assert other[str(output)] > parts[str(output)]


def test_teachers_of_other_tracks_are_refused(world: dict[str, Any], models: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"teacher-all-seed0: its tracks are not those of the shards"):
        distill_student(
            [models / "teacher-all-seed0"], **world, output_dir=tmp_path / "s", seed=0, settings=DISTILL,
            fold_settings=fold_settings(), organisms=["mouse"],
        )  # fmt: skip
    with pytest.raises(FileError, match="no teacher given"):
        distill_student(
            [], **world, output_dir=tmp_path / "s", seed=0, settings=DISTILL, fold_settings=fold_settings(),
            organisms=ORGANISMS,
        )  # fmt: skip
