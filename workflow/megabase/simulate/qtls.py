"""QTLs with known effects: causal variants that change motif or splice sites, and neutral ones at like
distances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from megabase.seeds import generator
from megabase.simulate.alleles import (
    Allele,
    deletion,
    expression_effect,
    inclusion_effect,
    known_around,
    substitution,
    touches_sites,
)
from megabase.simulate.genomes import DemoGene
from megabase.simulate.grammar import N_CELLS, TATA_WINDOW, WEIGHTS
from megabase.simulate.motifs import ACCEPTOR, DONOR, NUMBER, SCANNED, Motif
from megabase.simulate.state import State

NEAR = 2_000  # sites farther from a TSS are not made eQTLs (bp)
MIN_EXPRESSION_EFFECT, MIN_INCLUSION_EFFECT = 0.35, 0.15  # ln fold change; PSI
MAX_NEUTRAL_INCLUSION = 0.01
LONGEST_CUT = 6  # bases that a causal deletion removes, less one
INDEL_SHARE = 0.12  # of causal eQTL variants
INR_SHARE = 0.25  # of genes whose initiator may be hit: its distance alone would tell
NEUTRALS = 4  # for a causal variant
MIN_LEVEL = 0.05  # expression below which a gene has no sQTL


@dataclass(frozen=True, slots=True)
class Association:
    """One variant, gene and trait with its true effects by cell: ln fold change (eqtl) or PSI change (sqtl).

    offset: signed distance in bases, along the gene, from the TSS (eqtl) or the splice site (sqtl). intron:
    the
    tested intron [start, end) of an sQTL. site: the kind and side of the splice site.
    """

    allele: Allele
    gene: int
    effect: tuple[float, ...]
    offset: int
    kind: str
    causal: bool
    intron: tuple[int, int] | None = None
    site: str = ""


def _planted(state: State, gene: DemoGene, low: int, high: int, kinds: tuple[str, ...]) -> list[tuple]:
    """(start, end, kind, strand) of planted sites inside [low, high)."""
    return [
        (f.start, f.end, f.kind, f.strand)
        for f in state.genome.features[gene.chrom]
        if f.kind in kinds and f.start >= low and f.end <= high
    ]


def _columns(motif: Motif, strand: int) -> np.ndarray:
    return motif.strands[0 if strand > 0 else 1][:, :4]


def _edit(
    rng: np.random.Generator, chrom: str, codes: np.ndarray, site: tuple, motif: Motif, gain: bool
) -> Allele | None:
    """An SNV that breaks a site, or (gain) mends one of its mismatches; None where there is nothing to
    mend.
    """
    start, _, _, strand = site
    scores = _columns(motif, strand)
    here = scores[np.arange(len(motif)), codes[start : start + len(motif)]]
    strict = scores.max(axis=1) > 1.5  # positions of one letter
    places = np.flatnonzero(strict & ((here < 0) if gain else (here > 0)))
    if len(places) == 0:
        return None
    place = int(rng.choice(places))
    base = int(scores[place].argmax()) if gain else int((codes[start + place] + rng.integers(1, 4)) % 4)
    return substitution(chrom, codes, start + place, base)


def _expression_candidates(state: State, number: int, rng: np.random.Generator) -> Iterator[Allele]:
    gene = state.genome.genes[number]
    codes, tss = state.genome.chromosomes[gene.chrom], gene.model.tss
    kinds = tuple(name for name, weights in WEIGHTS.items() if any(weights))
    sites = _planted(state, gene, max(tss - NEAR, 0), tss + NEAR, kinds)
    reach = -TATA_WINDOW[0] + 20
    core = ("TATA", "INR") if rng.random() < INR_SHARE else ("TATA",)
    sites += _planted(state, gene, max(tss - reach, 0), tss + reach, core)
    for gain in (False, True):
        for index in rng.permutation(len(sites)).tolist():
            site = sites[index]
            far = abs(site[0] - tss) > reach + LONGEST_CUT
            if not gain and far and rng.random() < INDEL_SHARE:
                yield deletion(
                    gene.chrom, codes, site[0] + int(rng.integers(3, 6)), int(rng.integers(1, LONGEST_CUT))
                )
                break
            found = _edit(rng, gene.chrom, codes, site, SCANNED[NUMBER[site[2]]], gain)
            if found is not None:
                yield found
                break


def _offset(gene: DemoGene, position: int) -> int:
    return (position - gene.model.tss) * gene.model.strand


def causal_expression(state: State, seed: int) -> list[Association]:
    """One losing and one gaining candidate a gene, those with a real effect in some cell type."""
    found = []
    for number, gene in enumerate(state.genome.genes):
        rng = generator(seed, "simulate", "eqtl", gene.gene_id)
        codes = state.genome.chromosomes[gene.chrom]
        for allele in _expression_candidates(state, number, rng):
            effect = expression_effect(codes, gene, allele, state.expression[number])
            if np.abs(effect).max() >= MIN_EXPRESSION_EFFECT:
                offset = _offset(gene, allele.position)
                found.append(Association(allele, number, tuple(effect.tolist()), offset, "eqtl", True))
    return found


def _inner_sites(gene: DemoGene) -> list[tuple[int, str, int, tuple[int, int]]]:
    """Exon number in transcription, side, position and intron of the splice sites of internal exons.

    The intron is the one that ends (acceptor) or begins (donor) there when its neighbour exon is included.
    """
    exons = gene.model.exons
    rows = []
    for place in range(1, len(exons) - 1):
        (before, start), (end, after) = (
            (exons[place - 1][1], exons[place][0]),
            (exons[place][1], exons[place + 1][0]),
        )
        number = place if gene.model.strand > 0 else len(exons) - 1 - place
        left, right = ("acceptor", "donor") if gene.model.strand > 0 else ("donor", "acceptor")
        rows += [(number, left, start, (before, start)), (number, right, end - 1, (end, after))]
    return rows


def _splice_candidates(state: State, gene: DemoGene, rng: np.random.Generator) -> Iterator[tuple]:
    codes = state.genome.chromosomes[gene.chrom]
    motifs = {"DONOR": DONOR, "ACCEPTOR": ACCEPTOR} | {
        m: SCANNED[NUMBER[m]] for m in ("ESE1", "NSE1", "LSE1")
    }
    places = _inner_sites(gene)
    sites = _planted(state, gene, gene.model.start - 20, gene.model.end + 20, tuple(motifs))
    for gain in (False, True):
        for index in rng.permutation(len(sites)).tolist():
            site = sites[index]
            allele = _edit(rng, gene.chrom, codes, site, motifs[site[2]], gain)
            nearest = min(places, key=lambda row: abs(row[2] - site[0]), default=None)
            if allele is not None and nearest is not None and abs(nearest[2] - site[0]) < 120:
                yield allele, nearest
                break


def _spliced(state: State, number: int, allele: Allele, row: tuple, causal: bool) -> Association | None:
    gene = state.genome.genes[number]
    codes = state.genome.chromosomes[gene.chrom]
    change = inclusion_effect(codes, gene, allele, state.psi[number])
    largest = float(np.abs(change).max())
    if largest < MIN_INCLUSION_EFFECT if causal else largest > MAX_NEUTRAL_INCLUSION:
        return None
    effect = tuple(change[row[0]].tolist())
    offset = (allele.position - row[2]) * gene.model.strand
    return Association(allele, number, effect, offset, "sqtl", causal, row[3], row[1])


def causal_splicing(state: State, seed: int) -> list[Association]:
    """One losing and one gaining candidate a gene with internal exons, those that change an exon's
    inclusion.
    """
    found = []
    for number, gene in enumerate(state.genome.genes):
        rng = generator(seed, "simulate", "sqtl", gene.gene_id)
        for allele, row in _splice_candidates(state, gene, rng):
            association = _spliced(state, number, allele, row, True)
            if association is not None and max(map(abs, association.effect)) >= MIN_INCLUSION_EFFECT:
                found.append(association)
    return found


def choose(pool: list[Association], cell: int, count: int, state: State, seed: int) -> list[Association]:
    """Up to `count` associations with a real effect in a cell type, both signs alike where there are
    enough.
    """
    least = MIN_EXPRESSION_EFFECT if pool and pool[0].kind == "eqtl" else MIN_INCLUSION_EFFECT
    real = [a for a in pool if abs(a.effect[cell]) >= least]
    if pool and pool[0].kind == "sqtl":
        real = [a for a in real if state.expression[a.gene, cell] >= MIN_LEVEL]
    kind = pool[0].kind if pool else ""
    order = generator(seed, "simulate", kind, "choose", cell).permutation(len(real)).tolist()
    up = [real[i] for i in order if real[i].effect[cell] > 0]
    down = [real[i] for i in order if real[i].effect[cell] < 0]
    half = min(count // 2, len(up))
    return sorted(up[:half] + down[: count - half], key=lambda a: (a.allele, a.gene))


def _attempts(rng: np.random.Generator, draw: Callable[[int], Association | None]) -> Association | None:
    for attempt in range(60):
        found = draw(attempt)
        if found is not None:
            return found
    return None


def _other_base(rng: np.random.Generator, codes: np.ndarray, position: int) -> int:
    return int((codes[position] + rng.integers(1, 4)) % 4)


def _in_splice_site(gene: DemoGene, position: int) -> bool:
    exons = gene.model.exons
    edges = [edge for pair in pairwise(exons) for edge in (pair[0][1], pair[1][0])]
    return any(abs(position - edge) < len(ACCEPTOR) for edge in edges)


def neutral_expression(state: State, causal: Association, rng: np.random.Generator) -> Association | None:
    """A variant without effect about as far from another gene's TSS as the causal one from its own."""

    def draw(attempt: int) -> Association | None:
        number = int(rng.integers(len(state.genome.genes)))
        gene = state.genome.genes[number]
        codes = state.genome.chromosomes[gene.chrom]
        near = 2 + attempt // 4  # the wider, the longer nothing fits
        offset = round(causal.offset * rng.uniform(0.9, 1.1)) + int(rng.integers(-near, near + 1))
        position = gene.model.tss + gene.model.strand * offset
        if not known_around(codes, position) or _in_splice_site(gene, position):
            return None
        allele = substitution(gene.chrom, codes, position, _other_base(rng, codes, position))
        if touches_sites(codes, allele):
            return None
        return Association(allele, number, (0.0,) * N_CELLS, offset, "eqtl", False)

    return _attempts(rng, draw)


def neutral_splicing(state: State, causal: Association, rng: np.random.Generator) -> Association | None:
    """A variant that changes no exon's inclusion, about as far from another splice site of the same kind."""

    def draw(attempt: int) -> Association | None:
        number = int(rng.integers(len(state.genome.genes)))
        gene = state.genome.genes[number]
        codes = state.genome.chromosomes[gene.chrom]
        rows = [row for row in _inner_sites(gene) if row[1] == causal.site]
        if not rows:
            return None
        row = rows[int(rng.integers(len(rows)))]
        near = 1 + attempt // 6
        offset = causal.offset + int(rng.integers(-near, near + 1))
        position = row[2] + gene.model.strand * offset
        if not known_around(codes, position):
            return None
        allele = substitution(gene.chrom, codes, position, _other_base(rng, codes, position))
        return None if touches_sites(codes, allele) else _spliced(state, number, allele, row, False)

    return _attempts(rng, draw)


def with_neutrals(state: State, chosen: list[Association], cell: int, seed: int) -> list[Association]:
    """The chosen causal associations of one cell type and NEUTRALS neutral ones for each."""
    found = list(chosen)
    for association in chosen:
        rng = generator(seed, "simulate", "neutral", association.kind, cell, association.allele.variant_id)
        match = neutral_expression if association.kind == "eqtl" else neutral_splicing
        found += [n for n in (match(state, association, rng) for _ in range(NEUTRALS)) if n is not None]
    unique = {(a.allele, a.gene): a for a in reversed(found)}  # a causal one wins over a neutral one
    return [unique[key] for key in sorted(unique)]
