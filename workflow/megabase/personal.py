"""A person's chromosomes: their sequence and coordinates, and a variant's alleles on its haplotype.

A personal chromosome is the genome's with the alleles of one haplotype and phase set; `chr1@1` is one of
haplotype 1. Its positions are translated from and to the genome's. Numpy only. Positions are 0-based.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from megabase.alleles import Piece, Pieces, codes_of, cut, joined
from megabase.haplotypes import Edit, is_deletion, is_whole
from megabase.sequence import decode
from megabase.structural import align_edits

if TYPE_CHECKING:
    import polars as pl

    from megabase.alignment import Alignment
    from megabase.genome import Genome
    from megabase.variants import Variant


class PersonalChromosome:
    """One chromosome with edits, which are apart and sorted."""

    def __init__(self, chrom: str, edits: Sequence[Edit]) -> None:
        self.chrom, self.edits = chrom, list(edits)
        starts, self._ends = (np.array([getattr(e, k) for e in edits], np.int64) for k in ("start", "end"))
        sizes = np.array([len(e.bases) for e in edits], np.int64)
        shifts = np.concatenate([[0], np.cumsum(sizes - (self._ends - starts))])
        self._starts, self._sizes, self._shifts = starts, sizes, shifts  # shifts[i]: before edit i
        self._first = starts + shifts[:-1]
        self._last = self._first + sizes
        self.known = {edit: i for i, edit in enumerate(edits)}

    def start_of(self, edit: Edit) -> int:
        """Personal position of the first base that an edit replaces, or put there if it was made."""
        at = self.known.get(edit)
        return int(self.places(edit.start) if at is None else self._first[at])

    def places(self, positions: np.ndarray | int) -> np.ndarray:
        """Personal positions of bases of the genome; a lost base is the next one that is there."""
        return self._translated(positions, 0)

    def ends(self, positions: np.ndarray | int) -> np.ndarray:
        """Personal ends of stretches that end (exclusive) at positions of the genome."""
        return self._translated(np.asarray(positions) - 1, 1) + 1

    def _translated(self, positions: np.ndarray | int, back: int) -> np.ndarray:
        g = np.asarray(positions, np.int64)
        i = np.searchsorted(self._ends, g, side="right")
        moved = g + self._shifts[i]
        if not len(self.edits):
            return moved
        k = np.minimum(i, len(self.edits) - 1)
        inside = (i < len(self.edits)) & (self._starts[k] <= g)
        return np.where(
            inside, self._first[k] + np.minimum(g - self._starts[k], self._sizes[k] - back), moved
        )

    def origins(self, places: np.ndarray | int) -> np.ndarray:
        """Genome positions of personal bases; an inserted one is the base before it."""
        p = np.asarray(places, np.int64)
        i = np.searchsorted(self._last, p, side="right")
        moved = p - self._shifts[i]
        if not len(self.edits):
            return moved
        k = np.minimum(i, len(self.edits) - 1)
        inside = (i < len(self.edits)) & (self._first[k] <= p)
        within = np.minimum(p - self._first[k], self._ends[k] - self._starts[k] - 1)
        return np.where(inside, self._starts[k] + within, moved)

    def pieces(self, start: int, end: int) -> Pieces:
        """Personal bases [start, end) as pieces of the genome and literal ones."""
        parts: list[Piece] = []
        i, at = int(np.searchsorted(self._last, start, side="right")), start
        while i < len(self.edits) and (first := int(self._first[i])) < end:
            parts.append(
                Piece(self.chrom, min(at, first) - int(self._shifts[i]), first - int(self._shifts[i]))
            )
            at = max(at, first)
            own = Piece.literal(self.edits[i].bases).cut(at - first, min(end - first, int(self._sizes[i])))
            parts.append(own)
            at, i = at + len(own), i + 1
        parts.append(Piece(self.chrom, at - int(self._shifts[i]), end - int(self._shifts[i])))
        return joined(parts)

    def align(self, start: int, length: int, place: int) -> Alignment:
        """Where genome bases [start, start + length) lie in the personal window that begins at `place`."""
        i = int(np.searchsorted(self._ends, start, side="right"))
        upto = int(np.searchsorted(self._starts, start + length))
        edits = [(e.start, e.end - e.start, len(e.bases)) for e in self.edits[i:upto]]
        first = min(edits[0][0] - start, 0) if edits else 0
        return align_edits(start, length, edits, first=first, shift=start + int(self._shifts[i]) - place)


@dataclass(frozen=True, slots=True)
class Placed:
    """A variant where the engine scores it: `position` is in the coordinates of its REF sequence.

    name, personal: its haplotype. edit, start: what it changes, and where that begins on the haplotype; of a
    region there is none, and `position` is the region's middle.
    """

    chrom: str
    position: int
    ref: str
    alt: str
    variant: Variant
    personal: PersonalChromosome
    name: str
    edit: Edit | None = None
    start: int = 0

    @property
    def variant_id(self) -> str:
        """That of the variant."""
        return self.variant.variant_id

    @property
    def has(self) -> bool:
        """Whether the haplotype has the variant, as one has that is known to be on it."""
        return self.edit in self.personal.known

    def ahead(self, start: int) -> int:
        """First personal base of the window of a region whose REF window begins at `start`."""
        return int(self.personal.places(self.position)) - (self.position - start)


class Haplotypes:
    """The personal chromosomes of one sample, and what the engine asks of a genome and of alleles.

    genome: the reference. edits: table of `megabase.haplotypes.list_haplotypes`.
    """

    def __init__(self, genome: Genome, edits: pl.DataFrame) -> None:
        self.genome, self.organism, self.lengths = genome, genome.organism, genome.lengths
        self._listed = {
            (str(chrom), int(haplotype)): _Listed(table)
            for (chrom, haplotype), table in edits.partition_by("chrom", "haplotype", as_dict=True).items()
        }
        self._personal: dict[str, PersonalChromosome] = {}

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        """Codes uint8 [end - start] of a chromosome of the genome, or of a personal one."""
        personal = self._personal.get(chrom)
        if personal is None:
            return self.genome.codes(chrom, start, end)
        return codes_of(personal.pieces(start, end), self.genome).copy()

    def place(self, variant: Variant) -> Placed:
        """Where a variant of a haplotype is scored."""
        listed = self._listed.get((variant.chrom, variant.haplotype), _NONE)
        phase_set = listed.phase_set(variant)
        name = f"{variant.chrom}@{variant.haplotype}" + (f"/{phase_set}" if phase_set else "")
        if name not in self._personal:
            self._personal[name] = PersonalChromosome(variant.chrom, listed.edits(phase_set))
        personal = self._personal[name]
        if is_whole(variant.alt):
            return Placed(
                variant.chrom, variant.interval.center, variant.ref, "<HAP>", variant, personal, name
            )
        edit, ref, alt = Edit.of(variant.position, variant.ref, variant.alt), variant.ref, variant.alt
        if is_deletion(alt):
            ref, alt = decode(self.genome.codes(variant.chrom, variant.position, edit.end)), ref
        start = personal.start_of(edit)
        position = start - (edit.start - variant.position)
        return Placed(name, position, ref, alt, variant, personal, name, edit, start)

    def allele_pieces(self, genome: Any, placed: Placed, start: int, length: int) -> tuple[Pieces, Pieces]:
        """Pieces of both alleles of a window of `length` bases that begins at `start`: (REF, ALT).

        REF is the haplotype without the variant and ALT with it; of a region REF is the genome, and ALT the
        haplotype, in the window whose middle of the region lies where REF's does.
        """
        if placed.edit is None:
            place = placed.ahead(start)
            return (Piece(placed.chrom, start, start + length),), (Piece(placed.name, place, place + length),)
        whole = (Piece(placed.name, start, start + length),)
        edit, at = placed.edit, placed.start
        size, own = (len(edit.bases), Piece(placed.variant.chrom, edit.start, edit.end)) if placed.has else (
            edit.end - edit.start, Piece.literal(edit.bases))  # fmt: skip
        other = (Piece(placed.name, start, at), own, Piece(placed.name, at + size, at + size + length))
        other = cut(other, 0, length)
        return (other, whole) if placed.has else (whole, other)

    def allele_alignment(self, placed: Placed, start: int, length: int) -> Alignment:
        """Where the REF positions of a window lie on ALT's."""
        if placed.edit is None:
            return placed.personal.align(start, length, placed.ahead(start))
        return align_edits(start, length, [(placed.position, len(placed.ref), len(placed.alt))])


class _Listed:
    """The edits of one chromosome and haplotype, of all phase sets."""

    def __init__(self, table: pl.DataFrame | None) -> None:
        rows = [] if table is None else table.sort("start", "end").iter_rows(named=True)
        self._rows = [(Edit(r["start"], r["end"], r["bases"]), r["phase_set"], r["variant_id"]) for r in rows]
        phased = [(edit.start, phase_set) for edit, phase_set, _ in self._rows if phase_set is not None]
        self._starts = [start for start, _ in phased]
        self._sets = [phase_set for _, phase_set in phased]
        self._own = {name: phase_set for _, phase_set, name in self._rows if phase_set is not None}

    def phase_set(self, variant: Variant) -> str | None:
        """Phase set of a variant: its own, or that of the nearest allele that has one; None if none has."""
        if not self._sets or variant.variant_id in self._own:
            return self._own.get(variant.variant_id)
        middle = variant.interval.center
        after = bisect_left(self._starts, middle)
        near = [i for i in (after - 1, after) if 0 <= i < len(self._starts)]
        return self._sets[min(near, key=lambda i: abs(self._starts[i] - middle))]

    def edits(self, phase_set: str | None) -> list[Edit]:
        """Edits on the haplotype of a phase set: its own, and those that are on it whatever the phase."""
        return [edit for edit, own, _ in self._rows if own in (None, phase_set)]


_NONE = _Listed(None)
