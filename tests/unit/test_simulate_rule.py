"""The rule of the demo organism: motifs, grammar, splicing, evolution, and what variants do."""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest

from megabase.seeds import generator
from megabase.sequence import decode, encode, reverse_complement
from megabase.simulate import alleles, bgzf, grammar, signals
from megabase.simulate.alignments import SHIFTS, read_starts
from megabase.simulate.contacts import compartments, loops
from megabase.simulate.genomes import diverge, diverged_genome, new_genome
from megabase.simulate.measure import cover, known_runs
from megabase.simulate.motifs import ACCEPTOR, DONOR, NUMBER, SCANNED, find_sites, site_strengths
from megabase.simulate.qtls import causal_expression, causal_splicing, choose, with_neutrals
from megabase.simulate.slots import background, gene_slot, repeat_families
from megabase.simulate.splicing import inclusion, junction_shares
from megabase.simulate.state import State, derive_state, gene_expression, gene_inclusion


@pytest.fixture(scope="module")
def state() -> State:
    """The rule on a small genome."""
    return derive_state(new_genome(3, "alpha", {"chrA1": 80_000, "chrA2": 60_000}))


def _with(codes: np.ndarray, start: int, name: str, strand: int = 1, mismatches: int = 0) -> np.ndarray:
    site = SCANNED[NUMBER[name]].sample(generator(1, name), mismatches)
    codes = codes.copy()
    codes[start : start + len(site)] = site if strand > 0 else reverse_complement(site)
    return codes


def test_motif_strength_falls_with_every_mismatch() -> None:
    for motif in (*SCANNED, DONOR, ACCEPTOR):
        rng = generator(0, motif.name)
        for mismatches, wanted in ((0, 1.0), (1, 6 / 11), (2, 1 / 11)):
            site = motif.sample(rng, mismatches)
            assert site_strengths(site, np.array([0]), motif)[0] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", ["CORE1", "HEPA1", "NEUR1", "LYMP1", "SHAR1", "REPR1"])
def test_a_palindrome_is_one_site(name: str) -> None:
    assert SCANNED[NUMBER[name]].palindromic
    codes = _with(np.zeros(500, dtype=np.uint8), 200, name, -1)
    sites = find_sites(codes, (name,))
    assert sites.strand.tolist() == [1]
    assert sites.strength[0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("strand", [1, -1])
def test_sites_are_found_on_both_strands_where_they_were_planted(strand: int) -> None:
    codes = _with(np.zeros(500, dtype=np.uint8), 200, "CTCF", strand)
    sites = find_sites(codes)
    assert len(sites.position) == 1
    assert (sites.strand[0], sites.strength[0]) == (strand, pytest.approx(1, abs=1e-4))
    assert abs(sites.position[0] - 207) <= 1


def test_unknown_bases_make_no_sites() -> None:
    codes = _with(np.zeros(300, dtype=np.uint8), 100, "NEUR1")
    codes[105] = 4
    assert len(find_sites(codes).position) == 0


def test_scan_agrees_with_a_plain_sum(state: State) -> None:
    codes = state.genome.chromosomes["chrA1"][:20_000]
    motif = SCANNED[NUMBER["CORE1"]]
    rows = np.arange(len(motif))
    plain = np.array([motif.scores[rows, codes[i + rows]].sum() for i in range(len(codes) - len(motif))])
    wanted = np.flatnonzero(motif.strength(plain) > 0) + motif.anchor
    sites = find_sites(codes, ("CORE1",))
    assert sites.position[sites.strand > 0].tolist() == wanted.tolist()


def test_spacing_bonus_needs_the_right_distance() -> None:
    blank = np.zeros(1000, dtype=np.uint8)
    near = _with(_with(blank, 400, "HEPA1"), 425, "HEPA2")
    far = _with(_with(blank, 400, "HEPA1"), 470, "HEPA2")
    assert len(grammar.pair_bonuses(find_sites(near))[0]) == 1
    assert len(grammar.pair_bonuses(find_sites(far))[0]) == 0


def test_repressor_closes_where_its_cell_types_say() -> None:
    blank = np.zeros(1000, dtype=np.uint8)
    codes = _with(_with(blank, 400, "CORE1"), 440, "REPR1")
    peaks = grammar.respond(grammar.drive(find_sites(codes), 1000)).max(axis=1)
    assert peaks[1] > 4 * max(peaks[0], peaks[2])  # neural cells do not mind it


def test_expression_is_the_same_on_either_strand(state: State) -> None:
    gene = state.genome.genes[0]
    codes = state.genome.chromosomes[gene.chrom]
    model = gene.model
    size = len(codes)
    exons = tuple((size - end, size - start) for start, end in model.exons[::-1])
    turned = replace(gene, model=replace(model, exons=exons, strand=-model.strand))
    first, second = gene_expression(codes, gene), gene_expression(reverse_complement(codes), turned)
    assert np.allclose(first, second, rtol=0.02)
    assert np.allclose(gene_inclusion(codes, gene), gene_inclusion(reverse_complement(codes), turned))


def test_breaking_a_donor_lowers_inclusion_and_makes_a_skipping_junction() -> None:
    rng = generator(2, "donor")
    slot = gene_slot(rng, repeat_families(rng))
    while slot.gene is None or len(slot.gene.exons) < 4 or slot.gene.strand < 0:
        slot = gene_slot(rng, repeat_families(rng))
    exons = slot.gene.exons
    before = inclusion(slot.codes, exons)
    broken = slot.codes.copy()
    broken[exons[1][1]] = 0  # the G of GT
    after = inclusion(broken, exons)
    assert (after[1] < before[1]).all() and np.allclose(after[2], before[2])
    assert (junction_shares(after)[0, 2] > junction_shares(before)[0, 2]).all()


def test_junctions_of_a_donor_add_up_to_its_exons_inclusion() -> None:
    psi = np.array([[1.0] * 3, [0.3, 0.6, 0.9], [0.5, 0.8, 0.2], [1.0] * 3])
    shares = junction_shares(psi)
    for exon in range(3):
        assert np.allclose(sum(s for (i, _), s in shares.items() if i == exon), psi[exon])


def test_divergence_keeps_sites_and_changes_the_rest() -> None:
    rng = generator(5, "diverge")
    families = repeat_families(rng)
    slots = [gene_slot(rng, families) for _ in range(6)]
    for slot in slots:
        copy = diverge(slot, rng)
        assert len(copy.features) == len(slot.features)
        for old, new in zip(slot.features, copy.features, strict=True):
            if old.kind in NUMBER:
                kept = slot.codes[old.start : old.end].tolist()
                assert copy.codes[new.start : new.end].tolist() == kept
        size = min(len(copy.codes), len(slot.codes))
        assert np.mean(copy.codes[:size] != slot.codes[:size]) > 0.15


def test_genome_depends_on_the_seed_alone() -> None:
    sizes = {"chrA1": 30_000}
    first, again, other = (new_genome(seed, "alpha", sizes).chromosomes["chrA1"] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and np.mean(first != other) > 0.5


def test_second_species_has_orthologous_genes(state: State) -> None:
    beta = diverged_genome(3, "beta", {"chrB1": 50_000}, state.genome)
    assert len(beta.chromosomes["chrB1"]) == 50_000 and len(beta.genes) > 5
    for gene in beta.genes:
        codes = beta.chromosomes[gene.chrom]
        introns = [(a[1], b[0]) for a, b in zip(gene.model.exons, gene.model.exons[1:], strict=False)]
        for start, end in introns:
            intron = codes[start:end] if gene.strand == "+" else reverse_complement(codes[start:end])
            assert decode(intron[:2]) == "GT" and decode(intron[-2:]) == "AG"


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_indels_are_left_aligned_and_carried_exactly(kind: str) -> None:
    codes = encode("ACGTCAAAAAGCTTGACCATGACGTACGTTAGC" * 4)
    if kind == "deletion":
        allele = alleles.deletion("c", codes, 8, 2)
        assert (allele.position, allele.ref, allele.alt) == (4, "CAA", "C")
    else:
        allele = alleles.insertion("c", codes, 8, np.array([0, 0], np.uint8))
        assert (allele.position, allele.ref, allele.alt) == (4, "C", "CAA")
    shift = len(allele.alt) - len(allele.ref)
    text = decode(codes)
    changed = text[:4] + allele.alt + text[4 + len(allele.ref) :]
    found = decode(alleles.carry(codes, allele, 20, 60, 40))
    assert found == changed[20 + shift : 60 + shift]  # bases right of the variant stay in place


def test_effects_are_rule_of_alt_minus_rule_of_ref(state: State) -> None:
    pool = causal_expression(state, 0)
    assert len(pool) > 10
    for association in pool[::5]:
        gene = state.genome.genes[association.gene]
        codes = state.genome.chromosomes[gene.chrom]
        allele = association.allele
        assert decode(codes[allele.position : allele.position + len(allele.ref)]) == allele.ref
        if len(allele.ref) == len(allele.alt):
            changed = codes.copy()
            changed[allele.position] = encode(allele.alt)[0]
            change = np.log(gene_expression(changed, gene) / gene_expression(codes, gene))
            assert np.allclose(change, association.effect)


def test_splicing_effects_are_rule_of_alt_minus_rule_of_ref(state: State) -> None:
    pool = causal_splicing(state, 0)
    assert len(pool) > 10
    for association in pool[::5]:
        gene = state.genome.genes[association.gene]
        changed = state.genome.chromosomes[gene.chrom].copy()
        changed[association.allele.position] = encode(association.allele.alt)[0]
        change = gene_inclusion(changed, gene) - state.psi[association.gene]
        assert np.abs(change - np.array(association.effect)).sum(axis=1).min() < 1e-9


@pytest.mark.parametrize("find", [causal_expression, causal_splicing])
def test_neutral_variants_do_nothing_at_like_distances(state: State, find) -> None:
    chosen = choose(find(state, 0), 1, 6, state, 0)
    assert {a.effect[1] > 0 for a in chosen} == {True, False}
    neutral = [a for a in with_neutrals(state, chosen, 1, 0) if not a.causal]
    assert len(neutral) >= 2 * len(chosen)
    for association in neutral:
        gene = state.genome.genes[association.gene]
        changed = state.genome.chromosomes[gene.chrom].copy()
        changed[association.allele.position] = encode(association.allele.alt)[0]
        if association.kind == "eqtl":
            assert np.allclose(gene_expression(changed, gene), state.expression[association.gene])
        assert np.abs(gene_inclusion(changed, gene) - state.psi[association.gene]).max() <= 0.01
    middle = np.median([abs(a.offset) for a in neutral]) - np.median([abs(a.offset) for a in chosen])
    assert abs(middle) < 60


def test_reads_shift_back_to_their_cuts() -> None:
    cuts, reverse = np.array([1000, 1000]), np.array([False, True])
    for assay, length in (("atac", 50), ("dnase", 36)):
        starts = read_starts(cuts, reverse, assay)
        five_prime = np.where(reverse, starts + length - 1, starts)
        assert (five_prime + np.where(reverse, SHIFTS[assay][1], SHIFTS[assay][0])).tolist() == [1000, 1000]


def test_cover_completes_with_zeros_and_leaves_unknown_sequence_out() -> None:
    codes = np.zeros(100, dtype=np.uint8)
    codes[40:50] = 4
    runs = cover(np.array([10, 45]), np.array([20, 60]), np.array([2.0, 3.0]), codes)
    assert list(zip(*(part.tolist() for part in runs), strict=True)) == [
        (0, 10, 0.0), (10, 20, 2.0), (20, 40, 0.0), (50, 60, 3.0), (60, 100, 0.0),
    ]  # fmt: skip
    assert known_runs(codes) == [(0, 40), (50, 100)]


def test_loops_join_convergent_sites_only() -> None:
    blank = np.zeros(20_000, dtype=np.uint8)
    convergent = _with(_with(blank, 2_000, "CTCF", 1), 12_000, "CTCF", -1)
    divergent = _with(_with(blank, 2_000, "CTCF", -1), 12_000, "CTCF", 1)
    assert len(loops(find_sites(convergent))) == 1 and loops(find_sites(divergent)) == []


def test_rna_runs_follow_inclusion(state: State) -> None:
    for number, gene in enumerate(state.genome.genes):
        starts, ends, levels = signals.rna_runs(state, gene.chrom, 0, "total RNA-seq", gene.strand)
        found = dict(zip(zip(starts.tolist(), ends.tolist(), strict=True), levels, strict=True))
        exons = gene.model.exons if gene.model.strand > 0 else gene.model.exons[::-1]
        for index, exon in enumerate(exons):
            assert found[exon] == pytest.approx(state.expression[number, 0] * state.psi[number][index, 0])


def test_bgzf_is_gzip_with_an_end_marker() -> None:
    data = decode(background(generator(0, "bgzf"), 200_000)).encode()
    packed = bgzf.compress(data)
    assert gzip.decompress(packed) == data and packed.endswith(bgzf.END_OF_FILE)


def test_compartments_are_neighbourhoods_of_open_chromatin() -> None:
    openness = np.zeros(60)
    openness[10:20] = openness[40:50] = 1.0
    found = compartments(openness)
    assert (np.abs(found) <= 1).all() and abs(np.median(found)) < 1e-6
    assert found[15] > 0.8 and found[45] > 0.8 and found[30] < 0.1  # open ones are alike, far apart or not
    assert (compartments(np.zeros(60)) == 0).all()
    assert np.allclose(compartments(3 * openness), found)  # depth does not matter
