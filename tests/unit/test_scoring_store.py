"""Chunks, their calibration, the merge and its views: complete, atomic, resumable, repeatable."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cyvcf2 import VCF
from scoring_stand_ins import (
    ToyPredictor,
    in_order,
    make_annotation,
    make_genome,
    some_variants,
    write_rejected,
    write_variants,
)

from megabase.files import FileError, Stamp, read_json, read_table, read_tsv
from megabase.scoring import chunks as chunk_module
from megabase.scoring.calibration import calibrate_scores
from megabase.scoring.chunks import score_chunk
from megabase.scoring.composite import COMPOSITE
from megabase.scoring.engine import Engine
from megabase.scoring.keys import raw_matrix
from megabase.scoring.query import Wanted, empty_tidy, query, query_scores
from megabase.scoring.scorers import RECOMMENDED, parse_scorer
from megabase.scoring.store import merge_scores
from megabase.settings.scoring import ScoringSettings
from megabase.variants import Variant

SETTINGS = ScoringSettings(window=4096, batch_size=4, together=2, bins=50)
SCORERS = [*RECOMMENDED.values(), parse_scorer("dnase:center:2001:diff_mean")]
STAMP = Stamp("chunk", SETTINGS.hash())


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def engine(genome):
    return Engine(ToyPredictor(), genome, make_annotation(), SCORERS, SETTINGS)


def _score(engine, variants: list[Variant], folder: Path, n: int) -> list[Path]:
    """Score variants in n chunks, in genome order; the chunk folders."""
    found, variants = [], in_order(variants)
    for i, part in enumerate(np.array_split(np.arange(len(variants)), n)):
        table = write_variants([variants[j] for j in part], folder / f"variants-{i}.parquet")
        score_chunk(engine, table, folder / f"chunk-{i}", STAMP)
        found.append(folder / f"chunk-{i}")
    return found


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def scored(engine, genome, tmp_path_factory):
    """Everything scored in one chunk and in seven, calibrated on itself and merged."""
    folder = tmp_path_factory.mktemp("scored")
    variants = some_variants(genome)
    one = _score(engine, variants, folder / "one", 1)
    seven = _score(engine, variants, folder / "seven", 7)
    rejected = write_rejected(folder / "rejected.parquet")
    calibrate_scores(one, folder / "model", SETTINGS, seed=5)
    for name, chunks in (("one", one), ("seven", seven)):
        merge_scores(chunks, rejected, folder / "model/calibration.json", None, folder / f"scores-{name}")
    merge_scores(seven, rejected, None, None, folder / "scores-raw")
    return folder


def test_one_chunk_and_seven_give_the_same_scores(scored):
    info = read_json(scored / "scores-one/scores.json", "scores")
    for scorer in info["scorers"]:
        name = scorer["name"].replace(":", ".")
        parts = [pl.read_parquet(scored / f"scores-{s}" / name / "part-*.parquet") for s in ("one", "seven")]
        assert parts[0].drop("raw", "quantile").equals(parts[1].drop("raw", "quantile"))
        for column in ("raw", "quantile"):
            a, b = (raw_matrix(p, column) for p in parts)
            np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


def test_every_variant_is_accounted_for(scored, genome):
    variants = in_order(some_variants(genome))
    info = read_json(scored / "scores-seven/scores.json", "scores")
    assert (info["alleles_in"], info["scored"], info["rejected"]) == (len(variants) + 1, len(variants), 1)
    assert read_table(scored / "scores-seven/rejected.parquet", "rejected")["reason"].to_list() == [
        "symbolic_allele"
    ]
    for scorer in info["scorers"]:
        table = pl.scan_parquet(
            scored / "scores-seven" / scorer["name"].replace(":", ".") / "part-*.parquet"
        ).collect()
        assert table.height == scorer["rows"]
        if not scorer["genes"]:
            assert table["variant_id"].to_list() == [v.variant_id for v in variants]


def test_merge_stops_on_a_missing_or_doubled_variant(scored, tmp_path):
    chunks = sorted((scored / "seven").glob("chunk-*"))
    with pytest.raises(FileError, match="there twice"):
        merge_scores([*chunks, chunks[0]], scored / "rejected.parquet", None, None, tmp_path / "scores")
    cut = tmp_path / "cut"
    shutil.copytree(chunks[0], cut)
    dnase = read_table(cut / "dnase.parquet", "chunk")
    chunk_module.write_table(dnase[:-1], cut / "dnase.parquet", STAMP)
    with pytest.raises(FileError, match="dnase has 2 rows for 3 variants"):
        merge_scores([cut, *chunks[1:]], scored / "rejected.parquet", None, None, tmp_path / "scores")
    assert not (tmp_path / "scores").exists() and not list(tmp_path.glob(".tmp*"))


def test_a_killed_chunk_goes_on_and_gives_the_same_bytes(engine, genome, scored, tmp_path, monkeypatch):
    variants = some_variants(genome)
    table = write_variants(variants, tmp_path / "variants.parquet")
    real, calls = engine.score, []

    def dies(batch):
        calls.append(len(batch))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(batch)

    monkeypatch.setattr(engine, "score", dies)
    with pytest.raises(KeyboardInterrupt):
        score_chunk(engine, table, tmp_path / "chunk-0", STAMP)
    assert not (tmp_path / "chunk-0").exists()
    score_chunk(engine, table, tmp_path / "chunk-0", STAMP)
    assert sum(calls) == len(variants) + calls[3]  # only the batch that died was scored again
    assert _digests(tmp_path / "chunk-0") == _digests(scored / "one/chunk-0")
    assert not list(tmp_path.glob(".parts*"))


def test_finished_batches_of_other_settings_are_not_used(engine, genome, tmp_path):
    table = write_variants(some_variants(genome)[:4], tmp_path / "variants.parquet")
    stale = tmp_path / ".parts-chunk-0-0123456789abcdef"
    stale.mkdir()
    (stale / "000000000.parquet").write_bytes(b"of another model")
    score_chunk(engine, table, tmp_path / "chunk-0", STAMP)
    assert read_table(tmp_path / "chunk-0/dnase.parquet", "chunk").height == 4 and not stale.exists()


def test_merging_twice_gives_the_same_bytes_and_removes_what_a_kill_left(scored, tmp_path):
    chunks = sorted((scored / "seven").glob("chunk-*"))
    left = tmp_path / ".tmp-0123abcd-scores" / "dnase"
    left.mkdir(parents=True)
    for _ in range(2):
        merge_scores(chunks, scored / "rejected.parquet", scored / "model", None, tmp_path / "scores")
        assert not left.exists()
        assert _digests(tmp_path / "scores").keys() == _digests(scored / "scores-seven").keys()
    first = _digests(tmp_path / "scores")
    merge_scores(chunks, scored / "rejected.parquet", scored / "model", None, tmp_path / "scores")
    assert _digests(tmp_path / "scores") == first


def test_an_empty_chunk_merges(engine, scored, tmp_path):
    table = write_variants([], tmp_path / "variants.parquet")
    score_chunk(engine, table, tmp_path / "empty", STAMP)
    chunks = [tmp_path / "empty", *sorted((scored / "seven").glob("chunk-*"))]
    merge_scores(chunks, scored / "rejected.parquet", scored / "model", None, tmp_path / "scores")
    assert pl.read_parquet(tmp_path / "scores/dnase/part-00000.parquet").height == 0
    assert pl.scan_parquet(tmp_path / "scores/dnase/part-*.parquet").collect().height == 15


def test_a_score_without_calibration_says_so(scored):
    raw = pl.read_parquet(scored / "scores-raw/dnase/part-*.parquet")
    assert raw["quantile"].is_null().all()
    info = read_json(scored / "scores-raw/scores.json", "scores")
    assert not any(s["calibrated"] for s in info["scorers"])
    done = pl.read_parquet(scored / "scores-one/dnase/part-*.parquet")
    assert np.isfinite(raw_matrix(done, "quantile")).all()


def test_composite_splicing_is_the_weighted_sum_of_its_parts(scored):
    folder = scored / "scores-one"
    total = pl.read_parquet(folder / COMPOSITE / "part-*.parquet")
    assert total.height > 0
    for row in total.iter_rows(named=True):
        wanted = 0.0
        for name, weight in (("splice_sites", 1), ("splice_site_usage", 1), ("splice_junctions", 0.2)):
            part = pl.read_parquet(folder / name / "part-*.parquet").filter(
                (pl.col("variant_id") == row["variant_id"]) & (pl.col("gene_id") == row["gene_id"])
            )
            wanted += weight * np.nanmax(raw_matrix(part), initial=0.0)
        assert row["raw"][0] == pytest.approx(wanted, rel=1e-5)


def test_vcf_summary_is_valid_and_states_the_largest_effect(scored, genome):
    path = scored / "scores-seven/summary.vcf.gz"
    reader = VCF(str(path))
    assert reader.seqnames == ["chr1", "chr2"] and reader.seqlens == list(genome.lengths.values())
    records = list(reader)
    assert [(r.start, r.REF, r.ALT[0]) for r in records] == sorted(
        (v.position, v.ref, v.alt) for v in some_variants(genome)
    )
    table = pl.read_parquet(scored / "scores-seven/dnase/part-*.parquet")
    raw = dict(zip(table["variant_id"], raw_matrix(table), strict=True))
    quantiles = dict(zip(table["variant_id"], raw_matrix(table, "quantile"), strict=True))
    for record in records:
        key = f"{record.CHROM}:{record.POS}:{record.REF}:{record.ALT[0]}"
        best = int(np.lexsort((np.abs(raw[key]), np.abs(quantiles[key])))[-1])
        assert record.INFO["MB_DNASE"] == pytest.approx(raw[key][best], rel=1e-4)
        assert record.INFO["MB_DNASE_Q"] == pytest.approx(quantiles[key][best], rel=1e-4)
        assert record.INFO["MB_DNASE_TRACK"] == f"dnase%20{best}|cell%20{best % 2}"
        assert record.INFO.get("MB_DNASE_ACTIVE") is None
    inside = [r for r in records if r.INFO.get("MB_RNA_SEQ") is not None]
    assert inside and all(r.INFO["MB_RNA_SEQ_GENE"] in ("PLUS", "MINUS", "NONCODING", "FAR") for r in inside)
    assert len(list(VCF(str(path))("chr1:10601-10601"))) == 1  # the index works


def test_queries_and_the_tidy_table(scored, tmp_path):
    folder = scored / "scores-seven"
    variant = "chr1:10601"
    key = next(
        v for v in pl.read_parquet(folder / "dnase/part-*.parquet")["variant_id"] if v.startswith(variant)
    )
    rows = query_scores(folder, Wanted(key, scorer="dnase"))
    assert (
        rows.height == 3
        and rows.columns == empty_tidy().columns
        and rows["track_strand"].to_list() == ["+", "-", "."]
    )
    cell = query_scores(
        folder,
        Wanted(region="chr1:10,601-10,603", gene="PLUS", biosample="CELL 1", scorer="rna_seq"),
    )
    assert cell["variant_id"].n_unique() == 3 and set(cell["track_name"]) == {"rna_seq 1"}
    assert cell["raw"].is_null().all()  # a track of the other strand
    assert query_scores(folder, Wanted(gene="nobody")).equals(empty_tidy())
    assert set(query_scores(folder, Wanted(key))["scorer"]) >= {"dnase", "rna_seq", COMPOSITE}
    with pytest.raises(ValueError, match="wanted chrom:start-end"):
        query_scores(folder, Wanted(region="chr1"))
    with pytest.raises(FileError, match="no scores of dnaze"):
        query_scores(folder, Wanted(scorer="dnaze"))
    query(folder, Wanted(key), tmp_path / "scores.tsv")
    text = read_tsv(tmp_path / "scores.tsv", "tidy")
    assert text.height == query_scores(folder, Wanted(key)).height
    np.testing.assert_allclose(text.filter(pl.col("scorer") == "dnase")["raw"], rows["raw"], rtol=1e-5)


def test_chunks_of_different_models_do_not_mix(scored, tmp_path):
    chunks = sorted((scored / "seven").glob("chunk-*"))
    other = tmp_path / "other"
    shutil.copytree(chunks[1], other)
    info = json.loads((other / "chunk.json").read_text()) | {"model": "else"}
    (other / "chunk.json").write_text(json.dumps(info))
    with pytest.raises(FileError, match="its model differs"):
        merge_scores([chunks[0], other], scored / "rejected.parquet", None, None, tmp_path / "scores")


def test_track_table_lists_the_channels_of_every_scorer(scored):
    folder = scored / "scores-seven"
    tracks = read_table(folder / "tracks.parquet", "scores")
    for scorer in read_json(folder / "scores.json", "scores")["scorers"]:
        part = next((folder / scorer["name"].replace(":", ".")).glob("part-*.parquet"))
        width = pl.read_parquet_schema(part)["raw"].size
        assert tracks.filter(pl.col("scorer") == scorer["name"])["channel"].to_list() == list(range(width))
