"""The track table: order, partners, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from track_stand_ins import row

from megabase.files import FileError, Stamp, read_table, write_json
from megabase.spec import TRACK_COLUMNS
from megabase.tracks import list_tracks
from megabase.tracks.table import channel_row


def _write(folder: Path, number: int, output_type: str, strands: str, **values: Any) -> Path:
    channels = [
        channel_row([row(f"a{number}", output_type, **values)], strand, n_replicates=1)
        | {"file": f"{strand}.bw"}
        for strand in strands
    ]
    path = folder / f"g{number}" / "track.json"
    write_json({"channels": channels}, path, Stamp("track"))
    return path


def test_order_and_partners(tmp_path: Path) -> None:
    paths = [
        _write(tmp_path, 0, "atac", ".", ontology_curie="CL:2"),
        _write(tmp_path, 1, "rna_seq", "-+", ontology_curie="CL:3"),
        _write(tmp_path, 2, "rna_seq", ".", ontology_curie="CL:1"),
        _write(tmp_path, 3, "rna_seq", "+-", ontology_curie="CL:2"),
        _write(tmp_path, 4, "chip_tf", ".", target="CTCF"),
        _write(tmp_path, 5, "splice_junctions", "+-", ontology_curie="CL:9"),
        _write(tmp_path, 6, "splice_junctions", "+-", ontology_curie="CL:8"),
    ]
    table = list_tracks(reversed(paths), "human", tmp_path / "tracks.parquet")
    assert table.columns == list(TRACK_COLUMNS)
    assert table.select("output_type", "name", "strand_partner").rows() == [
        ("rna_seq", "CL:1 assay", 0),
        ("rna_seq", "CL:2 assay +", 2), ("rna_seq", "CL:2 assay -", 1),
        ("rna_seq", "CL:3 assay +", 4), ("rna_seq", "CL:3 assay -", 3),
        ("atac", "CL:2 assay", 0),
        ("chip_tf", "CL:1 assay CTCF", 0),
        ("splice_junctions", "CL:8 assay +", 2), ("splice_junctions", "CL:9 assay +", 3),
        ("splice_junctions", "CL:8 assay -", 0), ("splice_junctions", "CL:9 assay -", 1),
    ]  # fmt: skip
    assert read_table(tmp_path / "tracks.parquet", "tracks").equals(table)


def test_folders_serve_as_well(tmp_path: Path) -> None:
    path = _write(tmp_path, 0, "atac", ".")
    table = list_tracks([path.parent], "human", tmp_path / "tracks.parquet")
    assert table["accessions"].to_list() == ["a0"] and table["data_source"].to_list() == ["toy"]


def test_name_twice_and_other_organism(tmp_path: Path) -> None:
    paths = [_write(tmp_path, 0, "atac", "."), _write(tmp_path, 1, "atac", ".")]
    with pytest.raises(FileError, match="two atac tracks are called 'CL:1 assay'"):
        list_tracks(paths, "human", tmp_path / "tracks.parquet")
    with pytest.raises(FileError, match=r"g0.track\.json: track CL:1 assay is of human, wanted mouse"):
        list_tracks(paths[:1], "mouse", tmp_path / "tracks.parquet")
    assert not (tmp_path / "tracks.parquet").exists()


def test_sources_tell_tracks_of_one_name_apart(tmp_path: Path) -> None:
    paths = [
        _write(tmp_path, 0, "rna_seq", "+-", portal="encode"),
        _write(tmp_path, 1, "rna_seq", ".", portal="gtex"),
        _write(tmp_path, 2, "rna_seq", ".", portal="gtex", ontology_curie="CL:2"),
    ]
    table = list_tracks(paths, "human", tmp_path / "tracks.parquet")
    assert table["name"].to_list() == [
        "CL:1 assay encode +",
        "CL:1 assay encode -",
        "CL:1 assay gtex",
        "CL:2 assay",
    ]
    assert table["strand_partner"].to_list() == [1, 0, 2, 3]
