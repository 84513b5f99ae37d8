"""The committed manifests of real data: complete, consistent, and true of the files."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from megabase.spec import MANIFEST_COLUMNS, MANIFEST_ROLES, STRANDS, OutputType

RELEASES = ("human_tiny", "yeast")


def _manifest(root: Path, release: str) -> pl.DataFrame:
    path = root / "resources" / "manifests" / f"{release}.tsv"
    return pl.read_csv(path, separator="\t", infer_schema=False).fill_null("")


@pytest.mark.parametrize("release", RELEASES)
def test_rows_are_consistent(root: Path, release: str) -> None:
    table = _manifest(root, release)
    assert table.columns == list(MANIFEST_COLUMNS)
    assert table["accession"].is_unique().all()
    assert table.select("url", "output_type").is_unique().all()  # one file may have two roles
    assert set(table["output_type"]) <= set(OutputType) | set(MANIFEST_ROLES)
    assert set(table["strand"]) <= {"", *STRANDS}
    tracks = table.filter(pl.col("strand") != "")
    assert (tracks["ontology_curie"] != "").all() and (tracks["biosample"] != "").all()
    by_replicate = tracks.group_by("organism", "output_type", "experiment", "replicate").agg(
        pl.col("strand").sort()
    )
    assert set(map(tuple, by_replicate["strand"].to_list())) <= {("+", "-"), (".",)}
    groups = tracks.group_by("organism", "output_type", "ontology_curie", "assay").agg(
        pl.col("replicate").n_unique()
    )
    assert groups["replicate"].max() <= 2


@pytest.mark.parametrize("release", RELEASES)
def test_files_are_what_the_manifest_says(root: Path, real_data: Path, release: str) -> None:
    for row in _manifest(root, release).iter_rows(named=True):
        assert row["url"].startswith("file:{data}/")
        data = (real_data / row["url"].removeprefix("file:{data}/")).read_bytes()
        assert len(data) == int(row["size"]), row["accession"]
        assert hashlib.md5(data).hexdigest() == row["md5"], row["accession"]


def test_every_real_track_is_listed(root: Path, real_data: Path) -> None:
    table = _manifest(root, "human_tiny")
    for portal in ("human_tiny", "mouse_tiny"):
        listed = table.filter((pl.col("portal") == portal) & (pl.col("strand") != ""))
        source = pl.read_csv(real_data / portal / "tracks.tsv", separator="\t")
        found = {row["url"].rsplit("/", 1)[1]: row["strand"] for row in listed.iter_rows(named=True)}
        assert found == dict(zip(source["file"], source["strand"], strict=True))
    counts = Counter(table.filter(pl.col("organism") == "human")["output_type"])
    assert (counts["cage"], counts["dnase"], counts["rna_seq"]) == (24, 10, 40)
