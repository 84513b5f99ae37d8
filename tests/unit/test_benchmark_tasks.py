"""From published tables to benchmark tables: alleles, signs, matching, distances, and what is rejected."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from megabase.benchmark import prepare_benchmark
from megabase.benchmark.distances import nearest, span_distance
from megabase.benchmark.features import gc_change, kmer_codes
from megabase.benchmark.matching import bin_edges, distance_bins, match_negatives
from megabase.benchmark.qtl import Source
from megabase.files import FileError, read_table, read_tsv
from megabase.genes import prepare_genes
from megabase.genome import Genome, prepare_genome
from megabase.seeds import generator
from megabase.sequence import encode
from megabase.settings.scoring import BenchmarkSettings

HEADER = "molecular_trait_id gene_id cs_id variant rsid cs_size pip pvalue beta se z cs_min_r2 region".split()
GTF = [  # gene, transcript, start, end (1-based), strand
    ("ENSG00000000001.7", "t1", [(101, 200), (301, 400), (501, 600)], "+"),
    ("ENSG00000000002.1", "t2", [(5001, 5300)], "-"),
]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genome")
    draws = generator(5, "sequence")
    text = "".join(
        f">{n}\n{''.join(np.array(list('ACGT'))[draws.integers(0, 4, 8000)])}\n" for n in ("chr1", "chr2")
    )
    (folder / "g.fa").write_text(text)
    prepare_genome(folder / "g.fa", folder / "g", organism="human", name="toy")
    lines = []
    for gene, transcript, exons, strand in GTF:
        note = f'gene_id "{gene}"; transcript_id "{transcript}";'
        lines += [f"1\tx\texon\t{a}\t{b}\t.\t{strand}\t.\t{note}" for a, b in exons]
    (folder / "g.gtf").write_text("\n".join(lines) + "\n")
    prepare_genes(folder / "g.gtf", folder / "g", folder / "genes")
    return folder


def _snv(genome: Path, at: int, chrom: str = "chr1") -> str:
    """`chrom_pos_ref_alt` of a substitution at a 0-based position."""
    code = int(Genome.open(genome / "g").codes(chrom, at, at + 1)[0])
    return f"{chrom}_{at + 1}_{'ACGT'[code]}_{'CGTA'[code]}"


def _credible(path: Path, rows: list[tuple[str, str, float, float]]) -> Path:
    lines = ["\t".join(HEADER)]
    for variant, gene, pip, beta in rows:
        lines.append(
            "\t".join(map(str, (gene, gene, f"{gene}_L1", variant, ".", 1, pip, 1e-9, beta, 1, 1, 1, "")))
        )
    with gzip.open(path, "wt") as handle:
        handle.write("\n".join(lines) + "\n")
    return path


def _settings(task: str, **more: object) -> BenchmarkSettings:
    return BenchmarkSettings(task=task, tables=["t"], genome="toy", scorers=["rna_seq"], **more)


def _prepare(genome: Path, tables: list[str], output: Path, settings: BenchmarkSettings) -> pl.DataFrame:
    prepare_benchmark(tables, genome / "g", genome / "genes", output, settings, "toy", 0)
    return read_table(output / "table.parquet", "benchmark")


def test_sign_reads_by_column_name_and_keeps_the_sign(genome: Path, tmp_path: Path) -> None:
    plus, minus = _snv(genome, 150), _snv(genome, 4000)
    rows = [
        (plus, "ENSG00000000001", 0.95, 0.4),
        (minus, "ENSG00000000002", 0.99, -1.5),
        (plus, "ENSG00000000001", 0.91, 0.4),  # the same variant under another rsID
        (_snv(genome, 160), "ENSG00000000001", 0.5, 9.0),
    ]
    table = _credible(tmp_path / "a.tsv.gz", rows)
    found = _prepare(genome, [f"{table}=liver=UBERON:0002107"], tmp_path / "o", _settings("eqtl_sign"))
    assert found.select("variant_id", "gene_id", "label", "effect").rows() == [
        (plus.replace("_", ":"), "ENSG00000000001.7", 1, 0.4),  # the gene tables' own identifier
        (minus.replace("_", ":"), "ENSG00000000002.1", 0, -1.5),
    ]
    assert found["tissue"].unique().to_list() == ["liver"]
    assert found["ontology_curie"].unique().to_list() == ["UBERON:0002107"]
    assert found["tss_distance"].to_list() == [50, 1299]  # TSS at 100 (+) and 5299 (-), 0-based
    assert found["splice_distance"].to_list() == [49, None]  # last base of exon 1 is 199; one exon has none


def test_rejected_rows_say_why(genome: Path, tmp_path: Path) -> None:
    good = _snv(genome, 150)
    chrom, at, ref, alt = good.split("_")
    rows = [
        (good, "ENSG00000000001", 0.95, 1.0),
        (f"{chrom}_{at}_{alt}_{ref}", "ENSG00000000001", 0.95, 1.0),
        ("chr9_5_A_C", "ENSG00000000001", 0.95, 1.0),
        ("chr1_8001_A_C", "ENSG00000000001", 0.95, 1.0),
        ("chr1_100_A_N", "ENSG00000000001", 0.95, 1.0),
        ("rs12", "ENSG00000000001", 0.95, 1.0),
        (good, "ENSG00000000099", 0.95, 1.0),
        (_snv(genome, 10, "chr2"), "ENSG00000000001", 0.95, 1.0),
        (_snv(genome, 151), "ENSG00000000001", 0.95, 0.0),
    ]
    _prepare(
        genome, [f"{_credible(tmp_path / 'a.tsv.gz', rows)}=liver"], tmp_path / "o", _settings("eqtl_sign")
    )
    rejected = read_tsv(tmp_path / "o" / "rejected.tsv", "rejected")
    assert dict(rejected.select("row", "reason").rows()) == {
        2: "ref_mismatch", 3: "contig_unknown", 4: "off_contig", 5: "allele_not_acgt", 6: "malformed",
        7: "gene_unknown", 8: "gene_on_other_chromosome", 9: "no_effect",
    }  # fmt: skip
    assert "exchanged" in rejected.filter(pl.col("row") == 2)["detail"][0]


def test_missing_column_and_bad_pip_stop(genome: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("variant\tpip\nchr1_1_A_C\t1\n")
    with pytest.raises(FileError, match="no column gene_id, beta"):
        _prepare(genome, [f"{tmp_path / 'a.tsv'}=x"], tmp_path / "o", _settings("eqtl_sign"))
    table = _credible(tmp_path / "b.tsv.gz", [(_snv(genome, 5), "ENSG00000000001", 1.5, 1.0)])
    with pytest.raises(FileError, match=r"row 1: pip is '1\.5'"):
        _prepare(genome, [f"{table}=x"], tmp_path / "o", _settings("eqtl_sign"))


def test_no_usable_row_stops(genome: Path, tmp_path: Path) -> None:
    table = _credible(tmp_path / "a.tsv.gz", [("chr9_5_A_C", "ENSG00000000001", 1.0, 1.0)])
    with pytest.raises(FileError, match="1 contig_unknown"):
        _prepare(genome, [f"{table}=x"], tmp_path / "o", _settings("eqtl_sign"))
    assert not (tmp_path / "o").exists()


def _causality_rows(genome: Path) -> list[tuple[str, str, float, float]]:
    gene = "ENSG00000000001"
    causal = [(_snv(genome, at), gene, 0.95, 1.0) for at in range(620, 700, 10)]
    quiet = [(_snv(genome, at), gene, 0.001, 1.0) for at in range(605, 720, 2) if at % 10]
    unsure = [(_snv(genome, at), gene, 0.3, 1.0) for at in range(621, 700, 10)]
    return causal + quiet + unsure


def test_causality_is_balanced_seeded_and_never_uses_a_causal_negative(genome: Path, tmp_path: Path) -> None:
    rows = _causality_rows(genome)
    one = _credible(tmp_path / "a.tsv.gz", rows)
    elsewhere = _snv(genome, 622)  # causal in another tissue: no negative anywhere
    two = _credible(tmp_path / "b.tsv.gz", [(elsewhere, "ENSG00000000001", 0.99, 1.0), *rows])
    settings = _settings("eqtl_causality")
    tables = [f"{one}=liver", f"{two}=brain"]
    found = _prepare(genome, tables, tmp_path / "o", settings)
    again = _prepare(genome, tables, tmp_path / "p", settings)
    assert found.equals(again)
    assert (tmp_path / "o/table.parquet").read_bytes() == (tmp_path / "p/table.parquet").read_bytes()
    assert (tmp_path / "o/variants.vcf.gz").read_bytes() == (tmp_path / "p/variants.vcf.gz").read_bytes()
    for _, part in found.group_by("tissue"):
        assert part["label"].sum() * 2 == part.height
        assert part.filter(label=0)["pip"].max() < 0.01
        assert part.filter(label=1)["pip"].min() >= 0.9
    assert elsewhere.replace("_", ":") not in found.filter(label=0)["variant_id"].to_list()


def test_sqtl_needs_introns(genome: Path, tmp_path: Path) -> None:
    rows = [*_causality_rows(genome), (_snv(genome, 5100), "ENSG00000000002", 0.99, 1.0)]
    table = _credible(tmp_path / "a.tsv.gz", rows)
    found = _prepare(genome, [f"{table}=liver"], tmp_path / "o", _settings("sqtl_causality"))
    assert found["splice_distance"].null_count() == 0
    reasons = read_tsv(tmp_path / "o/rejected.tsv", "rejected")["reason"].to_list()
    assert "gene_without_introns" in reasons


def test_matched_negatives_share_distance_bins() -> None:
    draws = generator(6, "match")

    def rows(n: int, scale: float, label: str) -> pl.DataFrame:
        distance = draws.exponential(scale, n).astype(int)
        ids = [f"{label}{i}" for i in range(n)]
        return pl.DataFrame({"tissue": "t", "variant_id": ids, "gene_id": "g", "d": distance})

    positives, candidates = rows(200, 1_000, "p"), rows(4_000, 30_000, "n")
    kept, drawn, left = match_negatives(positives, candidates, "d", 2, 0, "x")
    edges = bin_edges(positives["d"].to_numpy())
    counts = [np.bincount(distance_bins(t["d"].to_numpy(), edges), minlength=10) for t in (kept, drawn)]
    assert np.array_equal(counts[0] * 2, counts[1])
    assert kept.height + left.height == positives.height
    assert drawn["variant_id"].n_unique() == drawn.height


def test_vcf_is_valid_and_in_genome_order(genome: Path, tmp_path: Path) -> None:
    from cyvcf2 import VCF

    rows = [(_snv(genome, at), "ENSG00000000001", 0.95, 1.0) for at in (900, 300, 20)]
    _prepare(
        genome, [f"{_credible(tmp_path / 'a.tsv.gz', rows)}=x"], tmp_path / "o", _settings("eqtl_effect")
    )
    vcf = VCF(str(tmp_path / "o/variants.vcf.gz"))
    assert vcf.seqnames == ["chr1", "chr2"]
    records = list(vcf)
    assert [r.POS for r in records] == [21, 301, 901]
    assert [r.ID for r in records] == [f"{r.CHROM}:{r.POS}:{r.REF}:{r.ALT[0]}" for r in records]


@pytest.fixture
def elements(tmp_path: Path) -> Path:
    text = ">E1|GRCh38|chr7:100-110 n_variants=3\nACGTTACGTA\n>E1b|GRCh38|chr7:100-110\nACGTTACGTA\n"
    (tmp_path / "e.fa").write_text(text)
    prepare_genome(tmp_path / "e.fa", tmp_path / "e", organism="human", name="elements")
    return tmp_path


def _mpra_table(path: Path, rows: list[tuple]) -> str:
    columns = [
        "Chrom",
        "Pos",
        "Ref",
        "Alt",
        "Barcodes",
        "DNA",
        "RNA",
        "Coefficient",
        "pValue",
        "Element",
        "Release",
    ]
    buffer = io.StringIO("\t".join(columns) + "\n")
    buffer.seek(0, 2)
    for at, ref, alt, effect, element, release in rows:
        buffer.write("\t".join(map(str, (7, at, ref, alt, 20, 1, 1, effect, 0.1, element, release))) + "\n")
    path.write_text(buffer.getvalue())
    return str(path)


def test_mpra_places_variants_on_their_element(elements: Path) -> None:
    rows = [
        (101, "A", "C", 0.5, "E1", "GRCh38"), (103, "G", "-", -0.7, "E1", "GRCh38"),
        (101, "A", "-", 0.1, "E1", "GRCh38"), (103, "G", "A", 0.2, "E1b", "GRCh38"),
        (103, "T", "A", 9.0, "E1", "GRCh38"), (111, "A", "C", 9.0, "E1", "GRCh38"),
        (101, "A", "C", 9.0, "E2", "GRCh38"), ("NA", "NA", "NA", 9.0, "E1", "GRCh38"),
        (101, "A", "C", 9.0, "E1", "GRCh38"), (102, "C", "G", 9.0, "E1", "GRCh37"),
    ]  # fmt: skip
    table = _mpra_table(elements / "m.tsv", rows)
    prepare_benchmark([table], elements / "e", None, elements / "o", _settings("mpra"), "mpra", 0)
    found = read_table(elements / "o/table.parquet", "benchmark")
    contig = "E1|GRCh38|chr7:100-110"
    assert sorted(found.select("variant_id", "effect").rows()) == [
        ("E1b|GRCh38|chr7:100-110:3:G:A", 0.2),
        (f"{contig}:1:A:C", 0.5),
        (f"{contig}:1:AC:C", 0.1),  # the element's first base: anchored at the base after it
        (f"{contig}:2:CG:C", -0.7),
    ]
    assert found["group"].unique().sort().to_list() == ["E1", "E1b"]
    reasons = read_tsv(elements / "o/rejected.tsv", "rejected")["reason"].to_list()
    assert sorted(reasons) == [
        "duplicate", "element_unknown", "element_unknown", "no_position", "off_contig", "ref_mismatch",
    ]  # fmt: skip


def test_mpra_needs_element_contigs(genome: Path, tmp_path: Path) -> None:
    table = _mpra_table(tmp_path / "m.tsv", [(101, "A", "C", 0.5, "E1", "GRCh38")])
    with pytest.raises(FileError, match="wanted the FASTA of the MPRA's elements"):
        prepare_benchmark([table], genome / "g", None, tmp_path / "o", _settings("mpra"), "mpra", 0)


def test_qtl_without_genes_stops(genome: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="needs gene models"):
        prepare_benchmark(["t"], genome / "g", None, tmp_path / "o", _settings("eqtl_sign"), "x", 0)


def test_real_mpra(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "mpra"
    prepare_genome(folder / "elements_reference.fa", tmp_path / "e", organism="human", name="mpra")
    table = str(folder / "elements.GRCh38.tsv.gz")
    prepare_benchmark([table], tmp_path / "e", None, tmp_path / "o", _settings("mpra"), "mpra", 0)
    found = read_table(tmp_path / "o/table.parquet", "benchmark")
    assert found.height == 37_808 and found["group"].n_unique() == 24
    rejected = read_tsv(tmp_path / "o/rejected.tsv", "rejected")
    # every REF matches its element; one element starts with AA, of which either A deleted is one deletion
    assert sorted(rejected["reason"]) == ["duplicate"] + ["no_position"] * 11
    assert found.filter(pl.col("group") == "SORT1-flip")["tissue"].unique().to_list() == ["HepG2"]
    from cyvcf2 import VCF

    assert sum(1 for _ in VCF(str(tmp_path / "o/variants.vcf.gz"))) == found["variant_id"].n_unique()


def test_source_parsing() -> None:
    assert Source.parse("a/b.tsv=liver=UBERON:1") == Source(Path("a/b.tsv"), "liver", "UBERON:1")
    assert Source.parse("a/b.tsv=adipose tissue") == Source(Path("a/b.tsv"), "adipose tissue", "")
    assert Source.parse("a/b.tsv") == Source(Path("a/b.tsv"))


def test_distances_and_sequence_features() -> None:
    assert span_distance(np.array([5, 5, 5]), np.array([8, 8, 8]), np.array([3, 6, 9])).tolist() == [2, 0, 2]
    assert nearest(np.array([10, 50]), 20, 21) == 10
    assert nearest(np.array([10, 50]), 45, 46) == 5
    assert nearest(np.empty(0, dtype=int), 0, 1) is None
    assert gc_change("A", "G") == 1 and gc_change("GC", "G") == -1 and gc_change("A", "T") == 0
    assert kmer_codes(encode("ACGTN"), 2).tolist() == [1, 6, 11, -1]


@pytest.mark.parametrize("task", ["eqtl_causality", "eqtl_sign"])
def test_a_split_uses_its_chromosomes_alone(genome: Path, tmp_path: Path, task: str) -> None:
    """Negatives too; names without chr are the genome's."""
    gene, other = "ENSG00000000001", "ENSG00000000002"
    rows = [(_snv(genome, at, chrom), name, pip, 0.5)
            for chrom, name in (("chr1", gene), ("chr2", other))
            for at, pip in ((150, 0.95), (152, 0.001), (350, 0.97), (352, 0.001))]  # fmt: skip
    table = _credible(tmp_path / "t.gz", rows)
    settings = _settings(task)
    folder = genome
    prepare_benchmark(
        [f"{table}=liver"],
        folder / "g",
        folder / "genes",
        tmp_path / "out",
        settings,
        "b",
        0,
        chromosomes=["1"],
    )
    found = read_table(tmp_path / "out" / "table.parquet", "benchmark")
    assert set(found["chrom"]) == {"chr1"} and found.height >= 2
    rejected = read_tsv(tmp_path / "out" / "rejected.tsv", "rejected")
    assert (
        rejected.filter(pl.col("reason") == "chromosome_of_another_split")["detail"].to_list() == ["chr2"] * 4
    )
    with pytest.raises(FileError, match="8 chromosome_of_another_split"):
        prepare_benchmark(
            [f"{table}=liver"],
            folder / "g",
            folder / "genes",
            tmp_path / "o",
            settings,
            "b",
            0,
            chromosomes=["9"],
        )
