"""The tracks of every SNV are the numbers of the store: bigWig, Zarr, after a kill, the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyBigWig
import pytest
import zarr
from scoring_stand_ins import ToyPredictor, make_annotation, make_genome

from megabase.files import FileError, Stamp, read_json, read_table, write_json
from megabase.packing import Packing
from megabase.scoring import dense, saturated
from megabase.scoring.calibration import calibrate_scores
from megabase.scoring.chunks import score_chunk
from megabase.scoring.engine import Engine
from megabase.scoring.keys import raw_matrix
from megabase.scoring.query import Wanted, query_scores
from megabase.scoring.saturated import write_saturation
from megabase.scoring.scorers import RECOMMENDED, parse_scorer
from megabase.scoring.store import merge_scores
from megabase.settings.scoring import ChunkSettings, ScoringSettings
from megabase.split import split_variants

SETTINGS = ScoringSettings(window=4096, batch_size=8, bins=20)
NAMES = ("dnase", "dnase_active", "rna_seq", "splice_junctions")
SCORERS = [*(RECOMMENDED[name] for name in NAMES), parse_scorer("cage:center:501:l2_diff")]
CHUNKS = ("1-of-3", "2-of-3", "3-of-3")
BED = "chr1\t11190\t11198\nchr1\t29994\t30004\nchr1\t10640\t10645\nchr2\t0\t3\n"
PLACES = [("chr1", p) for p in (*range(10_640, 10_645), *range(11_190, 11_198), *range(29_994, 30_000))]
PLACES += [("chr2", p) for p in range(3)]  # in order, without the run of N that begins at 30,000


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """A BED that was split, scored, merged and written as tracks, with quantiles and without."""
    folder = tmp_path_factory.mktemp("saturated")
    genome = make_genome(folder)
    (folder / "some.bed").write_text(BED)
    rejected = folder / "variants/rejected.parquet"
    tables = [rejected.with_name(f"{name}.parquet") for name in CHUNKS]
    packing = Packing(ChunkSettings(load_seconds=0), SETTINGS)
    split_variants(
        folder / "some.bed",
        genome.folder,
        tables,
        rejected,
        max_allele=100,
        saturate="some.bed",
        packing=packing,
    )
    engine = Engine(ToyPredictor(), genome, make_annotation(), SCORERS, SETTINGS)
    for table in tables:
        score_chunk(engine, table, folder / "chunks" / table.stem, Stamp("chunk", SETTINGS.hash()))
    calibrate_scores([folder / "chunks" / name for name in CHUNKS], folder / "model", SETTINGS)
    split = rejected.with_name("split.json")
    for name, calibration in (("scores", folder / "model"), ("raw", None)):
        merge_scores(folder / "chunks", rejected, calibration, None, folder / name, split=split)
    write_saturation(folder / "scores", split, folder / "tracks")
    write_saturation(folder / "raw", split, folder / "raw-tracks")
    return SimpleNamespace(folder=folder, split=split, genome=genome)


def _rows(scores: Path, scorer: str) -> pl.DataFrame:
    return pl.read_parquet(scores / scorer.replace(":", ".") / "part-*.parquet")


def _values(path: Path) -> dict[tuple[str, int], float]:
    """Value of every base of a bigWig that has one."""
    file = pyBigWig.open(str(path))
    found = {}
    for chrom in file.chroms():
        for start, end, value in file.intervals(chrom) or ():
            found |= {(chrom, position): value for position in range(start, end)}
    return found


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("scores", ["scores", "raw"])
@pytest.mark.parametrize("scorer", ["dnase", "rna_seq", "splice_junctions", "cage:center:501:l2_diff"])
def test_a_bigwig_has_the_largest_effect_of_each_base(world, scorer, scores):
    rows = _rows(world.folder / scores, scorer)
    raw = raw_matrix(rows)
    chosen_by = np.abs(raw_matrix(rows, "quantile") if scores == "scores" else raw)
    tracks = world.folder / ("tracks" if scores == "scores" else "raw-tracks")
    found = _values(tracks / f"{scorer.replace(':', '.')}.bw")
    places = list(zip(rows["chrom"], rows["position"], strict=True))
    scored = {place for place, has in zip(places, np.isfinite(raw).any(1), strict=True) if has}
    assert set(found) == scored and scored <= set(PLACES) and scored
    for place in scored:
        here = np.array([p == place for p in places])
        sizes, values = chosen_by[here], raw[here]
        largest = values[sizes == np.nanmax(sizes)]
        assert np.float32(found[place]) == largest[np.argmax(np.abs(largest))]
    if scorer == "dnase":
        assert scored == set(PLACES) and min(found.values()) < 0 < max(found.values())  # signed


def test_arrays_hold_every_score_of_the_store(world):
    root = zarr.open_group(str(world.folder / "tracks" / saturated.ARRAYS), mode="r")
    names = [c["name"] for c in root.attrs["chromosomes"]]
    places = list(zip([names[c] for c in root["chromosome"][:]], root["position"][:].tolist(), strict=True))
    assert places == PLACES and root.attrs["alternates"] == ["A", "C", "G", "T"]
    assert [(c["first_base"], c["bases"]) for c in root.attrs["chromosomes"]] == [(0, 19), (19, 3)]
    reference = root["reference"][:]
    assert reference.tolist() == [int(world.genome.codes(c, p, p + 1)[0]) for c, p in PLACES]
    for scorer in ("dnase", "dnase_active", "cage:center:501:l2_diff"):
        group, rows = root[scorer.replace(":", ".")], _rows(world.folder / "scores", scorer)
        for column in ("raw", "quantile"):
            values = group[column][:]
            assert values.shape == (len(PLACES), 4, rows.schema["raw"].size) and values.dtype == np.float32
            wanted = np.full(values.shape, np.nan, np.float32)
            for row, numbers in zip(rows.iter_rows(named=True), raw_matrix(rows, column), strict=True):
                wanted[PLACES.index((row["chrom"], row["position"])), "ACGT".index(row["alt"])] = numbers
            np.testing.assert_array_equal(values, wanted)
            assert np.isnan(values[np.arange(len(PLACES)), reference]).all()
        assert group["raw"].metadata.dimension_names == ("base", "alternate", "track")
        table = read_table(world.folder / "scores/tracks.parquet", "scores").filter(
            pl.col("scorer") == scorer
        )
        assert [t["name"] for t in group.attrs["tracks"]] == table.sort("channel")["name"].to_list()


def test_arrays_of_genes_hold_the_gene_of_the_largest_effect(world):
    root = zarr.open_group(str(world.folder / "tracks" / saturated.ARRAYS), mode="r")
    genes = [g["gene_id"] for g in root.attrs["genes"]]
    rows = _rows(world.folder / "scores", "rna_seq")
    raw, size = raw_matrix(rows), np.abs(raw_matrix(rows, "quantile"))
    values, gene = root["rna_seq/raw"][:], root["rna_seq/gene"][:]
    several = 0
    for at, (chrom, position) in enumerate(PLACES):
        for code, alt in enumerate("ACGT"):
            here = rows.select(
                (pl.col("chrom") == chrom) & (pl.col("position") == position) & (pl.col("alt") == alt)
            )
            here = np.flatnonzero(here.to_series().to_numpy())
            if not len(here):
                assert gene[at, code] == -1 and np.isnan(values[at, code]).all()
                continue
            several += len(here) > 1
            largest = max(here.tolist(), key=lambda row: np.nanmax(size[row]))
            (match,) = (row for row in here.tolist() if rows["gene_id"][row] == genes[gene[at, code]])
            np.testing.assert_array_equal(values[at, code], raw[match])
            assert np.nanmax(size[match]) == np.nanmax(size[largest])
    assert several > 10 and (root["splice_junctions/gene"][:] >= 0).any()


def test_the_folder_says_what_it_holds(world):
    tracks = world.folder / "tracks"
    info, page = read_json(tracks / "saturation.json", "saturation"), (tracks / "README.md").read_text()
    assert info["bases"] == len(PLACES) and info["model"] == "toy"
    listed = {s["name"]: s["bigwig"] for s in info["scorers"]}
    assert listed["dnase_active"] is None and set(NAMES) < set(listed)
    assert {p.name for p in tracks.glob("*.bw")} == {name for name in listed.values() if name}
    assert all(f"`{name}`" in page for name in listed.values() if name)
    assert "| `dnase.bw` | `dnase` | direction | quantile |" in page
    assert (
        "| `rna_seq.bw` | `rna_seq` | direction | raw score |"
        in (world.folder / "raw-tracks/README.md").read_text()
    )
    assert "quantile" not in list(
        zarr.open_group(str(world.folder / "raw-tracks" / saturated.ARRAYS))["dnase"]
    )
    assert not [p for p in tracks.iterdir() if p.name.startswith(".")]


def test_a_saturated_set_is_queried_as_any_other(world):
    found = query_scores(world.folder / "scores", Wanted(scorer="dnase", region="chr1:11191-11192"))
    assert found["variant_id"].n_unique() == 6


def test_small_shards_blocks_and_a_kill_give_the_same_bytes_and_numbers(world, tmp_path, monkeypatch):
    before = {name: _values(world.folder / f"tracks/{name}.bw") for name in ("dnase", "rna_seq")}
    monkeypatch.setattr(dense, "CHUNK_VALUES", 24)
    monkeypatch.setattr(dense, "SHARD_CHUNKS", 2)
    monkeypatch.setattr(saturated, "read_blocks", _by_twos)  # the rows of a variant lie in several blocks
    scores = world.folder / "scores"
    write_saturation(scores, world.split, tmp_path / "whole")
    assert {name: _values(tmp_path / f"whole/{name}.bw") for name in before} == before
    small, large = (
        zarr.open_group(str(f / saturated.ARRAYS)) for f in (tmp_path / "whole", world.folder / "tracks")
    )
    for name in ("position", "dnase/raw", "rna_seq/quantile", "rna_seq/gene", "splice_junctions/raw"):
        np.testing.assert_array_equal(small[name][:], large[name][:])
    assert len(list((tmp_path / "whole" / saturated.ARRAYS / "dnase/raw").rglob("0"))) > 2  # several files
    real, calls = saturated._write_scorer, []

    def dies(*given):
        calls.append(given[-1]["name"])
        if len(calls) == 3:
            saturated.ShardedArray(
                given[0].create_group(calls[-1]), "raw", (9, 4, 2), "float32", 0.0, ("a", "b", "c")
            )
            raise KeyboardInterrupt
        real(*given)

    monkeypatch.setattr(saturated, "_write_scorer", dies)
    (tmp_path / ".parts-tracks-0123456789abcdef").mkdir()  # of other inputs
    with pytest.raises(KeyboardInterrupt):
        write_saturation(scores, world.split, tmp_path / "tracks")
    assert not (tmp_path / "tracks").exists()
    write_saturation(scores, world.split, tmp_path / "tracks")
    assert len(calls) == len(set(calls)) + 1 and not list(tmp_path.glob(".*"))
    assert _digests(tmp_path / "tracks") == _digests(tmp_path / "whole")
    write_saturation(scores, world.split, tmp_path / "tracks")  # over what is there
    assert _digests(tmp_path / "tracks") == _digests(tmp_path / "whole")


def _by_twos(path: Path, kind: str):
    table = read_table(path, kind)
    return (table[start : start + 2] for start in range(0, max(table.height, 1), 2))


def test_what_does_not_belong_together_is_refused(world, tmp_path):
    scores, folder = world.folder / "scores", tmp_path / "variants"
    shutil.copytree(world.split.parent, folder)
    split = {k: v for k, v in read_json(world.split, "split").items() if k != "megabase"}

    def refused(change: dict, words: str) -> None:
        write_json(
            {k: v for k, v in (split | change).items() if v is not None},
            folder / "split.json",
            Stamp("split"),
        )
        with pytest.raises(FileError, match=words):
            write_saturation(scores, folder / "split.json", tmp_path / "tracks")
        assert not (tmp_path / "tracks").exists()

    refused({"saturated": None}, "does not hold every SNV; wanted one with `saturate`")
    fewer = split["chunks"][:-1]
    count = sum(c["variants"] for c in fewer)
    refused({"chunks": fewer, "alleles": count}, rf"66 variants scored, {count} in .*merge the scores")
    first, *rest = split["chunks"]
    swapped = [rest[0], first, *rest[1:]]
    refused({"chunks": swapped}, r"part-00000\.parquet: variant .* is none of the split; merge the scores")
    table = read_table(folder / f"{first['name']}.parquet", "variants")
    dense_table = table[[1, 0, *range(2, table.height)]]
    with pytest.raises(FileError, match="not the three SNVs of each base, in order"):
        dense.Positions.of(dense_table, {"chr1": 0, "chr2": 1}, 0, folder / "1-of-3.parquet")


@pytest.mark.parametrize(
    ("package", "words"), [(None, "is not installed"), (SimpleNamespace(__version__="2.18.0"), "is 2.18.0")]
)
def test_zarr_is_asked_for_by_name(world, tmp_path, monkeypatch, package, words):
    monkeypatch.setitem(sys.modules, "zarr", package)
    with pytest.raises(
        FileError, match=rf"zarr {words}, wanted 3 or newer; run `pip install 'megabase\[zarr\]'`"
    ):
        write_saturation(world.folder / "scores", world.split, tmp_path / "tracks")
    assert not list(tmp_path.iterdir())


def test_a_set_of_unknown_bases_alone_has_empty_tracks(world, tmp_path):
    rejected = tmp_path / "variants/rejected.parquet"
    (tmp_path / "n.bed").write_text("chr1\t30010\t30020\n")
    split_variants(
        tmp_path / "n.bed",
        world.genome.folder,
        [rejected.with_name("a.parquet")],
        rejected,
        max_allele=9,
        saturate="b",
    )
    engine = Engine(ToyPredictor(), world.genome, make_annotation(), SCORERS, SETTINGS)
    score_chunk(
        engine, rejected.with_name("a.parquet"), tmp_path / "chunks/a", Stamp("chunk", SETTINGS.hash())
    )
    split = rejected.with_name("split.json")
    merge_scores(tmp_path / "chunks", rejected, None, None, tmp_path / "scores", split=split)
    write_saturation(tmp_path / "scores", split, tmp_path / "tracks")
    assert _values(tmp_path / "tracks/dnase.bw") == {}
    assert zarr.open_group(str(tmp_path / "tracks" / saturated.ARRAYS))["dnase/raw"].shape == (0, 4, 3)
    assert json.loads((tmp_path / "tracks/saturation.json").read_text())["bases"] == 0
