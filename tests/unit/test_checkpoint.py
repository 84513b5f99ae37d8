"""Models on disk: whole or refused, and the published names both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from megabase.files import FileError, hash_path
from megabase.model import AlphaGenome, Sizes, from_haiku, load_model, save_model, to_haiku
from megabase.model.checkpoint import load_tensors
from megabase.spec import OutputType

CHANNELS = {"rna_seq": 4, "chip_tf": 2, "contact_maps": 2, "splice_sites": 5, "splice_junctions": 4}
INFO = {"name": "teacher-all-seed0", "tracks": {"human": {"rna_seq": [{"name": "a"}]}}, "inputs": {"a": "b"}}


@pytest.fixture(scope="module")
def model() -> AlphaGenome:
    model = AlphaGenome(Sizes.preset("tiny", CHANNELS, channels_step=4, max_sites=8), seed=3)
    model.set_track_means(OutputType.RNA_SEQ, torch.arange(1.0, 9.0).view(2, 4))
    return model.eval()


@pytest.fixture
def folder(model: AlphaGenome, tmp_path: Path) -> Path:
    save_model(tmp_path / "m", model, INFO)
    return tmp_path / "m"


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Other weights under a card that names them."""
    save_file(tensors, folder / "model.safetensors")
    card = json.loads((folder / "model.json").read_text())
    card["weights"] = hash_path(folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(card))


@torch.no_grad()
def test_a_loaded_model_predicts_the_same(model: AlphaGenome, folder: Path) -> None:
    loaded, info = load_model(folder)
    assert info == INFO and loaded.sizes == model.sizes and not loaded.training
    assert torch.equal(loaded.track_mean(OutputType.RNA_SEQ), model.track_mean(OutputType.RNA_SEQ))
    x, organism = torch.eye(4).repeat(1, 512, 1), torch.tensor([1])
    first, second = model(x, organism), loaded(x, organism)
    for output_type, values in first.items():
        for key, value in values.items():
            assert torch.equal(value, second[output_type][key])


def test_same_model_same_bytes(model: AlphaGenome, folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", model, INFO)
    assert hash_path(folder) == hash_path(tmp_path / "again")


def test_stamp_carries_the_inputs(folder: Path) -> None:
    stamp = json.loads((folder / "model.json").read_text())["megabase"]
    assert stamp["kind"] == "model" and stamp["inputs"] == {"a": "b"}


def test_all_wrong_tensors_are_named_in_one_error(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["embed.embeddings"]
    tensors["surplus"] = torch.zeros(1)
    tensors["output_pair.embed.embeddings"] = torch.zeros(2, 3)
    rewrite(folder, tensors)
    with pytest.raises(FileError, match="3 tensors") as error:
        load_model(folder)
    for part in ("missing embed.embeddings", "unknown surplus", "shape [2, 3], wanted [2, 16]"):
        assert part in str(error.value)


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    other = AlphaGenome(Sizes.preset("tiny", CHANNELS, channels_step=4, max_sites=8), seed=4)
    save_model(tmp_path / "other", other, INFO)
    (folder / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(FileError, match="halves of two models"):
        load_model(folder)


def test_half_a_folder_and_half_a_file_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(FileError, match="halves of two models"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(FileError, match=r"model\.safetensors: not found"):
        load_model(folder)


def test_other_format_is_refused_by_name(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    card["megabase"]["format_version"] = 99
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(FileError, match="format version 99"):
        load_model(folder)


def test_published_names_both_ways(model: AlphaGenome) -> None:
    params, state = to_haiku(model.state_dict())
    assert params["alphagenome/transformer_tower/mha_block/q_layer/w"].shape == (40, 64)
    assert all(name.endswith("/var_ema") for name in state) and not any("track_means" in n for n in params)
    back = from_haiku(params, state)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("track_means.")}
    assert set(back) == set(own) and all(torch.equal(back[k], v) for k, v in own.items())
    again = to_haiku(back)
    assert set(again[0]) == set(params) and set(again[1]) == set(state)


def test_published_tensors_load_without_track_means(model: AlphaGenome) -> None:
    fresh = AlphaGenome(model.sizes, seed=9)
    load_tensors(fresh, from_haiku(*to_haiku(model.state_dict())), "published")
    assert torch.equal(fresh.embed.embeddings, model.embed.embeddings)
    assert (fresh.track_mean(OutputType.RNA_SEQ) == 1).all()


def test_foreign_names_are_refused() -> None:
    with pytest.raises(ValueError, match="other/w"):
        from_haiku({"other/w": torch.zeros(1).numpy()}, {})
