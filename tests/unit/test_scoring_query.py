"""Queries: by place, gene, biosample and scorer; few files are opened; what is odd is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from megabase.files import FileError, Stamp, read_tsv, write_json, write_table
from megabase.scoring import places
from megabase.scoring.keys import matrix_column
from megabase.scoring.parts import part_name, write_part
from megabase.scoring.places import Places
from megabase.scoring.query import Wanted, parse_variant, query, query_scores
from megabase.variants import REJECTED_SCHEMA

STAMP = Stamp("scores")
PARTS, ROWS = 4, 30


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """dnase (3 tracks) and rna_seq (2 tracks, 2 genes a variant) of 120 variants on two chromosomes."""
    folder, rng, index = tmp_path_factory.mktemp("store"), np.random.default_rng(0), Places()
    for part in range(PARTS):
        chrom = "chr1" if part < 2 else "chr2"
        position = np.arange(ROWS) * 10 + 1000 * (part % 2)
        ref = np.where(np.arange(ROWS) == 5, "A" * 200, "A")  # a long deletion
        name = pl.format("{}:{}:{}:{}", "chrom", pl.col("position") + 1, "ref", "alt")
        place = {"chrom": chrom, "position": position, "ref": ref, "alt": "T"}
        keys = pl.DataFrame(place).select(name.alias("variant_id"), pl.all())
        index.add_variants(part, keys)
        gene = pl.format("ENSG{}.7", pl.col("position") // 1000 + 10 * (part // 2))
        nobody = [pl.lit(None, pl.String).alias(c) for c in ("gene_id", "gene_name", "strand")]
        near = keys.with_columns(gene_id=gene, gene_name=pl.format("G{}", gene), strand=pl.lit("+"))
        far = keys.with_columns(gene_id=pl.lit("far"), gene_name=nobody[1], strand=pl.lit("-"))
        tables = {"dnase": keys.with_columns(nobody)}
        tables["rna_seq"] = pl.concat([near, far]).sort("position", maintain_order=True)
        index.add_genes([places.gene_spans(tables["rna_seq"])])
        for name, width in (("dnase", 3), ("rna_seq", 2)):
            raw = rng.normal(size=(tables[name].height, width)).astype(np.float32)
            table = tables[name].with_columns(matrix_column("raw", raw, width),
                                              matrix_column("quantile", np.tanh(raw), width))  # fmt: skip
            (folder / name).mkdir(exist_ok=True)
            with write_part(folder / name / part_name(part), STAMP) as writer:
                writer.write(table)
    index.write(folder, STAMP)
    rows = [(n, i, f"{n} {i}", n, ".", "CL:1" if i else "CL:2", "B cell" if i else "T cell", None, None)
            for n, width in (("dnase", 3), ("rna_seq", 2)) for i in range(width)]  # fmt: skip
    columns = ["scorer", "channel", "name", "output_type", "strand", "ontology_curie", "biosample_name"]
    tracks = pl.DataFrame(rows, schema=[*columns, "assay", "target"], orient="row")
    write_table(tracks, folder / "tracks.parquet", STAMP)
    gone = [(9, "2", 77, None, "A", "<INS>", "symbolic_allele", "no bases")]
    rejected = pl.DataFrame(gone, schema=REJECTED_SCHEMA, orient="row")
    write_table(rejected, folder / "rejected.parquet", Stamp("rejected"))
    scorers = [{"name": n, "calibrated": True} for n in ("dnase", "rna_seq")]
    write_json({"contigs": {"chr1": 9000, "chr2": 9000}, "scorers": scorers}, folder / "scores.json", STAMP)
    return folder


def _all(store: Path, scorer: str) -> pl.DataFrame:
    return pl.read_parquet(store / scorer / "part-*.parquet")


def test_one_variant(store):
    rows = query_scores(store, Wanted("chr2:11:A:T"))
    assert rows["scorer"].to_list() == ["dnase"] * 3 + ["rna_seq"] * 4
    assert rows["variant_id"].unique().to_list() == ["chr2:11:A:T"]
    wanted = _all(store, "dnase").filter(pl.col("variant_id") == "chr2:11:A:T")["raw"][0].to_list()
    assert rows["raw"].head(3).to_list() == wanted
    assert query_scores(store, Wanted("chr2:11:a:t", scorer="dnase")).height == 3  # as people type
    assert query_scores(store, Wanted("chr2:12:A:T")).height == 0
    assert query_scores(store, variant="chr2:11:A:T").equals(rows)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("chr1:1,234:a:ct", ("chr1", 1233, "A", "CT")),
        ("HLA-A*01:01:01:01:5:A:T", ("HLA-A*01:01:01:01", 4, "A", "T")),
        ("chr1:9:T:t[chr1:20000[", ("chr1", 8, "T", "t[chr1:20000[")),
        ("chr1:9:T:<DEL:90>", ("chr1", 8, "T", "<DEL:90>")),
        ("chr1:9:T:C@2", ("chr1", 8, "T", "C")),
    ],
)
def test_names_of_variants(text, parsed):
    assert parse_variant(text) == parsed


def test_a_place_is_a_variant_or_a_region():
    assert Wanted.at("HLA-A*01:01:01:01:5-10") == Wanted(region="HLA-A*01:01:01:01:5-10")
    assert Wanted.at("chr1:5:A:T", scorer="dnase") == Wanted("chr1:5:A:T", scorer="dnase")
    assert Wanted.at("", gene="x") == Wanted(gene="x")


def test_haplotypes_of_a_variant_are_told_apart(tmp_path):
    """One place and allele may be scored on both haplotypes of a person."""
    table = pl.DataFrame({"variant_id": ["1:5:A:T@1", "1:5:A:T@2"], "position": 4, "ref": "A", "alt": "T"})
    for name, rows in (("1:5:A:T", 2), ("1:5:A:T@2", 1), ("1:5:A:C@2", 0)):
        assert table.filter(Wanted(name).condition()).height == rows


def test_a_region_holds_what_reaches_into_it(store):
    found = query_scores(store, Wanted(region="chr1:201-210", scorer="dnase"))["variant_id"].unique(
        maintain_order=True
    )
    assert [v.split(":")[1] for v in found] == ["51", "201"]  # the deletion at 51 ends at 250
    both = query_scores(store, Wanted(region="chr1:255-1005", scorer="dnase"))["position"].unique()
    assert sorted(both) == [260, 270, 280, 290, 1000]  # of two parts
    assert query_scores(store, Wanted("chr1:11:A:T", region="chr1:1-10")).height == 0


def test_genes_by_name_id_or_id_without_version(store):
    rows = [query_scores(store, Wanted(gene=g)) for g in ("GENSG1.7", "ENSG1.7", "ENSG1")]
    assert rows[0].height == ROWS * 2 and all(r.equals(rows[0]) for r in rows)
    assert rows[0]["position"].is_between(1000, 1999).all() and set(rows[0]["scorer"]) == {"rna_seq"}
    assert query_scores(store, Wanted(gene="far")).height == PARTS * ROWS * 2
    assert query_scores(store, Wanted(gene="ENSG1", region="chr1:1001-1011")).height == 2 * 2
    assert query_scores(store, Wanted(gene="nobody")).height == 0


def test_biosample_quantile_and_limit(store, tmp_path):
    tissue = query_scores(store, Wanted(biosample="t CELL"))
    assert set(tissue["ontology_curie"]) == {"CL:2"} and tissue.height == PARTS * ROWS * 3
    assert tissue.equals(query_scores(store, Wanted(biosample="cl:2")))
    strong = query_scores(store, Wanted(scorer="dnase", min_quantile=0.9))
    raw = np.concatenate([r.to_numpy() for r in _all(store, "dnase")["raw"]])
    assert strong.height == int((np.abs(np.tanh(raw)) >= 0.9).sum()) > 10
    assert query(store, Wanted(scorer="dnase"), tmp_path / "x.tsv", limit=7) == 7
    assert read_tsv(tmp_path / "x.tsv", "tidy").height == 7


def test_a_query_opens_the_parts_of_its_place_alone(store, monkeypatch):
    opened: list[Path] = []
    real = pl.scan_parquet
    monkeypatch.setattr(pl, "scan_parquet", lambda path: (opened.append(Path(path)), real(path))[1])
    query_scores(store, Wanted("chr2:1011:A:T"))
    query_scores(store, Wanted(gene="ENSG10"))
    names = [f"{path.parent.name}/{path.name}" for path in opened]
    assert names == [f"{s}/part-0000{p}.parquet" for p in (3, 2) for s in ("dnase", "rna_seq")]


def test_a_store_made_by_hand_needs_no_index(store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    for name in ("parts.parquet", "genes.parquet"):
        (copy / name).unlink()
    for wanted in (Wanted("chr2:11:A:T"), Wanted(region="chr1:201-1010"), Wanted(gene="ENSG1"), Wanted()):
        assert query_scores(copy, wanted).equals(query_scores(store, wanted))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted("chr1:5:A"), "wanted chrom:position:ref:alt, 1-based"),
        (Wanted("1:11:A:T"), "1 is not a contig of these scores, wanted one of chr1, chr2"),
        (Wanted(region="chr1"), "wanted chrom:start-end"),
        (Wanted(region="chrX:1-5"), "chrX is not a contig"),
        (Wanted(scorer="dnaze"), "no scores of dnaze; these are there: dnase, rna_seq"),
    ],
)
def test_bad_questions(store, wanted, words):
    with pytest.raises((ValueError, FileError), match=words):
        query_scores(store, wanted)


def test_the_command_prints_and_tells_of_rejected_variants(store):
    def run(*options: str) -> str:
        command = [sys.executable, "-m", "megabase", "query", str(store), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    lines = run("chr2:11:A:T", "--scorer", "dnase", "--tissue", "B cell").splitlines()
    assert len(lines) == 3 and lines[0].startswith("scorer\tvariant_id\tchrom")
    assert run("chr1:1-30", "--scorer", "dnase").count("\n") == 1 + 3 * 3
    assert "#rejected: 2:78:A:<INS>: symbolic_allele (no bases)" in run("chr2:78:A:<INS>")
    assert run("chr9:1:A:T").startswith("error: chr9 is not a contig of these scores")
    piped = f"{sys.executable} -m megabase query {store} | head -n 1"
    done = subprocess.run(piped, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("scorer") and done.stderr == ""


def test_a_query_imports_nothing_slow():
    """No torch, no scipy: they take seconds to import, a query less than one."""
    code = "import sys, megabase.cli, megabase.scoring.query; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "polars" in loaded and not {"torch", "scipy", "pandas", "pydantic", "pysam"} & set(loaded)


def test_row_groups_are_skipped_by_position(store, monkeypatch, tmp_path):
    """The bounds of positions in a condition let the reader leave row groups out."""
    condition = places.Place("chr1", 100, 110).condition(1)
    table = _all(store, "dnase")
    assert table.filter(condition)["position"].to_list() == [100]
    assert {"position", "chrom", "ref", "alt"} == set(condition.meta.root_names())
