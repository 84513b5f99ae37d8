"""The demo portal as files: complete, reproducible, and in the conventions of each format."""

from __future__ import annotations

import gzip
import hashlib
from itertools import pairwise
from pathlib import Path

import cooler
import numpy as np
import polars as pl
import pyBigWig
import pysam
import pytest
from cyvcf2 import VCF

from megabase.files import read_json, read_table
from megabase.sequence import encode, reverse_complement
from megabase.simulate import DemoSize, demo_files, simulate_demo, write_manifest
from megabase.spec import MANIFEST_COLUMNS, OutputType

SMALL = DemoSize(
    alpha={"chrA1": 70_000, "chrA2": 50_000}, beta={"chrB1": 40_000}, variants=120, eqtls=4, sqtls=3
)  # fmt: skip


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo portal with its manifest beside it."""
    folder = tmp_path_factory.mktemp("demo")
    simulate_demo(folder / "portal", 7, folder / "manifest.tsv", SMALL)
    return folder / "portal"


@pytest.fixture(scope="module")
def genome(portal: Path) -> dict[str, str]:
    """Chromosome -> sequence of the first species."""
    records = gzip.open(portal / "alpha_genome.fa.gz", "rt").read().split(">")[1:]
    return {r.split()[0]: "".join(r.splitlines()[1:]) for r in records}


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".fai", ".gzi"))
    return {str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def _table(portal: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(portal / name, separator="\t", infer_schema_length=None)


def _junctions(portal: Path) -> pl.DataFrame:
    names = ["chrom", "first", "last", "strand", "motif", "annotated", "unique", "multi", "overhang"]
    path = portal / "alpha_neural_junctions_rep1.SJ.out.tab"
    return pl.read_csv(path, separator="\t", has_header=False, new_columns=names)


def test_same_seed_writes_the_same_bytes(portal: Path, tmp_path: Path) -> None:
    """Side by side, too."""
    simulate_demo(tmp_path, 7, size=SMALL, processes=2)
    assert _digests(tmp_path) == _digests(portal)


def test_portal_holds_the_manifests_files_and_the_truth(portal: Path) -> None:
    manifest = _table(portal.parent, "manifest.tsv")
    urls = manifest["url"].to_list()
    listed = {url.removeprefix(f"file:{portal}/") for url in urls}
    found = {name for name in _digests(portal) if not name.startswith("truth/")}
    assert listed == found
    truth = {name for name in _digests(portal) if name.startswith("truth/")}
    assert truth == {f"truth/{n}" for n in (
        "effects.parquet", "elements.parquet", "expression.parquet", "motifs.json")}  # fmt: skip


def test_committed_manifest_is_the_generated_one(root: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "demo.tsv")
    assert (tmp_path / "demo.tsv").read_text() == (root / "resources/manifests/demo.tsv").read_text()


def test_manifest_has_every_column_and_output_type_and_unique_accessions() -> None:
    files = demo_files()
    assert len({file.accession for file in files}) == len(files)
    measured = {file.output_type for file in files}
    derived = {OutputType.SPLICE_SITES}  # the sites of the junctions
    assert set(OutputType) - derived <= measured
    assert all("." not in file.accession for file in files)  # the extension begins at the first dot


def test_manifest_columns(portal: Path) -> None:
    manifest = _table(portal.parent, "manifest.tsv")
    assert tuple(manifest.columns) == MANIFEST_COLUMNS
    assert set(manifest["portal"]) == {"demo"}
    assert manifest["md5"].null_count() == len(manifest)


def test_annotated_introns_carry_splice_consensus(portal: Path, genome: dict[str, str]) -> None:
    rows = [line.split("\t") for line in gzip.open(portal / "alpha_genes.gtf.gz", "rt") if "\texon\t" in line]
    by_transcript: dict[str, list[tuple[str, int, int, str]]] = {}
    for chrom, _, _, start, end, _, strand, _, attributes in rows:
        name = attributes.split('transcript_id "')[1].split('"')[0]
        by_transcript.setdefault(name, []).append((chrom, int(start) - 1, int(end), strand))
    introns = 0
    for exons in by_transcript.values():
        ordered = sorted(exons)
        for (chrom, _, end, strand), (_, start, _, _) in pairwise(ordered):
            intron = encode(genome[chrom][end:start])
            intron = intron if strand == "+" else reverse_complement(intron)
            assert intron[:2].tolist() == [2, 3] and intron[-2:].tolist() == [0, 2]  # GT ... AG
            introns += 1
    assert introns > 20


def test_junction_table_is_star_1_based(portal: Path, genome: dict[str, str]) -> None:
    table = _junctions(portal)
    assert len(table) > 20 and table["unique"].min() > 0
    assert table.equals(table.sort("chrom", "first", "last"))
    for chrom, first, last, strand, motif in table.select(
        "chrom", "first", "last", "strand", "motif"
    ).iter_rows():
        intron = genome[chrom][first - 1 : last]
        expected = ("GT", "AG") if strand == 1 else ("CT", "AC")
        assert (intron[:2], intron[-2:]) == expected
        assert motif == strand


def test_usage_counts_agree_with_junction_sites(portal: Path) -> None:
    usage = _table(portal, "alpha_neural_usage_rep1.ssu.tsv")
    table = _junctions(portal)
    plus = table.filter(pl.col("strand") == 1)
    donors = set(plus.select("chrom", pl.col("first") - 1).iter_rows())  # 1-based last exonic base
    acceptors = set(plus.select("chrom", pl.col("last") + 1).iter_rows())
    rows = usage.filter(pl.col("strand") == "+")
    found = {kind: set(rows.filter(pl.col("kind") == kind).select("chrom", "position").iter_rows())
             for kind in ("donor", "acceptor")}  # fmt: skip
    assert donors <= found["donor"] and acceptors <= found["acceptor"]
    expected = usage["using"] / (usage["using"] + usage["skipping"])
    assert np.allclose(expected, usage["usage"], atol=1e-5)
    assert (usage["skipping"] > 0).any()


def test_ctss_lie_on_initiators(portal: Path, genome: dict[str, str]) -> None:
    lines = gzip.open(portal / "alpha_hepatic_cage_rep1.ctss.bed.gz", "rt").read().splitlines()
    rows = [(c, int(s), int(e), int(n), strand) for c, s, e, _, n, strand in map(str.split, lines)]
    assert all(end == start + 1 and count > 0 for _, start, end, count, _ in rows)
    genes = [
        line.split("\t") for line in gzip.open(portal / "alpha_genes.gtf.gz", "rt") if "\tgene\t" in line
    ]
    tss = {(g[0], int(g[3]) - 1 if g[6] == "+" else int(g[4]) - 1, g[6]) for g in genes}
    best = sorted(rows, key=lambda row: -row[3])[:5]
    assert all((chrom, start, strand) in tss for chrom, start, _, _, strand in best)


@pytest.mark.parametrize("assay", ["atac", "dnase"])
def test_bam_is_valid_sorted_and_matches_the_genome(portal: Path, genome: dict[str, str], assay: str) -> None:
    path = str(portal / f"alpha_neural_{assay}_rep1.bam")
    pysam.quickcheck(path)
    with pysam.AlignmentFile(path) as handle:
        assert handle.header["HD"]["SO"] == "coordinate"
        assert dict(zip(handle.references, handle.lengths, strict=True)) == SMALL.alpha
        reads = list(handle.fetch(until_eof=True))
    keys = [(r.reference_id, r.reference_start) for r in reads]
    assert keys == sorted(keys) and len(reads) > 1000
    assert 0.4 < np.mean([r.is_reverse for r in reads]) < 0.6
    for read in reads[::97]:
        text = genome[read.reference_name][read.reference_start : read.reference_end]
        assert read.query_sequence == text
        assert read.query_length == (50 if assay == "atac" else 36)


def test_bam_can_be_indexed_and_fetched(portal: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.bam"
    copy.write_bytes((portal / "alpha_neural_atac_rep1.bam").read_bytes())
    pysam.index(str(copy))
    with pysam.AlignmentFile(str(copy)) as handle:
        inside = {r.query_name for r in handle.fetch("chrA2", 20_000, 30_000)}
    with pysam.AlignmentFile(str(copy)) as handle:
        everything = handle.fetch(until_eof=True)
        wanted = {r.query_name for r in everything if r.reference_name == "chrA2"
                  and r.reference_start < 30_000 and r.reference_end > 20_000}  # fmt: skip
    assert inside == wanted and inside


def test_unknown_sequence_has_no_signal_and_no_reads(portal: Path, genome: dict[str, str]) -> None:
    start = genome["chrA1"].find("N")
    end = start + len(genome["chrA1"]) - len(genome["chrA1"].replace("N", ""))
    assert genome["chrA1"][start:end] == "N" * (end - start) and end - start == 4_000
    with pyBigWig.open(str(portal / "alpha_hepatic_ctcf_rep1.bigWig")) as handle:
        values = handle.values("chrA1", 0, SMALL.alpha["chrA1"], numpy=True)
    assert np.isnan(values[start:end]).all() and not np.isnan(values[:start]).any()


def test_rna_has_sharp_exon_edges(portal: Path) -> None:
    genes = [
        line.split("\t") for line in gzip.open(portal / "alpha_genes.gtf.gz", "rt") if "\texon\t" in line
    ]
    inside, outside = [], []
    with pyBigWig.open(str(portal / "alpha_neural_rna_rep1_plus.bigWig")) as handle:
        for fields in genes:
            if fields[6] == "+" and "exon_number 1;" in fields[8]:
                end = int(fields[4])
                values = np.nan_to_num(handle.values(fields[0], end - 30, end + 30, numpy=True))
                inside.append(values[:30].mean())
                outside.append(values[30:].mean())
    assert sum(inside) > 4 * sum(outside) > 0


def test_contacts_are_balanced_at_every_resolution(portal: Path) -> None:
    path = portal / "alpha_hepatic_hic_rep1.mcool"
    for resolution in (1000, 2000, 4000):
        clr = cooler.Cooler(f"{path}::resolutions/{resolution}")
        assert clr.binsize == resolution and "weight" in clr.bins().columns
        matrix = clr.matrix(balance=False).fetch("chrA1")
        assert np.array_equal(matrix, matrix.T) and matrix.sum() > 0
    assert np.diagonal(matrix, 1).mean() > 2 * np.diagonal(matrix, 6).mean()  # decay with distance


def test_vcf_matches_the_genome_and_holds_every_qtl(portal: Path, genome: dict[str, str]) -> None:
    records = list(VCF(str(portal / "alpha_variants.vcf.gz")))
    assert len(records) == SMALL.variants
    names = set()
    for record in records:
        text = genome[record.CHROM][record.POS - 1 : record.POS - 1 + len(record.REF)]
        assert text == record.REF and record.REF != record.ALT[0]
        assert 0 < record.INFO["AF"] <= 0.5
        names.add(f"{record.CHROM}_{record.POS}_{record.REF}_{record.ALT[0]}")
    assert any(len(r.REF) != len(r.ALT[0]) for r in records)
    keys = [(r.CHROM, r.POS) for r in records]
    assert keys == sorted(keys)
    for cell in ("hepatic", "neural", "lymphoid"):
        for kind in ("eqtl", "sqtl"):
            table = _table(portal, f"alpha_{cell}_{kind}.credible_sets.tsv.gz")
            assert set(table["variant"]) <= names


def test_credible_sets_agree_with_the_truth(portal: Path) -> None:
    truth = read_table(portal / "truth" / "effects.parquet", "truth")
    truth = truth.filter((pl.col("cell") == "neural") & (pl.col("kind") == "eqtl"))
    table = _table(portal, "alpha_neural_eqtl.credible_sets.tsv.gz").with_columns(
        variant_id=pl.col("variant").str.replace_all("_", ":")
    )
    joined = table.join(truth, on=["variant_id", "gene_id"])
    assert len(joined) == len(table) == len(truth)
    causal, neutral = joined.filter(pl.col("causal")), joined.filter(~pl.col("causal"))
    assert len(causal) and len(neutral) >= 2 * len(causal)
    assert (causal["pip"] >= 0.9).all() and (neutral["pip"] < 0.01).all()
    assert (np.sign(causal["beta"]) == np.sign(causal["effect"])).all()
    assert (causal["effect"].abs() >= 0.35).all() and (neutral["effect"] == 0).all()
    assert np.allclose(joined["z"], joined["beta"] / joined["se"], atol=1e-2)


def test_truth_lists_motifs_and_elements(portal: Path) -> None:
    motifs = read_json(portal / "truth" / "motifs.json", "truth")["motifs"]
    assert {"CTCF", "TATA", "INR", "DONOR", "ACCEPTOR"} <= motifs.keys()
    elements = read_table(portal / "truth" / "elements.parquet", "truth")
    assert {"promoter", "enhancer", "boundary", "repeat", "unknown"} <= set(elements["kind"])
