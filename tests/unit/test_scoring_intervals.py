"""Interval scores: numbers, genes, lists of regions, what is rejected, and going on after a kill."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from scoring_stand_ins import LENGTH, ToyPredictor, make_annotation, make_genome

from megabase.files import FileError, Stamp, read_json, read_table
from megabase.scoring.chunks import raw_matrix
from megabase.scoring.intervals import KIND, IntervalEngine, parse_interval_scorer, score_regions
from megabase.scoring.regions import Region, read_regions
from megabase.spec import OutputType

WINDOW = 4096
NAMES = ("rna_seq", "rna_seq:sum:1001", "splice_site_usage:mean")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intervals")
    genome, annotation = make_genome(folder), make_annotation()
    return SimpleNamespace(folder=folder, genome=genome, annotation=annotation)


def _engine(world, batch_size: int = 2, names=NAMES) -> IntervalEngine:
    predictor = ToyPredictor()
    scorers = [parse_interval_scorer(name, predictor.tracks("toy")) for name in names]
    return IntervalEngine(predictor, world.genome, world.annotation, scorers, WINDOW, batch_size)


def test_a_score_is_the_mean_or_sum_over_the_exons_in_the_central_bases(world):
    region = Region("here", "chr1", 9_000, 10_000)
    found = _engine(world).score([region])
    start = 9_500 - WINDOW // 2
    codes = torch.from_numpy(world.genome.codes("chr1", start, start + WINDOW))[None]
    values = ToyPredictor().predict(codes, "toy", outputs=[OutputType.RNA_SEQ])[OutputType.RNA_SEQ]["1bp"][0]
    keys, raw = found["rna_seq"]
    assert [k[4] for k in keys] == ["plus", "noncoding"]  # `minus` starts at 13,999, beyond the window
    plus = torch.cat([values[a - start : min(b, start + WINDOW) - start] for a, b in
                      ((9_000, 9_200), (10_500, 10_700))])  # fmt: skip
    np.testing.assert_allclose(raw[0][[0, 2]], plus.mean(0)[[0, 2]], rtol=1e-5)
    assert np.isnan(raw[0][1])  # the track of the other strand
    keys, raw = found["rna_seq:sum:1001"]
    assert [k[4] for k in keys] == ["plus", "noncoding"]
    inside = values[9_000 - start : 9_200 - start]  # 9,000..10,001 holds one exon of the gene
    np.testing.assert_allclose(raw[0][0], inside.sum(0)[0], rtol=1e-5)
    usage = found["splice_site_usage:mean"][1]
    assert usage.shape == (2, 4) and np.isnan(usage[0]).tolist() == [False, False, True, True]


def test_a_region_that_names_a_gene_has_that_gene_alone(world):
    regions, rejected = read_regions(None, world.genome, world.annotation)
    assert [r.name for r in regions] == ["plus", "minus", "noncoding", "far"] and rejected == []
    keys, raw = _engine(world, names=("rna_seq",)).score(regions)["rna_seq"]
    assert [(k[0], k[4]) for k in keys] == [(n, n) for n in ("plus", "minus", "noncoding", "far")]
    assert (np.isfinite(raw).sum(1) == 2).all()


def test_scores_do_not_depend_on_the_batch_size(world):
    regions = read_regions(None, world.genome, world.annotation)[0]
    one, many = (_engine(world, size).score(regions) for size in (1, 8))
    for name in NAMES:
        assert one[name][0] == many[name][0]
        np.testing.assert_allclose(one[name][1], many[name][1], rtol=1e-5, equal_nan=True)


def test_lists_of_regions(world, tmp_path):
    bed = tmp_path / "some.bed"
    bed.write_text("track name=x\n# comment\n\nchr1\t10\t20\tpeak\t0\t+\r\nchr2\t5\t9\nchrX\t1\t2\n"
                   f"chr1\t5\t{LENGTH + 1}\tbeyond\n")  # fmt: skip
    regions, rejected = read_regions(bed, world.genome, world.annotation)
    assert [(r.name, r.chrom, r.start, r.end) for r in regions] == [
        ("peak", "chr1", 10, 20), ("chr2:6-9", "chr2", 5, 9),
    ]  # fmt: skip
    assert [(r.name, r.reason) for r in rejected] == [
        ("chrX:2-2", "unknown_contig"),
        ("beyond", "off_contig"),
    ]
    names = tmp_path / "genes.txt.gz"
    with gzip.open(names, "wt") as handle:
        handle.write("PLUS\nminus\nnobody\n")
    regions, rejected = read_regions(names, world.genome, world.annotation)
    assert [r.gene.gene_id for r in regions] == ["plus", "minus"]
    assert [(r.name, r.reason) for r in rejected] == [("nobody", "unknown_gene")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t10\n", "line 1 is 'chr1 10'"),
        ("plus\nchr1\tten\t20\n", "line 2 is 'chr1 ten 20'"),
        ("chr1\t20\t20\n", "ends at 20, not beyond its start 20"),
        ("# nothing\n", "holds no region"),
    ],
)
def test_a_list_that_is_none_is_an_error(world, tmp_path, text, message):
    path = tmp_path / "bad.bed"
    path.write_text(text)
    with pytest.raises(FileError, match=message):
        read_regions(path, world.genome, world.annotation)


def test_a_truncated_list_is_an_error(world, tmp_path):
    path = tmp_path / "cut.bed.gz"
    path.write_bytes(gzip.compress(b"chr1\t10\t20\n" * 1000)[:-20])
    with pytest.raises(FileError, match="cannot be read to its end"):
        read_regions(path, world.genome, world.annotation)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rna_seq:median", "wanted rna_seq, or output_type"),
        ("rna:mean", "nearest name: rna_seq"),
        ("chip_tf:mean", "needs a 1-bp output type"),
        ("splice_junctions:mean", "needs a 1-bp output type"),
        ("rna_seq:mean:wide", "wanted a number of bases"),
    ],
)
def test_errors_of_scorers(text, message):
    with pytest.raises(ValueError, match=message):
        parse_interval_scorer(text, ToyPredictor().tracks("toy"))
    with pytest.raises(ValueError, match="no tracks of rna_seq"):
        parse_interval_scorer("rna_seq", {})


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(world, tmp_path, monkeypatch):
    monkeypatch.setattr("megabase.scoring.intervals.PIECE", 2)
    regions, rejected = read_regions(None, world.genome, world.annotation)
    stamp = Stamp(KIND)
    whole = _engine(world)
    score_regions(whole, regions, rejected, tmp_path / "whole", stamp)
    broken = _engine(world)
    scored = []

    def fail(piece):
        scored.append(len(piece))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return IntervalEngine.score(broken, piece)

    monkeypatch.setattr(broken, "score", fail)
    with pytest.raises(KeyboardInterrupt):
        score_regions(broken, regions, rejected, tmp_path / "again", stamp)
    assert not (tmp_path / "again").exists()
    counted = _engine(world)
    score_regions(counted, regions, rejected, tmp_path / "again", stamp)
    assert counted.predictor.calls == 1 and whole.predictor.calls == 2
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
    assert len(files) == 2 * len(NAMES) + 3
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert not list(tmp_path.glob(".parts-*"))


def test_the_store_says_what_it_holds(world, tmp_path):
    regions, rejected = read_regions(None, world.genome, world.annotation)
    score_regions(_engine(world), regions, rejected, tmp_path / "scores", Stamp(KIND))
    info = read_json(tmp_path / "scores/intervals.json", KIND)
    assert (info["scored"], info["rejected"], info["window"]) == (4, 0, WINDOW)
    assert [s["name"] for s in info["scorers"]] == list(NAMES) and info["scorers"][0]["width"] == 200_001
    table = pl.concat(
        [read_table(p, KIND) for p in sorted((tmp_path / "scores/rna_seq").glob("part-*.parquet"))]
    )
    tracks = read_table(tmp_path / "scores/tracks.parquet", KIND).filter(pl.col("scorer") == "rna_seq")
    assert raw_matrix(table).shape == (4, tracks.height) and tracks["channel"].to_list() == [0, 1, 2]


def test_a_list_of_rejected_regions_alone_gives_empty_scores(world, tmp_path):
    score_regions(_engine(world), [], [], tmp_path / "none", Stamp(KIND))
    table = read_table(tmp_path / "none/rna_seq/part-00000.parquet", KIND)
    assert table.height == 0 and table.schema["raw"] == pl.Array(pl.Float32, 3)
