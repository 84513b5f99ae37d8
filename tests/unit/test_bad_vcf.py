"""Files that are no sound VCF: one error that says what is wrong, or the records that are sound."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from megabase import builds
from megabase.builds import fitting_assembly, header_contigs, read_assemblies
from megabase.files import FileError, read_table
from megabase.genome import Genome, prepare_genome
from megabase.seeds import generator
from megabase.split import split_variants
from megabase.variants import read_variants

HEAD = "##fileformat=VCFv4.2\n"
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
HEADER = HEAD + COLUMNS
RECORD = "chr1\t2\t.\tC\tT\t.\t.\t.\n"
LONG = "A" * 10_000_000
CHR1 = "ACGTTGCAANGGATCCTTAACCGGTTTTTT"


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("genome")
    (folder / "g.fa").write_text(f">chr1\n{CHR1}\n")
    return prepare_genome(folder / "g.fa", folder, organism="toy", name="toy1")


def read(path: Path, genome: Genome, data: bytes) -> tuple[list[str], list[str]]:
    (path / "v.vcf").write_bytes(data)
    parts = list(read_variants(path / "v.vcf", genome, max_allele=10))
    accepted, rejected = (pl.concat([p[i] for p in parts]) for i in (0, 1))
    return accepted["variant_id"].to_list(), rejected["reason"].to_list()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; fetch it again"),
        (RECORD.encode(), "is not a VCF: no header; wanted ##fileformat=VCF"),
        (COLUMNS.encode() + RECORD.encode(), "is not a VCF: no header"),
        ((HEAD + RECORD).encode(), "has no #CHROM line"),
        (b"<!DOCTYPE html><html>404</html>", "is not a VCF: found '<!DOCTYPE html>"),
        (b"\xef\xbb\xbf" + (HEADER + RECORD).encode(), "byte order mark"),
        ((HEADER + RECORD).encode("utf-16"), "is UTF-16"),
        ((HEADER + RECORD).replace("\n", "\r").encode(), "line ends of old Macs"),
        (
            (HEADER.replace("\t", " ") + RECORD).encode(),
            "spaces in its #CHROM line; columns are separated by",
        ),
        ((HEADER + RECORD + RECORD.replace("\t", " ")).encode(), "record 2 .* columns are separated by tabs"),
        ((HEADER + RECORD + "\n" + RECORD).encode(), "record 2 .* the line is empty; delete it"),
        (
            (HEADER + RECORD.replace("\t2\t", "\t2.5\t")).encode(),
            "record 1 .*POS '2.5' is not a whole number",
        ),
        ((HEADER + RECORD + "chr1\t3\t.\tG").encode(), "record 2 .* 4 columns, wanted 8 .*cut short"),
        (gzip.compress(HEADER.encode(), mtime=0)[:-20], "cut short or damaged; fetch it again"),
    ],
)
def test_a_file_that_is_no_vcf_says_why(tmp_path: Path, genome: Genome, data: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read(tmp_path, genome, data)


@pytest.mark.parametrize(
    ("text", "wanted", "reasons"),
    [
        (HEADER + RECORD, ["chr1:2:C:T"], []),
        ((HEADER + RECORD).replace("\n", "\r\n"), ["chr1:2:C:T"], []),
        ((HEADER + RECORD).rstrip("\n"), ["chr1:2:C:T"], []),
        (HEADER + RECORD.replace("C\tT", "c\tt"), ["chr1:2:C:T"], []),
        (HEADER + RECORD.replace("chr1", "1"), ["chr1:2:C:T"], []),
        (HEADER + RECORD + RECORD.replace("chr1", "1"), ["chr1:2:C:T"], ["duplicate"]),
        (HEADER + RECORD.replace("C\tT", "C\tY"), [], ["non_acgt"]),
        (HEADER + RECORD.replace("C\tT", "M\tT"), [], ["non_acgt"]),
        (HEADER + RECORD.replace("C\tT", "C\tT,<NON_REF>"), ["chr1:2:C:T"], ["reference_block"]),
        (HEADER + RECORD.replace("C\tT\t.\t.\t.", "C\t<NON_REF>\t.\t.\tEND=9"), [], ["reference_block"]),
        (HEADER + RECORD.replace("C\tT\t.\t.\t.", "C\t<*>\t.\t.\tEND=9"), [], ["reference_block"]),
        (HEADER + RECORD.replace("\t2\t", "\t0\t"), [], ["off_the_end"]),
        (HEADER + RECORD.replace("\t2\t", "\t31\t"), [], ["off_the_end"]),
        (HEADER + RECORD.replace("\t2\t", "\t99999999999\t"), [], ["off_the_end"]),
        (HEADER + RECORD.replace("chr1", "chr9"), [], ["unknown_contig"]),
        (HEADER, [], []),
        (HEADER + RECORD.replace("T", LONG) + RECORD, ["chr1:2:C:T"], ["allele_too_long"]),
        (HEADER + RECORD[:-2] + f"X={LONG}\n", ["chr1:2:C:T"], []),
    ],
    ids=lambda value: value[-60:] if isinstance(value, str) else None,
)  # fmt: skip
def test_sound_records_of_odd_files_are_read(
    tmp_path: Path, genome: Genome, text: str, wanted: list[str], reasons: list[str]
) -> None:
    assert read(tmp_path, genome, text.encode()) == (wanted, reasons)


def test_names_that_were_translated_are_told(
    tmp_path: Path, genome: Genome, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="megabase"):
        read(tmp_path, genome, (HEADER + RECORD.replace("chr1", "1")).encode())
    assert "contigs are named otherwise than in genome toy1: 1 is chr1" in caplog.text


# --- another assembly


@pytest.fixture(scope="module")
def long_genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("long")
    bases = "".join("ACGT"[i] for i in generator(0, "build").integers(0, 4, 2000))
    (folder / "g.fa").write_text(f">chr1\n{bases}\n")
    return prepare_genome(folder / "g.fa", folder, organism="toy", name="toy1")


def shifted(genome: Genome, by: int, n: int = 60, head: str = HEAD) -> str:
    """SNVs whose REF is that of the base `by` further on."""
    codes = genome.codes("chr1", 0, 2000)
    rows = ["ACGT"[codes[p + by]] for p in range(n)]
    lines = [f"1\t{p + 1}\t.\t{b}\t{'ACGT'['ACGT'.index(b) - 1]}\t.\t.\t.\n" for p, b in enumerate(rows)]
    return head + COLUMNS + "".join(lines)


def head_of(assembly: str) -> str:
    lengths = next(v for k, v in read_assemblies().items() if k.startswith(assembly))
    lines = [f"##contig=<ID={c.removeprefix('chr')},length={n},assembly=x>\n" for c, n in lengths.items()]
    return HEAD + "".join(lines)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("hg19", r"contigs of its header are those of hg19 \(GRCh37\): score it on that genome"),
        ("mm39", r"contigs of its header are those of mm39 \(GRCm39\)"),
        ("", "its header does not tell which"),
        ("odd", "are those of no assembly known here"),
    ],
)
def test_a_file_of_another_assembly_stops_and_says_which(
    tmp_path: Path, long_genome: Genome, head: str, message: str
) -> None:
    odd = f"{HEAD}##contig=<ID=1,length=5555>\n"
    text = {"": HEAD, "odd": odd}.get(head) or head_of(head)
    (tmp_path / "v.vcf").write_text(shifted(long_genome, 5, head=text))
    with pytest.raises(
        FileError, match=f"of 60 alleles have a REF that is not that of genome toy1, .*{message}"
    ):
        split_variants(
            tmp_path / "v.vcf", long_genome.folder, [tmp_path / "c"], tmp_path / "r", max_allele=10
        )
    assert not (tmp_path / "c").exists() and not (tmp_path / "r").exists()


def test_a_file_without_a_contig_of_the_genome_stops(tmp_path: Path, long_genome: Genome) -> None:
    text = shifted(long_genome, 0).replace("\n1\t", "\nNC_000001.11\t")
    (tmp_path / "v.vcf").write_text(text)
    with pytest.raises(FileError, match=r"none of its contigs \(NC_000001.11\) is in genome toy1 \(chr1\)"):
        split_variants(
            tmp_path / "v.vcf", long_genome.folder, [tmp_path / "c"], tmp_path / "r", max_allele=10
        )


def test_few_records_or_few_mismatches_do_not_stop(
    tmp_path: Path, long_genome: Genome, caplog: pytest.LogCaptureFixture
) -> None:
    for text in (
        shifted(long_genome, 5, n=builds.MIN_COMPARED - 1),
        shifted(long_genome, 0, head=head_of("hg19")),
    ):
        (tmp_path / "v.vcf").write_text(text)
        with caplog.at_level("WARNING", logger="megabase"):
            split_variants(
                tmp_path / "v.vcf", long_genome.folder, [tmp_path / "c"], tmp_path / "r", max_allele=10
            )
    assert read_table(tmp_path / "c", "variants").height == 60
    assert "1 contigs of its header have other lengths than in genome toy1" in caplog.text


def test_the_table_of_assemblies_tells_them_apart(tmp_path: Path) -> None:
    table = read_assemblies()
    assert [name.split()[0] for name in table] == ["hg19", "hg38", "hs1", "mm10", "mm39"]
    totals = {name.split()[0]: sum(n for c, n in v.items() if c != "chrM") for name, v in table.items()}
    assert totals == {
        "hg19": 3_095_677_412, "hg38": 3_088_269_832, "hs1": 3_117_275_501, "mm10": 2_725_521_370,
        "mm39": 2_723_414_844,
    }  # fmt: skip
    for name, lengths in table.items():
        assert fitting_assembly(lengths) == name
        assert fitting_assembly({c.removeprefix("chr"): n for c, n in lengths.items() if len(c) < 5}) == name
    assert fitting_assembly({"chr1": 5}) is None and fitting_assembly({}) is None


def test_header_contigs_of_a_real_file(real_data: Path) -> None:
    contigs = header_contigs(real_data / "chr20_1mb" / "variants.vcf.gz")
    assert contigs["20"] == 63_025_520 and fitting_assembly(contigs) == "hg19 (GRCh37)"
