"""Contact maps of published training records become bands of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from record_stand_ins import example, tensor, window_features, write_records

from megabase.files import FileError, Stamp, write_table
from megabase.genome import Genome, prepare_genome
from megabase.seeds import generator
from megabase.settings.data import ShardSettings
from megabase.shards import ShardStore
from megabase.shards.import_contacts import grid_means
from megabase.shards.importing import import_tfrecords
from megabase.spec import TRACK_COLUMNS

BIN, LENGTH, MAPS = 2_048, 70_000, 2
SIZE = 8 * BIN


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A genome of one chromosome and a table of two maps."""
    sequence = "".join(generator(0, "contacts").choice(list("ACGT"), LENGTH))
    (tmp_path / "g.fa").write_text(f">chr1\n{sequence}\n")
    prepare_genome(tmp_path / "g.fa", tmp_path / "genome", organism="human", name="toy")
    rows = [
        dict.fromkeys(TRACK_COLUMNS)
        | {"name": f"map {k}", "output_type": "contact_maps", "organism": "human", "strand": ".",
           "strand_partner": k, "accessions": f"m{k}"}
        for k in range(MAPS)
    ]  # fmt: skip
    table = pl.DataFrame(rows, infer_schema_length=None)
    write_table(table, tmp_path / "tracks.parquet", Stamp("tracks"))
    return tmp_path


def truth(start: int, bins: int) -> np.ndarray:
    """[bins, bins, MAPS]: a smooth function of both bins' middles, so that a mean moves it little."""
    middle = (start + BIN * (np.arange(bins) + 0.5)) / LENGTH
    first, second = np.minimum.outer(middle, middle), np.maximum.outer(middle, middle)
    return np.stack([first + 2 * second, 3 * second - first], axis=-1).astype(np.float32)


def record(start: int, maps: np.ndarray, **more: bytes) -> bytes:
    features = window_features("chr1", start, start + len(maps) * BIN)
    return example(features | {"contact_maps": tensor(maps, "float32")} | more)


def write(folder: Path, records: list[bytes]) -> Path:
    name = "FOLD_0/HOMO_SAPIENS/TRAIN/CONTACT_MAPS/data_chr1_0-1.gz.tfrecord"
    return write_records(folder / name, records)


def imported(folder: Path, **settings: Any) -> ShardStore:
    given = ShardSettings(**{"dtype": "float32", **settings})
    records = folder / "FOLD_0" / "HOMO_SAPIENS"
    import_tfrecords(records, folder / "tracks.parquet", folder / "genome", folder / "s", given)
    return ShardStore.open(folder / "s")


def test_windows_on_the_grid_come_back_to_the_last_bit(world: Path) -> None:
    """Where the first record covers both bins; the second adds what the first has not."""
    draws = generator(1, "maps").normal(size=(2, 8, 8, MAPS)).astype(np.float32)
    first, second = draws + draws.swapaxes(1, 2)
    first[2], first[:, 2] = np.nan, np.nan
    write(world, [record(0, first), record(4 * BIN, second)])
    store = imported(world)
    np.testing.assert_array_equal(store.contacts("chr1", 0, SIZE), first)
    found = store.contacts("chr1", 4 * BIN, SIZE)
    np.testing.assert_array_equal(found[:4, :4], first[4:, 4:])
    np.testing.assert_array_equal(found[4:], second[4:])
    np.testing.assert_array_equal(found[:, 4:], second[:, 4:])
    assert np.isnan(store.contacts("chr1", 12 * BIN, SIZE)).all()


@pytest.mark.parametrize("shift", [21, 700, 2_047])
def test_a_window_at_any_offset_comes_back_smoothed_by_a_bin(world: Path, shift: int) -> None:
    start = 3 * BIN + shift
    maps = truth(start, 8)
    write(world, [record(start, maps)])
    found = imported(world).contacts("chr1", start, SIZE)
    inner = slice(1, 7)  # the outermost grid bins are not wholly inside
    near = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) > 1  # the function bends on the diagonal
    kept = near[inner, inner]
    np.testing.assert_allclose(found[inner, inner][kept], maps[inner, inner][kept], atol=1e-5)
    assert np.abs(found[inner, inner] - maps[inner, inner]).max() < 2 * BIN / LENGTH


def test_means_are_those_of_the_shared_area() -> None:
    """By brute force over the bases, missing pixels left out."""
    draws = generator(2, "area")
    maps = draws.normal(size=(4, 4, 1)).astype(np.float32)
    maps[1, 2], maps[2, 1] = np.nan, np.nan
    start, scale = -1_500, 4  # a base in 4 is enough: all edges are multiples
    bases = np.repeat(np.arange(4), BIN // scale)
    dense = maps[bases][:, bases, 0]
    offset = -start // scale
    cut = dense[offset : offset + 3 * BIN // scale, offset : offset + 3 * BIN // scale]
    blocks = cut.reshape(3, BIN // scale, 3, BIN // scale).swapaxes(1, 2)
    np.testing.assert_allclose(
        grid_means(maps, start, 0, 3)[..., 0], np.nanmean(blocks, axis=(2, 3)), rtol=1e-5
    )


def test_the_last_bin_of_a_chromosome_and_windows_beyond_it(world: Path) -> None:
    start = LENGTH // BIN * BIN - 5 * BIN
    write(world, [record(-4 * BIN, truth(-4 * BIN, 8)), record(start, truth(start, 8))])
    store = imported(world)
    found = store.contacts("chr1", start, SIZE)
    np.testing.assert_allclose(found[:6, :6], truth(start, 8)[:6, :6], rtol=1e-6)
    assert np.isnan(found[6:]).all()
    np.testing.assert_allclose(store.contacts("chr1", 0, 4 * BIN), truth(0, 4), rtol=1e-6)


def test_masked_and_padding_maps(world: Path) -> None:
    maps = np.concatenate([truth(0, 8), np.full((8, 8, 2), 7, np.float32)], axis=2)
    known = np.array([[[True, True, False, False]]])
    write(world, [record(0, maps, contact_maps_mask=tensor(known, "bool"))])
    np.testing.assert_allclose(imported(world).contacts("chr1", 0, SIZE), truth(0, 8), rtol=1e-6)
    write(world, [record(0, np.concatenate([truth(0, 8), np.zeros((8, 8, 2), np.float32)], axis=2))])
    np.testing.assert_allclose(imported(world).contacts("chr1", 0, SIZE), truth(0, 8), rtol=1e-6)


def test_an_import_is_kept_and_small_types_round_once(world: Path) -> None:
    write(world, [record(0, truth(0, 8))])
    left = world / "s" / ".spool-contact_maps"  # by a killed run
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"\xff" * 4_096)
    found = imported(world, dtype="bfloat16").contacts("chr1", 0, SIZE)
    np.testing.assert_allclose(found, truth(0, 8), rtol=2**-8)
    before = (world / "s" / "contact_maps.bands").stat().st_mtime_ns
    imported(world, dtype="bfloat16")
    assert (world / "s" / "contact_maps.bands").stat().st_mtime_ns == before
    assert not list((world / "s").glob(".spool*"))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([(0, truth(0, 8)), (BIN, truth(BIN, 4))], "record 2: a window of 4 bins, earlier ones have 8"),
        ([(0, truth(0, 8)[..., :1])], r"has shape \(8, 8, 1\); the track table has 2 such maps"),
        (
            [(0, np.concatenate([truth(0, 8)] * 2, 2))],
            r"has shape \(8, 8, 4\); the track table has 2",
        ),
        ([(0, truth(0, 8)[:, :4])], r"has shape \(8, 4, 2\); wanted a square of bins of 2048 bases of 16384"),
        ([], "no record in any file of contact_maps"),
    ],
)
def test_records_that_do_not_fit_are_refused(
    world: Path, records: list[tuple[int, np.ndarray]], message: str
) -> None:
    write(world, [record(start, maps) for start, maps in records])
    with pytest.raises(FileError, match=message):
        imported(world)
    assert not (world / "s" / "store.json").exists()


def test_a_genome_is_what_the_records_are_of(world: Path) -> None:
    wrong = np.zeros((SIZE, 4), np.float32)
    write(world, [record(0, truth(0, 8), dna_sequence=tensor(wrong, "float32"))])
    with pytest.raises(FileError, match="record 1: its sequence is not that of toy at chr1:0"):
        imported(world)
    assert Genome.open(world / "genome").lengths == {"chr1": LENGTH}
