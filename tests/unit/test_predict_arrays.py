"""Predictions as arrays: what a value, its place and its track are called, and stay called."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scoring_stand_ins import ToyPredictor, make_genome

from megabase.genome import Genome, Interval
from megabase.predict import Prediction, Predictor
from megabase.spec import OutputType

PLACE = Interval("chr1", 6144, 10240)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def found(genome: Genome) -> dict[OutputType, Prediction]:
    model = ToyPredictor()
    model.max_sites = 12
    return Predictor(model).predict_interval(PLACE, genome)


def test_crop_keeps_whole_values_where_they_are(found: dict[OutputType, Prediction]) -> None:
    start, end = 7000, 7300
    for output in ("atac", "chip_tf", "contact_maps"):
        part = found[output].crop(start, end)
        size = part.resolution
        assert part.interval.start <= start < part.interval.start + size
        assert part.interval.end - size < end <= part.interval.end
        first = (part.interval.start - PLACE.start) // size
        chosen = slice(first, first + part.interval.length // size)
        whole = found[output].values
        assert np.array_equal(
            part.values, whole[chosen, chosen] if output == "contact_maps" else whole[chosen]
        )
        assert part.starts.tolist() == list(range(part.interval.start, part.interval.end, size))
    junctions = found["splice_junctions"]
    part = junctions.crop(7000, 9000)
    donors, acceptors = pl.col("donor"), pl.col("acceptor")
    inside = junctions.junctions.filter(donors.is_between(7000, 8999), acceptors.is_between(7000, 8999))
    assert part.junctions.equals(inside) and 0 < len(part.values) < len(junctions.values)
    outside = found["atac"].crop(0, 100)
    assert len(outside.values) == 0 and outside.interval.length == 0


def test_xarray(found: dict[OutputType, Prediction]) -> None:
    xarray = pytest.importorskip("xarray")
    atac = found["atac"].to_xarray()
    assert isinstance(atac, xarray.DataArray) and atac.dims == ("position", "track")
    assert float(atac.sel(position=7001)[1]) == found["atac"].values[7001 - PLACE.start, 1]
    assert atac.attrs["chrom"] == "chr1" and atac.attrs["resolution"] == 1
    assert atac["strand"].values.tolist() == ["+", "-", "."]
    assert atac.track.values.tolist() == found["atac"].tracks["name"].to_list()
    tf = found["chip_tf"].to_xarray()
    assert tf.position.values.tolist() == list(range(PLACE.start, PLACE.end, 128))
    maps = found["contact_maps"].to_xarray()
    assert maps.dims == ("row", "column", "track")
    assert float(maps.sel(row=6144, column=8192)[0]) == found["contact_maps"].values[0, 1, 0]
    junctions, table = found["splice_junctions"].to_xarray(), found["splice_junctions"].junctions
    assert junctions.donor.values.tolist() == table["donor"].to_list()
    assert junctions.strand.values.tolist() == table["strand"].to_list()
    assert junctions.track_strand.values.tolist() == ["+", "+", "-", "-"]


def test_anndata(found: dict[OutputType, Prediction], tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    for output, rows in (("atac", 4096), ("chip_tf", 32), ("contact_maps", 3), ("splice_junctions", None)):
        prediction = found[output]
        data = prediction.to_anndata()
        rows = len(prediction.values) if rows is None else rows
        assert data.shape == (rows, prediction.tracks.height)
        assert data.var["channel"].tolist() == prediction.tracks["channel"].to_list()
        assert data.obs_names.is_unique and data.var_names.is_unique
        data.write_h5ad(tmp_path / f"{output}.h5ad")
        back = anndata.read_h5ad(tmp_path / f"{output}.h5ad")
        np.testing.assert_array_equal(back.X, data.X)
        assert back.obs["start"].tolist() == data.obs["start"].tolist()
        assert list(back.var_names) == prediction.tracks["name"].to_list()
    tf = found["chip_tf"].to_anndata()
    assert tf.obs.iloc[2].to_dict() == {"chrom": "chr1", "start": 6400, "end": 6528}
    pairs = found["contact_maps"].to_anndata()
    assert pairs.obs.iloc[1].to_dict() == {"chrom": "chr1", "start": 6144, "end": 8192, "start_2": 8192,
                                           "end_2": 10240}  # fmt: skip
    np.testing.assert_array_equal(pairs.X[1], found["contact_maps"].values[0, 1])
    introns = found["splice_junctions"].to_anndata().obs
    left = introns[["donor", "acceptor"]].min(axis=1)
    assert (introns["start"] == left + 1).all() and (introns["start"] < introns["end"]).all()


def test_tracks_of_one_name_are_told_apart(found: dict[OutputType, Prediction]) -> None:
    pytest.importorskip("xarray")
    tracks = found["atac"].tracks.with_columns(name=pl.lit("twin"))
    twins = Prediction(OutputType.ATAC, found["atac"].values, tracks, 1, PLACE)
    assert twins.to_xarray().track.values.tolist() == ["twin", "twin (2)", "twin (3)"]


@pytest.mark.parametrize(("package", "method"), [("xarray", "to_xarray"), ("anndata", "to_anndata")])
def test_a_missing_package_is_named(
    found: dict[OutputType, Prediction], monkeypatch: pytest.MonkeyPatch, package: str, method: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"{package} is not installed; run: pip install 'megabase\[arrays\]'"
    ):
        getattr(found["atac"], method)()
