"""The plain engine: what a score may and may not depend on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scoring_stand_ins import LENGTH, ToyPredictor, make_annotation, make_genome, some_variants

from megabase import alignment
from megabase.scoring import masks
from megabase.scoring.engine import Engine
from megabase.scoring.scorers import RECOMMENDED, parse_scorer
from megabase.variants import Variant

WINDOW = 8192
CUSTOM = ("dnase:center:none:l2_diff_log1p", "rna_seq:center:501:diff_mean", "atac:gene:splicing")


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def make_engine(genome):
    def make(batch_size: int = 8, annotation=None) -> Engine:
        scorers = [*RECOMMENDED.values(), *(parse_scorer(c) for c in CUSTOM)]
        settings = SimpleNamespace(window=WINDOW, batch_size=batch_size)
        return Engine(ToyPredictor(), genome, annotation or make_annotation(), scorers, settings)

    return make


@pytest.fixture(scope="module")
def scored(make_engine, genome):
    variants = some_variants(genome)
    return dict(zip(variants, make_engine().score(variants), strict=True))


def _same(a, b, atol: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert [g and g.gene_id for g in a[name].genes] == [g and g.gene_id for g in b[name].genes], name
        torch.testing.assert_close(a[name].raw, b[name].raw, rtol=1e-4, atol=atol, equal_nan=True)
        if a[name].junctions is not None:
            assert torch.equal(a[name].junctions, b[name].junctions)


def test_a_score_does_not_depend_on_batch_size_or_neighbours(make_engine, scored):
    for size in (1, 5, 32):
        engine = make_engine(size)
        for variant, rows in zip(scored, engine.score(list(scored)), strict=True):
            _same(rows, scored[variant])
    shuffled = list(scored)[::-1]
    for variant, rows in zip(shuffled, make_engine().score(shuffled), strict=True):
        _same(rows, scored[variant])


def test_rows_without_genes_are_one_per_variant_and_finite(scored):
    for variant, rows in scored.items():
        for name in ("dnase", "chip_histone", "dnase:center:none:l2_diff_log1p"):
            assert rows[name].raw.shape == (1, 3) and rows[name].raw.isfinite().all()
        snv = len(variant.ref) == len(variant.alt) == 1
        assert bool(rows["contact_maps"].raw.isnan().all()) is not snv


def test_every_gene_row_keeps_the_strand_rule(scored):
    strands = {
        "rna_seq": "+-.",
        "splice_sites": "++--",
        "splice_site_usage": "++--",
        "polyadenylation": "+-.",
    }
    seen = set()
    for rows in scored.values():
        for name, letters in strands.items():
            for raw, gene in zip(rows[name].raw, rows[name].genes, strict=True):
                wanted = [s in (".", gene.strand) for s in letters]
                assert raw.isfinite().tolist() == wanted
                seen.add((name, gene.strand))
    assert seen == {(n, s) for n in strands for s in "+-"}


def test_genes_of_each_scorer(scored):
    by_place = {(v.position, len(v.ref)): rows for v, rows in scored.items()}
    rows = by_place[(10_600, 1)]
    assert [g.gene_id for g in rows["rna_seq"].genes] == ["plus", "noncoding", "minus"]  # TSS in the window
    assert [g.gene_id for g in rows["splice_sites"].genes] == ["plus", "noncoding"]  # overlap the variant
    assert {g.gene_id for g in rows["splice_junctions"].genes} == {"plus"}  # protein-coding only
    away = by_place[(22_000, 1)]
    for name in ("rna_seq", "splice_sites", "splice_junctions", "polyadenylation"):
        assert away[name].genes == [] and len(away[name].raw) == 0
    assert away["dnase"].raw.abs().max() > 0


def test_junctions_lie_inside_their_gene_and_each_leads_in_some_biosample(scored):
    count = 0
    for rows in scored.values():
        found = rows["splice_junctions"]
        for (start, end), gene in zip(found.junctions.tolist(), found.genes, strict=True):
            assert gene.start <= start < end <= gene.end
            count += 1
        for gene in {g.gene_id for g in found.genes}:
            raw = found.raw[[g.gene_id == gene for g in found.genes]]
            assert set(raw.argmax(0).tolist()) == set(range(len(raw)))
    assert count > 0


def test_alt_equal_to_ref_scores_zero(make_engine, scored):
    same = [Variant(v.chrom, v.position, v.ref, v.ref) for v in scored]
    for rows in make_engine().score(same):
        for name, scorer in RECOMMENDED.items():
            if scorer.signed or name in ("contact_maps", "splice_sites", "splice_junctions"):
                raw = rows[name].raw
                assert raw[raw.isfinite()].abs().sum() == 0, name


def test_swapping_the_alleles_of_an_snv_flips_signed_scores_only(make_engine, scored):
    snvs = [v for v in scored if len(v.ref) == len(v.alt) == 1]
    swapped = make_engine().score([Variant(v.chrom, v.position, v.alt, v.ref) for v in snvs])
    for variant, rows in zip(snvs, swapped, strict=True):
        for name, scorer in RECOMMENDED.items():
            sign = -1 if scorer.signed else 1
            if name != "splice_junctions" or rows[name].raw.shape == scored[variant][name].raw.shape:
                torch.testing.assert_close(
                    rows[name].raw, sign * scored[variant][name].raw, rtol=1e-4, atol=1e-5, equal_nan=True
                )
        assert rows["dnase"].raw.abs().max() > 1e-4


def test_centre_score_is_the_formula_on_the_two_sequences(make_engine, scored, genome):
    """Recomputed by hand from the predictor for an insertion, which the centre scorers do not align."""
    variant = next(v for v in scored if (len(v.ref), len(v.alt)) == (1, 4))
    start = variant.position - WINDOW // 2
    flank = genome.codes("chr1", start, start + WINDOW)
    alt = np.concatenate(
        [flank[: WINDOW // 2], ["ACGT".index(b) for b in variant.alt], flank[WINDOW // 2 + 1 :]]
    )
    both = torch.from_numpy(np.stack([flank, alt[:WINDOW].astype(np.uint8)]))
    ref, alt = make_engine().predictor.predict(both, "toy", outputs=["dnase"])["dnase"]["1bp"]
    low, high = WINDOW // 2 - 250, WINDOW // 2 + 251
    wanted = torch.log2(1 + alt[low:high].sum(0)) - torch.log2(1 + ref[low:high].sum(0))
    torch.testing.assert_close(scored[variant]["dnase"].raw[0], wanted, rtol=1e-4, atol=1e-5)


def test_equal_sequences_are_predicted_once(make_engine, genome):
    engine = make_engine()
    base = "ACGT"[int(genome.codes("chr1", 20_000, 20_001)[0])]
    variants = [Variant("chr1", 20_000, base, alt) for alt in "ACGT" if alt != base]
    _, codes = engine.cases(variants)
    assert len(codes) == 4  # one REF for three ALT alleles


def test_windows_beyond_both_chromosome_ends_are_padded(make_engine):
    engine = make_engine()
    for position in (0, LENGTH - 1):
        base = "ACGT"[int(engine.genome.codes("chr1", position, position + 1)[0])]
        alt = "A" if base != "A" else "C"
        cases, codes = engine.cases([Variant("chr1", position, base, alt)])
        assert cases[0].start == position - WINDOW // 2 and (codes == 4).sum() >= WINDOW - 2


def test_window_must_fit_the_contact_bins(make_engine, genome):
    settings = SimpleNamespace(window=3000, batch_size=2)
    with pytest.raises(ValueError, match="multiple of 2048"):
        Engine(ToyPredictor(), genome, None, [RECOMMENDED["dnase"]], settings)


@pytest.mark.parametrize(("ref_length", "alt_length"), [(1, 1), (1, 4), (2, 5), (5, 1), (7, 3)])
def test_positions_and_alignment_agree(ref_length, alt_length):
    """A value at the moved position of ALT is the value that the alignment puts at the REF position."""
    length, offset = 64, 20
    positions = torch.arange(-1, length)
    moved = alignment.alternate_positions(positions, offset, ref_length, alt_length, length)
    assert moved[0] == -1 and moved.max() < length
    alt = torch.arange(length, dtype=torch.float32)
    aligned = alignment.align_alternate(alt[:, None], offset, ref_length, alt_length)[:, 0]
    last_shared = offset + min(ref_length, alt_length) - 1
    for place in range(length):
        deleted = last_shared < place < offset + ref_length
        anchor = alt_length > ref_length and place == offset + ref_length - 1
        if not deleted and not anchor and moved[place + 1] >= 0:
            assert aligned[place] == alt[moved[place + 1]]
        if deleted:
            assert moved[place + 1] == last_shared and aligned[place] == 0


def test_splice_site_selection_keeps_the_best_in_order():
    scores = torch.zeros(50, 4)
    scores[[5, 9, 30, 40], 0] = torch.tensor([0.5, 0.9, 0.9, 0.05])
    chosen = masks.select_splice_sites(scores, 2, 0.1)
    assert chosen[0].tolist() == [9, 30] and (chosen[1:] == -1).all()


def test_a_site_made_by_an_insertion_is_read_where_it_lies_on_alt():
    found = alignment.Alignment.of_alleles(20, 1, 4, 64)
    probabilities = torch.zeros(2, 64, 5)
    probabilities[1, 22, 0] = 0.9  # an inserted base is a donor
    sites = torch.tensor([[10, 20, 30], [20, -1, -1], [20, 63, -1], [-1, -1, -1]])
    moved = found.sites(sites, lambda a, b: probabilities[1, a:b])
    assert moved.tolist() == [[10, 22, 33], [20, -1, -1], [20, -1, -1], [-1, -1, -1]]
