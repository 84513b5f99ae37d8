"""Contact files whose index is not that of their pixels: mended where that is exact, else refused."""

from __future__ import annotations

from pathlib import Path

import cooler
import h5py
import numpy as np
import pandas as pd
import pytest
from track_stand_ins import make_genome, row

from megabase.files import FileError
from megabase.seeds import generator
from megabase.settings.data import TrackSettings
from megabase.tracks import contact_index, normalize_contacts
from megabase.tracks.contact_index import sound_map

GROUP = "/resolutions/1000"
LENGTHS = {"chr1": 60_500, "chr2": 30_000}
ROW = row("m", "contact_maps", assay="Hi-C")
PLAIN = TrackSettings(contact_coarse_grain=False, contact_span=40_000)


@pytest.fixture
def mcool(tmp_path: Path) -> Path:
    """A .mcool of 1 and 2 kb with weights."""
    matrix = np.zeros((91, 91), int)
    for low, high in ((0, 61), (61, 91)):
        size = high - low
        matrix[low:high, low:high] = np.triu(generator(0, "index", low).poisson(2, (size, size)))
    bins = cooler.util.binnify(pd.Series(LENGTHS), 1_000)
    bins["weight"] = 1.0
    first, second = np.nonzero(matrix)
    pixels = pd.DataFrame({"bin1_id": first, "bin2_id": second, "count": matrix[first, second]})
    cooler.create_cooler(str(tmp_path / "m.cool"), bins, pixels, ordered=True)
    cooler.zoomify_cooler(str(tmp_path / "m.cool"), str(tmp_path / "m.mcool"), [1_000, 2_000], 10_000)
    return tmp_path / "m.mcool"


def _dense(uri: str) -> np.ndarray:
    return cooler.Cooler(uri).matrix(balance=False)[:]


def _spoil_bins(index: h5py.Group) -> None:
    index["bin1_offset"][20:40] = index["bin1_offset"][20:40] + 7


def _spoil_chromosomes(index: h5py.Group) -> None:
    index["chrom_offset"][1] = 50


def _shorten(index: h5py.Group) -> None:
    offsets = index["bin1_offset"][:-5]
    del index["bin1_offset"]
    index["bin1_offset"] = offsets


def _remove(index: h5py.Group) -> None:
    del index["bin1_offset"]


def test_a_right_index_is_left_alone(mcool: Path, tmp_path: Path) -> None:
    assert sound_map(mcool, GROUP, tmp_path) == f"{mcool}::{GROUP}"
    assert not (tmp_path / "mended.cool").exists()
    plain = tmp_path / "m.cool"
    assert _dense(sound_map(plain, "/", tmp_path)).sum() == _dense(str(plain)).sum()


@pytest.mark.parametrize("spoil", [_spoil_bins, _spoil_chromosomes, _shorten, _remove])
def test_a_wrong_index_is_made_anew(spoil, mcool: Path, tmp_path: Path, caplog) -> None:
    wanted = _dense(f"{mcool}::{GROUP}")
    with h5py.File(mcool, "r+") as file:
        spoil(file[f"{GROUP}/indexes"])
    bytes_before = mcool.read_bytes()
    uri = sound_map(mcool, GROUP, tmp_path)
    np.testing.assert_array_equal(_dense(uri), wanted)
    matrix = cooler.Cooler(uri)
    assert matrix.extent("chr2") == (61, 91) and matrix.binsize == 1_000
    assert "wrong index" in caplog.text and "made anew" in caplog.text
    assert mcool.read_bytes() == bytes_before, "the file itself is as it was"


def test_a_map_of_a_wrong_index_is_normalized_as_with_the_right_one(mcool: Path, tmp_path: Path) -> None:
    genome = make_genome(tmp_path, LENGTHS)
    normalize_contacts(ROW, mcool, genome, tmp_path / "right", PLAIN)
    with h5py.File(mcool, "r+") as file:
        _spoil_bins(file[f"{GROUP}/indexes"])
    normalize_contacts(ROW, mcool, genome, tmp_path / "mended", PLAIN)
    files = [tmp_path / name / "contacts.cool" for name in ("right", "mended")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_index_is_that_of_any_block(mcool: Path, tmp_path: Path, monkeypatch) -> None:
    with h5py.File(mcool, "r") as file:
        wanted = contact_index.index_of(file[GROUP], "x")
        for size in (1, 7, 61):
            monkeypatch.setattr(contact_index, "BLOCK", size)
            found = contact_index.index_of(file[GROUP], "x")
            np.testing.assert_array_equal(found.bins, wanted.bins)
            assert (found.pixels, found.repeated) == (wanted.pixels, 0)


def test_a_pixel_that_is_there_twice_has_the_sum(mcool: Path, tmp_path: Path, caplog) -> None:
    """As old versions of cooler coarsened: a pixel at a border of their blocks, in two parts."""
    wanted = _dense(f"{mcool}::{GROUP}")
    with h5py.File(mcool, "r+") as file:
        pixels, count = file[f"{GROUP}/pixels"], file[f"{GROUP}/pixels/count"][:]
        at = int(np.argmax(count))
        for column in ("bin1_id", "bin2_id", "count"):
            values = np.insert(pixels[column][:], at, pixels[column][at])
            if column == "count":
                values[at], values[at + 1] = 1, count[at] - 1
            del pixels[column]
            pixels[column] = values
    np.testing.assert_array_equal(_dense(sound_map(mcool, GROUP, tmp_path)), wanted)
    assert "1 pixels are twice" in caplog.text


def _swap_rows(group: h5py.Group) -> None:
    first = group["pixels/bin1_id"]
    first[-1], first[0] = first[0], first[-1]


def _off_bins(group: h5py.Group) -> None:
    group["pixels/bin2_id"][3] = 91


def _lower(group: h5py.Group) -> None:
    group["pixels/bin2_id"][-1] = 0


def _cut(group: h5py.Group) -> None:
    counts = group["pixels/count"][:-3]
    del group["pixels/count"]
    group["pixels/count"] = counts


def _mixed_chromosomes(group: h5py.Group) -> None:
    group["bins/chrom"][0] = 1


def _no_pixels(group: h5py.Group) -> None:
    del group["pixels/bin1_id"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_swap_rows, "must be sorted by their first bin|upper triangle"),
        (_off_bins, r"pixel 3 is of bins \d+, 91; bins are 0 to 90"),
        (_lower, "upper triangle"),
        (_cut, "different lengths.*cut short"),
        (_mixed_chromosomes, "bins are not sorted by chromosome"),
        (_no_pixels, "bin1_id"),
    ],
)
def test_wrong_tables_are_refused_before_any_work(spoil, message: str, mcool: Path, tmp_path: Path) -> None:
    with h5py.File(mcool, "r+") as file:
        spoil(file[GROUP])
    with pytest.raises(FileError, match=message) as caught:
        normalize_contacts(ROW, mcool, make_genome(tmp_path, LENGTHS), tmp_path / "out", PLAIN)
    assert "cooler zoomify" in str(caught.value) and GROUP in str(caught.value)
    assert not (tmp_path / "out").exists()
