"""Predictions with how far they may be off: the model's numbers, calibrated, where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from predict_stand_ins import CURIES, PLACE, close, make_model
from scoring_stand_ins import make_genome, some_variants

from megabase.files import FileError, Stamp, hash_path, write_tsv
from megabase.genome import Genome
from megabase.predict import Predictor
from megabase.predictors.base import load_predictor
from megabase.predictors.ensemble import gather_ensemble
from megabase.predictors.strands import BothStrands
from megabase.sequence import reverse_complement
from megabase.spec import OUTPUTS, REPRESENTATION_COLUMNS, UNCERTAINTY_COLUMNS, Kind, OutputType

JUNCTIONS, SITES = OutputType.SPLICE_JUNCTIONS, OutputType.SPLICE_SITES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two networks, in a folder of results."""
    models = tmp_path_factory.mktemp("spread") / "results" / "models"
    members = [make_model(models / f"teacher-all-seed{seed}", seed) for seed in (3, 4)]
    return gather_ensemble(members, models / "ensemble-all")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return make_genome(tmp_path_factory.mktemp("genome"))


def _table(folder: Path, model: Path, outputs: tuple[str, ...]) -> None:
    rows = [
        ("m", "toy", output, quantity, level, value, None, None, 9)
        for output in outputs
        for quantity, level, value in (
            ("noise", None, 0.25), ("scale", None, 4.0), ("factor", 0.5, 0.7), ("factor", 0.9, 1.5),
            ("coverage", 0.9, 0.91),
        )
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema=list(UNCERTAINTY_COLUMNS), orient="row")
    stamp = Stamp("uncertainty", "", {"model": hash_path(model / "model.json")})
    write_tsv(table, folder / "toy.tsv", stamp)


def test_every_prediction_has_the_spread_of_the_model(folder: Path, genome: Genome) -> None:
    model = Predictor.from_pretrained(folder, device="cpu")
    found, plain = (model.predict_interval(PLACE, genome, spread=s) for s in (True, False))
    codes = torch.from_numpy(genome.codes("chr1", PLACE.start, PLACE.end))[None]
    outputs = [o for o in OUTPUTS if o is not JUNCTIONS]
    _, wanted = load_predictor(folder).predict_with_spread(codes, "toy", outputs=outputs)
    assert list(found) == list(plain)
    for output, one in found.items():
        close(one.values, plain[output].values)
        assert plain[output].spread is None and not one.spread.calibrated
        assert one.spread.resolution == (128 if one.kind is Kind.TRACKS else one.resolution)
        if output is not JUNCTIONS:
            close(one.spread.values, wanted[output][0])
    one = found[JUNCTIONS]
    assert one.spread.values.shape == one.values.shape and len(one.values)
    assert (np.isnan(one.spread.values) == np.isnan(one.values)).all()
    with pytest.raises(ValueError, match="not calibrated; run megabase calibrate-spread"):
        one.spread.half_width(0.9)


def test_chosen_tracks_and_a_cut_have_their_own_spread(folder: Path, genome: Genome) -> None:
    model = Predictor.from_pretrained(folder, device="cpu")
    whole = model.predict_interval(PLACE, genome, spread=True)
    some = model.predict_interval(PLACE, genome, spread=True, biosamples="liver", strand="+")
    for output, one in some.items():
        if output not in (JUNCTIONS, SITES):
            close(one.spread.values, whole[output].spread.values[..., one.tracks["channel"].to_list()])
    start = PLACE.start + 1000
    cut = whole[OutputType.ATAC].crop(start, start + 200)
    assert len(cut.values) == 200 and cut.spread.values.shape == (3, 3)  # bins 7, 8 and 9
    assert cut.spread.interval.start == PLACE.start + 7 * 128 and cut.spread.interval.length == 3 * 128
    close(cut.spread.values, whole[OutputType.ATAC].spread.values[7:10])
    cut = whole[OutputType.CONTACT_MAPS].crop(PLACE.start, PLACE.start + 2048)
    assert cut.spread.values.shape == cut.values.shape == (1, 1, 2)
    cut = whole[JUNCTIONS].crop(PLACE.start, PLACE.start + 2000)
    assert cut.spread.values.shape == cut.values.shape


def test_both_alleles_of_a_variant_have_one(folder: Path, genome: Genome) -> None:
    model = Predictor.from_pretrained(folder, device="cpu")
    variant = some_variants(genome)[1]  # an insertion
    outputs = ["atac", "splice_sites", "splice_junctions"]
    both = model.predict_variant(variant, genome, window=4096, outputs=outputs, spread=True)
    for output in outputs:
        ref, alt = both.reference[output], both.alternate[output]
        assert ref.spread.values.shape == alt.spread.values.shape
        assert not np.array_equal(ref.spread.values, alt.spread.values)


def test_the_mean_over_strands_has_the_mean_variance(folder: Path) -> None:
    model = load_predictor(folder)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (1, 4096)).astype(np.uint8))
    outputs = [OutputType.ATAC, OutputType.CONTACT_MAPS]
    mean, spread = BothStrands(model).predict_with_spread(codes, "toy", outputs=outputs)
    _, ahead = model.predict_with_spread(codes, "toy", outputs=outputs)
    _, behind = model.predict_with_spread(reverse_complement(codes), "toy", outputs=outputs)
    turned = behind["atac"].flip(1)[..., [1, 0, 2]]
    wanted = ((ahead["atac"].square() + turned.square()) / 2).sqrt()
    torch.testing.assert_close(spread["atac"], wanted, rtol=1e-4, atol=1e-6)
    maps = (ahead["contact_maps"].square() + behind["contact_maps"].flip(1, 2).square()) / 2
    torch.testing.assert_close(spread["contact_maps"], maps.sqrt(), rtol=1e-4, atol=1e-6)
    plain = BothStrands(model).predict(codes, "toy", outputs=outputs)
    torch.testing.assert_close(mean["atac"]["1bp"], plain["atac"]["1bp"], rtol=1e-4, atol=1e-5)


def test_it_is_calibrated_where_the_table_is_there(folder: Path, genome: Genome) -> None:
    place = folder.parents[1] / "uncertainty" / folder.name
    raw = Predictor.from_pretrained(folder, device="cpu")
    before = raw.predict_interval(PLACE, genome, outputs=["atac", "cage"], spread=True)
    _table(place, folder, ("atac",))
    model = Predictor.from_pretrained(folder / "model.json", device="cpu")
    after = model.predict_interval(PLACE, genome, outputs=["atac", "cage"], spread=True)
    assert after["atac"].spread.calibrated and not after["cage"].spread.calibrated
    wanted = np.sqrt(0.25 + 4 * before["atac"].spread.values ** 2)
    close(after["atac"].spread.values, wanted)
    assert after["atac"].spread.values.dtype == np.float32
    close(after["atac"].spread.half_width(0.9), 1.5 * wanted)
    close(after["cage"].spread.values, before["cage"].spread.values)
    _table(place, folder.parent / "teacher-all-seed3", ("atac",))
    with pytest.raises(FileError, match="made for another model than"):
        Predictor.from_pretrained(folder, device="cpu")


def test_a_model_without_a_spread_is_one_error(folder: Path, genome: Genome) -> None:
    model = Predictor.from_pretrained(folder.parent / "teacher-all-seed3", device="cpu")
    with pytest.raises(ValueError, match="spread: teacher-all-seed3 tells none; ask an ensemble"):
        model.predict_interval(PLACE, genome, spread=True)


def test_tracks_tell_how_their_biosample_was_represented(folder: Path) -> None:
    tracks = Predictor.from_pretrained(folder.parent / "teacher-all-seed3", device="cpu").tracks("toy")
    assert set(REPRESENTATION_COLUMNS) <= set(tracks.columns)
    brain = tracks.filter(pl.col("ontology_curie") == CURIES["brain"])
    assert brain["representation"].unique().to_list() == pytest.approx([0.5])  # all ten, a replicate each
    assert brain["biosample_outputs"].unique().to_list() == [10]
    few = Predictor.from_pretrained(folder.parent / "teacher-all-seed3").tracks("toy", biosamples="brain")
    chosen = few.filter(pl.col("ontology_curie").is_not_null())
    assert chosen["representation"].to_list() == brain["representation"].to_list()
