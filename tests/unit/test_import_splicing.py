"""Splice sites, usage and junctions of published training records become the tables of a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from record_stand_ins import example, tensor, window_features, write_records
from track_stand_ins import make_genome

from megabase.files import FileError, Stamp, write_table
from megabase.settings.data import ShardSettings
from megabase.shards import ShardStore
from megabase.shards.importing import import_tfrecords
from megabase.shards.tfrecords import parse_tensor
from megabase.spec import TRACK_COLUMNS

SIZE, TARGET, LISTED = 2_048, 1_536, 4  # bases of a window and of its targets, sites listed by class
BIOSAMPLES = ("liver", "brain")
CHANNELS = [(name, strand) for strand in "+-" for name in BIOSAMPLES]
# class (donor+, acceptor+, donor-, acceptor-) of each site; base 2,500 is one of both strands
SITES = {
    "chr1": [(900, 0), (1_400, 1), (1_800, 1), (2_500, 0), (2_500, 3), (2_900, 2), (3_100, 1), (3_300, 2)],
    "chr2": [(1_000, 0), (1_500, 1)],
}
JUNCTIONS = {  # donor, acceptor, channel: count
    "chr1": {(900, 1_400, 0): 2.5, (900, 1_800, 0): 1.0, (900, 1_400, 1): 0.25, (2_500, 3_100, 1): 4.0,
             (2_900, 2_500, 2): 0.5, (3_300, 2_500, 3): 8.0},
    "chr2": {(1_000, 1_500, 0): 3.0},
}  # fmt: skip
STARTS = {"chr1": (200, 800, 1_400, 1_900), "chr2": (0,)}


def usage(base: int, channel: int) -> float:
    return ((base // 100 * 7 + channel * 3) % 8) / 8  # some are zero; float16 holds all


def features(chrom: str, start: int) -> dict[str, dict[str, bytes]]:
    """Features of a window by bundle; targets are its middle, positions count from its first base."""
    first = start + (SIZE - TARGET) // 2
    flags, used = np.zeros((TARGET, 5), bool), np.zeros((TARGET, 4), np.float32)
    listed = np.full((4, LISTED), -1)
    for base, kind in SITES[chrom]:
        if start <= base < start + SIZE:
            listed[kind, (listed[kind] >= 0).sum()] = base - start
        if first <= base < first + TARGET:
            flags[base - first, kind] = True
            half = slice(0, 2) if kind < 2 else slice(2, 4)
            used[base - first, half] = [usage(base, c) for c in range(4)][half]
    flags[:, 4] = ~flags[:, :4].any(1)
    counts = np.zeros((LISTED, LISTED, 4), np.float32)
    for (donor, acceptor, channel), count in JUNCTIONS[chrom].items():
        rows = (0, 1) if channel < 2 else (2, 3)
        ends = [np.flatnonzero(listed[r] == b - start) for r, b in zip(rows, (donor, acceptor), strict=True)]
        if all(len(end) for end in ends):
            counts[ends[0][0], ends[1][0], channel] = count
    return {
        "splice_sites": {"splice_sites": tensor(flags, "bool")},
        "splice_site_usage": {"splice_site_usage": tensor(used, "float16")},
        "splice_junctions": {"splice_junctions": tensor(counts, "float32")},
        "splice_site_positions": {"splice_site_positions": tensor(listed, "int32")},
    }


Change = Callable[[str, dict[str, dict[str, bytes]]], Any]


def write(folder: Path, change: Change | None = None, *, together: bool = False) -> None:
    """Records of all windows; together: positions stand in the records of junctions."""
    for chrom, starts in STARTS.items():
        records: dict[str, list[bytes]] = {}
        for start in starts:
            found = features(chrom, start)
            if change is not None:
                change(f"{chrom}:{start}", found)
            if together:
                found["splice_junctions"] |= found.pop("splice_site_positions")
            for bundle, values in found.items():
                window = window_features(chrom, start, start + SIZE)
                records.setdefault(bundle, []).append(example(window | values))
        for bundle, found in records.items():
            name = f"FOLD_0/HOMO_SAPIENS/TRAIN/{bundle.upper()}/data_{chrom}_0-1.gz.tfrecord"
            write_records(folder / name, found)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    make_genome(tmp_path)
    rows = [
        dict.fromkeys(TRACK_COLUMNS)
        | {"name": f"{name} {output} {strand}", "output_type": output, "organism": "human",
           "strand": strand, "strand_partner": (k + 2) % 4, "accessions": f"{output}{k}"}
        for output in ("splice_site_usage", "splice_junctions") for k, (name, strand) in enumerate(CHANNELS)
    ]  # fmt: skip
    table = pl.DataFrame(rows, infer_schema_length=None)
    write_table(table, tmp_path / "tracks.parquet", Stamp("tracks"))
    return tmp_path


def imported(folder: Path) -> ShardStore:
    records = folder / "FOLD_0" / "HOMO_SAPIENS"
    settings = ShardSettings()
    import_tfrecords(records, folder / "tracks.parquet", folder / "genome", folder / "s", settings)
    return ShardStore.open(folder / "s")


@pytest.mark.parametrize("together", [False, True])
def test_a_window_holds_what_the_records_say_of_it(world: Path, together: bool) -> None:
    write(world, together=together)
    store = imported(world)
    for chrom, start in (("chr1", 700), ("chr1", 1_400), ("chr2", 0)):
        window = store.splicing(chrom, start, SIZE, LISTED)
        sites = [(base - start, kind) for base, kind in SITES[chrom] if start <= base < start + SIZE]
        listed = {(int(p), kind) for kind in range(4) for p in window.positions[kind] if p >= 0}
        assert listed == set(sites)
        bases, values = window.usage
        assert bases.tolist() == sorted({base for base, _ in sites})
        for base, row in zip(bases.tolist(), values, strict=True):
            on = {kind // 2 for place, kind in sites if place == base}
            wanted = [usage(base + start, c) if c // 2 in on else 0 for c in range(4)]
            assert row.tolist() == wanted
        counts = {}
        for (donor, acceptor, channel), count in zip(
            window.junctions[0].tolist(), window.junctions[1], strict=True
        ):
            kind = 0 if channel < 2 else 2
            ends = window.positions[kind, donor] + start, window.positions[kind + 1, acceptor] + start
            counts[(int(ends[0]), int(ends[1]), channel)] = float(count)
        inside = {key: n for key, n in JUNCTIONS[chrom].items()
                  if all(start <= base < start + SIZE for base in key[:2])}  # fmt: skip
        assert counts == inside
    assert store.tracks["output_type"].to_list() == ["splice_site_usage"] * 4 + ["splice_junctions"] * 4


def _one(base: int, channel: int) -> np.ndarray:
    """Usage in one place."""
    used = np.zeros((TARGET, 4))
    used[base, channel] = 1
    return used


def _padded(values: np.ndarray) -> np.ndarray:
    """Channels with one more of zeros behind each half, as the smaller organism's records may have them."""
    more = np.zeros((*values.shape[:-1], 1), values.dtype)
    return np.concatenate([values[..., :2], more, values[..., 2:], more], axis=-1)


def test_padding_behind_each_half_is_left_out(world: Path) -> None:
    write(world)
    wanted = imported(world)
    tables = {kind: pl.read_parquet(world / "s" / f"{kind}.parquet") for kind in ("usage", "junctions")}

    def pad(window: str, found: dict[str, dict[str, bytes]]) -> None:
        for bundle, kind in (("splice_site_usage", "float16"), ("splice_junctions", "float32")):
            values = np.asarray(parse_tensor(memoryview(found[bundle][bundle])))
            found[bundle][bundle] = tensor(_padded(values), kind)

    write(world, pad)
    assert imported(world).tracks.equals(wanted.tracks)
    for kind, table in tables.items():
        assert pl.read_parquet(world / "s" / f"{kind}.parquet").equals(table)


def test_tables_hold_every_site_and_junction_once(world: Path) -> None:
    write(world)
    imported(world)
    tables = {
        kind: pl.read_parquet(world / "s" / f"{kind}.parquet") for kind in ("sites", "usage", "junctions")
    }
    assert len(tables["sites"]) == sum(map(len, SITES.values()))
    assert len(tables["usage"]) == 2 * len(tables["sites"].unique(["chrom", "position", "strand"]))
    assert len(tables["junctions"]) == sum(map(len, JUNCTIONS.values()))
    assert tables["junctions"]["biosample"].str.contains("liver|brain").all()


def test_a_second_import_reads_nothing_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(world)
    first = imported(world)
    monkeypatch.setattr("megabase.shards.import_splicing.read_records", None)
    assert imported(world).tracks.equals(first.tracks)


def test_splicing_is_left_out_where_a_bundle_is_missing(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(world)
    for path in (world / "FOLD_0").rglob("SPLICE_SITE_USAGE/*"):
        path.unlink()
    with pytest.raises(FileError, match="wanted that of an organism"):
        imported(world)
    assert "splicing is left out: no splice_site_usage" in caplog.text


def _set(bundle: str, values: np.ndarray, kind: str, at: str = "chr1:800") -> Change:
    def change(window: str, found: dict[str, dict[str, bytes]]) -> None:
        if window == at:
            found[bundle][bundle] = tensor(values, kind)

    return change


def _flags(*more: tuple[int, int]) -> np.ndarray:
    """Sites of the second window and more of them."""
    flags = np.zeros((TARGET, 5), bool)
    for base, kind in [*SITES["chr1"], *more]:
        if 1_056 <= base < 1_056 + TARGET:
            flags[base - 1_056, kind] = True
    return flags


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("splice_sites", _flags((1_600, 0)), "bool"),
         r"record 2, chr1:1600: splice_sites differs from what another record says"),
        (_set("splice_site_usage", _one(1_000 - 256, 2), "float16", "chr2:0"),
         r"chr2:1000: usage where no splice site of that strand is"),
        (_set("splice_site_usage", _one(0, 0), "float16", "chr2:0"),
         r"chr2:256: usage where no splice site of that strand is"),
        (_set("splice_site_usage", np.zeros((TARGET, 4)), "float16"),
         r"record 2, chr1:1400: splice_site_usage differs from what another record says"),
        (_set("splice_site_usage", _padded(_one(0, 0))[:, ::-1], "float16"),
         r"splice_site_usage has 6 channels; the track table has 4"),
        (_set("splice_junctions", np.ones((LISTED, LISTED, 4)), "float32", "chr2:0"),
         r"a count of sites beyond those that it lists"),
        (_set("splice_junctions", np.zeros((LISTED, 3, 4)), "float32"),
         r"splice_junctions has shape \(4, 3, 4\); wanted \(4, 4, any\)"),
        (_set("splice_site_positions", np.full((4, LISTED), 7), "int32"),
         r"chr1:807: is listed as donor\+, splice_sites has no such site"),
    ],
)  # fmt: skip
def test_records_that_contradict_are_refused(world: Path, change: Change, message: str) -> None:
    write(world, change)
    with pytest.raises(FileError, match=message):
        imported(world)
    assert not (world / "s" / "store.json").exists()


def test_another_count_of_a_junction_is_refused(world: Path) -> None:
    counts = np.zeros((LISTED, LISTED, 4))
    counts[0, 0, 0] = 9
    write(world, _set("splice_junctions", counts, "float32"))
    with pytest.raises(FileError, match=r"chr1:900-1400: splice_junctions differs"):
        imported(world)


def test_windows_of_another_order_are_refused(world: Path) -> None:
    write(world)
    folder = world / "FOLD_0" / "HOMO_SAPIENS" / "TRAIN" / "SPLICE_SITE_POSITIONS"
    records = [window_features("chr1", s, s + SIZE) | features("chr1", s)["splice_site_positions"]
               for s in reversed(STARTS["chr1"])]  # fmt: skip
    write_records(folder / "data_chr1_0-1.gz.tfrecord", [example(r) for r in records])
    with pytest.raises(FileError, match="must have the same windows in the same order"):
        imported(world)
