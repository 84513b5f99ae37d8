"""Scores of structural variants: those of the same sequence written out, and right where truth is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scoring_stand_ins import ToyPredictor, make_annotation, make_genome

from megabase.alignment import alternate_sites
from megabase.predictors.strands import BothStrands
from megabase.scoring.alternate import AlternateGenome
from megabase.scoring.controls import shift_controls
from megabase.scoring.engine import Engine
from megabase.scoring.formulas import LFC_PSEUDOCOUNT
from megabase.scoring.mutagenesis import mutate
from megabase.scoring.scorers import RECOMMENDED
from megabase.sequence import decode
from megabase.structural import allele_alignment
from megabase.variants import Variant

WINDOW = 8192


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def engine(genome):
    settings = SimpleNamespace(window=WINDOW, batch_size=8)
    predictor = BothStrands(ToyPredictor())
    return Engine(predictor, genome, make_annotation(), list(RECOMMENDED.values()), settings)


def event(genome, position: int, alt: str) -> Variant:
    base = decode(genome.codes("chr1", position, position + 1))
    return Variant("chr1", position, base, alt.replace("t", base))


def rows_of(rows, gene_id: str) -> torch.Tensor:
    return rows.raw[[g.gene_id for g in rows.genes].index(gene_id)]


def same(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert [g and g.gene_id for g in a[name].genes] == [g and g.gene_id for g in b[name].genes], name
        torch.testing.assert_close(a[name].raw, b[name].raw, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_deletion_scores_as_its_sequence_does(genome, engine) -> None:
    inside = decode(genome.codes("chr1", 10_499, 10_560))
    written = Variant("chr1", 10_499, inside, inside[0])
    a, b = engine.score([event(genome, 10_499, "<DEL:END=10560>"), written])
    same(a, b)
    assert a["rna_seq"].raw.nan_to_num().abs().max() > 0.01


def test_a_breakend_beside_its_own_bases_changes_nothing(genome, engine) -> None:
    rows = engine.score([event(genome, 10_499, f"t[chr1:{10_501}[")])[0]
    for name in ("rna_seq", "splice_sites", "splice_site_usage", "splice_junctions", "dnase", "chip_tf"):
        assert rows[name].raw.nan_to_num().abs().max() < 1e-5, name


def test_a_deleted_gene_has_no_signal_left(genome, engine) -> None:
    rows = engine.score([event(genome, 8_999, "<DEL:END=15000>")])[0]
    active, change = (rows_of(rows[name], "plus") for name in ("rna_seq_active", "rna_seq"))
    wanted = torch.log(torch.tensor(LFC_PSEUDOCOUNT)) - torch.log(active + LFC_PSEUDOCOUNT)
    torch.testing.assert_close(change, wanted, equal_nan=True)
    assert rows["contact_maps"].raw.isnan().all()


def test_a_gene_inside_an_inversion_is_read_on_the_other_strand(genome, engine) -> None:
    rows = engine.score([event(genome, 8_499, "<INV:END=14500>")])[0]
    for gene in ("plus", "minus", "noncoding"):
        change = rows_of(rows["rna_seq"], gene)
        assert change.isfinite().any() and change.nan_to_num().abs().max() < 1e-4
        for name in ("splice_sites", "splice_site_usage"):
            assert rows_of(rows[name], gene).nan_to_num().max() < 1e-4, name
    assert len(rows["splice_junctions"].genes) == 0
    assert rows["dnase"].raw.abs().max() > 1e-3  # the bases beside the first breakpoint are others


def test_what_lies_beyond_a_breakend_counts_as_gone(genome, engine) -> None:
    kept, lost = engine.score([event(genome, 12_499, "t[chr2:100["), event(genome, 12_499, "]chr2:4000]t")])
    shares = {"plus": (3 / 3, 0 / 3), "minus": (1 / 3, 2 / 3)}  # of the exons that are left
    for gene, left in shares.items():
        for rows, share in zip((kept, lost), left, strict=True):
            change, active = (rows_of(rows[name], gene) for name in ("rna_seq", "rna_seq_active"))
            wanted = torch.log(share * active + LFC_PSEUDOCOUNT) - torch.log(active + LFC_PSEUDOCOUNT)
            torch.testing.assert_close(change, wanted, rtol=0, atol=0.1, equal_nan=True)


def test_a_duplicated_gene_is_read_on_its_first_copy(genome, engine) -> None:
    for position, alt in ((8_899, "<DUP:END=12100>"), (9_299, "<DUP:END=9340>")):
        rows = engine.score([event(genome, position, alt)])[0]
        assert rows_of(rows["rna_seq"], "plus").nan_to_num().abs().max() < 1e-4
        assert rows_of(rows["rna_seq_active"], "plus").nan_to_num().max() > 0.1


def test_sites_are_read_where_one_variant_puts_them() -> None:
    probabilities = torch.rand(40, 5)

    def read(first: int, last: int) -> torch.Tensor:
        return probabilities[first:last]

    positions = torch.tensor([[3, 10, 11, -1], [12, 13, 14, 39], [9, 15, 20, 30], [0, 1, 2, 10]])
    for ref, alt in (("A" + "C" * 5, "A"), ("A", "ACCC")):
        variant = Variant("chr1", 10, ref, alt)
        found = allele_alignment(variant, 0, 40).sites(positions, read)
        wanted = alternate_sites(positions, probabilities, 10, len(ref), len(alt))
        assert torch.equal(found, wanted)
    inverted = allele_alignment(Variant("chr1", 10, "A", "<INV:END=15>"), 0, 40)
    assert inverted.sites(positions, read)[1].tolist() == [-1, -1, -1, 39]
    beyond = allele_alignment(Variant("chr1", 10, "A", "A[chr2:5["), 0, 40)
    assert beyond.sites(positions, read).tolist() == [
        [3, 10, -1, -1], [-1, -1, -1, -1], [9, -1, -1, -1], [0, 1, 2, 10],
    ]  # fmt: skip


def test_a_variant_that_does_not_fit_the_window_is_refused(genome, engine) -> None:
    with pytest.raises(ValueError, match="<DEL:END=12000> does not begin in chr1"):
        engine.score([event(genome, 999, "<DEL:END=12000>")])


def test_what_moves_or_mutates_sequences_leaves_events_alone(genome, engine) -> None:
    inversion = event(genome, 8_499, "<INV:END=14500>")
    assert shift_controls(engine, SimpleNamespace(scorer=RECOMMENDED["rna_seq"]), inversion) == []
    with pytest.raises(ValueError, match="<INV:END=14500>: its ALT is no sequence in the genome"):
        AlternateGenome(genome, inversion)


def test_substitutions_of_an_allele_are_compared_on_its_own_sequence(genome, engine) -> None:
    """In-silico mutagenesis of REF does not depend on which variant of the place is explained."""
    base = decode(genome.codes("chr1", 10_600, 10_601))
    other = "ACGT"["TGCA".index(base)]
    found = []
    for alt in (other, base + "ACGTACG"):
        (case,), codes = engine.cases([Variant("chr1", 10_600, base, alt)])
        start = case.start
        span = (10_500 - start, 10_503 - start)  # in an exon
        found.append(
            mutate(
                engine, RECOMMENDED["rna_seq"], 0, "plus", case, codes[case.ref_index], span, Variant,
                on_alternate=False,
            )
        )  # fmt: skip
    assert np.abs(found[0]).max() > 1e-6
    np.testing.assert_allclose(found[1], found[0], atol=2e-6)
