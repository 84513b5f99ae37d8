"""A sample's haplotypes: which alleles are on them, their sequence, and variants in their context."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megabase.alleles import codes_of
from megabase.files import FileError, read_table
from megabase.genome import Genome, prepare_genome
from megabase.haplotypes import Edit, list_haplotypes, on_haplotypes, region_rows
from megabase.personal import Haplotypes, PersonalChromosome
from megabase.seeds import generator
from megabase.sequence import decode
from megabase.settings.scoring import VariantSetSettings
from megabase.settings.section import parse_settings
from megabase.split import split_variants
from megabase.structural import allele_alignment
from megabase.variants import ACCEPTED_SCHEMA, Variant, allele_codes, read_variants

CHR1 = decode(generator(0, "haplotypes").integers(0, 4, 240).astype(np.uint8))
HEAD = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    '##FORMAT=<ID=PS,Number=1,Type={},Description="p">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tOTHER\tME\n"
)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("genome")
    (folder / "g.fa").write_text(f">chr1\n{CHR1}\n")
    return prepare_genome(folder / "g.fa", folder, organism="toy", name="toy1")


def alt_of(position: int) -> str:
    return "ACGT"["TGCA".index(CHR1[position - 1])]


def line(position: int, ref: str | None, alt: str | None, genotype: str, phase_set: str = ".") -> str:
    ref, alt = ref or CHR1[position - 1], alt or alt_of(position)
    return f"chr1\t{position}\t.\t{ref}\t{alt}\t.\t.\t.\tGT:PS\t0|1:.\t{genotype}:{phase_set}\n"


def placed(path: Path, genome: Genome, *lines: str, unphased: str = "reject", kind: str = "Integer"):
    (path / "v.vcf").write_text(HEAD.format(kind) + "".join(lines))
    parts = read_variants(path / "v.vcf", genome, max_allele=50)
    accepted, rejected, edits = on_haplotypes(parts, path / "v.vcf", "ME", unphased)
    for name in accepted["variant_id"]:
        assert Variant.parse(name).variant_id == name
    assert accepted["variant_id"].is_unique().all()
    return accepted["variant_id"].to_list(), rejected.select("position", "reason").rows(), edits


def name(position: int, haplotype: int) -> str:
    return f"chr1:{position}:{CHR1[position - 1]}:{alt_of(position)}@{haplotype}"


def test_genotypes_put_alleles_on_haplotypes(tmp_path: Path, genome: Genome) -> None:
    ids, rejected, edits = placed(
        tmp_path, genome,
        line(10, None, None, "1|0"), line(20, None, None, "0|1"), line(30, None, None, "1/1"),
        line(40, None, None, "0/1"), line(50, None, None, "./."), line(60, None, None, "0/0"),
        line(70, None, None, "1"), line(80, None, None, ".|1"), line(90, None, None, "./1"),
        line(100, None, None, "0/1/1"), line(110, None, "<DEL>", "0|1"),
        line(120, None, None, "0|1").replace("GT:PS", "PS").replace("0|1:.", "."),
    )  # fmt: skip
    assert ids == [name(10, 1), name(30, 1), name(70, 1), name(20, 2), name(30, 2), name(80, 2)]
    assert sorted(rejected) == [
        (39, "unphased"), (49, "missing_genotype"), (59, "not_carried"), (89, "unphased"), (99, "ploidy"),
        (109, "no_length"), (119, "missing_genotype"),
    ]  # fmt: skip
    assert edits.select("start", "haplotype").rows() == [(9, 1), (29, 1), (69, 1), (19, 2), (29, 2), (79, 2)]


def test_structural_alleles_are_left_out_and_many_alleles_parted(tmp_path: Path, genome: Genome) -> None:
    base = CHR1[9]
    others = [b for b in "ACGT" if b != base]
    structural = line(20, None, f"{CHR1[19]}[chr1:90[", "0|1")
    ids, rejected, _ = placed(tmp_path, genome, line(10, None, ",".join(others[:2]), "2|1"), structural)
    assert ids == [f"chr1:10:{base}:{others[1]}@1", f"chr1:10:{base}:{others[0]}@2"]
    assert rejected == [(19, "not_on_haplotype")]


def test_deletions_told_by_their_end_are_on_haplotypes(tmp_path: Path, genome: Genome) -> None:
    lines = line(20, None, None, "1|1"), line(30, "N", "<DEL>", "1|0").replace("\t.\tGT", "\tEND=50\tGT")
    ids, rejected, edits = placed(tmp_path, genome, *lines, line(40, None, None, "1|1"))
    wanted = f"chr1:30:{CHR1[29]}:<DEL:END=50>@1"
    assert ids == [name(20, 1), wanted, name(20, 2), name(40, 2)] and rejected == [(39, "overlap")]
    haplotypes = Haplotypes(genome, edits)
    symbolic, written = Variant.parse(wanted), Variant("chr1", 29, CHR1[29:50], CHR1[29], 1)
    found, other = haplotypes.place(symbolic), haplotypes.place(written)
    assert found.has and (found.position, found.ref, found.alt) == (29, written.ref, written.alt)
    pieces = [haplotypes.allele_pieces(haplotypes, one, 0, 80) for one in (found, other)]
    assert pieces[0] == pieces[1]
    assert haplotypes.allele_alignment(found, 0, 80) == haplotypes.allele_alignment(other, 0, 80)
    with pytest.raises(ValueError, match="wanted a sequence or a deletion"):
        haplotypes.place(Variant("chr1", 29, CHR1[29], "<INV:END=50>", 1))


def test_unphased_alleles_may_be_scored_on_both(tmp_path: Path, genome: Genome) -> None:
    lines = line(10, None, None, "0/1"), line(12, None, None, "1|0")
    ids, rejected, edits = placed(tmp_path, genome, *lines, unphased="both")
    assert ids == [name(10, 1), name(12, 1), name(10, 2)] and rejected == []
    assert edits["variant_id"].to_list() == [name(12, 1)]


def test_alleles_that_clash_are_told(tmp_path: Path, genome: Genome) -> None:
    three = CHR1[9:12]
    lines = line(10, three, three[0], "1|0"), line(11, None, None, "1|1"), line(12, None, None, "0/1")
    ids, rejected, edits = placed(tmp_path, genome, *lines, unphased="both")
    assert ids == [f"chr1:10:{three}:{three[0]}@1", name(11, 2), name(12, 2)]
    assert rejected == [(10, "overlap"), (11, "overlap")] and edits.height == 2
    # the base before an insertion may change, and so may the one after it
    lines = line(10, None, None, "1|0"), line(10, None, CHR1[9] + "GG", "1|0"), line(11, None, None, "1|0")
    ids, rejected, edits = placed(tmp_path, genome, *lines)
    assert len(ids) == edits.height == 3 and rejected == []


@pytest.mark.parametrize("kind", ["Integer", "String"])
def test_phase_sets_are_read(tmp_path: Path, genome: Genome, kind: str) -> None:
    lines = (
        line(10, None, None, "1|0", "10"),
        line(30, None, None, "1|0", "30"),
        line(50, None, None, "1|1", "30"),
    )
    _, _, edits = placed(tmp_path, genome, *lines, kind=kind)
    assert edits.select("start", "haplotype", "phase_set").rows() == [
        (9, 1, "10"), (29, 1, "30"), (49, 1, None), (49, 2, None),
    ]  # fmt: skip
    haplotypes = Haplotypes(genome, edits)
    for position, own in ((10, {9, 49}), (30, {29, 49}), (50, {29, 49}), (18, {9, 49})):
        variant = Variant("chr1", position - 1, CHR1[position - 1], alt_of(position), 1)
        assert {e.start for e in haplotypes.place(variant).personal.edits} == own


def test_a_sample_that_is_not_there_stops(tmp_path: Path, genome: Genome) -> None:
    (tmp_path / "v.vcf").write_text(HEAD.format("Integer"))
    with pytest.raises(FileError, match="has no sample 'YOU'; it has OTHER, ME"):
        list_haplotypes(tmp_path / "v.vcf", genome.folder, tmp_path / "h", sample="YOU", max_allele=9)


def test_the_table_of_edits_is_written(tmp_path: Path, genome: Genome) -> None:
    placed(tmp_path, genome, line(10, CHR1[9:12], CHR1[9], "0|1"))
    list_haplotypes(tmp_path / "v.vcf", genome.folder, tmp_path / "h", sample="ME", max_allele=9)
    table = read_table(tmp_path / "h", "haplotypes")
    assert table.select("chrom", "haplotype", "start", "end", "bases").rows() == [("chr1", 2, 10, 12, "")]


def test_edits_leave_out_what_alleles_share() -> None:
    cases = {
        (10, "A", "AT"): (11, 11, "T"), (10, "A", "G"): (10, 11, "G"), (10, "ATG", "A"): (11, 13, ""),
        (10, "ATG", "CTG"): (10, 11, "C"), (10, "TT", "CTT"): (10, 10, "C"), (10, "CTT", "CT"): (12, 13, ""),
    }  # fmt: skip
    for allele, wanted in cases.items():
        assert Edit.of(*allele) == Edit(*wanted)


def test_regions_are_rows_of_both_haplotypes(tmp_path: Path, genome: Genome) -> None:
    bed = tmp_path / "r.bed"
    bed.write_text("#head\n1\t10\t30\tgene\nchr1\t50\t51\n")
    rows = region_rows(bed, genome, ACCEPTED_SCHEMA)
    assert rows["variant_id"].to_list() == [
        f"chr1:{p}:{CHR1[p - 1]}:<HAP:END={end}>@{h}" for p, end in ((11, 30), (51, 51)) for h in (1, 2)
    ]
    assert rows["source_id"].to_list() == ["gene", "gene", None, None] and rows["record"].to_list() == [
        2,
        2,
        3,
        3,
    ]
    for text, message in (
        ("chr9\t1\t2", "line 1: .* is no region of genome toy1"), ("chr1\t5", "is no region"),
        ("chr1\t5\t5", "5-5 does not lie in chr1"), ("chr1\t5\t999", r"does not lie in chr1 \(240 bp\)"),
    ):  # fmt: skip
        bed.write_text(text + "\n")
        with pytest.raises(FileError, match=message):
            region_rows(bed, genome, ACCEPTED_SCHEMA)


# --- coordinates and sequences, against editing the text


@st.composite
def some_edits(draw: st.DrawFn) -> list[Edit]:
    places = sorted(draw(st.sets(st.integers(5, 220), max_size=8)))
    edits, at = [], 0
    for place in places:
        size = draw(st.integers(0, 6))
        bases = draw(st.text("ACGT", min_size=0 if size else 1, max_size=5))
        edit = Edit.of(place, CHR1[place : place + size], bases)
        if edit.start >= at and (edit.bases or edit.end > edit.start):
            edits.append(edit)
            at = place + size + 1
    return edits


PUT_THERE = -10_000


def told(edits: list[Edit]) -> tuple[str, list[int]]:
    """The personal text padded by N, and the genome's position of each base, PUT_THERE for others."""
    text, origin, at = "N" * 100, list(range(-100, 0)), 0
    for edit in edits:
        text += CHR1[at : edit.start] + edit.bases
        origin += [*range(at, edit.start), *[PUT_THERE] * len(edit.bases)]
        at = edit.end
    return text + CHR1[at:] + "N" * 200, [*origin, *range(at, len(CHR1) + 200)]


@given(some_edits())
def test_coordinates_and_sequences_are_those_of_the_edited_text(genome: Genome, edits: list[Edit]) -> None:
    personal = PersonalChromosome("chr1", edits)
    text, origin = told(edits)
    for first, last in ((0, 240), (-50, 100), (17, 18), (60, 60), (100, 290), (33, 150)):
        found = decode(codes_of(personal.pieces(first, last), genome))
        assert found == text[first + 100 : last + 100]
    unchanged = [(i - 100, g) for i, g in enumerate(origin) if 0 <= g < len(CHR1)]
    places, genomic = np.array(unchanged).T
    np.testing.assert_array_equal(personal.places(genomic), places)
    np.testing.assert_array_equal(personal.ends(genomic + 1), places + 1)
    np.testing.assert_array_equal(personal.origins(places), genomic)
    for edit in edits:
        start = personal.start_of(edit)
        assert text[start + 100 : start + 100 + len(edit.bases)] == edit.bases
        assert int(personal.places(edit.end)) == start + len(edit.bases)


def haplotypes_of(genome: Genome, edits: list[Edit]) -> Haplotypes:
    rows = [("chr1", 1, None, e.start, e.end, e.bases, f"e{i}@1") for i, e in enumerate(edits)]
    schema = ["chrom", "haplotype", "phase_set", "start", "end", "bases", "variant_id"]
    table = pl.DataFrame(rows, schema=schema, orient="row") if rows else pl.DataFrame(
        schema=dict.fromkeys(schema, pl.String))  # fmt: skip
    return Haplotypes(genome, table)


@given(some_edits(), st.integers(0, 7), st.booleans())
def test_a_variant_in_its_context(genome: Genome, edits: list[Edit], chosen: int, known: bool) -> None:
    """REF is the haplotype's text without the variant and ALT that with it, in one window."""
    if not edits:
        return
    edit = edits[chosen % len(edits)]
    others = [e for e in edits if e is not edit]
    haplotypes = haplotypes_of(genome, edits if known else others)
    pad = CHR1[edit.start - 1]
    variant = Variant("chr1", edit.start - 1, pad + CHR1[edit.start : edit.end], pad + edit.bases, 1)
    found = haplotypes.place(variant)
    assert found.has is known
    start, length = found.position - 40, 90
    pieces = haplotypes.allele_pieces(haplotypes, found, start, length)
    ref, alt = (decode(codes_of(p, haplotypes)) for p in pieces)
    without, with_ = told(others)[0], told(edits)[0]
    assert ref == without[start + 100 : start + 100 + length]
    assert alt == with_[start + 100 : start + 100 + length]


def test_a_variant_alone_on_its_haplotype_is_the_variant(genome: Genome) -> None:
    for ref, alt in (("A", "C"), ("AC", "A"), ("A", "AGG"), ("ACG", "TT")):
        ref = CHR1[99 : 99 + len(ref)]
        alt = ref[0] + alt[1:] if len(ref) != len(alt) else alt_of(100)
        plain, own = Variant("chr1", 99, ref, alt), Variant("chr1", 99, ref, alt, 1)
        for edits in ([Edit.of(99, ref, alt)], []):
            haplotypes = haplotypes_of(genome, edits)
            found = haplotypes.place(own)
            assert (found.position, found.ref, found.alt) == (99, ref, alt)
            pieces = haplotypes.allele_pieces(haplotypes, found, 60, 80)
            for mine, wanted in zip(pieces, allele_codes(genome, plain, 60, 80), strict=True):
                np.testing.assert_array_equal(codes_of(mine, haplotypes), wanted)
            assert haplotypes.allele_alignment(found, 60, 80) == allele_alignment(plain, 60, 80)


@given(some_edits(), st.integers(20, 200))
def test_a_region_is_the_genome_against_the_haplotype(genome: Genome, edits: list[Edit], middle: int) -> None:
    haplotypes = haplotypes_of(genome, edits)
    variant = Variant("chr1", middle - 5, CHR1[middle - 5], f"<HAP:END={middle + 5}>", 1)
    found = haplotypes.place(variant)
    assert (found.chrom, found.position) == ("chr1", middle)
    start, length = middle - 30, 64
    pieces = haplotypes.allele_pieces(haplotypes, found, start, length)
    ref, alt = (decode(codes_of(p, haplotypes)) for p in pieces)
    assert ref == ("N" * 100 + CHR1 + "N" * 100)[start + 100 : start + 100 + length]
    text, origin = told(edits)
    place = int(PersonalChromosome("chr1", edits).places(middle)) - 30
    assert alt == text[place + 100 : place + 100 + length]
    laid = haplotypes.allele_alignment(found, start, length).align(
        torch.arange(length), lambda p: p.double() + 1
    )
    window = origin[place + 100 : place + 100 + length]
    touched = {g for e in edits for g in range(e.start - 1, e.end)}
    for i in range(length):
        if start + i not in touched:
            wanted = window.index(start + i) + 1 if start + i in window else 0
            assert int(laid[i]) == wanted


def test_splitting_deals_the_rows_of_a_sample(tmp_path: Path, genome: Genome) -> None:
    lines = line(10, None, None, "1|0"), line(20, None, None, "1|1"), line(30, None, None, "0|0")
    (tmp_path / "v.vcf").write_text(HEAD.format("Integer") + "".join(lines))
    (tmp_path / "r.bed").write_text("chr1\t14\t30\n")
    chunks = [tmp_path / f"{i}.parquet" for i in range(2)]

    def split(**options) -> list[str]:
        paths = tmp_path / "v.vcf", genome.folder, chunks, tmp_path / "r.parquet"
        counts = split_variants(*paths, max_allele=9, sample="ME", **options)
        tables = [read_table(chunk, "variants") for chunk in chunks]
        assert counts == (
            sum(t.height for t in tables),
            read_table(tmp_path / "r.parquet", "rejected").height,
        )
        return [v for t in tables for v in t["variant_id"]]

    assert split() == [name(10, 1)[:-2], name(20, 1)[:-2]]
    assert read_table(tmp_path / "r.parquet", "rejected")["reason"].to_list() == ["not_carried"]
    base = f"chr1:15:{CHR1[14]}:<HAP:END=30>"
    wanted = [name(10, 1), f"{base}@1", f"{base}@2", name(20, 1), name(20, 2)]
    assert split(haplotypes=True, regions=tmp_path / "r.bed") == wanted


def test_settings_of_haplotypes_belong_together() -> None:
    for text, message in (
        ('{"genome": "g", "haplotypes": true}', "a sample is wanted"),
        ('{"genome": "g", "sample": "a", "regions": "r.bed"}', "wanted only with haplotypes"),
    ):
        with pytest.raises(FileError, match=message):
            parse_settings(VariantSetSettings, text)
    plain = parse_settings(VariantSetSettings, '{"genome": "g"}')
    assert not {"sample", "haplotypes", "unphased", "regions"} & set(plain.model_dump())
