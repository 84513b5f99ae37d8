"""A merge loses nothing and says what is wrong; its VCF is whole; the uncertainty of a score is its own."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import polars as pl
import pysam
import pytest
from cyvcf2 import VCF
from pysam import bcftools
from scoring_stand_ins import LENGTH, ToyPredictor, make_annotation, make_genome, some_variants

from megabase.files import FileError, Stamp, read_json, read_table, write_table
from megabase.packing import Packing
from megabase.scoring import parts, summary
from megabase.scoring.calibration import calibrate_scores
from megabase.scoring.chunks import score_chunk
from megabase.scoring.composite import COMPOSITE
from megabase.scoring.engine import Engine
from megabase.scoring.keys import raw_matrix
from megabase.scoring.query import Wanted, query, query_scores
from megabase.scoring.scorers import RECOMMENDED, parse_scorer
from megabase.scoring.store import merge_scores
from megabase.scoring.summary import SummaryWriter, escape
from megabase.settings.scoring import ChunkSettings, ScoringSettings
from megabase.spec import REPRESENTATION_COLUMNS
from megabase.split import split_variants

SETTINGS = ScoringSettings(window=4096, batch_size=8, bins=50)
NAMES = ("dnase", "rna_seq", "rna_seq_active", "splice_sites", "splice_site_usage", "splice_junctions")
SCORERS = [*(RECOMMENDED[name] for name in NAMES), parse_scorer("dnase:center:2001:diff_mean")]
STAMP = Stamp("chunk", SETTINGS.hash())
CHUNKS = ("1-of-3", "2-of-3", "3-of-3")
DEALT = Packing(ChunkSettings(load_seconds=0))  # few variants, in as many chunks as there are
HEAD = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@dataclass
class World:
    """A VCF that was split, scored and merged."""

    folder: Path
    rejected: Path
    split: Path

    @property
    def chunks(self) -> Path:
        return self.folder / "chunks"

    def merge(self, output: Path, chunks: Path | list[Path] | None = None, **more) -> Path:
        """Merge everything, or what is given."""
        given = {"split": self.split, "calibration": self.folder / "model"} | more
        calibration = given.pop("calibration")
        merge_scores(chunks or self.chunks, self.rejected, calibration, None, output, **given)
        return output


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("merged")
    genome = make_genome(folder)
    lines = [f"{v.chrom}\t{v.position + 1}\trs{i};x=1\t{v.ref}\t{v.alt}\t.\t.\t.\n"
             for i, v in enumerate(some_variants(genome)) if set(v.ref + v.alt) <= set("ACGT")]  # fmt: skip
    lines += ["chr1\t77\tsv\tA\t<DEL>\t.\t.\t.\n", "chr9\t5\t.\tA\tC\t.\t.\t.\n", lines[3]]
    (folder / "in.vcf").write_text(HEAD + "".join(lines))
    rejected = folder / "variants/rejected.parquet"
    tables = [rejected.with_name(f"{name}.parquet") for name in CHUNKS]
    split_variants(folder / "in.vcf", folder / "genome", tables, rejected, max_allele=100, packing=DEALT)
    engine = Engine(ToyPredictor(), genome, make_annotation(), SCORERS, SETTINGS)
    for table in tables:
        score_chunk(engine, table, folder / "chunks" / table.stem, STAMP)
    calibrate_scores([folder / "chunks" / name for name in CHUNKS], folder / "model", SETTINGS)
    made = World(folder, rejected, rejected.with_name("split.json"))
    made.merge(folder / "scores")
    return made


def _ids(world: World) -> list[str]:
    tables = [read_table(world.split.with_name(f"{name}.parquet"), "variants") for name in CHUNKS]
    return pl.concat(tables)["variant_id"].to_list()


def _copy(world: World, folder: Path) -> World:
    for name in ("chunks", "variants"):
        shutil.copytree(world.folder / name, folder / name)
    (folder / "model").symlink_to(world.folder / "model")
    return World(folder, folder / "variants/rejected.parquet", folder / "variants/split.json")


def _change(path: Path, change, kind: str = "chunk") -> None:
    write_table(change(read_table(path, kind)), path, STAMP if kind == "chunk" else Stamp(kind))


# --- nothing is lost


def test_every_allele_of_the_vcf_is_scored_or_rejected(world):
    info = read_json(world.folder / "scores/scores.json", "scores")
    counts = read_json(world.split, "split")
    assert counts["alleles"] == info["alleles_in"] == info["scored"] + info["rejected"] == 18
    assert counts["left_out"] == 0
    reasons = read_table(world.folder / "scores/rejected.parquet", "rejected")["reason"].to_list()
    assert sorted(reasons) == ["duplicate", "no_length", "ref_mismatch", "unknown_contig"]
    dnase = pl.scan_parquet(world.folder / "scores/dnase/part-*.parquet").collect()
    assert dnase["variant_id"].to_list() == _ids(world)
    assert dnase.sort("chrom", "position", maintain_order=True).equals(dnase)


def test_a_subset_is_counted(world, tmp_path):
    tables = [tmp_path / f"{name}.parquet" for name in CHUNKS]
    split_variants(
        world.folder / "in.vcf", world.folder / "genome", tables, tmp_path / "rejected.parquet",
        max_allele=100, max_variants=5, packing=DEALT,
    )  # fmt: skip
    counts = read_json(tmp_path / "split.json", "split")
    assert counts["left_out"] == len(_ids(world)) - 5 and counts["alleles"] == len(_ids(world)) + 4
    assert sum(c["variants"] for c in counts["chunks"]) == 5 and len(counts["chunks"]) == len(CHUNKS)


def test_a_chunk_that_is_missing_doubled_or_out_of_place(world, tmp_path):
    here = _copy(world, tmp_path)
    first = read_table(here.split.with_name("2-of-3.parquet"), "variants")["variant_id"][0]
    shutil.move(here.chunks / "2-of-3", tmp_path / "aside")
    with pytest.raises(FileError, match=f"chunk 2-of-3 .* not there: .* such as variant {first}"):
        here.merge(tmp_path / "scores")
    shutil.move(tmp_path / "aside", here.chunks / "2-of-3")
    folders = [here.chunks / name for name in CHUNKS]
    with pytest.raises(FileError, match="chunk 3-of-3 is unknown to the split, there twice or out of order"):
        here.merge(tmp_path / "scores", [*folders, folders[2]])
    with pytest.raises(FileError, match="out of order"):
        here.merge(tmp_path / "scores", folders[::-1])
    for order in ([0, 2, 1], [0, 1, 1], [0, 0, 1, 2]):
        with pytest.raises(FileError, match=r"variant chr\S+ comes after chr\S+: out of genome order"):
            here.merge(tmp_path / "scores", [folders[i] for i in order], split=None)
    assert not (tmp_path / "scores").exists() and not list(tmp_path.glob(".tmp*"))


def test_a_variant_that_is_missing_added_or_changed(world, tmp_path):
    here = _copy(world, tmp_path)
    chunk, lost = here.chunks / "2-of-3", read_table(here.chunks / "2-of-3/variants.parquet", "chunk")[1]
    for path in chunk.glob("*.parquet"):
        if path.name != "tracks.parquet":
            _change(path, lambda t: t.filter(pl.col("variant_id") != lost["variant_id"][0]))
    with pytest.raises(FileError, match=f"chunk 2-of-3: variant {lost['variant_id'][0]} is not scored"):
        here.merge(tmp_path / "scores")
    folders = [here.chunks / name for name in CHUNKS]
    here.merge(tmp_path / "unchecked", folders, split=None)  # without the split it cannot be known
    _change(chunk / "variants.parquet", lambda t: pl.concat([t[:1], lost, t[1:]]))
    with pytest.raises(FileError, match=f"dnase has a row of variant .* in place of {lost['variant_id'][0]}"):
        here.merge(tmp_path / "scores")
    more = lost.with_columns(variant_id=pl.lit("chr1:9:A:T"), position=pl.lit(LENGTH - 1, pl.Int64))
    _change(chunk / "variants.parquet", lambda t: pl.concat([t, more]))
    with pytest.raises(FileError, match="chunk 2-of-3: variant chr1:9:A:T was not asked for"):
        here.merge(tmp_path / "scores")


def test_rows_of_genes_that_are_doubled_or_of_nobody(world, tmp_path):
    here = _copy(world, tmp_path)
    path = next(c / "rna_seq.parquet" for c in sorted(here.chunks.iterdir())
                if read_table(c / "rna_seq.parquet", "chunk").height > 3)  # fmt: skip
    good = read_table(path, "chunk")
    for change, words in (
        (lambda t: pl.concat([t, t[-1:]]), f"rna_seq has a row of variant {good['variant_id'][-1]} twice"),
        (lambda t: pl.concat([t, t[:1]]), f"has rows of variant {good['variant_id'][0]} out of place"),
        (lambda t: t.with_columns(variant_id=pl.lit("chr1:9:A:T")), "unknown variant chr1:9:A:T"),
    ):
        write_table(change(good), path, STAMP)
        with pytest.raises(FileError, match=words):
            here.merge(tmp_path / "scores")


def test_counts_that_do_not_sum_up(world, tmp_path):
    here = _copy(world, tmp_path)
    _change(here.rejected, lambda t: t[1:], "rejected")
    with pytest.raises(FileError, match="3 rejected rows of 4 written"):
        here.merge(tmp_path / "scores")
    _change(here.split.with_name("1-of-3.parquet"), lambda t: t[1:], "variants")
    with pytest.raises(FileError, match=r"1-of-3.parquet: \d variants, \d were written"):
        here.merge(tmp_path / "scores")
    info = json.loads(here.split.read_text()) | {"alleles": 99}
    here.split.write_text(json.dumps(info))
    with pytest.raises(FileError, match=r"99 alleles read, .* another sum"):
        here.merge(tmp_path / "scores")


def test_blocks_of_any_size_give_the_same_scores(world, tmp_path, monkeypatch):
    """A variant's rows may lie in two blocks."""
    monkeypatch.setattr(parts, "GROUP_ROWS", 2)
    monkeypatch.setattr(parts, "BLOCK_VALUES", 1)
    monkeypatch.setattr(summary, "LINES", 3)
    small = world.merge(tmp_path / "scores")
    both = world.folder / "scores", small
    for name in (*NAMES, COMPOSITE):
        whole, blocks = ([pl.read_parquet(p) for p in sorted((f / name).glob("part-*"))] for f in both)
        assert all(a.equals(b) for a, b in zip(whole, blocks, strict=True)), name
    views = [gzip.open(f / "summary.vcf.gz").read() for f in both]
    assert views[0] == views[1]
    for name in ("parts.parquet", "genes.parquet"):
        assert read_table(small / name, "scores").equals(read_table(world.folder / "scores" / name, "scores"))


def test_a_vcf_whose_records_are_all_rejected_gives_empty_scores(world, tmp_path):
    (tmp_path / "none.vcf").write_text(HEAD + "chr9\t5\t.\tA\tC\t.\t.\t.\n")
    rejected = tmp_path / "variants/rejected.parquet"
    tables = [rejected.with_name(f"{name}.parquet") for name in CHUNKS]
    split_variants(
        tmp_path / "none.vcf", world.folder / "genome", tables, rejected, max_allele=100, packing=DEALT
    )
    engine = Engine(ToyPredictor(), make_genome(tmp_path), make_annotation(), SCORERS, SETTINGS)
    for table in tables:
        score_chunk(engine, table, tmp_path / "chunks" / table.stem, STAMP)
    merge_scores(
        tmp_path / "chunks", rejected, world.folder / "model", None, tmp_path / "scores",
        split=rejected.with_name("split.json"),
    )  # fmt: skip
    info = read_json(tmp_path / "scores/scores.json", "scores")
    assert (info["alleles_in"], info["scored"], info["rejected"]) == (1, 0, 1)
    assert list(VCF(str(tmp_path / "scores/summary.vcf.gz"))) == []
    assert query_scores(tmp_path / "scores").height == 0


# --- the VCF


def test_vcf_round_trips_through_htslib(world, tmp_path):
    path = world.folder / "scores/summary.vcf.gz"
    copy = str(tmp_path / "out.bcf")
    with pysam.VariantFile(str(path)) as reader, pysam.VariantFile(copy, "wb", header=reader.header) as out:
        for record in reader:
            out.write(record)
    first, second = list(VCF(str(path))), list(VCF(copy))
    assert len(first) == len(_ids(world)) and [str(a) for a in first] == [str(b) for b in second]
    assert [f"{r.CHROM}:{r.POS}:{r.REF}:{r.ALT[0]}" for r in first] == _ids(world)
    assert all(r.ID.endswith(";x=1") for r in first)  # as the input had it
    declared = {h["ID"] for h in VCF(str(path)).header_iter() if h["HeaderType"] == "INFO"}
    used = {key for record in first for key, _ in record.INFO}
    assert used <= declared and "MB_DNASE_Q" in used and "MB_RNA_SEQ_ACTIVE" not in declared
    text = "".join(str(r) for r in first)
    bcftools.view("-Ob", "-o", copy, str(path), catch_stdout=False)
    assert bcftools.view("-H", copy) == text
    bcftools.index(copy)
    assert bcftools.view("-H", "-r", f"{first[0].CHROM}:{first[0].POS}", copy).startswith(str(first[0]))
    found = bcftools.query("-f", "%CHROM:%POS:%REF:%ALT %MB_DNASE_Q\n", str(path)).splitlines()
    assert [line.split()[0] for line in found] == _ids(world) and float(found[0].split()[1])


def test_reserved_characters_come_back(tmp_path):
    texts = ["a;b=c,d%e:f", "CD4+ T cell, naive", "tab\tend", "naïve"]
    assert [unquote(escape(t)) for t in texts] == texts
    assert not any(c in escape("".join(texts)) for c in ";=,: \t")
    named = pl.DataFrame({"biosample_name": texts, "channel": range(4)})
    tracks = named.with_columns(scorer=pl.lit("dnase"), name=pl.lit("x"))
    scorer = RECOMMENDED["dnase"].as_dict() | {"calibrated": False}
    place = {"chrom": "chr1", "position": 600_000_000, "ref": "A", "alt": "C"}
    variants = pl.DataFrame({"variant_id": "chr1:600000001:A:C", **place})
    writer = SummaryWriter(tmp_path / "x.vcf.gz", {"chr1": 700_000_000}, [scorer], tracks)
    kind, nobody = pl.Array(pl.Float32, 4), pl.lit(None, pl.String)
    scores = variants.select(
        "variant_id", gene_id=nobody, gene_name=nobody,
        raw=pl.lit([1.0, -3.0, 2.0, 0.0], dtype=kind), quantile=pl.lit(None, dtype=kind),
    )  # fmt: skip
    writer.add_scores(scores, "dnase")
    writer.add_variants(variants.with_columns(source_id=nobody))
    writer.close()
    assert (tmp_path / "x.vcf.gz.csi").exists()  # a .tbi index ends at 512 Mb
    (record,) = VCF(str(tmp_path / "x.vcf.gz"))("chr1:600000001-600000001")
    assert record.INFO["MB_DNASE"] == -3 and unquote(record.INFO["MB_DNASE_TRACK"]) == f"x|{texts[1]}"
    header = VCF(str(tmp_path / "x.vcf.gz")).raw_header
    assert "ID=MB_DNASE_Q" not in header and "ID=MB_DNASE_SD" not in header and "not calibrated" in header


def test_a_store_without_calibration_says_so_everywhere(world, tmp_path):
    folder = world.merge(tmp_path / "scores", calibration=None)
    info = read_json(folder / "scores.json", "scores")
    assert info["background"] == 0 and not any(s["calibrated"] for s in info["scorers"])
    assert pl.read_parquet(folder / "dnase/part-*.parquet")["quantile"].is_null().all()
    header = VCF(str(folder / "summary.vcf.gz")).raw_header
    assert "_Q," not in header and header.count("not calibrated, no quantile") == len(SCORERS)
    assert "##megabase_background=0" in header
    query(folder, Wanted(scorer="dnase"), tmp_path / "x.tsv")
    assert "#not calibrated, no quantiles: dnase\n" in (tmp_path / "x.tsv").read_text()


# --- uncertainty and representation


def _with_spread(engine: Engine, scale: float = 0.25) -> SimpleNamespace:
    """An engine whose rows have a spread, as those of an ensemble."""

    def score(variants):
        found = engine.score(variants)
        return [
            {name: replace(rows, spread=rows.raw.abs() * scale) for name, rows in one.items()}
            for one in found
        ]  # fmt: skip

    names = ("predictor", "genome", "scorers", "settings", "tracks", "organism", "batches")
    return SimpleNamespace(score=score, **{name: getattr(engine, name) for name in names})


@pytest.fixture(scope="module")
def ensemble(world, tmp_path_factory) -> Path:
    """Chunks of an ensemble, of the same variants, whose junction rows are fewer."""
    folder = tmp_path_factory.mktemp("ensemble")
    genome = make_genome(folder)
    predictor = ToyPredictor()
    predictor.name = "ensemble-all"
    engine = _with_spread(Engine(predictor, genome, make_annotation(), SCORERS, SETTINGS))
    for name in CHUNKS:
        score_chunk(engine, world.split.with_name(f"{name}.parquet"), folder / name, STAMP)
    return folder


def test_an_ensemble_carries_its_own_spread(world, ensemble, tmp_path):
    folder = world.merge(tmp_path / "scores", ensemble, calibration=None)
    table = pl.read_parquet(folder / "dnase/part-*.parquet")
    np.testing.assert_allclose(raw_matrix(table, "spread"), np.abs(raw_matrix(table)) / 4, rtol=1e-6)
    info = read_json(folder / "scores.json", "scores")
    assert info["uncertainty"] == "ensemble-all"
    assert {s["name"]: s["spread"] for s in info["scorers"]}["rna_seq"]
    assert not {s["name"]: s["spread"] for s in info["scorers"]}[COMPOSITE]


def test_a_student_is_given_the_spread_of_an_ensemble_row_by_row(world, ensemble, tmp_path):
    others = tmp_path / "others"
    shutil.copytree(ensemble, others)
    for chunk in CHUNKS:
        path = others / chunk / "rna_seq.parquet"
        _change(path, lambda t: t.filter(pl.col("gene_id") != "minus").reverse())
    folder = world.merge(tmp_path / "scores", uncertainty=others)
    plain = world.folder / "scores"
    for name in ("dnase", "rna_seq", "splice_junctions"):
        table, before = (pl.read_parquet(f / name / "part-*.parquet") for f in (folder, plain))
        assert table.drop("spread").equals(before) and "spread" not in before.columns
        spread, raw = raw_matrix(table, "spread"), raw_matrix(table)
        lacks = (table["gene_id"] == "minus").fill_null(False).to_numpy() & (name == "rna_seq")
        np.testing.assert_allclose(spread[~lacks], np.abs(raw[~lacks]) / 4, rtol=1e-6)
        assert np.isnan(spread[lacks]).all()
    info = read_json(folder / "scores.json", "scores")
    assert (info["model"], info["uncertainty"]) == ("toy", "ensemble-all")
    assert read_json(plain / "scores.json", "scores")["uncertainty"] is None
    record = next(iter(VCF(str(folder / "summary.vcf.gz"))))
    assert record.INFO["MB_DNASE_SD"] == pytest.approx(abs(record.INFO["MB_DNASE"]) / 4, rel=1e-5)
    rows = query_scores(folder, Wanted(_ids(world)[0], scorer="dnase"))
    assert rows["spread"].to_list() == pytest.approx((rows["raw"].abs() / 4).to_list())
    assert query_scores(plain, Wanted(_ids(world)[0], scorer="dnase"))["spread"].is_null().all()


def test_a_spread_that_does_not_fit_is_refused(world, ensemble, tmp_path):
    with pytest.raises(FileError, match="toy tells no spread of its scores; wanted an ensemble"):
        world.merge(tmp_path / "scores", uncertainty=world.chunks)
    other = tmp_path / "other"
    shutil.copytree(ensemble, other)
    info = json.loads((other / "2-of-3/chunk.json").read_text()) | {"window": 2048}
    (other / "2-of-3/chunk.json").write_text(json.dumps(info))
    with pytest.raises(FileError, match=r"window 2048, the scores of .* have 4096"):
        world.merge(tmp_path / "scores", uncertainty=other)
    shutil.copytree(ensemble, other, dirs_exist_ok=True)
    _change(other / "1-of-3/tracks.parquet", lambda t: t.with_columns(name=pl.col("name") + "x"))
    with pytest.raises(FileError, match="its tracks are not those of"):
        world.merge(tmp_path / "scores", uncertainty=other)


def test_tracks_tell_how_well_their_biosample_was_represented(world):
    tracks = read_table(world.folder / "scores/tracks.parquet", "scores")
    assert set(REPRESENTATION_COLUMNS) <= set(tracks.columns)
    dnase = tracks.filter(pl.col("scorer") == "dnase")
    assert dnase["representation"].is_between(0, 1).all() and dnase["biosample_tracks"].min() > 1
    rows = query_scores(world.folder / "scores", Wanted(_ids(world)[0], scorer="dnase"))
    assert rows["representation"].to_list() == pytest.approx(dnase["representation"].to_list())
    sites = tracks.filter(pl.col("scorer") == "splice_sites")
    assert sites["representation"].is_null().all()  # site classes are of no biosample


def test_threads_do_not_change_the_bytes(world, tmp_path, monkeypatch):
    """Scorers of a chunk are merged side by side; the files are those of one after the other."""
    for threads in ("1", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        world.merge(tmp_path / threads)
    files = sorted(p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*") if p.is_file())
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "5" / file).read_bytes(), file


def test_a_merge_imports_nothing_slow():
    """No torch: it takes longer to import than a small set takes to merge."""
    code = "import sys, megabase.cli, megabase.scoring.store; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "polars" in loaded and not {"torch", "scipy", "pandas"} & set(loaded)
