"""Running a chunk: too little memory, a device that lies, nothing to score."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scoring_stand_ins import ToyPredictor, make_annotation, make_genome, some_variants, write_variants

from megabase.files import Stamp, read_json
from megabase.model import AlphaGenome, Sizes, save_model
from megabase.predictors import base
from megabase.predictors.ensemble import gather_ensemble
from megabase.scoring import chunks
from megabase.scoring.chunks import score_chunk, score_variants
from megabase.scoring.engine import Engine
from megabase.scoring.fitting import MemoryFailure, score_fitting
from megabase.scoring.scorers import RECOMMENDED
from megabase.scoring.selfcheck import DeviceError, check_device, check_predictions, difference
from megabase.settings.scoring import ScoringSettings

SETTINGS = ScoringSettings(window=2048, batch_size=16, bins=10)
TINY = {
    "channels_1bp": 4, "channels_step": 2, "tower_blocks": 2, "attention_heads": 2, "query_channels": 4,
    "value_channels": 4, "pair_channels": 4, "pair_heads": 2, "pair_query_channels": 4,
    "pair_position_features": 8, "junction_hidden": 4, "max_sites": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genome, an untrained network, an ensemble of it, a chunk of variants and an empty one."""
    folder = tmp_path_factory.mktemp("running")
    variants = some_variants(make_genome(folder))
    tracks = ToyPredictor().tracks("toy")
    for seed in (0, 1):
        model = AlphaGenome(Sizes.preset("tiny", {o: len(r) for o, r in tracks.items()}, **TINY), seed=seed)
        info = {"name": f"teacher-all-seed{seed}", "predictor": "alphagenome", "window": 2048,
                "scheme": "all", "organisms": ["toy"], "settings": {},
                "tracks": {"toy": {o.value: r for o, r in tracks.items()}}}  # fmt: skip
        save_model(folder / f"model{seed}", model, info)
    gather_ensemble([folder / "model0", folder / "model1"], folder / "ensemble-all")
    write_variants(variants, folder / "variants.parquet")
    write_variants([], folder / "empty.parquet")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


class Small(ToyPredictor):
    """Memory for so many sequences; what it says when there are more."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error = room, error

    def predict(self, codes, organism, **options):
        if len(codes) > self.room:
            raise self.error
        return super().predict(codes, organism, **options)


def engine_of(predictor, genome) -> Engine:
    return Engine(predictor, genome, make_annotation(), list(RECOMMENDED.values()), SETTINGS)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(world, tmp_path, caplog, error) -> None:
    genome = base_genome(world)
    for name, predictor in {"whole": ToyPredictor(), "small": Small(4, error)}.items():
        engine = engine_of(predictor, genome)
        with caplog.at_level(logging.WARNING, "megabase"):
            score_chunk(engine, world / "variants.parquet", tmp_path / name, Stamp("chunk"))
        assert engine.batch_size == (16 if name == "whole" else 4)
    said = [r.getMessage() for r in caplog.records if "out of memory" in r.getMessage()]
    assert len(said) == 2 and said[0].endswith("8 sequences at a time from here on")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small", "whole"]
    for path in (tmp_path / "whole").glob("*.parquet"):
        a, b = (base_table(tmp_path / name / path.name) for name in ("whole", "small"))
        assert a.drop("raw", strict=False).equals(b.drop("raw", strict=False))
        if "raw" in a.columns and a.height:
            torch.testing.assert_close(
                *(torch.tensor(t["raw"].to_list()) for t in (a, b)), rtol=1e-5, atol=1e-6, equal_nan=True
            )


def test_a_killed_job_says_what_it_keeps(world, tmp_path, caplog) -> None:
    engine = engine_of(ToyPredictor(), base_genome(world))
    chunk, stamp = world / "variants.parquet", Stamp("chunk")
    kept = []

    def stop_after_one(variants):
        if kept:
            raise KeyboardInterrupt
        kept.append(len(variants))
        return Engine.score(engine, variants)

    engine.score = stop_after_one
    engine.settings = SETTINGS.model_copy(update={"batch_size": 4, "together": 2})  # many short batches
    with pytest.raises(KeyboardInterrupt):
        score_chunk(engine, chunk, tmp_path / "chunk", stamp)
    del engine.score
    with caplog.at_level(logging.INFO, "megabase"):
        score_chunk(engine, chunk, tmp_path / "chunk", stamp)
    lines = [record.getMessage() for record in caplog.records]
    assert f"score chunk: {kept[0]} of 15 variants were scored before" in lines
    assert any("15/15 variants (100%)" in line and "variants/s" in line and "left" in line for line in lines)


def base_genome(world: Path):
    from megabase.genome import Genome

    return Genome.open(world / "genome")


def base_table(path: Path):
    import polars as pl

    return pl.read_parquet(path)


def test_a_sequence_that_does_not_fit_is_one_error(world) -> None:
    genome = base_genome(world)
    engine = engine_of(Small(0, torch.OutOfMemoryError("CUDA out of memory.")), genome)
    with pytest.raises(
        MemoryFailure, match=r"one sequence of 2048 bases.*CUDA out of memory.*scoring.window"
    ):
        score_fitting(engine, some_variants(genome)[:2])
    assert engine.batch_size == 1


def test_another_error_is_not_taken_for_memory(world) -> None:
    genome = base_genome(world)
    engine = engine_of(Small(0, RuntimeError("shape mismatch")), genome)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        score_fitting(engine, some_variants(genome)[:2])
    assert engine.batch_size == 16


class Lying(ToyPredictor):
    """A predictor whose every prediction passes through `change`."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def predict(self, codes, organism, **options):
        found = super().predict(codes, organism, **options)
        return {o: {key: self.change(v) for key, v in values.items()} for o, values in found.items()}


def _stuck_bit(values: torch.Tensor) -> torch.Tensor:
    """One value in a thousand is wrong, as of a broken memory."""
    values = values.clone(memory_format=torch.contiguous_format)
    values.view(-1)[::1000] += 10 * values.abs().max()
    return values


@pytest.mark.parametrize("change", [_stuck_bit, torch.zeros_like, lambda v: v * 1.2, lambda v: v / 0])
def test_a_lying_device_is_refused(change) -> None:
    with pytest.raises(
        DeviceError, match=r"node7: cuda:0 gives wrong predictions: rna_seq.*nothing was scored"
    ):
        check_predictions(Lying(change), ToyPredictor(), "toy", "node7: cuda:0")


def test_rounding_is_no_lie() -> None:
    check_predictions(Lying(lambda v: v.to(torch.bfloat16)), ToyPredictor(), "toy", "node7: cuda:0")
    x = torch.tensor([3.0, 4.0])
    assert difference(x, x) == 0 and difference(x * 1.01, x) == pytest.approx(0.01)


def test_a_lying_device_scores_nothing(world, tmp_path, monkeypatch) -> None:
    opened = []

    def load(folder, device="cpu"):
        opened.append((Path(folder).name, device))
        return Lying(lambda v: v * 2) if device != "cpu" else ToyPredictor()

    monkeypatch.setattr(base, "load_predictor", load)
    monkeypatch.setattr("megabase.scoring.selfcheck.load_predictor", load)
    arguments = (world / "variants.parquet", world / "model0", world / "genome", None, tmp_path / "chunk")
    with pytest.raises(DeviceError, match="cuda"):
        score_variants(*arguments, SETTINGS, device="cuda")
    assert opened == [("model0", "cuda"), ("model0", "cpu")]
    assert list(tmp_path.iterdir()) == []


def test_the_check_costs_a_cpu_nothing_and_of_an_ensemble_takes_one_member(world, monkeypatch) -> None:
    check_device(None, world / "none", "toy", "cpu")  # looks at nothing
    ensemble, asked = base.load_predictor(world / "ensemble-all"), []
    real = base.load_predictor
    monkeypatch.setattr(
        "megabase.scoring.selfcheck.load_predictor", lambda f, d: asked.append(Path(f).name) or real(f, d)
    )
    check_device(ensemble, world / "ensemble-all", "toy", "cuda")
    assert asked == ["model0"]
    wrong = SimpleNamespace(members=[ensemble.members[1]])
    with pytest.raises(DeviceError):
        check_device(wrong, world / "ensemble-all", "toy", "cuda")


@pytest.mark.parametrize("name", ["model0", "ensemble-all"])
def test_an_empty_chunk_loads_no_model(world, tmp_path, monkeypatch, name) -> None:
    """Its files are those that a loaded model would write."""
    arguments = (world / "empty.parquet", world / name, world / "genome", None)
    with monkeypatch.context() as change:
        opens = chunks._open_model
        change.setattr(chunks, "_open_model", lambda *given, empty: opens(*given, empty=False))
        score_variants(*arguments, tmp_path / "loaded", SETTINGS)

    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(base, "load_predictor", refuse)
    monkeypatch.setattr("megabase.predictors.card.load_predictor", refuse)
    score_variants(*arguments, tmp_path / "idle", SETTINGS)
    assert digests(tmp_path / "idle") == digests(tmp_path / "loaded")
    assert read_json(tmp_path / "idle/chunk.json", "chunk")["variants"] == 0
