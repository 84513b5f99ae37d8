"""A slot: a stretch of genome with at most one gene, its promoter, enhancers, CTCF pair and repeats.

A slot is designed with its gene on the + strand, then flipped half of the time. Chromosomes are rows of
slots, and
the second species is made of diverged copies of the first one's slots, so this is where sequence is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from megabase.sequence import reverse_complement
from megabase.simulate.motifs import (
    ACCEPTOR,
    ACCEPTOR_CORE,
    DONOR,
    DONOR_CORE,
    NUMBER,
    SCANNED,
    Motif,
    oriented,
)

BASE_SHARES = (0.28, 0.22, 0.22, 0.28)  # A, C, G, T of the background
PROGRAMS = ("hepatic", "neural", "lymphoid", "shared", "ubiquitous")
PROGRAM_SHARES = (0.28, 0.28, 0.28, 0.08, 0.08)
# Motifs of an element by program, in order; the first two of a pair lie 10 to 30 bp apart most of the time.
PROGRAM_MOTIFS = {
    "hepatic": ("HEPA1", "HEPA2"),
    "neural": ("NEUR1", "NEUR2"),
    "lymphoid": ("LYMP1", "SHAR1"),
    "shared": ("SHAR1", "CORE1"),
    "ubiquitous": ("CORE1", "CORE1"),
}
PLACES = (0.65, 0.28, 0.07)  # shares of planted sites with 0, 1 and 2 mismatches
DESERT_SHARE, BOUNDARY_SHARE, REPRESSED_SHARE, ALTERNATIVE_SHARE = 0.07, 0.5, 0.12, 0.4


@dataclass(frozen=True, slots=True)
class Feature:
    """A planted site or region [start, end) of a slot or chromosome; strand 1 or -1."""

    start: int
    end: int
    kind: str  # name of the motif, or promoter, enhancer, boundary, repeat, unknown
    strand: int = 1


@dataclass(frozen=True, slots=True)
class GeneModel:
    """Exons [start, end) in rising order; alternative: exons (by number in transcription) drawn with weak
    sites.
    """

    exons: tuple[tuple[int, int], ...]
    strand: int
    alternative: tuple[int, ...] = ()

    @property
    def start(self) -> int:
        """First base of the gene."""
        return self.exons[0][0]

    @property
    def end(self) -> int:
        """End of the gene."""
        return self.exons[-1][1]

    @property
    def tss(self) -> int:
        """First transcribed base."""
        return self.start if self.strand > 0 else self.end - 1


@dataclass(slots=True)
class Slot:
    """codes uint8 [S], its gene or None, and what was planted."""

    codes: np.ndarray
    gene: GeneModel | None = None
    features: list[Feature] = field(default_factory=list)

    def flipped(self) -> Slot:
        """The slot as it reads on the other strand."""
        size = len(self.codes)
        features = [
            replace(f, start=size - f.end, end=size - f.start, strand=-f.strand) for f in self.features[::-1]
        ]
        gene = self.gene
        if gene is not None:
            exons = tuple((size - end, size - start) for start, end in gene.exons[::-1])
            gene = replace(gene, exons=exons, strand=-gene.strand)
        return Slot(reverse_complement(self.codes), gene, features)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """codes uint8 [size], independent bases."""
    return np.searchsorted(np.cumsum(BASE_SHARES)[:3], rng.random(size), side="right").astype(np.uint8)


def repeat_families(rng: np.random.Generator) -> list[np.ndarray]:
    """Consensus sequences of the repeat families that all chromosomes share."""
    return [background(rng, size) for size in (320, 280, 450, 150)]


def plant(
    slot: Slot,
    rng: np.random.Generator,
    motif: Motif,
    start: int,
    strand: int = 1,
    places: tuple[float, ...] = PLACES,
) -> None:
    """Write one site of the motif at `start`, unless a planted motif is already there."""
    end = start + len(motif)
    taken = any(f.start < end and start < f.end and f.kind in NUMBER for f in slot.features)
    if taken or start < 0 or end > len(slot.codes):
        return
    mismatches = int(rng.choice(len(places), p=places))
    slot.codes[start:end] = oriented(motif.sample(rng, mismatches), strand)
    slot.features.append(Feature(start, end, motif.name, strand))


def _plant_named(slot: Slot, rng: np.random.Generator, name: str, start: int, strand: int = 0) -> None:
    chosen = strand or int(rng.choice((-1, 1)))
    plant(slot, rng, SCANNED[NUMBER[name]], start, chosen)


def plant_element(slot: Slot, rng: np.random.Generator, center: int, kind: str) -> None:
    """Write the motifs of one regulatory element around `center` and record the element."""
    program = str(rng.choice(PROGRAMS, p=PROGRAM_SHARES))
    first, second = PROGRAM_MOTIFS[program]
    _plant_named(slot, rng, first, center - 15)
    if rng.random() < 0.75:
        close = rng.random() < 0.7  # the spacing that earns the bonus, or out of its range
        _plant_named(slot, rng, second, center + int(rng.integers(8, 18) if close else rng.integers(50, 80)))
    if rng.random() < 0.3:
        _plant_named(slot, rng, "CORE1", center - int(rng.integers(45, 75)))
    if rng.random() < REPRESSED_SHARE:
        _plant_named(slot, rng, "REPR1", center - int(rng.integers(80, 100)))
    slot.features.append(Feature(center - 150, center + 150, kind))


def _plant_promoter(slot: Slot, rng: np.random.Generator, tss: int) -> None:
    inr, tata = SCANNED[NUMBER["INR"]], SCANNED[NUMBER["TATA"]]
    plant(slot, rng, inr, tss - inr.anchor, places=(0.78, 0.22))
    if rng.random() < 0.55:
        plant(slot, rng, tata, tss - 30 - tata.anchor, places=(0.75, 0.25))
    else:
        for offset in (60, 95):
            _plant_named(slot, rng, "CORE1", tss - offset - int(rng.integers(0, 12)))
    plant_element(slot, rng, tss - int(rng.integers(150, 220)), "promoter")


def _exons(rng: np.random.Generator, tss: int) -> list[tuple[int, int]]:
    count = int(rng.choice((3, 4, 5), p=(0.5, 0.35, 0.15)))
    exons, cursor = [], tss
    for number in range(count):
        size = int(rng.integers(160, 260) if number == count - 1 else rng.integers(90, 150))
        exons.append((cursor, cursor + size))
        cursor += size + int(rng.integers(140, 240))
    return exons


def _plant_splicing(slot: Slot, rng: np.random.Generator, exons: list[tuple[int, int]]) -> tuple[int, ...]:
    alternative = []
    for number, (start, end) in enumerate(exons):
        inner = 0 < number < len(exons) - 1
        weak = inner and rng.random() < ALTERNATIVE_SHARE
        where = int(rng.integers(0, 2)) if weak else -1  # which of the two sites has a mismatch
        if number:
            _plant_site(slot, rng, ACCEPTOR, start, ACCEPTOR_CORE, where == 0)
        if number < len(exons) - 1:
            _plant_site(slot, rng, DONOR, end - 1, DONOR_CORE, where == 1)
        if rng.random() < (0.5 if weak else 0.7):
            _plant_named(slot, rng, "ESE1", start + int(rng.integers(20, end - start - 40)), 1)
        if inner and rng.random() < (0.7 if weak else 0.15):
            name = str(rng.choice(("NSE1", "LSE1")))
            _plant_named(slot, rng, name, end + int(rng.integers(15, 60)), 1)
        if weak:
            alternative.append(number)
    return tuple(alternative)


def _plant_site(
    slot: Slot, rng: np.random.Generator, motif: Motif, anchor: int, fixed: tuple[int, ...], weak: bool
) -> None:
    start = anchor - motif.anchor
    slot.codes[start : start + len(motif)] = motif.sample(rng, int(weak), fixed)
    slot.features.append(Feature(start, start + len(motif), motif.name))


def _plant_boundary(slot: Slot, rng: np.random.Generator, start: int) -> None:
    """Two divergent CTCF sites: with the next boundary's they make convergent pairs."""
    _plant_named(slot, rng, "CTCF", start, -1)
    _plant_named(slot, rng, "CTCF", start + 40, 1)
    slot.features.append(Feature(start - 10, start + 65, "boundary"))


def insert_repeats(
    slot: Slot, rng: np.random.Generator, families: list[np.ndarray], low: int, high: int
) -> None:
    """Overwrite [low, high) here and there with copies of repeat families, a fifth of their bases changed."""
    cursor = low + int(rng.integers(0, 300))
    while True:
        copy = families[int(rng.integers(len(families)))].copy()
        if cursor + len(copy) > high:
            return
        changed = rng.random(len(copy)) < 0.2
        copy[changed] = background(rng, int(changed.sum()))
        strand = int(rng.choice((-1, 1)))
        slot.codes[cursor : cursor + len(copy)] = oriented(copy, strand)
        slot.features.append(Feature(cursor, cursor + len(copy), "repeat", strand))
        cursor += len(copy) + int(rng.integers(200, 900))


def desert(rng: np.random.Generator, size: int, families: list[np.ndarray], unknown: int = 0) -> Slot:
    """A slot without a gene; `unknown` bases of N in its middle."""
    slot = Slot(background(rng, size))
    insert_repeats(slot, rng, families, 0, size)
    if unknown:
        start = (size - unknown) // 2
        slot.codes[start : start + unknown] = 4
        slot.features.append(Feature(start, start + unknown, "unknown"))
    return slot


def gene_slot(rng: np.random.Generator, families: list[np.ndarray]) -> Slot:
    """A slot of 3.5 to 5 kb with one gene on a random strand, one to three elements and, half of the time, a
    boundary.
    """
    tss = int(rng.integers(1500, 2000))
    exons = _exons(rng, tss)
    end = exons[-1][1]
    slot = Slot(background(rng, end + int(rng.integers(900, 1500))))
    insert_repeats(slot, rng, families, 150, tss - 1100)
    insert_repeats(slot, rng, families, end + 500, len(slot.codes))
    if rng.random() < BOUNDARY_SHARE:
        _plant_boundary(slot, rng, int(rng.integers(20, 80)))
    _plant_promoter(slot, rng, tss)
    alternative = _plant_splicing(slot, rng, exons)
    plant(slot, rng, SCANNED[NUMBER["PAS1"]], end - 30, 1, (1.0,))
    if rng.random() < 0.7:
        plant_element(slot, rng, tss - int(rng.integers(600, 1100)), "enhancer")
    if rng.random() < 0.45:
        plant_element(slot, rng, end + int(rng.integers(200, 500)), "enhancer")
    slot.gene = GeneModel(tuple(exons), 1, alternative)
    return slot if rng.random() < 0.5 else slot.flipped()
