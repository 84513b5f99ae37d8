"""Variants of the demo organism: alleles, the sequence that carries them, and the rule's answer to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from megabase.sequence import decode, encode
from megabase.simulate import grammar
from megabase.simulate.genomes import DemoGene
from megabase.simulate.motifs import find_sites
from megabase.simulate.state import expression_around, gene_inclusion, slice_codes
from megabase.spec import UNKNOWN_BASE

LONGEST = 12  # bases that an indel adds or removes at most
_CONTEXT = 40  # bases around a variant in which it can make or break a site


@dataclass(frozen=True, slots=True, order=True)
class Allele:
    """One variant: 0-based position of the first REF base; indels keep one base before the change, as VCF
    does.
    """

    chrom: str
    position: int
    ref: str
    alt: str

    @property
    def variant_id(self) -> str:
        """`chrom:position+1:ref:alt`, as everywhere in this project."""
        return f"{self.chrom}:{self.position + 1}:{self.ref}:{self.alt}"

    @property
    def name(self) -> str:
        """`chrom_position_ref_alt`, 1-based, as the eQTL Catalogue writes it."""
        return f"{self.chrom}_{self.position + 1}_{self.ref}_{self.alt}"


def substitution(chrom: str, codes: np.ndarray, position: int, base: int) -> Allele:
    """The SNV that puts `base` (0..3) at a position."""
    return Allele(chrom, position, decode(codes[position : position + 1]), decode(np.array([base], np.uint8)))


def deletion(chrom: str, codes: np.ndarray, start: int, size: int) -> Allele:
    """Deletion of [start, start + size), left-aligned."""
    while start > 1 and codes[start - 1] == codes[start + size - 1]:
        start -= 1
    removed = decode(codes[start - 1 : start + size])
    return Allele(chrom, start - 1, removed, removed[0])


def insertion(chrom: str, codes: np.ndarray, start: int, added: np.ndarray) -> Allele:
    """Insertion of codes before `start`, left-aligned."""
    while start > 1 and codes[start - 1] == added[-1]:
        added = np.roll(added, 1)
        start -= 1
    anchor = decode(codes[start - 1 : start])
    return Allele(chrom, start - 1, anchor, anchor + decode(added))


def carry(codes: np.ndarray, allele: Allele, start: int, end: int, anchor: int) -> np.ndarray:
    """codes uint8 [end - start] of the chromosome with the ALT allele, aligned so that `anchor` stays in
    place.

    The variant must not hold the anchor unless it is an SNV.
    """
    pad = len(allele.ref) + len(allele.alt)
    around = slice_codes(codes, start - pad, end + pad)
    first = allele.position - (start - pad)
    if first < 0 or first + len(allele.ref) > len(around):
        return around[pad:-pad]
    changed = np.concatenate([around[:first], encode(allele.alt), around[first + len(allele.ref) :]])
    shift = len(allele.alt) - len(allele.ref) if allele.position < anchor else 0
    return changed[pad + shift : pad + shift + end - start]


def expression_effect(codes: np.ndarray, gene: DemoGene, allele: Allele, reference: np.ndarray) -> np.ndarray:
    """ln(ALT / REF) expression float64 [cells] of a gene; `reference` is its expression with REF."""
    tss = gene.model.tss
    around = carry(codes, allele, tss - grammar.MARGIN, tss + grammar.MARGIN + 1, tss)
    return np.log(expression_around(around, gene.model.strand)) - np.log(reference)


def inclusion_effect(codes: np.ndarray, gene: DemoGene, allele: Allele, reference: np.ndarray) -> np.ndarray:
    """ALT - REF inclusion float64 [exons, cells] of a gene for an SNV; `reference` is its PSI with REF."""
    low, high = gene.model.start - 1000, gene.model.end + 1000
    around = slice_codes(codes, low, high)
    if low <= allele.position < high:
        around[allele.position - low] = encode(allele.alt)[0]
    return gene_inclusion(around, _moved(gene, -low)) - reference


def _moved(gene: DemoGene, offset: int) -> DemoGene:
    exons = tuple((start + offset, end + offset) for start, end in gene.model.exons)
    return replace(gene, model=replace(gene.model, exons=exons))


def touches_sites(codes: np.ndarray, allele: Allele) -> bool:
    """Whether the variant changes any scanned motif site's presence or strength."""
    start, end = allele.position - _CONTEXT, allele.position + len(allele.ref) + _CONTEXT
    before = find_sites(slice_codes(codes, start, end))
    after = find_sites(
        np.concatenate(
            [slice_codes(codes, start, allele.position), encode(allele.alt),
             slice_codes(codes, allele.position + len(allele.ref), end)]
        )
    )  # fmt: skip
    return sorted(zip(before.motif, before.strength, strict=True)) != sorted(
        zip(after.motif, after.strength, strict=True)
    )


def known_around(codes: np.ndarray, position: int) -> bool:
    """Whether the 2 x 20 bases around a position lie inside the chromosome and are known."""
    low, high = position - 20, position + 20
    return low > 0 and high < len(codes) and bool((codes[low:high] != UNKNOWN_BASE).all())


def random_allele(
    rng: np.random.Generator, chrom: str, codes: np.ndarray, indel_share: float
) -> Allele | None:
    """A variant anywhere, None where the sequence is unknown."""
    position = int(rng.integers(30, len(codes) - 30))
    if not known_around(codes, position):
        return None
    kind, size = rng.random(), int(min(rng.geometric(0.35), LONGEST))
    if kind >= indel_share:
        return substitution(chrom, codes, position, int((codes[position] + rng.integers(1, 4)) % 4))
    if kind < indel_share / 2:
        return deletion(chrom, codes, position, size)
    return insertion(chrom, codes, position, rng.integers(0, 4, size).astype(np.uint8))
