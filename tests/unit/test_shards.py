"""The training store's signal: any window equals slicing the bigWigs."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
import torch
from track_stand_ins import LENGTHS, make_genome, random_signal, row, write_bigwig

from megabase.files import FileError
from megabase.seeds import generator
from megabase.settings.data import ShardSettings, TrackSettings
from megabase.shards import Runs, ShardStore, densify, write_shards
from megabase.shards.encoding import pack, unpack
from megabase.spec import OutputType
from megabase.tracks import list_tracks, normalize_track

RNA = OutputType.RNA_SEQ
N_TRACKS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genome, tracks and track table of a few unstranded RNA-seq tracks with missing stretches."""
    folder = tmp_path_factory.mktemp("shards")
    genome = make_genome(folder, n_runs={"chr2": (4_000, 4_100)})
    (folder / "regions.bed").write_text("chr1\t50\t7000\nchr2\t0\t5003\n")
    sources = ("here", "there", "toy", "toy")  # the first two share a name
    for number, portal in enumerate(sources):
        signal = {c: v * np.float32(0.37) for c, v in random_signal("shards", str(number)).items()}
        raw = write_bigwig(folder / f"{number}.bw", signal)
        rows = [row(f"a{number}", "rna_seq", ontology_curie=f"CL:{max(number, 1)}", portal=portal)]
        regions = folder / "regions.bed" if number % 2 else None
        normalize_track(rows, [raw], genome, folder / f"t{number}", TrackSettings(), regions=regions)
    list_tracks([folder / f"t{n}/track.json" for n in range(N_TRACKS)], "human", folder / "tracks.parquet")
    return folder


def _store(folder: Path, **settings: object) -> ShardStore:
    name = "store-" + "-".join(f"{key}-{value}" for key, value in settings.items())
    if not (folder / name).exists():
        dirs = [folder / f"t{n}" for n in range(N_TRACKS)]
        write_shards(
            folder / "tracks.parquet", dirs, folder / "genome", folder / name, ShardSettings(**settings)
        )
    return ShardStore.open(folder / name)


def _slice(folder: Path, chrom: str, start: int, end: int) -> np.ndarray:
    """float32 [S, P] straight from the bigWigs, NaN outside the chromosome."""
    out = np.full((end - start, N_TRACKS), np.nan, np.float32)
    low, high = max(start, 0), min(end, LENGTHS[chrom])
    for number in range(N_TRACKS) if low < high else ():
        with pyBigWig.open(str(folder / f"t{number}/unstranded.bw")) as file:
            out[low - start : high - start, number] = file.values(chrom, low, high, numpy=True)
    return out


def _windows() -> list[tuple[str, int, int]]:
    draws = generator(0, "windows")
    random = []
    for _ in range(120):
        chrom = str(draws.choice(list(LENGTHS)))
        start = int(draws.integers(-2_000, LENGTHS[chrom] + 500))
        random.append((chrom, start, start + int(draws.integers(1, 4_000))))
    edges = [
        ("chr1", -10, 0), ("chr1", 9_000, 9_010), ("chr1", 0, 9_000), ("chr2", -5_000, 20_000),
        ("chr2", 1_024, 2_048), ("chr1", 1_023, 1_024), ("chr1", 1_023, 1_025), ("chr2", 5_002, 5_004),
        ("chr1", -5, 1),
    ]  # fmt: skip
    return edges + random


@pytest.mark.parametrize("chunk", [1_024, 997, 65_536, 100_000])
def test_any_window_equals_the_bigwigs(folder: Path, chunk: int) -> None:
    store = _store(folder, chunk=chunk)
    for chrom, start, end in _windows():
        runs = store.runs(RNA, chrom, start, end)
        dense = densify(runs, end - start).numpy()
        np.testing.assert_array_equal(
            dense, _slice(folder, chrom, start, end), err_msg=f"{chrom}:{start}-{end}"
        )
        assert (runs.starts[runs.offsets[:-1]] == 0).all()


@pytest.mark.parametrize(("chunk", "dtype"), [(1_024, "float32"), (997, "bfloat16"), (65_536, "float16")])
def test_windows_unfold_on_a_device_to_the_same_bits(folder: Path, chunk: int, dtype: str) -> None:
    """By tensor operations alone, as an accelerator does it; here they run on the processor."""
    store = _store(folder, chunk=chunk, dtype=dtype)
    for chrom, start, end in _windows():
        packed = store.packed(RNA, chrom, start, end)
        wanted = densify(store.runs(RNA, chrom, start, end), end - start)
        for dense in (packed.dense(), packed.spread("cpu")):
            assert dense.shape == wanted.shape and dense.stride() == wanted.stride()
            np.testing.assert_array_equal(dense.numpy(), wanted.numpy())
    assert packed.nbytes > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator on this machine")
def test_windows_unfold_on_an_accelerator(folder: Path) -> None:
    store = _store(folder, chunk=1_024)
    for chrom, start, end in _windows()[:40]:
        packed = store.packed(RNA, chrom, start, end)
        found = packed.dense("cuda").cpu().numpy()
        np.testing.assert_array_equal(found, packed.dense().numpy())


def test_a_block_whose_runs_do_not_add_up_is_refused_on_a_device(folder: Path) -> None:
    packed = _store(folder, chunk=1_024).packed(RNA, "chr1", 0, 2_000)
    wrong = replace(packed.pieces[0], size=1_023)
    with pytest.raises(ValueError, match="its channels differ in length"):
        replace(packed, pieces=[wrong]).spread("cpu")


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_narrow_types_round_to_nearest(folder: Path, dtype: str, bits: int) -> None:
    store = _store(folder, chunk=1_024, dtype=dtype)
    for chrom, start, end in _windows()[:30]:
        dense = densify(store.runs(RNA, chrom, start, end), end - start)
        exact = torch.from_numpy(_slice(folder, chrom, start, end))
        torch.testing.assert_close(
            dense, exact.to(getattr(torch, dtype)).float(), rtol=0, atol=0, equal_nan=True
        )
        torch.testing.assert_close(dense, exact, rtol=2.0**-bits, atol=0, equal_nan=True)


def test_pack_agrees_with_torch() -> None:
    values = generator(0, "pack").standard_normal(5_000).astype(np.float32) * 1e3
    values[::97] = np.nan
    for dtype in ("bfloat16", "float16", "float32"):
        expected = torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()
        np.testing.assert_array_equal(unpack(pack(values, dtype), dtype), expected)
    with pytest.raises(ValueError, match=r"70000 does not fit float16; set shards\.dtype"):
        pack(np.float32([1, 7e4]), "float16")


def test_same_input_same_bytes_and_pickle(folder: Path, tmp_path: Path) -> None:
    store = _store(folder, chunk=1_024)
    dirs = [folder / f"t{n}" for n in range(N_TRACKS)]
    write_shards(
        folder / "tracks.parquet", dirs, folder / "genome", tmp_path / "again", ShardSettings(chunk=1_024)
    )
    for path in store.folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    copy = pickle.loads(pickle.dumps(store))
    assert isinstance(copy.runs(RNA, "chr1", 0, 10), Runs)
    assert copy.organism == "human" and copy.lengths == LENGTHS
    assert copy.channels(RNA)["name"].to_list() == [
        "CL:1 assay here", "CL:1 assay there", "CL:2 assay", "CL:3 assay",
    ]  # fmt: skip


def test_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    store = _store(folder, chunk=1_024)
    with pytest.raises(ValueError, match=r"no cage signal; it has \['rna_seq'\]"):
        store.runs(OutputType.CAGE, "chr1", 0, 10)
    with pytest.raises(ValueError, match="no chromosome 'chr9'"):
        store.runs(RNA, "chr9", 0, 10)
    with pytest.raises(ValueError, match="empty"):
        store.runs(RNA, "chr1", 10, 10)
    with pytest.raises(FileError, match="write-shards"):
        ShardStore.open(tmp_path)
    with pytest.raises(
        FileError, match=r"no track folder holds rna_seq track 'CL:1 assay here' \(4 missing\)"
    ):
        write_shards(folder / "tracks.parquet", [], folder / "genome", tmp_path / "s", ShardSettings())
    with pytest.raises(FileError, match="an accession makes one track"):
        twice = [folder / "t0", folder / "t0"]
        write_shards(folder / "tracks.parquet", twice, folder / "genome", tmp_path / "s", ShardSettings())


def test_damaged_store_is_refused(folder: Path, tmp_path: Path) -> None:
    dirs = [folder / f"t{n}" for n in range(N_TRACKS)]
    write_shards(folder / "tracks.parquet", dirs, folder / "genome", tmp_path / "s", ShardSettings())
    path = tmp_path / "s" / "rna_seq.runs"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FileError, match=r"rna_seq\.runs.*cut short"):
        ShardStore.open(tmp_path / "s")


def test_no_splice_data_is_unknown_and_no_contacts_is_empty(folder: Path) -> None:
    store = _store(folder, chunk=1_024)
    splicing = store.splicing("chr1", 0, 100, 8)
    assert (splicing.classes == -1).all() and (splicing.positions == -1).all()
    assert splicing.counts.shape == (8, 8, 0) and splicing.usage[1].shape == (0, 0)
    assert store.contacts("chr1", 0, 4096).shape == (2, 2, 0)
