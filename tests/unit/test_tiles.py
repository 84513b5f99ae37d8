"""Windows predicted in tiles: the same numbers as of each tile alone, at the window's own places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_stand_ins import ORGANISMS, WINDOW, fold_settings, make_world, model_settings, train_settings

from megabase.evaluate import evaluate_tracks
from megabase.files import read_tsv
from megabase.predictors.base import Predictor, load_predictor
from megabase.predictors.tiles import Tiled, in_tiles
from megabase.seeds import generator
from megabase.settings.training import EvaluationSettings
from megabase.spec import OUTPUTS, Kind, OutputType
from megabase.train import train_teacher

TILES = 2
SITES = torch.tensor(
    [[[10, 30, 2047, 2050], [2049, 3000, -1, -1], [5, 100, -1, -1], [50, 70, 2100, -1]],
     [[-1] * 4, [7, -1, -1, -1], [2048, 2060, -1, -1], [2500, -1, -1, -1]]]
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def model(world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_teacher(
        **world, output_dir=tmp_path_factory.mktemp("models") / "teacher-fold0-seed0", scheme="fold0", seed=0,
        settings=train_settings(steps=2), model_settings=model_settings(), fold_settings=fold_settings(),
        organisms=ORGANISMS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return load_predictor(model)


CODES = generator(0, "tiles").integers(0, 4, (2, TILES * WINDOW)).astype(np.uint8)


def test_a_tile_as_long_as_the_window_is_the_direct_prediction(predictor: Predictor) -> None:
    codes, sites = CODES[:, :WINDOW], SITES.masked_fill(SITES >= WINDOW, -1)
    wanted = predictor.predict(codes, "human", splice_positions=sites)
    found = Tiled(predictor, WINDOW).predict(codes, "human", splice_positions=sites)
    assert wanted.keys() == found.keys()
    for output, heads in wanted.items():
        for name, value in heads.items():
            assert torch.equal(found[output][name], value), (output, name)


def test_tiles_lie_side_by_side(predictor: Predictor) -> None:
    found = Tiled(predictor, WINDOW).predict(CODES, "human", splice_positions=SITES)
    assert set(found) == set(predictor.tracks("human"))
    for tile in range(TILES):
        own = predictor.predict(CODES[:, tile * WINDOW : (tile + 1) * WINDOW], "human")
        for output in found.keys() - {OutputType.SPLICE_JUNCTIONS}:
            for name, value in own[output].items():
                length = value.shape[1]
                place = slice(tile * length, (tile + 1) * length)
                whole = found[output][name][:, place]
                whole = whole[:, :, place] if OUTPUTS[output].kind is Kind.CONTACTS else whole
                assert torch.allclose(whole, value, atol=1e-6), (output, name)
    bins = WINDOW // 2048
    maps = found[OutputType.CONTACT_MAPS]["values"]
    assert maps[:, :bins, bins:].isnan().all() and maps[:, bins:, :bins].isnan().all()


def test_junctions_stand_at_the_sites_of_the_window(predictor: Predictor) -> None:
    tiled = Tiled(predictor, WINDOW)
    found = tiled.predict(CODES, "human", splice_positions=SITES)[OutputType.SPLICE_JUNCTIONS]
    whole = predictor.predict(CODES, "human", splice_positions=SITES)[OutputType.SPLICE_JUNCTIONS]
    assert torch.equal(found["mask"], whole["mask"]) and torch.equal(found["positions"], SITES)
    half = found["values"].shape[-1] // 2
    # window 0, +: no donor shares a tile with an acceptor but 2050 (donor 3) with 2049 and 3000
    plus = found["values"][0, ..., :half]
    assert (plus[:3] == 0).all() and (plus[3, :2] > 0).all() and (plus[3, 2:] == 0).all()
    local = SITES[:1].clone()
    local[:, 0] = torch.tensor([2, -1, -1, -1])
    local[:, 1] = torch.tensor([1, 952, -1, -1])
    local[:, 2:] = -1
    own = predictor.predict(CODES[:1, WINDOW:], "human", splice_positions=local)[OutputType.SPLICE_JUNCTIONS]
    assert torch.allclose(plus[3, :2], own["values"][0, 0, :2, :half], atol=1e-6)
    # window 1, -: both donors and the acceptor are in the second tile
    assert (found["values"][1, :2, 0, half:] > 0).all()


def test_sites_by_tile() -> None:
    order, local = in_tiles(SITES, WINDOW, TILES)
    assert local[0, 0].tolist() == [10, 30, 2047] and order[0, 0].tolist() == [0, 1, 2]
    assert local[1, 0].tolist() == [2, -1, -1] and order[1, 0, 0] == 3
    assert local[3, 2].tolist() == [0, 12, -1]


def test_without_sites_there_are_no_junctions(predictor: Predictor) -> None:
    found = Tiled(predictor, WINDOW).predict(CODES, "human")
    assert OutputType.SPLICE_JUNCTIONS not in found and OutputType.SPLICE_SITES in found


@pytest.mark.parametrize(("tile", "words"), [(1000, "multiple of 2048"), (3 * 2048, "do not fill")])
def test_tiles_that_do_not_fit(tile: int, words: str, predictor: Predictor) -> None:
    with pytest.raises(ValueError, match=words):
        Tiled(predictor, tile).predict(CODES, "human")


def test_evaluation_in_tiles_of_the_window_changes_nothing(
    model: Path, world: dict[str, Any], tmp_path: Path
) -> None:
    def rows(name: str, **changes: Any) -> list[tuple]:
        path = evaluate_tracks(
            model, world["shards"][0], world["genomes"][0], world["genes"][0], world["intervals"],
            tmp_path / name, EvaluationSettings(bootstrap=5, max_windows=3, **changes), fold_settings(),
            "human",
        )  # fmt: skip
        return read_tsv(path, "evaluation").rows()

    assert rows("whole.tsv") == rows("tiles.tsv", window=WINDOW)
