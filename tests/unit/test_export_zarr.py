"""The store as Zarr arrays: the same values, also after a kill, read by plain zarr and xarray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from track_stand_ins import LENGTHS, make_genome, random_signal, row, write_bigwig

from megabase.files import FileError
from megabase.settings.data import ShardSettings, TrackSettings
from megabase.shards import ShardStore, densify, write_shards
from megabase.shards import zarr_export as exporting
from megabase.shards.zarr_export import export_zarr
from megabase.tracks import list_tracks, normalize_track

xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two RNA-seq tracks and one DNase track; the ends of chromosomes are missing."""
    folder = tmp_path_factory.mktemp("export")
    make_genome(folder)
    (folder / "regions.bed").write_text("chr1\t0\t8500\nchr2\t100\t5003\n")
    for number, output in enumerate(("rna_seq", "rna_seq", "dnase")):
        raw = write_bigwig(folder / f"{number}.bw", random_signal("export", str(number)))
        rows = [row(f"a{number}", output, ontology_curie=f"CL:{number}")]
        regions = folder / "regions.bed"
        normalize_track(
            rows, [raw], folder / "genome", folder / f"t{number}", TrackSettings(), regions=regions
        )
    dirs = [folder / f"t{n}" for n in range(3)]
    list_tracks([d / "track.json" for d in dirs], "human", folder / "tracks.parquet")
    settings = ShardSettings(chunk=1_024)
    write_shards(folder / "tracks.parquet", dirs, folder / "genome", folder / "s", settings)
    return folder / "s"


def _truth(store: Path, output: str, chrom: str) -> np.ndarray:
    length = LENGTHS[chrom]
    return densify(ShardStore.open(store).runs(output, chrom, 0, length), length).numpy()


def test_arrays_hold_the_values_of_the_store(store: Path, tmp_path: Path) -> None:
    root = zarr.open_group(str(export_zarr(store, tmp_path / "x.zarr")), mode="r")
    assert root.attrs["organism"] == "human"
    for output, width in (("rna_seq", 2), ("dnase", 1)):
        tracks = root[output].attrs["tracks"]
        assert [t["output_type"] for t in tracks] == [output] * width
        for chrom, length in LENGTHS.items():
            assert root[output][chrom].shape == (length, width)
            np.testing.assert_array_equal(root[output][chrom][:], _truth(store, output, chrom))
    opened = xarray.open_zarr(tmp_path / "x.zarr", group="rna_seq", consolidated=False)["chr1"]
    assert opened.dims == ("chr1_base", "channel")
    np.testing.assert_array_equal(opened[500:900].values, _truth(store, "rna_seq", "chr1")[500:900])


def test_a_killed_export_goes_on(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "CHUNK_BASES", 1_000)
    monkeypatch.setattr(exporting, "FILE_VALUES", 4_000)
    read, windows = ShardStore.runs, []

    def dying(self, output, chrom, start, end):
        if len(windows) == 3:
            raise KeyboardInterrupt
        windows.append((str(output), chrom, start, end))
        return read(self, output, chrom, start, end)

    monkeypatch.setattr(ShardStore, "runs", dying)
    with pytest.raises(KeyboardInterrupt):
        export_zarr(store, tmp_path / "x.zarr")
    before = list(windows)
    monkeypatch.setattr(ShardStore, "runs", lambda *a: windows.append((str(a[1]), *a[2:])) or read(*a))
    export_zarr(store, tmp_path / "x.zarr")
    assert len(set(windows)) == len(windows) > len(before) == 3  # no window is read twice
    root = zarr.open_group(str(tmp_path / "x.zarr"), mode="r")
    for output in ("rna_seq", "dnase"):
        for chrom in LENGTHS:
            np.testing.assert_array_equal(root[output][chrom][:], _truth(store, output, chrom))
    count = len(windows)
    export_zarr(store, tmp_path / "x.zarr")
    assert len(windows) == count  # nothing is left to export


def test_an_export_of_another_store_is_refused(store: Path, tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    root.attrs["store"] = "another"
    with pytest.raises(FileError, match=r"x\.zarr: was exported from another store"):
        export_zarr(store, tmp_path / "x.zarr")
