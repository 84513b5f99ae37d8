"""The mean of several models as a model: numbers, spread, and members that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from predict_stand_ins import PLACE, WINDOW, close, finest, make_model
from safetensors.torch import load_file
from scoring_stand_ins import make_genome

from megabase.files import FileError
from megabase.model.even import even_key, even_predictions
from megabase.predict import Predictor
from megabase.predictors.base import load_predictor, max_shift_of, model_info
from megabase.predictors.ensemble import MOST_KEPT, EnsemblePredictor, Moments, gather_ensemble
from megabase.predictors.junctions import predict_with_junctions
from megabase.predictors.strands import BothStrands
from megabase.spec import OUTPUTS, OutputType

JUNCTIONS, SITES = OutputType.SPLICE_JUNCTIONS, OutputType.SPLICE_SITES
SHIFT = {"train": {"max_shift": 7}}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [make_model(folder / f"teacher-all-seed{s}", s, scheme="all", settings=SHIFT) for s in (3, 4, 5)]


@pytest.fixture(scope="module")
def ensemble(members: list[Path]) -> EnsemblePredictor:
    return load_predictor(gather_ensemble(members, members[0].parent / "ensemble-all"))


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(2).integers(0, 4, (2, WINDOW)).astype(np.uint8))


def _positions() -> torch.Tensor:
    sites = torch.tensor([[[50, 900], [300, -1], [700, 1200], [100, 400]]])
    return sites.expand(2, -1, -1)


def test_predictions_and_spread_are_those_over_the_members(ensemble, members, codes) -> None:
    alone = [load_predictor(m).predict(codes, "toy", splice_positions=_positions()) for m in members]
    mean, spread = ensemble.predict_with_spread(codes, "toy", splice_positions=_positions())
    plain = ensemble.predict(codes, "toy", splice_positions=_positions())
    assert list(mean) == list(plain) == list(spread) == list(alone[0])
    for output in mean:
        for key in {finest(output), even_key(output)}:
            wanted = torch.stack([found[output][key] for found in alone]).mean(0)
            torch.testing.assert_close(mean[output][key], wanted, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(plain[output][key], mean[output][key], rtol=0, atol=0)
        even = torch.stack([even_predictions(output, found[output]) for found in alone])
        torch.testing.assert_close(spread[output], even.std(0), rtol=1e-3, atol=1e-6)
    assert mean[JUNCTIONS]["positions"].equal(alone[0][JUNCTIONS]["positions"])
    logs = torch.stack([torch.log1p(found["atac"]["128bp"]) for found in alone])
    torch.testing.assert_close(spread["atac"], logs.std(0), rtol=1e-3, atol=1e-6)
    assert float(spread["atac"].max()) > 0


def test_own_sites_are_those_of_the_mean(ensemble, codes) -> None:
    found = ensemble.predict(codes, "toy")
    chosen = found[JUNCTIONS]["positions"]
    assert (chosen >= 0).any()
    chances = found[SITES]["probabilities"][..., :4].transpose(1, 2)
    assert (chances.gather(2, chosen.clamp_min(0))[chosen >= 0] > ensemble.site_threshold).all()


@pytest.mark.parametrize("count", [2, MOST_KEPT + 1])
def test_junctions_are_the_same_kept_or_asked_again(count, members, codes) -> None:
    opened = [load_predictor(members[i % 3]) for i in range(count)]
    several = EnsemblePredictor("several", opened)
    found, read = predict_with_junctions(several, codes, "toy", [SITES])
    wanted = several.predict(codes, "toy", outputs=[SITES, JUNCTIONS], splice_positions=_positions())
    torch.testing.assert_close(read([1], _positions()[1:]), wanted[JUNCTIONS]["values"][1:])
    torch.testing.assert_close(found[SITES]["probabilities"], wanted[SITES]["probabilities"])


def test_people_may_ask_it_for_chosen_tracks_of_both_strands(ensemble, members, tmp_path) -> None:
    genome = make_genome(tmp_path)
    choice = {"biosamples": "liver", "outputs": ["cage", "splice_junctions"], "reverse_complement": True}
    found = Predictor(ensemble).predict_interval(PLACE, genome, **choice)
    each = [Predictor.from_pretrained(m).predict_interval(PLACE, genome, **choice) for m in members]
    close(found["cage"].values, np.mean([one["cage"].values for one in each], 0))
    assert found["splice_junctions"].values.shape[1] == 2
    assert BothStrands(ensemble).selects_channels is True


def test_a_folder_without_weights_that_evaluation_can_read(ensemble, members) -> None:
    folder = members[0].parent / "ensemble-all"
    info = model_info(folder)
    assert load_file(folder / "model.safetensors") == {}
    assert [m["folder"] for m in info["members"]] == [f"../{m.name}" for m in members]
    assert (info["name"], info["scheme"], max_shift_of(info)) == ("ensemble-all", "all", 7)
    assert ensemble.window == WINDOW and ensemble.organisms == ["toy", "other"]
    assert set(ensemble.tracks("toy")) == set(OUTPUTS)
    before = (folder / "model.json").read_bytes()
    gather_ensemble(members, folder)
    assert (folder / "model.json").read_bytes() == before


def test_one_member_is_itself_and_has_no_spread(members, tmp_path, codes) -> None:
    one = load_predictor(gather_ensemble(members[:1], tmp_path / "one"))
    wanted = load_predictor(members[0]).predict(codes, "toy", outputs=["atac"])["atac"]["1bp"]
    torch.testing.assert_close(one.predict(codes, "toy", outputs=["atac"])["atac"]["1bp"], wanted)
    with pytest.raises(ValueError, match="one member"):
        one.predict_with_spread(codes, "toy", outputs=["atac"])


def test_unlike_members_are_one_error(members, tmp_path) -> None:
    other = make_model(tmp_path / "other", 3, scheme="fold0", settings=SHIFT)
    with pytest.raises(FileError, match=r"other: its scheme differ from .*teacher-all-seed3; members"):
        gather_ensemble([members[0], other], tmp_path / "mixed")
    info = json.loads((other / "model.json").read_text())
    info["info"] |= {"scheme": "all"}
    info["info"]["tracks"]["toy"]["atac"][0]["name"] = "something else"
    (other / "model.json").write_text(json.dumps(info))
    with pytest.raises(FileError, match="its tracks differ"):
        gather_ensemble([members[0], other], tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()
    with pytest.raises(FileError, match="no member given"):
        gather_ensemble([], tmp_path / "mixed")
    with pytest.raises(FileError, match="named twice"):
        gather_ensemble([members[0], members[0]], tmp_path / "mixed")


def test_members_that_are_gone_or_made_anew_are_refused(members, tmp_path) -> None:
    moved = [Path(shutil.copytree(m, tmp_path / m.name)) for m in members[:2]]
    folder = gather_ensemble(moved, tmp_path / "ensemble-all")
    make_model(moved[1], 9, scheme="all", settings=SHIFT)
    with pytest.raises(FileError, match=r"teacher-all-seed4 was made anew; gather"):
        load_predictor(folder)
    shutil.rmtree(moved[1])
    with pytest.raises(FileError, match=r"teacher-all-seed4 is not there; gather"):
        load_predictor(folder)


def test_moments_of_many_members_are_numerically_sound() -> None:
    draws = 1e4 + torch.randn(50, 1, 3, 2, generator=torch.Generator().manual_seed(0))
    found = Moments(spread=True)
    for draw in draws:
        found.add({OutputType.CONTACT_MAPS: {"values": draw}})
    torch.testing.assert_close(found.deviations()["contact_maps"], draws.std(0), rtol=1e-3, atol=0)
    torch.testing.assert_close(found.mean["contact_maps"]["values"], draws.mean(0), rtol=1e-6, atol=0)
