"""Every ALT of every record is accepted or rejected with its reason; alleles sit where they should."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabase.files import FileError, read_table
from megabase.genome import Genome, Interval, prepare_genome
from megabase.sequence import decode
from megabase.spec import REJECTED_COLUMNS, VARIANT_COLUMNS
from megabase.split import split_variants
from megabase.variants import REASONS, Variant, allele_codes, read_variants

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
CHR1 = "ACGTTGCAANGGATCCTTAACCGGTTTTTT"
CHR2 = "GATTACAGATTACA"


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("genome")
    (folder / "g.fa").write_text(f">chr2\n{CHR2}\n>chr1\n{CHR1}\n")
    return prepare_genome(folder / "g.fa", folder, organism="toy", name="toy1")


def record(chrom: str, position: int, ref: str, alt: str, name: str = ".") -> str:
    return f"{chrom}\t{position}\t{name}\t{ref}\t{alt}\t.\t.\t.\n"


def read(path: Path, genome: Genome, text: str, **options: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    path = path / "v.vcf"
    path.write_text(HEADER + text)
    parts = list(read_variants(path, genome, **({"max_allele": 10} | options)))
    return pl.concat([p[0] for p in parts]), pl.concat([p[1] for p in parts])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (record("chr9", 1, "A", "C"), "unknown_contig"),
        (record("chr1", 1, "A", "."), "no_alternate"),
        (record("chr1", 1, "A", "*"), "star_allele"),
        (record("chr1", 1, "A", "<DEL>"), "no_length"),
        (record("chr1", 1, "A", "<INS>"), "no_sequence"),
        (record("chr1", 1, "A", "<CNV>"), "symbolic_allele"),
        (record("chr1", 1, "A", "A[chr2:5]"), "symbolic_allele"),
        (record("chr1", 1, "A", "<NON_REF>"), "reference_block"),
        (record("chr1", 1, "A", "<*>"), "reference_block"),
        (record("chr1", 1, "A", "R"), "non_acgt"),
        (record("chr1", 10, "N", "A"), "non_acgt"),
        (record("chr1", 1, "A", "a"), "same_allele"),
        (record("chr1", 0, "A", "C"), "off_the_end"),
        (record("chr1", 31, "T", "C"), "off_the_end"),
        (record("chr1", 30, "TT", "T"), "off_the_end"),
        (record("chr1", 1, "A", "A" * 11), "allele_too_long"),
        (record("chr1", 1, "C", "A"), "ref_mismatch"),
        (record("chr1", 9, "AA", "A"), "ref_mismatch"),
    ],
)
def test_each_reason(tmp_path: Path, genome: Genome, line: str, reason: str) -> None:
    accepted, rejected = read(tmp_path, genome, line + record("chr1", 2, "C", "T"))
    assert accepted["variant_id"].to_list() == ["chr1:2:C:T"]
    assert rejected["reason"].to_list() == [reason] and reason in REASONS
    assert all(rejected["detail"]) and rejected["record"].to_list() == [1]
    assert tuple(rejected.columns) == REJECTED_COLUMNS and tuple(accepted.columns) == VARIANT_COLUMNS


def test_multi_allelic_records_are_split_and_names_resolved(tmp_path: Path, genome: Genome) -> None:
    text = (
        record("1", 4, "t", "c,<DEL>,TA,C", "rs1;rs2")
        + record("chr1", 4, "T", "TA")
        + record("2", 1, "GA", "G")
    )
    accepted, rejected = read(tmp_path, genome, text)
    assert accepted.rows() == [
        ("chr1:4:T:C", "chr1", 3, "T", "C", "rs1;rs2", 1, 1),
        ("chr1:4:T:TA", "chr1", 3, "T", "TA", "rs1;rs2", 1, 3),
        ("chr2:1:GA:G", "chr2", 0, "GA", "G", None, 3, 1),
    ]
    assert rejected.select("record", "chrom", "alt", "reason").rows() == [
        (1, "1", "<DEL>", "no_length"), (1, "1", "C", "duplicate"), (2, "chr1", "TA", "duplicate"),
    ]  # fmt: skip


def test_duplicates_are_found_across_batches(tmp_path: Path, genome: Genome) -> None:
    text = record("1", 4, "T", "C") + record("1", 1, "A", "C") + record("1", 4, "T", "C")
    accepted, rejected = read(tmp_path, genome, text, batch=1)
    assert accepted.height == 2 and rejected["reason"].to_list() == ["duplicate"]


bases = st.text(alphabet="ACGTN", min_size=1, max_size=4)
lines = st.tuples(
    st.sampled_from(["1", "chr2", "chr7"]), st.integers(0, 32), bases,
    st.lists(st.one_of(bases, st.sampled_from(["*", "<DUP>"])), min_size=1, max_size=3),
)  # fmt: skip


@given(st.lists(lines, max_size=12), st.integers(1, 5), st.integers(1, 4))
def test_nothing_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, genome: Genome, rows: list, n_chunks: int, batch: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    vcf = folder / "v.vcf"
    vcf.write_text(HEADER + "".join(record(c, p, r, ",".join(a)) for c, p, r, a in rows))
    chunks, rejected = split(vcf, genome, folder, n_chunks)
    accepted = pl.concat(chunks)
    found = sorted([*accepted.select("record", "allele").rows()])
    assert len(set(found)) == len(found) == len(set(accepted["variant_id"]))
    assert accepted.height + rejected.height == sum(len(a) for *_, a in rows)
    order = [(genome.order[c], p) for c, p in accepted.select("chrom", "position").iter_rows()]
    assert order == sorted(order)
    for row in accepted.iter_rows(named=True):
        end = row["position"] + len(row["ref"])
        assert decode(genome.codes(row["chrom"], row["position"], end)) == row["ref"]


def split(
    vcf: Path,
    genome: Genome,
    folder: Path,
    n_chunks: int,
    max_variants: int | None = None,
    seed: int = 0,
    max_allele: int = 10,
) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    paths = [folder / f"{k}.parquet" for k in range(n_chunks)]
    rejected = folder / "r.parquet"
    options = {"max_variants": max_variants, "seed": seed, "max_allele": max_allele}
    split_variants(vcf, genome.folder, paths, rejected, **options)
    return [read_table(path, "variants") for path in paths], read_table(rejected, "rejected")


def test_a_vcf_without_records_gives_empty_tables(tmp_path: Path, genome: Genome) -> None:
    (tmp_path / "v.vcf").write_text(HEADER)
    chunks, rejected = split(tmp_path / "v.vcf", genome, tmp_path, 3)
    assert [c.shape for c in chunks] == [(0, 8)] * 3 and rejected.shape == (0, 8)


def test_a_seeded_subset_is_the_same_twice(tmp_path: Path, genome: Genome) -> None:
    text = "".join(
        record("1", p + 1, base, alt)
        for p, base in enumerate(CHR1) if base != "N" for alt in "ACGT" if alt != base
    )  # fmt: skip
    (tmp_path / "v.vcf").write_text(HEADER + text)
    names: list[Sequence[str]] = []
    for seed in (1, 1, 2):
        chunks, _ = split(tmp_path / "v.vcf", genome, tmp_path, 2, max_variants=20, seed=seed)
        assert [c.height for c in chunks] == [20, 0]  # one window, of one small set
        names.append(pl.concat(chunks)["variant_id"].to_list())
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello\n", "not a VCF"),
        (HEADER + record("1", 1, "A", "C") + "1\t2\t.\tC", "record 2 cannot be read"),
        (HEADER + "1\tfive\t.\tA\tC\t.\t.\t.\n" + record("1", 1, "A", "C"), "record 1 cannot be read"),
        (HEADER + record("1", 1, "A", "C") + "2\tfive\t.\tA\tC\t.\t.\t.\n", "record 2 cannot be read"),
    ],
)
def test_a_broken_file_stops(tmp_path: Path, genome: Genome, text: str, message: str) -> None:
    (tmp_path / "v.vcf").write_text(text)
    with pytest.raises(FileError, match=message):
        list(read_variants(tmp_path / "v.vcf", genome, max_allele=10))


def test_files_cut_short_stop(tmp_path: Path, genome: Genome) -> None:
    import pysam

    text = HEADER + "".join(record("1", 1 + p % 9, CHR1[p % 9], "T") for p in range(20_000))
    whole = tmp_path / "whole.vcf.gz"
    with pysam.BGZFile(str(whole), "wb") as handle:
        handle.write(text.encode())
    assert sum(len(r) + len(a) for a, r in read_variants(whole, genome, max_allele=10)) == 20_000
    for name, data in {
        "end.vcf.gz": whole.read_bytes()[:-28],
        "middle.vcf.gz": whole.read_bytes()[:900],
        "plain.vcf.gz": gzip.compress(text.encode())[:-100],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FileError, match="cut short"):
            list(read_variants(tmp_path / name, genome, max_allele=10))
    with pytest.raises(FileError, match="not found"):
        list(read_variants(tmp_path / "none.vcf", genome, max_allele=10))


@pytest.mark.parametrize(
    ("position", "ref", "alt", "start", "length", "wanted"),
    [
        # ACGTTGCAANGGATCCTTAACCGGTTTTTT
        (4, "T", "C", 2, 6, ("GTTGCA", "GTCGCA")),  # SNV
        (2, "G", "C", 2, 3, ("GTT", "CTT")),  # first base of the window
        (4, "T", "A", 2, 3, ("GTT", "GTA")),  # last base
        (4, "T", "TGG", 2, 6, ("GTTGCA", "GTTGGG")),  # insertion pushes out on the right
        (4, "T", "TGG", 2, 3, ("GTT", "GTT")),  # insertion beyond the window
        (4, "TGC", "T", 2, 6, ("GTTGCA", "GTTAAN")),  # deletion draws in from the right
        (4, "TGCA", "T", 2, 3, ("GTT", "GTT")),
        (4, "TGC", "CA", 2, 6, ("GTTGCA", "GTCAAA")),  # complex
        (4, "TG", "AC", 2, 6, ("GTTGCA", "GTACCA")),  # MNV
        (4, "A", "C", 2, 6, ("GTAGCA", "GTCGCA")),  # REF is written over the genome
        (0, "A", "C", -3, 5, ("NNNAC", "NNNCC")),  # beyond the left end
        (0, "AC", "A", -3, 5, ("NNNAC", "NNNAG")),
        (29, "T", "G", 27, 6, ("TTTNNN", "TTGNNN")),  # beyond the right end
        (27, "TTT", "T", 25, 6, ("TTTTTN", "TTTNNN")),
        (29, "T", "TAA", 27, 6, ("TTTNNN", "TTTAAN")),
    ],
)
def test_allele_sequences(
    genome: Genome, position: int, ref: str, alt: str, start: int, length: int, wanted: tuple[str, str]
) -> None:
    pair = allele_codes(genome, Variant("chr1", position, ref, alt), start, length)
    assert all(codes.dtype == np.uint8 and len(codes) == length for codes in pair)
    assert (decode(pair[0]), decode(pair[1])) == wanted


@given(
    position=st.integers(0, 29), ref_length=st.integers(1, 6), left=st.integers(0, 20),
    length=st.integers(1, 40), alt=st.text("ACGT", min_size=1, max_size=8),
)  # fmt: skip
def test_alleles_equal_editing_the_padded_chromosome(
    genome: Genome, position: int, ref_length: int, left: int, length: int, alt: str
) -> None:
    ref = CHR1[position : position + ref_length].replace("N", "A")
    if left >= length:
        return
    padded = "N" * 50 + CHR1 + "N" * 60
    at = position + 50
    haplotypes = [padded[:at] + allele + padded[at + len(ref) :] for allele in (ref, alt)]
    begin = at - left
    found = allele_codes(genome, Variant("chr1", position, ref, alt), position - left, length)
    assert [decode(codes) for codes in found] == [h[begin : begin + length] for h in haplotypes]


def test_a_variant_outside_the_window_is_refused(genome: Genome) -> None:
    for start in (5, -2):
        with pytest.raises(ValueError, match="chr1:5:T:C does not begin in chr1"):
            allele_codes(genome, Variant("chr1", 4, "T", "C"), start, 6)


def test_variant_names_round_trip() -> None:
    variant = Variant("HLA:01", 9, "AC", "T")
    assert variant.variant_id == "HLA:01:10:AC:T" and Variant.parse(variant.variant_id) == variant
    assert variant.interval == Interval("HLA:01", 9, 11)
    with pytest.raises(ValueError, match="is not chrom:position:ref:alt"):
        Variant.parse("chr1:x:A:C")


def test_real_vcf_with_a_contig_its_header_lacks(tmp_path: Path, real_data: Path) -> None:
    folder = real_data / "chr20_1mb"
    genome = prepare_genome(folder / "genome.fa", tmp_path, organism="human", name="z")
    chunks, rejected = split(folder / "variants.vcf.gz", genome, tmp_path, 7, max_allele=1000)
    accepted = pl.concat(chunks)
    with gzip.open(folder / "variants.vcf.gz", "rt") as text:
        alts = [line.split("\t")[4].split(",") for line in text if not line.startswith("#")]
    assert len(alts) == 28_998
    assert accepted.height + rejected.height == sum(map(len, alts))
    assert set(rejected["reason"]) == {"symbolic_allele", "no_sequence"}
    assert rejected.height == sum("<" in alt for record in alts for alt in record)


@pytest.mark.slow
def test_a_million_variants_are_split_in_a_minute_and_a_gigabyte(tmp_path: Path) -> None:
    """In a process of its own, in seconds of the processor."""
    bases = np.random.default_rng(0).integers(0, 4, 3_000_000).astype(np.uint8)
    text = decode(bases)
    (tmp_path / "g.fa").write_text(f">chr1\n{text}\n")
    prepare_genome(tmp_path / "g.fa", tmp_path / "genome", organism="toy", name="toy")
    swap = {"A": "C", "C": "G", "G": "T", "T": "A"}
    with (tmp_path / "v.vcf").open("w") as handle:
        handle.write(HEADER)
        handle.writelines(record("chr1", 3 * i + 1, text[3 * i], swap[text[3 * i]]) for i in range(1_000_000))
    code = (
        "import resource, sys\nfrom megabase.split import split_variants\n"
        "folder = sys.argv[1]\nvcf, rejected = f'{folder}/v.vcf', f'{folder}/r.parquet'\n"
        "outputs = [f'{folder}/{i}.parquet' for i in range(100)]\n"
        "split_variants(vcf, f'{folder}/genome', outputs, rejected, max_allele=10)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\nprint(used.ru_utime, used.ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 60 and kilobytes < 1e6
    sizes = [pl.read_parquet(tmp_path / f"{i}.parquet", columns=["record"]).height for i in range(100)]
    assert sum(sizes) == 1_000_000 and max(sizes) - min(sizes) < 200
