"""Chromosomes out of slots: the first species from new ones, the second mostly from diverged copies of
them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from megabase.seeds import generator
from megabase.simulate.slots import (
    DESERT_SHARE,
    Feature,
    GeneModel,
    Slot,
    background,
    desert,
    gene_slot,
    repeat_families,
)

SUBSTITUTION = (
    0.27  # share of unprotected bases of an orthologous slot that are redrawn (a quarter stay equal)
)
INDEL = 1 / 150  # indels a base of it
ORTHOLOGOUS = 0.7  # share of the second species' slots that are copies
BLOCK = 6  # neighbouring slots that stay together
UNKNOWN_RUN = 4_000  # N of the first chromosome (bp)
PROMOTER_FLANK = 50  # bases before a TSS whose spacing evolution keeps
SITE_FLANK = 4  # bases around planted sites and exon ends without indels


@dataclass(frozen=True, slots=True)
class DemoGene:
    """A gene of a chromosome; exons [start, end) 0-based half-open, in rising order."""

    gene_id: str
    chrom: str
    model: GeneModel

    @property
    def strand(self) -> str:
        """`+` or `-`."""
        return "+" if self.model.strand > 0 else "-"


@dataclass(slots=True)
class DemoGenome:
    """All chromosomes of one organism: codes uint8, genes in order, planted features by chromosome."""

    organism: str
    chromosomes: dict[str, np.ndarray]
    genes: list[DemoGene]
    features: dict[str, list[Feature]]
    slots: list[Slot]


def _shift(slot: Slot, offset: int) -> tuple[GeneModel | None, list[Feature]]:
    features = [replace(f, start=f.start + offset, end=f.end + offset) for f in slot.features]
    if slot.gene is None:
        return None, features
    exons = tuple((start + offset, end + offset) for start, end in slot.gene.exons)
    return replace(slot.gene, exons=exons), features


def assemble(organism: str, chromosomes: dict[str, list[Slot]]) -> DemoGenome:
    """Join each chromosome's slots; genes are numbered along the genome."""
    genome = DemoGenome(organism, {}, [], {}, [])
    for chrom, slots in chromosomes.items():
        genome.chromosomes[chrom] = np.concatenate([slot.codes for slot in slots])
        genome.features[chrom] = []
        genome.slots += slots
        offset = 0
        for slot in slots:
            model, features = _shift(slot, offset)
            genome.features[chrom] += features
            if model is not None:
                gene_id = f"{organism.upper()}G{len(genome.genes) + 1:05d}"
                genome.genes.append(DemoGene(gene_id, chrom, model))
            offset += len(slot.codes)
    return genome


def _fill(slots: list[Slot], size: int, rng: np.random.Generator, families: list[np.ndarray]) -> list[Slot]:
    """As many of the slots as fit into `size`, and a desert for the rest."""
    kept, total = [], 0
    for slot in slots:
        if total + len(slot.codes) > size:
            break
        kept.append(slot)
        total += len(slot.codes)
    return [*kept, desert(rng, size - total, families)]


def new_genome(seed: int, organism: str, lengths: dict[str, int]) -> DemoGenome:
    """A genome of new slots; the first chromosome has one run of N."""
    families = repeat_families(generator(seed, "simulate", "repeats"))
    chromosomes = {}
    for number, (chrom, size) in enumerate(lengths.items()):
        rng = generator(seed, "simulate", organism, chrom)
        slots = [gene_slot(rng, families)]
        if number == 0:
            slots.append(desert(rng, UNKNOWN_RUN + 2_000, families, UNKNOWN_RUN))
        while sum(len(slot.codes) for slot in slots) < size:
            empty = rng.random() < DESERT_SHARE
            slots.append(
                desert(rng, int(rng.integers(3000, 6000)), families) if empty else gene_slot(rng, families)
            )
        chromosomes[chrom] = _fill(slots, size, rng, families)
    return assemble(organism, chromosomes)


def protected(slot: Slot) -> np.ndarray:
    """bool [S]: bases that evolution keeps (planted sites, promoter spacing, exon ends)."""
    mask = np.zeros(len(slot.codes), dtype=bool)
    for feature in slot.features:
        if feature.kind not in ("repeat", "promoter", "enhancer", "boundary"):
            mask[max(feature.start - SITE_FLANK, 0) : feature.end + SITE_FLANK] = True
    if slot.gene is not None:
        for edge in (edge for exon in slot.gene.exons for edge in exon):
            mask[edge - SITE_FLANK : edge + SITE_FLANK] = True
        tss = slot.gene.tss
        mask[tss - PROMOTER_FLANK : tss + PROMOTER_FLANK] = True
    return mask


def diverge(slot: Slot, rng: np.random.Generator) -> Slot:
    """The slot after substitutions and indels outside protected bases, coordinates carried along."""
    keep_all, codes = protected(slot), slot.codes.copy()
    changed = (rng.random(len(codes)) < SUBSTITUTION) & ~keep_all & (codes < 4)
    codes[changed] = background(rng, int(changed.sum()))
    copies = np.ones(len(codes), dtype=np.int64)  # of each base; more than one: an insertion before the next
    for position in np.flatnonzero((rng.random(len(codes)) < INDEL) & ~keep_all):
        size = int(rng.integers(1, 9))
        if rng.random() < 0.5:
            copies[position : position + size] *= keep_all[position : position + size]
        else:
            copies[position] = 1 + size
    new_start = np.concatenate([[0], np.cumsum(copies)])
    grown = np.repeat(codes, copies)
    inserted = np.ones(len(grown), dtype=bool)
    inserted[new_start[:-1][copies > 0]] = False
    grown[inserted] = background(rng, int(inserted.sum()))
    return _carried(slot, grown, new_start)


def _carried(slot: Slot, codes: np.ndarray, new_start: np.ndarray) -> Slot:
    def interval(start: int, end: int) -> tuple[int, int]:
        return int(new_start[start]), int(new_start[end])

    features = []
    for feature in slot.features:
        start, end = interval(max(feature.start, 0), min(feature.end, len(slot.codes)))
        features.append(replace(feature, start=start, end=end))
    gene = slot.gene
    if gene is not None:
        gene = replace(gene, exons=tuple(interval(*exon) for exon in gene.exons))
    return Slot(codes, gene, features)


def diverged_genome(seed: int, organism: str, lengths: dict[str, int], source: DemoGenome) -> DemoGenome:
    """A second species: blocks of the source's slots, reordered, turned and diverged, among slots of its
    own.
    """
    families = repeat_families(generator(seed, "simulate", "repeats"))
    rng = generator(seed, "simulate", organism, "order")
    blocks = [source.slots[i : i + BLOCK] for i in range(0, len(source.slots), BLOCK)]
    order = rng.permutation(len(blocks)).tolist()
    chromosomes = {}
    for chrom, size in lengths.items():
        slots: list[Slot] = []
        while sum(len(slot.codes) for slot in slots) < size:
            if order and rng.random() < ORTHOLOGOUS:
                block = [diverge(slot, rng) for slot in blocks[order.pop()]]
                slots += block if rng.random() < 0.5 else [slot.flipped() for slot in block[::-1]]
            else:
                slots += [gene_slot(rng, families) for _ in range(BLOCK)]
        chromosomes[chrom] = _fill(slots, size, rng, families)
    return assemble(organism, chromosomes)
