"""Published training records: read without TensorFlow, and their signal made a store of every base once."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from record_stand_ins import example, field, tensor, varint, window_features, write_records
from track_stand_ins import make_genome

from megabase.files import FileError, Stamp, write_table
from megabase.genome import Genome
from megabase.seeds import generator
from megabase.settings.data import ShardSettings
from megabase.shards import ShardStore, densify
from megabase.shards.importing import import_tfrecords
from megabase.shards.tfrecords import parse_example, parse_tensor, read_examples, read_tfrecords
from megabase.spec import TRACK_COLUMNS

LENGTHS = {"chr1": 9_000, "chr2": 5_003}
WINDOW, SIGNAL = 2_560, 2_048  # targets may be shorter than the sequence
SETTINGS = ShardSettings(chunk=1_000)


def signal(output: str, chrom: str) -> np.ndarray:
    """The truth [bases, 3], of values that bfloat16 holds; ChIP constant in bins of 128 of any window."""
    draws = generator(0, "records", output, chrom)
    values = draws.integers(0, 9, (LENGTHS[chrom], 3)) * (draws.random((LENGTHS[chrom], 3)) < 0.3)
    return (values[np.arange(LENGTHS[chrom]) // 128] if output == "chip_tf" else values).astype(np.float32)


def record(genome: Genome, output: str, chrom: str, start: int, **changes: Any) -> bytes:
    """One window; beyond the chromosome its signal is masked."""
    codes = genome.codes(chrom, start, start + WINDOW)
    sequence = np.eye(5, dtype=np.float32)[codes][:, :4]
    first = start + (WINDOW - SIGNAL) // 2
    values, known = np.zeros((SIGNAL, 3), np.float32), np.zeros((SIGNAL, 1), bool)
    low, high = max(first, 0), min(first + SIGNAL, LENGTHS[chrom])
    values[low - first : high - first] = signal(output, chrom)[low:high]
    known[low - first : high - first] = True
    values += changes.get("more", 0)
    kind = "bfloat16"
    if output == "chip_tf":
        values, known, kind = values.reshape(-1, 128, 3).sum(1), known.reshape(-1, 128, 1).all(1), "float32"
    return example({
        "dna_sequence": tensor(changes.get("sequence", sequence), "float32"),
        **window_features(changes.get("named", chrom), start, start + WINDOW),
        output: tensor(values, kind), f"{output}_mask": tensor(known, "bool"),
        f"{output}_strand": tensor(np.zeros(3), "int32"),
    })  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Genome]:
    """A genome, a table of three tracks of two output types, and records of overlapping windows."""
    genome = Genome.open(make_genome(tmp_path))
    rows = [
        dict.fromkeys(TRACK_COLUMNS) | {"name": f"{o} {k}", "output_type": o, "organism": "human",
                                        "strand": ".", "strand_partner": k, "accessions": f"{o}{k}"}
        for o in ("rna_seq", "chip_tf") for k in range(3)
    ]  # fmt: skip
    table = pl.DataFrame(rows, infer_schema_length=None)
    write_table(table, tmp_path / "tracks.parquet", Stamp("tracks"))
    for output in ("rna_seq", "chip_tf"):
        step = 640
        starts = {"TRAIN": range(-1_024, 4_000, step), "TEST": range(4_096 - 1_024 + 640, 8_000, step)}
        for subset, found in starts.items():
            records = [record(genome, output, "chr1", s) for s in found]
            write_records(_file(tmp_path, output, subset), records)
    write_records(_file(tmp_path, "rna_seq", "VALID", "chr2"), [record(genome, "rna_seq", "chr2", 500)])
    return tmp_path, genome


def _file(folder: Path, output: str, subset: str, chrom: str = "chr1") -> Path:
    bundle = folder / "FOLD_0" / "HOMO_SAPIENS" / subset / output.upper()
    return bundle / f"data_{chrom}_0-1.gz.tfrecord"


def _import(folder: Path, settings: ShardSettings = SETTINGS) -> ShardStore:
    records = folder / "FOLD_0" / "HOMO_SAPIENS"
    import_tfrecords(records, folder / "tracks.parquet", folder / "genome", folder / "s", settings)
    return ShardStore.open(folder / "s")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_base_of_the_windows_is_in_the_store(world: tuple[Path, Genome], dtype: str) -> None:
    folder, _ = world
    store = _import(folder, ShardSettings(chunk=1_000, dtype=dtype))
    for output in ("rna_seq", "chip_tf"):
        found = densify(store.runs(output, "chr1", 0, 9_000), 9_000).numpy()
        known = ~np.isnan(found).any(1)
        np.testing.assert_array_equal(found[known], signal(output, "chr1")[known])
        last = max(range(4_096 - 1_024 + 640, 8_000, 640)) + (WINDOW + SIGNAL) // 2
        assert known[: min(last, 9_000) // 128 * 128].all()
    found = densify(store.runs("rna_seq", "chr2", 0, 5_003), 5_003).numpy()
    inside = slice(500 + 256, 500 + 256 + SIGNAL)
    np.testing.assert_array_equal(found[inside], signal("rna_seq", "chr2")[inside])
    assert np.isnan(found[: inside.start]).all() and np.isnan(found[inside.stop :]).all()
    assert np.isnan(densify(store.runs("chip_tf", "chr2", 0, 5_003), 5_003).numpy()).all()


def test_chip_bins_at_another_offset_add_what_is_new(world: tuple[Path, Genome]) -> None:
    """Published windows begin 49,173 bp apart: their bins of 128 bases do not coincide."""
    folder, genome = world
    starts = (1_024 - 256, 1_024 - 256 + 621)
    records = [record(genome, "chip_tf", "chr2", start) for start in starts]
    write_records(_file(folder, "chip_tf", "VALID", "chr2"), records)
    found = densify(_import(folder).runs("chip_tf", "chr2", 0, 5_003), 5_003).numpy()
    first, second = (start + 256 for start in starts)
    truth = signal("chip_tf", "chr2")
    np.testing.assert_array_equal(found[first : first + SIGNAL], truth[first : first + SIGNAL])
    assert np.isnan(found[:first]).all() and np.isnan(found[second + SIGNAL :]).all()
    wanted = truth[second : second + SIGNAL].reshape(-1, 128, 3).mean(1)[-4:]
    np.testing.assert_allclose(found[second + SIGNAL - 512 : second + SIGNAL : 128], wanted, rtol=1e-6)


def test_a_second_import_keeps_what_it_finds(world: tuple[Path, Genome]) -> None:
    folder, genome = world
    _import(folder)
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "s").iterdir()}
    first = {p.name: p.read_bytes() for p in (folder / "s").iterdir()}
    write_records(_file(folder, "rna_seq", "VALID", "chr2"), [record(genome, "rna_seq", "chr2", 600)] * 2)
    _import(folder)
    after = {p.name: p.stat().st_mtime_ns for p in (folder / "s").iterdir()}
    assert before["chip_tf.runs"] == after["chip_tf.runs"] and before["rna_seq.runs"] != after["rna_seq.runs"]
    assert (folder / "s" / "chip_tf.index.npy").read_bytes() == first["chip_tf.index.npy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, r"record 2, chr2:\d+\+0, channel 0: differs from what another record says"),
        ({"sequence": np.zeros((WINDOW, 4))}, "record 2: its sequence is not that of toy at chr2:600"),
        ({"named": "chr7"}, "record 2: chr7:600-3160 is not in genome toy"),
    ],
)
def test_records_that_do_not_fit_are_refused(
    world: tuple[Path, Genome], changes: dict[str, Any], message: str
) -> None:
    folder, genome = world
    records = [record(genome, "rna_seq", "chr2", 500), record(genome, "rna_seq", "chr2", 600, **changes)]
    write_records(_file(folder, "rna_seq", "VALID", "chr2"), records)
    with pytest.raises(FileError, match=message):
        _import(folder)
    assert not (folder / "s" / "store.json").exists()


def test_another_number_of_channels_and_no_files_are_refused(world: tuple[Path, Genome]) -> None:
    folder, _ = world
    table = pl.read_parquet(folder / "tracks.parquet")[:2]
    write_table(table, folder / "tracks.parquet", Stamp("tracks"))
    with pytest.raises(
        FileError, match=r"record 1: rna_seq has shape \(2048, 3\); the track table has 2 such tracks"
    ):
        _import(folder)
    with pytest.raises(FileError, match="wanted that of an organism"):
        import_tfrecords(folder, folder / "tracks.parquet", folder / "genome", folder / "o", SETTINGS)


def test_truncated_and_corrupt_files_are_refused_by_record(tmp_path: Path) -> None:
    data = [example({"x": tensor(np.arange(100 * k), "float32")}) for k in range(1, 5)]
    path = write_records(tmp_path / "x", data)
    assert [(n, bytes(d)) for n, d in read_tfrecords(path)] == list(enumerate(data, 1))
    raw = gzip.decompress(path.read_bytes())
    third = sum(len(d) + 16 for d in data[:2])
    for at, what in ((third + 2, "the checksum of its length"), (third + 60, "its checksum")):
        broken = bytearray(raw)
        broken[at] ^= 8
        path.write_bytes(gzip.compress(bytes(broken)))
        with pytest.raises(FileError, match=rf"x: record 3: {what} is wrong; fetch the file again"):
            list(read_tfrecords(path))
    for cut, what in ((third + 5, "its head is cut short"), (third + 100, "its data are cut short")):
        path.write_bytes(gzip.compress(raw[:cut]))
        with pytest.raises(FileError, match=f"record 3: {what}"):
            list(read_tfrecords(path))
    path.write_bytes(gzip.compress(raw)[:-40])
    with pytest.raises(FileError, match=r"record \d"):
        list(read_tfrecords(path))
    write_records(path, [data[0], b"\x0a\xff\xff"])
    with pytest.raises(FileError, match="record 2: is no Example"):
        list(read_examples(path))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4)])
def test_tensors_of_every_type(kind: str, shape: tuple[int, ...]) -> None:
    values = generator(0, kind).integers(-3 if kind != "bool" else 0, 2, shape)
    found = parse_tensor(memoryview(tensor(np.asarray(values), kind)))
    assert found.shape == shape
    np.testing.assert_array_equal(found, values)


def test_values_listed_one_by_one_and_plain_features() -> None:
    """Small constants may be stored as lists; intervals may be plain integers and bytes."""
    one = b"\x08\x01" + field(2, field(2, b"\x08\x04")) + field(5, struct.pack("<f", 2.5))
    np.testing.assert_array_equal(parse_tensor(memoryview(one)), np.full(4, 2.5, np.float32))
    several = b"\x08\x09" + field(2, field(2, b"\x08\x02")) + field(10, varint(7) + varint(-7))
    np.testing.assert_array_equal(parse_tensor(memoryview(several)), [7, -7])
    entry = field(1, b"n") + field(2, field(3, field(1, varint(-5))))
    text = field(1, b"t") + field(2, field(1, field(1, b"chr1")))
    assert parse_example(field(1, field(1, entry) + field(1, text))) == {"n": -5, "t": b"chr1"}
    wrong = b"\x08\x01" + field(2, field(2, b"\x08\x04")) + field(4, bytes(12))
    with pytest.raises(ValueError, match=r"tensor of 3 values, its shape is \[4\]"):
        parse_tensor(memoryview(wrong))
