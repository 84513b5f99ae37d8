"""Scores on haplotypes: those of a genome that is the haplotype, told in the reference's coordinates."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from scoring_stand_ins import LENGTH, ToyPredictor, make_annotation, make_genome, write_variants

from megabase.files import FileError, Stamp, read_table, write_table
from megabase.genome import prepare_genome
from megabase.haplotypes import EDIT_SCHEMA, Edit
from megabase.personal import Haplotypes, PersonalChromosome
from megabase.predictors.strands import BothStrands
from megabase.scoring.annotation import Annotation
from megabase.scoring.chunks import as_variants
from megabase.scoring.engine import Engine
from megabase.scoring.personal_engine import PersonalEngine, moved_gene, to_genome, to_reference
from megabase.scoring.scorers import RECOMMENDED
from megabase.sequence import decode
from megabase.variants import Variant

SETTINGS = SimpleNamespace(window=8192, batch_size=8)
# insertions, deletions and substitutions in exons, introns and between genes
PLACES = [
    (7_000, 0, "ACGTACGTAC"),
    (9_050, 3, ""),
    (9_900, 1, "G"),
    (10_300, 0, "TT"),
    (11_950, 40, "A"),
    (13_000, 2, "CC"),
]


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_genome(tmp_path_factory.mktemp("genome"))


def text_of(genome, start: int, end: int) -> str:
    return decode(genome.codes("chr1", start, end))


def edits_of(genome) -> list[Edit]:
    found = []
    for start, size, bases in PLACES:
        own = text_of(genome, start, start + size)
        edit = Edit.of(start, own, bases if bases != own else "T" * len(bases))
        found.append(Edit.of(edit.start - 1, *_written(genome, edit)))
    return found


def _written(genome, edit: Edit) -> tuple[str, str]:
    first = text_of(genome, edit.start - 1, edit.start)
    return first + text_of(genome, edit.start, edit.end), first + edit.bases


def allele(genome, edit: Edit, haplotype: int = 1) -> Variant:
    """The edit as a record writes it, with the base before it."""
    return Variant("chr1", edit.start - 1, *_written(genome, edit), haplotype)


def table_of(genome, edits: list[Edit], haplotype: int = 1) -> pl.DataFrame:
    rows = [
        ("chr1", haplotype, None, e.start, e.end, e.bases, allele(genome, e, haplotype).variant_id)
        for e in edits
    ]
    return pl.DataFrame(rows, schema=EDIT_SCHEMA, orient="row")


def engine_of(genome, edits: list[Edit], haplotype: int = 1) -> PersonalEngine:
    haplotypes = Haplotypes(genome, table_of(genome, edits, haplotype))
    return PersonalEngine(
        BothStrands(ToyPredictor()), haplotypes, make_annotation(), list(RECOMMENDED.values()), SETTINGS
    )


def same(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert [g and g.gene_id for g in a[name].genes] == [g and g.gene_id for g in b[name].genes], name
        torch.testing.assert_close(a[name].raw, b[name].raw, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_alone_on_its_haplotype_a_variant_scores_as_it_does_on_the_genome(genome) -> None:
    plain = Engine(
        BothStrands(ToyPredictor()), genome, make_annotation(), list(RECOMMENDED.values()), SETTINGS
    )
    for edit in edits_of(genome):
        variant = allele(genome, edit)
        wanted = plain.score([Variant(variant.chrom, variant.position, variant.ref, variant.alt)])[0]
        same(engine_of(genome, [edit]).score([variant])[0], wanted)
        found = engine_of(genome, []).score([variant])[0]
        same(found, wanted)
        assert torch.equal(found["splice_junctions"].junctions, wanted["splice_junctions"].junctions)


def test_in_context_it_scores_as_on_a_genome_that_is_the_haplotype(genome, tmp_path) -> None:
    """A FASTA of the haplotype without the variant, its genes moved by hand, and the plain engine."""
    edits = edits_of(genome)
    for chosen in (1, 3, 4):
        others = [e for e in edits if e is not edits[chosen]]
        text = text_of(genome, 0, LENGTH)
        for e in reversed(others):
            text = text[: e.start] + e.bases + text[e.end :]
        (tmp_path / "own.fa").write_text(f">chr1\n{text}\n")
        own = prepare_genome(tmp_path / "own.fa", tmp_path / f"own{chosen}", organism="toy", name="own")
        personal = PersonalChromosome("chr1", others)
        variant = allele(genome, edits[chosen])
        placed = engine_of(genome, others).haplotypes.place(variant)
        genes = Annotation([moved_gene(g, placed) for g in make_annotation().genes])
        plain = Engine(BothStrands(ToyPredictor()), own, genes, list(RECOMMENDED.values()), SETTINGS)
        moved = Variant("chr1", int(personal.places(variant.position)), variant.ref, variant.alt)
        wanted = plain.score([moved])[0]
        for listed in (edits, others):
            found = engine_of(genome, listed).score([variant])[0]
            same(found, wanted)
        spans = wanted["splice_junctions"].junctions.numpy()
        back = np.stack([personal.origins(spans[:, 0]), personal.origins(spans[:, 1] - 1) + 1], -1)
        np.testing.assert_array_equal(found["splice_junctions"].junctions.numpy(), back)


def test_a_region_scores_its_haplotype_against_the_genome(genome) -> None:
    edit = edits_of(genome)[4]  # deletes 39 bases of the last exon of a gene
    variant = allele(genome, edit)
    plain = Engine(
        BothStrands(ToyPredictor()), genome, make_annotation(), list(RECOMMENDED.values()), SETTINGS
    )
    wanted = plain.score([Variant(variant.chrom, variant.position, variant.ref, variant.alt)])[0]
    base, middle = text_of(genome, 11_000, 11_001), (11_000 + 12_900) // 2
    region = Variant("chr1", 11_000, base, "<HAP:END=12900>", 1)
    none = Variant("chr1", 11_000, base, "<HAP:END=12900>", 2)
    rows, empty = engine_of(genome, [edit]).score([region, none])
    assert {g.gene_id for g in rows["rna_seq"].genes} == {"plus", "minus", "noncoding"}
    by_gene = {g.gene_id: raw for g, raw in zip(rows["rna_seq"].genes, rows["rna_seq"].raw, strict=True)}
    other = {g.gene_id: raw for g, raw in zip(wanted["rna_seq"].genes, wanted["rna_seq"].raw, strict=True)}
    torch.testing.assert_close(by_gene["plus"], other["plus"], rtol=1e-4, atol=1e-5, equal_nan=True)
    assert by_gene["plus"].nan_to_num().abs().max() > 1e-3
    assert rows["contact_maps"].raw.isnan().all() and rows["dnase"].raw.shape == (1, 3)
    assert {g.gene_id for g in rows["splice_sites"].genes} == {"plus", "minus", "noncoding"}
    assert empty["rna_seq"].raw.nan_to_num().abs().max() == 0  # nothing is known of haplotype 2
    assert empty["dnase"].raw.abs().max() == 0 and middle > 11_000


def test_without_its_haplotypes_a_variant_is_refused(genome) -> None:
    plain = Engine(BothStrands(ToyPredictor()), genome, None, [RECOMMENDED["dnase"]], SETTINGS)
    with pytest.raises(ValueError, match="@1 is on a haplotype: score it with the sample's haplotypes"):
        plain.score([allele(genome, edits_of(genome)[0])])


def test_coordinates_go_there_and_back(genome) -> None:
    edits = edits_of(genome)
    engine = engine_of(genome, edits)
    positions = np.array([p for p in range(6_900, 13_100) if not any(e.start <= p < e.end for e in edits)])
    for edit in edits:
        placed = engine.haplotypes.place(allele(genome, edit))
        there = to_reference(placed, positions)
        assert (np.diff(there) > 0).all()
        np.testing.assert_array_equal(to_genome(placed, there), positions)
        np.testing.assert_array_equal(to_reference(placed, positions + 1, ends=True), there + 1)
        inside = np.arange(edit.start, edit.end)  # the variant's own bases are on its REF
        np.testing.assert_array_equal(to_genome(placed, to_reference(placed, inside)), inside)


def test_variants_of_a_chunk_keep_their_haplotype(genome, tmp_path) -> None:
    variants = [allele(genome, e, h) for e, h in zip(edits_of(genome), (1, 2, 1, 2, 1, 2), strict=True)]
    table = read_table(write_variants(variants, tmp_path / "chunk.parquet"), "variants")
    assert as_variants(table) == variants


def test_a_table_of_another_kind_is_refused(tmp_path) -> None:
    write_table(pl.DataFrame(schema=EDIT_SCHEMA), tmp_path / "h.parquet", Stamp("variants"))
    with pytest.raises(FileError, match="wanted 'haplotypes'"):
        read_table(tmp_path / "h.parquet", "haplotypes")
