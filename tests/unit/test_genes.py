"""GTF styles, derived rows and splice sites."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import polars as pl
import pytest

from megabase.files import FileError
from megabase.genes import prepare_genes
from megabase.genome import Genes, Genome, Interval, prepare_genome
from megabase.sequence import decode


def row(feature: str, start: int, end: int, strand: str, attributes: str, chrom: str = "chr1") -> str:
    return f"{chrom}\ttest\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    (tmp_path / "g.fa").write_text(f">chr1\n{'ACGT' * 500}\n>chr2\n{'A' * 1000}\n")
    prepare_genome(tmp_path / "g.fa", tmp_path / "genome", organism="toy", name="toy1")
    return tmp_path / "genome"


def make(genome: Path, text: str, *, packed: bool = False) -> Genes:
    gtf = genome.parent / "genes.gtf"
    gtf.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return prepare_genes(gtf, genome, genome / "genes")


# two transcripts of one gene:   t1 [100,200) [300,400)      t2 [100,200) [300,450) [500,520)
GENCODE = (
    "##description: toy\n"
    + row("gene", 101, 520, "+", 'gene_id "G1.5"; gene_type "lncRNA"; gene_name "ONE"; level 2;')
    + row("transcript", 101, 400, "+", 'gene_id "G1.5"; transcript_id "T1.1"; tag "Ensembl_canonical";')
    + row("exon", 101, 200, "+", 'gene_id "G1.5"; transcript_id "T1.1"; exon_number 1;')
    + row("exon", 301, 400, "+", 'gene_id "G1.5"; transcript_id "T1.1"; exon_number 2;')
    + row("CDS", 301, 400, "+", 'gene_id "G1.5"; transcript_id "T1.1";')
    + row("transcript", 101, 520, "+", 'gene_id "G1.5"; transcript_id "T2.1"; tag "basic";')
    + row("exon", 101, 200, "+", 'gene_id "G1.5"; transcript_id "T2.1"; exon_number 1;')
    + row("exon", 301, 450, "+", 'gene_id "G1.5"; transcript_id "T2.1"; exon_number 2;')
    + row("exon", 501, 520, "+", 'gene_id "G1.5"; transcript_id "T2.1"; exon_number 3;')
)  # fmt: skip


def test_gencode_style(genome: Path) -> None:
    genes = make(genome, GENCODE)
    assert genes.genes.rows() == [("G1.5", "ONE", "lncRNA", "chr1", 100, 520, "+", 100)]
    assert genes.transcripts.select("transcript_id", "end", "tss", "canonical").rows() == [
        ("T1.1", 400, 100, True), ("T2.1", 520, 100, False),
    ]  # fmt: skip
    assert genes.exons.height == 5
    assert genes.exons_of(["G1.5"]).rows() == [
        ("G1.5", "chr1", 100, 200, "+"), ("G1.5", "chr1", 300, 450, "+"), ("G1.5", "chr1", 500, 520, "+"),
    ]  # fmt: skip


def test_splice_sites_are_the_exonic_bases_beside_introns(genome: Path) -> None:
    sites = make(genome, GENCODE).splice_sites().rows()
    assert sites == [
        ("chr1", 199, "+", "donor"), ("chr1", 300, "+", "acceptor"),
        ("chr1", 449, "+", "donor"), ("chr1", 500, "+", "acceptor"),
    ]  # fmt: skip
    minus = make(genome, GENCODE.replace("\t+\t", "\t-\t"))
    assert minus.splice_sites().rows() == [
        ("chr1", 199, "-", "acceptor"), ("chr1", 300, "-", "donor"),
        ("chr1", 449, "-", "acceptor"), ("chr1", 500, "-", "donor"),
    ]  # fmt: skip
    assert minus.genes["tss"].to_list() == [519]
    assert minus.exons.filter(pl.col("transcript_id") == "T2.1")["number"].to_list() == [3, 2, 1]


def test_frameshift_gaps_are_no_introns(genome: Path) -> None:
    ids = 'gene_id "A"; transcript_id "A.1";'
    text = row("exon", 11, 20, "+", ids) + row("exon", 22, 30, "+", ids) + row("exon", 41, 50, "+", ids)
    assert make(genome, text).splice_sites()["position"].to_list() == [29, 40]


def test_ensembl_style_with_everything_derived(genome: Path) -> None:
    def ids(gene: str, transcript: str) -> str:
        return f'gene_id "{gene}"; gene_version "3"; transcript_id "{transcript}"; gene_biotype "tRNA";'

    text = (
        row("exon", 51, 60, "-", ids("A", "A1"), "1")
        + row("exon", 11, 20, "-", ids("A", "A1"), "1")
        + row("exon", 11, 65, "-", ids("A", "A2"), "1")
        + row("gene", 201, 300, "+", 'gene_id "B"; gene_biotype "pseudogene";', "1")
        + row("transcript", 5, 9, "+", ids("C", "C1"), "2")
    )
    genes = make(genome, text, packed=True)
    assert genes.genes.rows() == [
        ("A", "A", "tRNA", "chr1", 10, 65, "-", 64),
        ("B", "B", "pseudogene", "chr1", 200, 300, "+", 200),
        ("C", "C", "tRNA", "chr2", 4, 9, "+", 4),
    ]
    assert genes.transcripts.select("transcript_id", "start", "end", "canonical").rows() == [
        ("A1", 10, 60, False), ("A2", 10, 65, True), ("B", 200, 300, True), ("C1", 4, 9, True),
    ]  # fmt: skip
    assert genes.exons.filter(pl.col("gene_id").is_in(["B", "C"])).select("start", "end").rows() == [
        (200, 300), (4, 9),
    ]  # fmt: skip


def test_overlapping_is_half_open(genome: Path) -> None:
    genes = make(genome, GENCODE)
    hits = {p: genes.overlapping(Interval("chr1", p, p + 1)).height for p in (99, 100, 519, 520)}
    assert hits == {99: 0, 100: 1, 519: 1, 520: 0}
    assert genes.overlapping(Interval("chr7", 0, 9)).columns == genes.genes.columns


def test_a_second_locus_of_a_gene_is_left_out_and_told(genome: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING, "megabase"):
        genes = make(genome, GENCODE + GENCODE.replace("chr1\t", "chr2\t"))
    assert genes.genes["chrom"].to_list() == ["chr1"]
    assert set(genes.exons["chrom"]) == set(genes.transcripts["chrom"]) == {"chr1"}
    assert "1 further loci" in caplog.text and "G1.5" in caplog.text


def test_a_gtf_without_exons_counts_transcripts_whole_and_tells(genome: Path, caplog) -> None:
    text = "".join(line + "\n" for line in GENCODE.splitlines() if "\texon\t" not in line)
    with caplog.at_level(logging.WARNING, "megabase"):
        genes = make(genome, text)
    assert "has no exon rows" in caplog.text
    spans = genes.transcripts.select("transcript_id", "start", "end").sort("transcript_id")
    assert genes.exons.select("transcript_id", "start", "end").sort("transcript_id").equals(spans)
    assert genes.splice_sites().is_empty()


def test_unknown_contigs_and_broken_rows_cost_themselves_only(genome: Path, caplog) -> None:
    bad = row("exon", 60, 50, "+", 'gene_id "Z"; transcript_id "Z1";') + row(
        "exon", 1, 5, ".", 'gene_id "Z";'
    )
    with caplog.at_level(logging.WARNING, "megabase"):
        genes = make(genome, GENCODE + GENCODE.replace("chr1\t", "chrUn\t") + bad)
    assert genes.genes.height == 1 and genes.exons.height == 5
    assert "8 of 16 rows left out" in caplog.text and "chrUn" in caplog.text
    assert "line 21: start and end" in caplog.text and "line 22: strand is not" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GENCODE.replace("chr1\t", "7\t"), r"no contig of the GTF \(7\) is in genome toy1 \(chr1, chr2\)"),
        (row("gene", 1, 3000, "+", 'gene_id "A";'), "line 1: ends beyond chr1 of genome toy1 .2000 bp"),
        ("#only\n", "cannot be read|no gene, transcript or exon"),
        (row("gene", 1, 3, "+", "ID=A"), "line 1: attribute gene_id is missing"),
        (row("exon", 1, 3, "+", 'gene_id "A";'), "line 1: attribute transcript_id is missing"),
        ("chr1\ta\tgene\tone\t9\t.\t+\t.\tgene_id \"A\";\n", "line 1: start and end are not whole"),
        (GENCODE + "chr1\t" * 12 + "\n", "line 11 has 13 columns, wanted 9"),
    ],
)  # fmt: skip
def test_a_wrong_file_stops(genome: Path, text: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        make(genome, text)


def test_a_cut_short_gzip_stops(genome: Path) -> None:
    gtf = genome.parent / "cut.gtf.gz"
    gtf.write_bytes(gzip.compress((GENCODE * 500).encode())[:-200])
    with pytest.raises(FileError, match="cut short"):
        prepare_genes(gtf, genome, genome / "genes")


def test_same_bytes_twice(genome: Path) -> None:
    paths = [make(genome, GENCODE).folder / f"{kind}.parquet" for kind in ("genes", "transcripts", "exons")]
    first = [path.read_bytes() for path in paths]
    make(genome, GENCODE)
    assert first == [path.read_bytes() for path in paths]


@pytest.mark.parametrize(
    ("name", "n_genes", "n_exons", "canonical"),
    [("human_tiny", 72, 463, 0.97), ("yeast", 7071, 7466, 0.74), ("chr20_1mb", 15, 74, 0.75)],
)
def test_real_annotations_sit_on_splice_dinucleotides(
    tmp_path: Path, real_data: Path, name: str, n_genes: int, n_exons: int, canonical: float
) -> None:
    folder = real_data / name
    genome = prepare_genome(folder / "genome.fa", tmp_path, organism="x", name=name)
    genes = prepare_genes(folder / "genes.gtf.gz", tmp_path, tmp_path / "genes")
    assert (genes.genes.height, genes.exons.height) == (n_genes, n_exons)
    assert genes.transcripts.group_by("gene_id").agg(pl.col("canonical").sum())[
        "canonical"
    ].unique().to_list() == [1]
    hits = [_intronic_bases(genome, *site) for site in genes.splice_sites().iter_rows()]
    assert sum(hits) / len(hits) >= canonical


def _intronic_bases(genome: Genome, chrom: str, position: int, strand: str, kind: str) -> bool:
    """Whether the intron beside a site starts with GT/GC or ends with AG, read along the strand."""
    right = (kind == "donor") == (strand == "+")
    start = position + 1 if right else position - 2
    bases = decode(genome.codes(chrom, start, start + 2))
    if strand == "-":
        bases = bases[::-1].translate(str.maketrans("ACGT", "TGCA"))
    return bases in (("GT", "GC") if kind == "donor" else ("AG",))
