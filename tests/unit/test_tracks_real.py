"""Normalization and store on real measurements: human windows, and yeast contacts and introns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cooler
import numpy as np
import polars as pl
import pyBigWig
import pytest

from megabase.files import read_json, read_table
from megabase.genome import Genome, prepare_genome
from megabase.settings.data import ShardSettings, TrackSettings
from megabase.shards import ShardStore, densify, write_shards
from megabase.spec import OutputType
from megabase.tracks import list_tracks, normalize_contacts, normalize_splicing, normalize_track

ACCESSIONS = (("CNhs10752_plus", "CNhs10752_minus"), ("ENCFF890OGQ",), ("ENCFF295UWT",))


def _rows(
    root: Path, real_data: Path, release: str, names: tuple[str, ...]
) -> tuple[list[dict[str, Any]], list[Path]]:
    path = root / "resources" / "manifests" / f"{release}.tsv"
    table = pl.read_csv(path, separator="\t", infer_schema=False).fill_null("")
    rows = [table.row(by_predicate=pl.col("accession") == name, named=True) for name in names]
    return rows, [real_data / row["url"].removeprefix("file:{data}/") for row in rows]


@pytest.fixture(scope="module")
def human(tmp_path_factory: pytest.TempPathFactory, root: Path, real_data: Path) -> Path:
    """Genome and three normalized groups of human_tiny: a CAGE pair, DNase, unstranded RNA-seq."""
    folder = tmp_path_factory.mktemp("human")
    data = real_data / "human_tiny"
    prepare_genome(data / "genome.fa", folder / "genome", organism="human", name="human")
    for number, names in enumerate(ACCESSIONS):
        rows, files = _rows(root, real_data, "human_tiny", names)
        regions = data / "target_regions.bed"
        normalize_track(rows, files, folder / "genome", folder / f"t{number}", TrackSettings(), regions)
    return folder


def _values(path: Path) -> dict[str, np.ndarray]:
    with pyBigWig.open(str(path)) as file:
        return {chrom: file.values(chrom, 0, length, numpy=True) for chrom, length in file.chroms().items()}


@pytest.mark.parametrize("number", range(3))
def test_human_tracks(human: Path, real_data: Path, root: Path, number: int) -> None:
    _, files = _rows(root, real_data, "human_tiny", ACCESSIONS[number])
    channels = read_json(human / f"t{number}" / "track.json", "track")["channels"]
    written = [_values(human / f"t{number}" / c["file"]) for c in channels]
    np.testing.assert_allclose(sum(c["total"] for c in channels), 1e8, rtol=1e-6)
    np.testing.assert_allclose(
        sum(np.nansum(v, dtype=float) for w in written for v in w.values()), 1e8, rtol=1e-6
    )
    factors = []
    for values, path in zip(written, files, strict=True):
        source = _values(path)
        for chrom, track in values.items():
            assert np.isnan(track[:32_768]).all() and np.isnan(track[98_304:]).all()
            assert np.isfinite(track[32_768:98_304]).mean() > 0.99
            some = np.nan_to_num(source[chrom]) > 0
            factors.append(track[some] / source[chrom][some])
    factors = np.concatenate(factors)
    np.testing.assert_allclose(factors[np.isfinite(factors)], np.nanmedian(factors), rtol=1e-5)


def test_human_store(human: Path) -> None:
    dirs = [human / f"t{n}" for n in range(len(ACCESSIONS))]
    list_tracks(dirs, "human", human / "tracks.parquet")
    write_shards(human / "tracks.parquet", dirs, human / "genome", human / "store", ShardSettings())
    store = ShardStore.open(human / "store")
    plus, minus = _values(human / "t0" / "plus.bw"), _values(human / "t0" / "minus.bw")
    for chrom in list(store.lengths)[:5]:
        for start in (-300, 30_001, 65_000, 97_777):
            dense = densify(store.runs(OutputType.CAGE, chrom, start, start + 16_384), 16_384).numpy()
            low = max(start, 0)
            wanted = np.stack([plus[chrom][low : start + 16_384], minus[chrom][low : start + 16_384]], axis=1)
            np.testing.assert_array_equal(dense[low - start :], wanted)
            assert np.isnan(dense[: low - start]).all()


def test_yeast_contacts_and_introns(tmp_path: Path, root: Path, real_data: Path) -> None:
    prepare_genome(real_data / "yeast/genome.fa", tmp_path / "genome", organism="yeast", name="yeast")
    rows, files = _rows(root, real_data, "yeast", ("hic_G1",))
    normalize_contacts(rows, files, tmp_path / "genome", tmp_path / "hic", TrackSettings())
    matrix = cooler.Cooler(str(tmp_path / "hic" / "contacts.cool"))
    weights = cooler.Cooler(str(files[0])).bins()["weight"][:].to_numpy()
    pixels = matrix.pixels()[:]
    assert np.isfinite(pixels["value"]).all()
    assert not set(np.flatnonzero(np.isnan(weights))) & set(pixels["bin1_id"]), "rows lost in balancing"
    distance = pixels["bin2_id"] - pixels["bin1_id"]
    assert distance.max() <= (1 << 20) // 2_000
    by_distance = pixels["value"].groupby(distance).mean()
    trend = by_distance[1:200].abs()
    assert trend.median() < 0.15 and trend.max() < 0.5, "distance alone explains little"

    rows, files = _rows(root, real_data, "yeast", ("yeast_introns",))
    normalize_splicing(rows, files, tmp_path / "genome", tmp_path / "splicing", TrackSettings())
    sites = read_table(tmp_path / "splicing" / "sites.parquet", "sites")
    assert 2 * 270 < len(sites) <= 2 * 280
    assert _canonical_share(Genome.open(tmp_path / "genome"), sites) > 0.93


def _canonical_share(genome: Genome, sites: pl.DataFrame) -> float:
    """Share of donors followed by GT and acceptors preceded by AG, along the strand."""
    right = 0
    for chrom, position, strand, kind in sites.rows():
        after = (kind == "donor") == (strand == "+")  # the intron lies to the right of the site
        codes = (
            genome.codes(chrom, position + 1, position + 3)
            if after
            else genome.codes(chrom, position - 2, position)
        )
        pair = codes if strand == "+" else 3 - codes[::-1]
        right += pair.tolist() == ([2, 3] if kind == "donor" else [0, 2])
    return right / len(sites)
