"""Splice tables in the store: classes, usage and junctions of any window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from track_stand_ins import LENGTHS, make_genome, row

from megabase.files import FileError, Stamp, read_table, write_json, write_table
from megabase.seeds import generator
from megabase.settings.data import ShardSettings
from megabase.shards import ShardStore, Splicing, write_shards
from megabase.spec import OutputType, SiteClass
from megabase.tracks import list_tracks
from megabase.tracks.table import channel_row

BIOSAMPLES = ("A x", "B x")
CLASSES = {("donor", "+"): 0, ("acceptor", "+"): 1, ("donor", "-"): 2, ("acceptor", "-"): 3}
Tables = dict[str, pl.DataFrame]


def _tables() -> Tables:
    """Random introns on both strands and chromosomes, some of their sites measured in some biosamples."""
    draws = generator(0, "splicing")
    sites, usage, junctions = set(), [], []
    for chrom, length in LENGTHS.items():
        for _ in range(60):
            left = int(draws.integers(1, length - 400))
            right, strand = left + int(draws.integers(20, 390)), str(draws.choice(["+", "-"]))
            donor, acceptor = (left, right) if strand == "+" else (right, left)
            sites |= {(chrom, donor, strand, "donor"), (chrom, acceptor, strand, "acceptor")}
            for biosample in BIOSAMPLES:
                if draws.random() < 0.7:
                    junctions.append((chrom, donor, acceptor, strand, biosample, float(draws.random())))
    for chrom, position, strand, _ in sorted(sites):
        usage += [
            (chrom, position, strand, b, float(draws.random())) for b in BIOSAMPLES if draws.random() < 0.6
        ]
    columns = {
        "sites": ("chrom", "position", "strand", "kind"),
        "usage": ("chrom", "position", "strand", "biosample", "usage"),
        "junctions": ("chrom", "donor", "acceptor", "strand", "biosample", "count"),
    }
    rows = {"sites": sorted(sites), "usage": usage, "junctions": junctions}
    return {
        k: pl.DataFrame(rows[k], schema=list(columns[k]), orient="row").unique(columns[k][:-1])
        for k in columns
    }


def _write_tracks(folder: Path, tables: Tables) -> Path:
    for kind, table in tables.items():
        write_table(table, folder / f"{kind}.parquet", Stamp(kind))
    channels = [
        channel_row([row(f"s{b}", output, ontology_curie=b[0], assay="x")], strand, n_replicates=1)
        | {"file": "x"}
        for output in ("splice_site_usage", "splice_junctions")
        for strand in "+-"
        for b in BIOSAMPLES
    ]
    write_json({"channels": channels}, folder / "track.json", Stamp("track"))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardStore, Tables]:
    folder = tmp_path_factory.mktemp("splicing")
    tables = _tables()
    tracks = _write_tracks(folder / "splicing", tables)
    list_tracks([tracks], "human", folder / "tracks.parquet")
    write_shards(folder / "tracks.parquet", [tracks], make_genome(folder), folder / "store", ShardSettings())
    return ShardStore.open(folder / "store"), tables


def _check_sites(found: Splicing, tables: Tables, chrom: str, start: int, size: int) -> None:
    classes = np.full(size, SiteClass.NONE)
    outside = (np.arange(start, start + size) < 0) | (np.arange(start, start + size) >= LENGTHS[chrom])
    classes[outside] = -1
    here = tables["sites"].filter(pl.col("chrom") == chrom)
    for _, position, strand, kind in here.sort("strand", "kind", descending=[True, False]).rows():
        if start <= position < start + size:
            value = CLASSES[kind, strand]
            old = classes[position - start]
            classes[position - start] = value if old == SiteClass.NONE else min(old, value)
    np.testing.assert_array_equal(found.classes, classes)


def _check_usage(found: Splicing, tables: Tables, chrom: str, start: int) -> None:
    index, values = found.usage
    for position, row_values in zip(index, values, strict=True):
        for half, strand in enumerate("+-"):
            at = (
                (pl.col("chrom") == chrom)
                & (pl.col("position") == int(position) + start)
                & (pl.col("strand") == strand)
            )
            is_site = len(tables["sites"].filter(at)) > 0
            for number, biosample in enumerate(BIOSAMPLES):
                measured = tables["usage"].filter(at & (pl.col("biosample") == biosample))["usage"].to_list()
                wanted = measured[0] if measured else (np.nan if is_site else 0.0)
                np.testing.assert_equal(row_values[2 * half + number], np.float32(wanted))


def _check_junctions(found: Splicing, tables: Tables, chrom: str, start: int) -> None:
    here = tables["junctions"].filter(pl.col("chrom") == chrom)
    wanted = {
        (d - start, a - start, 2 * "+-".index(s) + BIOSAMPLES.index(b)): c for _, d, a, s, b, c in here.rows()
    }
    counts = found.counts
    positions = found.positions
    seen = 0
    for channel in range(4):
        donors, acceptors = positions[2 * (channel // 2)], positions[2 * (channel // 2) + 1]
        for i, donor in enumerate(donors):
            for j, acceptor in enumerate(acceptors):
                expected = (
                    wanted.get((int(donor), int(acceptor), channel), 0.0)
                    if min(donor, acceptor) >= 0
                    else 0.0
                )
                assert counts[i, j, channel] == np.float32(expected)
                seen += counts[i, j, channel] > 0
    assert seen == len(found.junctions[1])


@pytest.mark.parametrize(
    ("chrom", "start", "size"),
    [("chr1", 0, 9_000), ("chr1", -500, 2_000), ("chr2", 4_000, 3_000), ("chr1", 3_217, 1_500)],
)
def test_window_equals_the_tables(data: tuple[ShardStore, Tables], chrom: str, start: int, size: int) -> None:
    store, tables = data
    found = store.splicing(chrom, start, size, 40)
    _check_sites(found, tables, chrom, start, size)
    _check_usage(found, tables, chrom, start)
    _check_junctions(found, tables, chrom, start)
    for site_class in range(4):
        listed = found.positions[site_class][found.positions[site_class] >= 0]
        assert (np.diff(listed) > 0).all()


def test_too_many_sites_shrink_the_window_about_its_centre(data: tuple[ShardStore, Tables]) -> None:
    store, _ = data
    all_sites = store.splicing("chr1", 0, 9_000, 100).positions
    few = store.splicing("chr1", 0, 9_000, 5).positions
    assert few.shape == (4, 5)
    reach = max(abs(int(p) - 4_499.5) for p in few[few >= 0])
    assert (few >= 0).sum(1).max() == 5
    inside = [[p for p in row if p >= 0 and abs(p - 4_499.5) <= reach] for row in all_sites]
    assert [sorted(row[row >= 0].tolist()) for row in few] == inside, "one stretch for all classes"
    assert any(len([p for p in row if p >= 0]) > 5 for row in all_sites)


def test_centre_of_a_crowded_class_is_kept(data: tuple[ShardStore, Tables]) -> None:
    store, _ = data
    found = store.splicing("chr1", 0, 9_000, 5)
    index, values = found.junctions
    assert index.max(initial=0) < 5 or len(values) == 0
    assert (found.classes < SiteClass.NONE).sum() > 20, "classes are those of the whole window"


def test_organism_has_splicing(data: tuple[ShardStore, Tables]) -> None:
    store, tables = data
    assert store.has_splicing
    assert store.channels(OutputType.SPLICE_JUNCTIONS)["strand_partner"].to_list() == [2, 3, 0, 1]
    copy = read_table(store.folder / "usage.parquet", "usage")
    assert copy.equals(tables["usage"])


def test_usage_off_the_sites_is_refused(tmp_path: Path) -> None:
    tables = _tables()
    tables["sites"] = tables["sites"].filter(pl.col("position") != tables["usage"]["position"][0])
    tracks = _write_tracks(tmp_path / "splicing", tables)
    list_tracks([tracks], "human", tmp_path / "tracks.parquet")
    with pytest.raises(FileError, match=r"usage\.parquet.*at no site"):
        write_shards(
            tmp_path / "tracks.parquet", [tracks], make_genome(tmp_path), tmp_path / "s", ShardSettings()
        )
