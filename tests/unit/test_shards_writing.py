"""Writing the store: from any bigWig, by many processes, again after a kill, and only what changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from track_stand_ins import make_genome, random_signal, row, write_bigwig

from megabase.files import FileError
from megabase.seeds import generator
from megabase.settings.data import ShardSettings, TrackSettings
from megabase.shards import ShardStore, write_shards
from megabase.shards.blocks import Blocks, BlockWriter
from megabase.shards.encoding import ChunkFormat, cut_runs, decode_chunk, encode_chunk, runs_of_intervals
from megabase.shards.signal import stretches
from megabase.tracks import list_tracks, normalize_track

SETTINGS = ShardSettings(chunk=1_024)
LENGTHS = {"chr1": 9_000, "chr2": 5_003}
TRACKS = (("rna_seq", 0), ("rna_seq", 1), ("dnase", 2), ("chip_tf", 3))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Genome and four tracks of three output types."""
    make_genome(tmp_path)
    for number in range(len(TRACKS)):
        _make_track(tmp_path, number)
    _list(tmp_path)
    return tmp_path


def _make_track(folder: Path, number: int, scale: float = 0.37) -> None:
    output, _ = TRACKS[number]
    drawn = {c: v * np.float32(scale) for c, v in random_signal("writing", str(number)).items()}
    raw = write_bigwig(folder / f"{number}.bw", drawn)
    more = {"target": "CTCF"} if output == "chip_tf" else {}
    rows = [row(f"a{number}", output, ontology_curie=f"CL:{number}", **more)]
    shutil.rmtree(folder / f"t{number}", ignore_errors=True)
    normalize_track(rows, [raw], folder / "genome", folder / f"t{number}", TrackSettings())


def _list(folder: Path, numbers: range = range(len(TRACKS))) -> None:
    list_tracks([folder / f"t{n}/track.json" for n in numbers], "human", folder / "tracks.parquet")


def _write(folder: Path, numbers: range = range(len(TRACKS)), **options: int) -> dict[str, tuple[int, bytes]]:
    """Write the store; modification time and bytes of its files."""
    dirs = [folder / f"t{n}" for n in numbers]
    write_shards(folder / "tracks.parquet", dirs, folder / "genome", folder / "s", SETTINGS, **options)
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in (folder / "s").iterdir()}


def test_one_changed_track_rewrites_its_output_type_alone(world: Path) -> None:
    first = _write(world)
    again = _write(world)
    blocks = [name for name in first if ".parquet" not in name and name != "store.json"]
    assert len(blocks) == 9 and all(again[name] == first[name] for name in blocks)
    assert again["store.json"][1] == first["store.json"][1]

    _make_track(world, 2, scale=0.5)
    (world / "2.bw").unlink()
    _list(world)
    changed = _write(world)
    for name in blocks:
        assert (changed[name] == again[name]) == (not name.startswith("dnase")), name
    assert changed["store.json"][1] != first["store.json"][1]
    shutil.rmtree(world / "s")
    fresh = _write(world)
    assert {name: data for name, (_, data) in fresh.items()} == {n: d for n, (_, d) in changed.items()}


def test_a_new_format_or_a_damaged_part_is_written_again(world: Path) -> None:
    first = _write(world)
    path = world / "s" / "rna_seq.runs"
    path.write_bytes(path.read_bytes()[:-1])
    again = _write(world)
    assert again["rna_seq.runs"][1] == first["rna_seq.runs"][1]
    assert again["dnase.runs"] == first["dnase.runs"]
    dirs = [world / f"t{n}" for n in range(len(TRACKS))]
    other = ShardSettings(chunk=2_048)
    write_shards(world / "tracks.parquet", dirs, world / "genome", world / "s", other)
    assert (world / "s" / "dnase.runs").read_bytes() != first["dnase.runs"][1]


def test_what_is_no_longer_there_goes(world: Path) -> None:
    _write(world)
    _list(world, range(2))
    names = set(_write(world, range(2)))
    assert names == {"rna_seq.runs", "rna_seq.index.npy", "rna_seq.json", "tracks.parquet", "store.json"}


def test_bytes_do_not_depend_on_the_number_of_processes(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _write(world)
    shutil.rmtree(world / "s")
    monkeypatch.setattr("megabase.shards.signal.MOST_CHUNKS", 1)  # stretches for all workers
    two = _write(world, workers=2)
    assert {n: d for n, (_, d) in one.items()} == {n: d for n, (_, d) in two.items()}


SLOW_WRITER = """
import sys, time
from megabase.settings.data import ShardSettings
from megabase.shards import signal, write_shards
signal.MOST_CHUNKS = 1
blocks = signal.SignalEncoder.blocks
def slow(self, stretch):
    time.sleep(0.1)
    return blocks(self, stretch)
signal.SignalEncoder.blocks = slow
folder = sys.argv[1]
dirs = [f"{folder}/t{n}" for n in range(4)]
write_shards(f"{folder}/tracks.parquet", dirs, f"{folder}/genome", f"{folder}/s", ShardSettings(chunk=1024))
"""


def test_a_killed_run_goes_on_where_it_stopped(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(world)], env=os.environ)
    store = world / "s"
    deadline = time.monotonic() + 60
    while not (journals := list(store.glob(".partial-*.journal"))) or journals[0].stat().st_size < 32:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(FileError, match="write-shards"):
        ShardStore.open(store)
    done = journals[0].stat().st_size // 16
    written = journals[0].name.split("-")[1]

    from megabase.shards import writer

    asked: dict[str, int] = {}

    def counted(lengths: dict[str, int], form: ChunkFormat, done: int = 0):
        asked[f"{form.channels} channels, {len(asked)}"] = done
        return stretches(lengths, form, done)

    monkeypatch.setattr(writer, "stretches", counted)
    resumed = _write(world)
    assert max(asked.values()) >= done > 0, (written, asked)
    shutil.rmtree(store)
    whole = _write(world)
    assert {n: d for n, (_, d) in resumed.items()} == {n: d for n, (_, d) in whole.items()}
    assert not [name for name in resumed if name.startswith(".")]


def test_a_journal_that_says_more_than_is_there_is_cut(tmp_path: Path) -> None:
    writer = BlockWriter(tmp_path / "x", "runs", "key")
    writer.add([b"abc", b"defg"])
    writer.add([b"hi"])
    writer.close()
    data = tmp_path / ".partial-x-key.runs"
    data.write_bytes(data.read_bytes()[:8])
    journal = tmp_path / ".partial-x-key.journal"
    journal.write_bytes(journal.read_bytes() + b"\1\2\3")
    again = BlockWriter(tmp_path / "x", "runs", "key")
    assert again.done == 2
    again.add([b"jkl"])
    again.finish()
    blocks = Blocks(tmp_path / "x", "runs")
    assert [blocks.read(k) for k in range(len(blocks))] == [b"abc", b"defg", b"jkl"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.index.npy", "x.runs"]


def test_stretches_cover_the_genome_once_from_any_chunk() -> None:
    form = ChunkFormat(3, 1_000, "float32")
    lengths = {"a": 9_500, "b": 300, "c": 20_000}
    chunks = [(c, s) for c, n in lengths.items() for s in range(0, n, 1_000)]
    for done in (0, 1, 10, 11, 15, len(chunks)):
        found = [(c, s) for c, low, high in stretches(lengths, form, done) for s in range(low, high, 1_000)]
        assert found == chunks[done:]
    wide = ChunkFormat(1 << 20, 1_000, "float32")
    assert {high - low for _, low, high in stretches({"a": 9_000}, wide)} == {1_000}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("chunk", [500, 70_000])
def test_blocks_give_back_every_bit(dtype: str, chunk: int) -> None:
    """Channels of counts, of many values, empty ones, and one run of a whole chunk, in one block."""
    draws = generator(0, "blocks", dtype)
    form = ChunkFormat(5, chunk, dtype)
    runs = []
    for channel in range(5):
        starts = np.arange(0, chunk, 3)
        values = draws.standard_normal(len(starts)).astype(np.float32)
        if channel == 1:
            values = draws.poisson(2, len(starts)).astype(np.float32) * np.float32(0.123)
        if channel == 2:
            starts = values = np.zeros(0, np.float32)
        if channel == 3:
            starts, values = np.array([0]), np.array([-0.0], np.float32)
        ends = starts + (chunk if channel == 3 else 2)
        inside = ends <= chunk
        found = runs_of_intervals(starts[inside], ends[inside], values[inside], (0, chunk), dtype)
        runs.append(cut_runs(found, 0, chunk))
    data = encode_chunk(runs, form, zstandard.ZstdCompressor(write_checksum=True))
    counts, lengths, bits = decode_chunk(data, form)
    assert counts.tolist() == [len(found) for found, _ in runs]
    np.testing.assert_array_equal(lengths, np.concatenate([found for found, _ in runs]))
    np.testing.assert_array_equal(bits, np.concatenate([found for _, found in runs]))
    with pytest.raises(ValueError, match=r"another number of channels|wanted a head"):
        decode_chunk(data, ChunkFormat(6, chunk, dtype))


def test_a_flipped_bit_is_named(world: Path) -> None:
    _write(world)
    path = world / "s" / "dnase.runs"
    index = np.load(world / "s" / "dnase.index.npy")
    data = bytearray(path.read_bytes())
    data[int(index[3].sum()) - 9] ^= 4
    path.write_bytes(bytes(data))
    store = ShardStore.open(world / "s")
    store.runs("dnase", "chr1", 0, 1_024)
    with pytest.raises(FileError, match=r"dnase\.runs: block 3 is damaged"):
        store.runs("dnase", "chr1", 3_000, 4_000)


def test_a_store_of_the_former_format_is_refused_by_name(world: Path) -> None:
    _write(world)
    path = world / "s" / "store.json"
    text = json.loads(path.read_text())
    text["megabase"]["format_version"] = 1
    path.write_text(json.dumps(text))
    with pytest.raises(FileError, match=r"'shards' format version 1, .* reads version 2; rerun the stage"):
        ShardStore.open(world / "s")


def test_tracks_of_another_genome_are_refused(world: Path) -> None:
    make_genome(world / "other", {"chr1": 9_000, "chr2": 5_004})
    with pytest.raises(FileError, match="chromosomes differ from the genome's"):
        write_shards(
            world / "tracks.parquet", [world / f"t{n}" for n in range(4)], world / "other" / "genome",
            world / "o", SETTINGS,
        )  # fmt: skip
    assert not (world / "o" / "store.json").exists()
    assert pl.read_parquet(world / "tracks.parquet").height == 4
