"""What `megabase shards inspect` tells of a store, and that it finds every damaged block."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from track_stand_ins import make_genome, random_signal, row, write_bigwig
from typer.testing import CliRunner

from megabase.cli import app
from megabase.files import FileError
from megabase.settings.data import ShardSettings, TrackSettings
from megabase.shards import ShardStore, write_shards
from megabase.shards.inspect import description, inspect_shards, verify_blocks
from megabase.tracks import list_tracks, normalize_track

BASES = 14_003


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two RNA-seq tracks and one DNase track, of which half of chr2 is missing."""
    folder = tmp_path_factory.mktemp("inspect")
    make_genome(folder)
    (folder / "regions.bed").write_text("chr1\t0\t9000\nchr2\t0\t2500\n")
    for number, output in enumerate(("rna_seq", "rna_seq", "dnase")):
        raw = write_bigwig(folder / f"{number}.bw", random_signal("inspect", str(number)))
        rows = [row(f"a{number}", output, ontology_curie=f"CL:{number}")]
        regions = folder / "regions.bed" if output == "dnase" else None
        normalize_track(
            rows, [raw], folder / "genome", folder / f"t{number}", TrackSettings(), regions=regions
        )
    dirs = [folder / f"t{n}" for n in range(3)]
    list_tracks([d / "track.json" for d in dirs], "human", folder / "tracks.parquet")
    settings = ShardSettings(chunk=1_024)
    write_shards(folder / "tracks.parquet", dirs, folder / "genome", folder / "s", settings)
    return folder / "s"


def test_figures_are_those_of_the_files(store: Path) -> None:
    found = inspect_shards(store)
    assert (found["organism"], found["genome"], found["bases"]) == ("human", "toy", BASES)
    assert (found["chunks"], found["chunk"], found["format_version"]) == (9 + 5, 1_024, 2)
    rna, dnase = sorted(found["outputs"], key=lambda row: row["output_type"], reverse=True)
    assert (rna["tracks"], dnase["tracks"], rna["blocks"]) == (2, 1, 14)
    size = (store / "rna_seq.runs").stat().st_size
    assert rna["bytes"] == size
    assert rna["bytes_per_base_and_track"] == pytest.approx(size / BASES / 2)
    assert rna["times_smaller_than_bfloat16"] == pytest.approx(2 * BASES * 2 / size)
    opened = ShardStore.open(store / "store.json")
    whole = [opened.runs("rna_seq", chrom, 0, n) for chrom, n in opened.lengths.items()]
    bounds = [np.append(runs.offsets[1:-1], len(runs.values)) for runs in whole]
    assert sum(len(b) for b in bounds) == 4
    assert rna["bases_per_run"] == pytest.approx(2 * BASES / sum(len(r.values) for r in whole))
    assert rna["missing"] == 0 and dnase["missing"] == pytest.approx(2_503 / BASES)


def test_the_command_prints_and_verifies(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megabase.logs.start", lambda command: None)  # its handler would outlive the runner
    result = CliRunner().invoke(app, ["shards", "inspect", str(store), "--verify"])
    assert result.exit_code == 0, result.output
    for text in ("human, genome toy", "rna_seq", "dnase", "every block is whole", "splice tables: none"):
        assert text in result.output
    assert verify_blocks(ShardStore.open(store)) == 28
    assert "every block is whole" not in description(inspect_shards(store))


@pytest.mark.parametrize("number", [0, 7, 13])
def test_a_damaged_block_is_named(store: Path, tmp_path: Path, number: int) -> None:
    shutil.copytree(store, tmp_path / "s")
    path = tmp_path / "s" / "dnase.runs"
    index = np.load(tmp_path / "s" / "dnase.index.npy")
    data = bytearray(path.read_bytes())
    data[int(index[number, 0]) + int(index[number, 1]) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(FileError, match=rf"dnase\.runs: block {number} is damaged"):
        verify_blocks(ShardStore.open(tmp_path / "s"))


def test_blocks_in_a_wrong_order_are_found(store: Path, tmp_path: Path) -> None:
    """Each is whole by its checksum; the short one of a chromosome's end is not where it should be."""
    shutil.copytree(store, tmp_path / "s")
    path = tmp_path / "s" / "dnase.index.npy"
    index = np.load(path)
    index[[7, 8]] = index[[8, 7]]
    np.save(path, index)
    with pytest.raises(FileError, match="block 7 covers 808 bases of all channels, wanted 1024"):
        verify_blocks(ShardStore.open(tmp_path / "s"))
