"""Structural variants: texts, sequences and alignments, against editing the chromosome's text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from megabase.alignment import Alignment, align_alternate
from megabase.genome import Genome, Interval, prepare_genome
from megabase.seeds import generator
from megabase.sequence import decode, reverse_complement
from megabase.structural import align_edits, allele_alignment, parse_structural
from megabase.variants import Variant, allele_codes, read_variants

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
CHR1 = decode(generator(0, "structural", 1).integers(0, 4, 300).astype(np.uint8))
CHR2 = decode(generator(0, "structural", 2).integers(0, 4, 120).astype(np.uint8))
PAD = 400


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("genome")
    (folder / "g.fa").write_text(f">chr1\n{CHR1}\n>HLA:2\n{CHR2}\n>chrN\nNNNNACGTACGT\n")
    return prepare_genome(folder / "g.fa", folder, organism="toy", name="toy1")


def read(
    path: Path, genome: Genome, *records: str, window: int = 228, header: str = HEADER
) -> tuple[list[tuple], list[tuple]]:
    """(ids, reasons) of records `chrom pos ref alt info`."""
    lines = ["{}\t{}\t.\t{}\t{}\t.\t.\t{}\n".format(*([*record.split(), "."])[:5]) for record in records]
    (path / "v.vcf").write_text(header + "".join(lines))
    parts = list(read_variants(path / "v.vcf", genome, max_allele=20, window=window))
    accepted, rejected = (pl.concat([p[i] for p in parts]) for i in (0, 1))
    for row in accepted.iter_rows(named=True):
        variant = Variant.parse(row["variant_id"])
        assert (variant.chrom, variant.position, variant.ref, variant.alt) == (
            row["chrom"], row["position"], row["ref"], row["alt"],
        )  # fmt: skip
        assert variant.variant_id == row["variant_id"]
    return accepted["variant_id"].to_list(), rejected["reason"].to_list()


def base(position: int, text: str = CHR1) -> str:
    """The base at a 1-based position."""
    return text[position - 1]


@pytest.mark.parametrize(
    ("alt", "info", "wanted"),
    [
        ("<DEL>", "END=60", "<DEL:END=60>"),
        ("<DEL>", "SVLEN=-10", "<DEL:END=60>"),
        ("<DEL>", "SVLEN=10", "<DEL:END=60>"),
        ("<DEL>", "END=60;SVLEN=-10;SVTYPE=DEL", "<DEL:END=60>"),
        ("<del>", "END=60;CIPOS=-5,5", "<DEL:END=60>"),
        ("<DEL:ME:ALU>", "END=60", "<DEL:END=60>"),
        ("<DUP>", "END=60", "<DUP:END=60>"),
        ("<DUP:TANDEM>", "SVLEN=10", "<DUP:END=60>"),
        ("<INV>", "END=60;SVLEN=0", "<INV:END=60>"),
        ("<INV>", "SVLEN=10", "<INV:END=60>"),
    ],
)
def test_events_are_named_by_what_they_are(
    tmp_path: Path, genome: Genome, alt: str, info: str, wanted: str
) -> None:
    ids, reasons = read(tmp_path, genome, f"1 50 {base(50)} {alt} {info}", f"chr1 50 N {alt} {info}")
    assert ids == [f"chr1:50:{base(50)}:{wanted}"] and reasons == ["duplicate"]


@pytest.mark.parametrize(
    ("alt", "info", "reason"),
    [
        ("<DEL>", ".", "no_length"),
        ("<DEL>", "END=50", "no_length"),
        ("<DEL>", "END=20", "no_length"),
        ("<DEL>", "END=60;SVLEN=-12", "no_length"),
        ("<DEL>", "END=x", "no_length"),
        ("<DEL>", "END=150", "allele_too_long"),
        ("<DEL>", "END=301", "off_the_end"),
        ("<INS>", "SVLEN=5", "no_sequence"),
        ("<INS:ME:ALU>", "SVLEN=280;MEINFO=AluY,1,280,+", "no_sequence"),
        ("<INS>", "SEQ=ACNT", "non_acgt"),
        ("<INS>", f"SEQ={'A' * 30}", "allele_too_long"),
        ("<DUP:DISPERSED>", "END=60", "symbolic_allele"),
        ("<CN0>", "END=60", "symbolic_allele"),
        ("{}[chr7:5[", ".", "unknown_contig"),
        ("{}[<ctg1>:5[", ".", "unknown_contig"),
        ("{}[chr1:0[", ".", "off_the_end"),
        ("{}[chr1:301[", ".", "off_the_end"),
        ("{}R[chr1:60[", ".", "non_acgt"),
        ("{0}[chr1:60[{0}", ".", "symbolic_allele"),
        ("[chr1:60[", ".", "symbolic_allele"),
        ("{}" + "C" * 30 + ".", ".", "allele_too_long"),
        ("<NON_REF>", "END=60", "reference_block"),
        ("*", ".", "star_allele"),
    ],
)  # fmt: skip
def test_events_that_cannot_be_built_are_rejected(
    tmp_path: Path, genome: Genome, alt: str, info: str, reason: str
) -> None:
    assert read(tmp_path, genome, f"chr1 50 {base(50)} {alt.format(base(50))} {info}") == ([], [reason])


def test_alleles_must_fit_the_window(tmp_path: Path, genome: Genome) -> None:
    a = base(50)
    records = f"chr1 50 {a} {a}{'C' * 15}", f"chr1 50 {CHR1[49:65]} {a}", f"chr1 60 {base(60)} <DEL> END=70"
    ids, reasons = read(tmp_path, genome, *records, window=139)
    assert len(ids) == 1 and reasons == ["allele_too_long"] * 2
    assert read(tmp_path, genome, *records, window=144)[1] == []


def test_a_wrong_reference_base_or_a_long_one_is_rejected(tmp_path: Path, genome: Genome) -> None:
    other = "ACGT"["TGCA".index(base(50))]
    two = CHR1[49:51]
    records = f"chr1 50 {other} <DEL> END=60", f"chr1 50 {two} {two}[chr1:80[", "chr1 0 N <DEL> END=60"
    assert read(tmp_path, genome, *records) == ([], ["ref_mismatch", "symbolic_allele", "off_the_end"])


def test_lengths_are_those_of_the_allele(tmp_path: Path, genome: Genome) -> None:
    record = f"chr1 50 {base(50)} <DEL>,<DUP>,{base(50)}TT END=90;SVLEN=-10,40,2"
    ids, reasons = read(tmp_path, genome, record)
    assert ids == [f"chr1:50:{base(50)}:{alt}" for alt in ("<DEL:END=60>", "<DUP:END=90>", f"{base(50)}TT")]
    assert reasons == []
    declared = HEADER.replace("#CHROM", '##INFO=<ID=END,Number=1,Type=Integer,Description="e">\n'
                              '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="l">\n#CHROM')  # fmt: skip
    assert read(tmp_path, genome, record, header=declared) == (ids, reasons)


def test_an_insertion_with_its_sequence_is_an_ordinary_one(tmp_path: Path, genome: Genome) -> None:
    a = base(50)
    records = (
        f"chr1 50 {a} <INS> SEQ=acgt",
        "chr1 50 N <INS> SVINSSEQ=ACGT;SVLEN=4",
        f"chr1 50 {a} {a}ACGT .",
    )
    assert read(tmp_path, genome, *records) == ([f"chr1:50:{a}:{a}ACGT"], ["duplicate"] * 2)


def test_breakends_take_the_names_of_the_genome(tmp_path: Path, genome: Genome) -> None:
    a = base(50)
    records = (
        f"1 50 {a} {a.lower()}gg[1:60[", "chr1 50 N N[HLA:2:7[", "chr1 50 N ]1:9]tN", f"chr1 50 {a} {a}.",
        f"chr1 50 {a} .CC{a}", "chrN 2 N N]chr1:5]",
    )  # fmt: skip
    ids, reasons = read(tmp_path, genome, *records)
    assert reasons == []
    assert ids == [
        f"chr1:50:{a}:{a}GG[chr1:60[", f"chr1:50:{a}:{a}[HLA:2:7[", f"chr1:50:{a}:]chr1:9]T{a}",
        f"chr1:50:{a}:{a}.", f"chr1:50:{a}:.CC{a}", "chrN:2:N:N]chr1:5]",
    ]  # fmt: skip


def test_uncertain_places_are_told(tmp_path: Path, genome: Genome, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="megabase"):
        read(tmp_path, genome, "chr1 50 N <DEL> END=60;CIPOS=-3,3", "chr1 70 N <DEL> END=80;IMPRECISE")
    assert "2 structural alleles are where the caller is not sure" in caplog.text


def test_names_of_structural_variants_round_trip() -> None:
    for name in (
        "HLA:01:10:A:<DEL:END=20>",
        "chr1:5:G:G]HLA:01:7]",
        "HLA:01:5:G:[HLA:2:7[CCG",
        "chr1:5:G:.AG",
    ):
        assert Variant.parse(name).variant_id == name
    assert Variant.parse("HLA:01:10:A:<DEL:END=20>").interval == Interval("HLA:01", 9, 20)
    assert Variant.parse("chr1:5:G:G]HLA:01:7]").interval == Interval("chr1", 4, 5)
    with pytest.raises(ValueError, match="does not give its bases"):
        _ = Variant("chr1", 4, "G", "<CNV>").structural


# --- sequence: the chromosome's text, edited


def flip(text: str) -> str:
    return text[::-1].translate(str.maketrans("ACGTN", "TGCAN"))


def edited_text(variant: Variant) -> tuple[str, int]:
    """The ALT chromosome as text, and where in it the genome's position 0 would be by the kept side."""
    own = "N" * PAD + CHR1 + "N" * PAD
    texts = {"chr1": own, "HLA:2": "N" * PAD + CHR2 + "N" * PAD}
    at = PAD + variant.position
    alt = variant.alt
    if alt.startswith("<"):
        kind, end = alt[1:4], PAD + int(alt[9:-1])
        inside = own[at + 1 : end]
        new = {"DEL": "", "DUP": inside * 2, "INV": flip(inside)}[kind]
        return own[: at + 1] + new + own[end:], PAD
    if alt.endswith("."):
        return own[:at] + alt[:-1] + "N" * 2000, PAD
    if alt.startswith("."):
        text = "N" * 2000 + alt[1:] + own[at + 1 :]
        return text, len(text) - len(own) + PAD
    bracket = "[" if "[" in alt else "]"
    left, place, right = alt.split(bracket)
    chrom, p = place.rsplit(":", 1)
    mate, p = texts[chrom], PAD + int(p) - 1
    far = "N" * 2000
    if left:
        return own[:at] + left + (mate[p:] if bracket == "[" else flip(mate[: p + 1])) + far, PAD
    text = far + (mate[: p + 1] if bracket == "]" else flip(mate[p:])) + right + own[at + 1 :]
    return text, len(text) - len(own) + PAD


EVENTS = [
    Variant("chr1", 149, base(150), alt.replace("t", base(150)))
    for alt in (
        "<DEL:END=151>", "<DEL:END=170>", "<DEL:END=249>", "<DUP:END=151>", "<DUP:END=170>", "<DUP:END=240>",
        "<INV:END=152>", "<INV:END=171>", "<INV:END=240>", "t[chr1:171[", "t]chr1:171]", "]chr1:171]t",
        "[chr1:171[t", "t[chr1:100[", "t]chr1:100]", "]chr1:100]t", "[chr1:100[t", "tACG[HLA:2:60[",
        "tACG]HLA:2:60]", "]HLA:2:60]ACGt", "[HLA:2:60[ACGt", "tGG.", ".GGt", "t.", ".t", "tCC[chr1:151[",
        "]chr1:149]CCt", "t]HLA:2:3]", "C[HLA:2:118[",
    )
]  # fmt: skip
WINDOWS = [(100, 100), (149, 40), (110, 40), (148, 3), (-20, 200), (130, 190), (20, 260)]


@pytest.mark.parametrize("variant", EVENTS, ids=lambda v: v.alt)
@pytest.mark.parametrize(("start", "length"), WINDOWS)
def test_sequences_are_those_of_a_text_editor(
    genome: Genome, variant: Variant, start: int, length: int
) -> None:
    ref, alt = allele_codes(genome, variant, start, length)
    own = "N" * PAD + CHR1 + "N" * PAD
    assert decode(ref) == own[PAD + start : PAD + start + length]
    text, zero = edited_text(variant)
    assert decode(alt) == text[zero + start : zero + start + length]


@pytest.mark.parametrize("variant", EVENTS, ids=lambda v: v.alt)
@pytest.mark.parametrize(("start", "length"), WINDOWS)
def test_alignments_follow_every_base_of_the_genome(
    genome: Genome, variant: Variant, start: int, length: int
) -> None:
    """Each base of ALT is told where it comes from by editing a list of places instead of letters."""
    places = np.arange(length) + start
    origins = origins_of(variant, start, length)
    alignment = allele_alignment(variant, start, length)
    found = alignment.align(torch.arange(length), lambda p: p.double() + 1)
    dense = np.zeros(length)
    for i, place in enumerate(places):
        at = np.flatnonzero(origins == place)
        if len(at):
            dense[i] = at[0] + 1
    anchor = variant.position - start
    if variant.alt.startswith("<DUP"):
        anchor = int(variant.alt[9:-1]) - 1 - start
    inserted = np.flatnonzero(origins == -1000)
    if len(inserted) and anchor < length:
        dense[anchor] = max(dense[anchor], inserted.max() + 1)
    np.testing.assert_array_equal(found.numpy(), dense)


def origins_of(variant: Variant, start: int, length: int) -> np.ndarray:
    """Place on chr1 of each base of ALT's window; -1000: inserted at the event, -2000: nowhere."""
    wide = np.arange(-PAD, len(CHR1) + PAD)
    at, alt, nowhere = PAD + variant.position, variant.alt, np.full(3000, -2000)
    if alt.startswith("<"):
        kind, end = alt[1:4], PAD + int(alt[9:-1])
        inside = wide[at + 1 : end]
        new = {"DEL": wide[:0], "DUP": np.concatenate([inside, inside * 0 - 1000]), "INV": inside[::-1]}[kind]
        return np.concatenate([wide[: at + 1], new, wide[end:], nowhere])[PAD + start :][:length]
    single = alt.startswith(".") or alt.endswith(".")
    bracket = "." if single else "[" if "[" in alt else "]"
    parts = alt.split(bracket)
    before = not parts[0]
    inserted = np.full(len(parts[-1] if before else parts[0]) - 1, -1000)
    mate = nowhere
    if not single and parts[1].startswith("chr1"):
        p = PAD + int(parts[1].rsplit(":", 1)[1]) - 1
        mate = wide[p:] if bracket == "[" else wide[: p + 1]
        mate = mate[::-1] if (bracket == "]") != before else mate
        kept = mate >= variant.position if before else mate <= variant.position
        mate = np.where(kept, -2000, mate)  # a base that is on REF's side of the join is not laid twice
    if not before:
        return np.concatenate([wide[: at + 1], inserted, mate, nowhere])[PAD + start :][:length]
    whole = np.concatenate([nowhere, mate, inserted, wide[at:]])
    first = len(whole) - len(wide) + PAD + start
    return whole[first : first + length]


def test_a_deletion_or_duplication_scores_as_its_sequence_does(genome: Genome) -> None:
    a, inside, last = base(150), CHR1[150:170], base(170)
    for symbolic, position, ref, alt in (
        ("<DEL:END=170>", 149, a + inside, a), ("<DUP:END=170>", 169, last, last + inside),
    ):  # fmt: skip
        one, other = Variant("chr1", 149, a, symbolic), Variant("chr1", position, ref, alt)
        for start, length in (w for w in WINDOWS if w[0] <= position < sum(w)):
            pairs = [allele_codes(genome, v, start, length) for v in (one, other)]
            assert all(np.array_equal(x, y) for x, y in zip(*pairs, strict=True))
            assert allele_alignment(one, start, length) == allele_alignment(other, start, length)


def test_edits_align_as_one_variant_does_and_as_several_in_turn() -> None:
    values = torch.rand(60, 2)

    def laid(alignment: Alignment) -> torch.Tensor:
        return alignment.align(torch.arange(60), lambda p: values[p])

    for offset, ref, alt in ((5, 1, 1), (5, 1, 4), (5, 4, 1), (5, 3, 2), (55, 2, 9), (58, 1, 1)):
        wanted = align_alternate(values, offset, ref, alt)
        torch.testing.assert_close(laid(align_edits(100, 60, [(100 + offset, ref, alt)])), wanted)
    both = laid(align_edits(0, 60, [(10, 1, 4), (30, 5, 1)]))
    stepwise = align_alternate(align_alternate(values, 30 + 3, 5, 1), 10, 1, 4)
    torch.testing.assert_close(both[:56], stepwise[:56])


def test_what_is_no_event_is_not_parsed() -> None:
    for alt in ("<DEL>", "<DEL:END=x>", "A[chr1:5]", "ACG", "A[chr1:5[A", ".", "*", "<CNV:END=5>"):
        assert parse_structural(3, alt) is None


def test_reverse_complement_is_the_text_flipped() -> None:
    codes = generator(0, "flip").integers(0, 5, 50).astype(np.uint8)
    assert decode(reverse_complement(codes)) == flip(decode(codes))
