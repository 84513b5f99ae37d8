"""Structural variants: the text that names one, its ALT sequence as pieces, and where ALT lies on REF.

A structural variant is a `Variant` whose ALT is no sequence but one of these, complete in itself:

    <DEL:END=n>  <DUP:END=n>  <INV:END=n>   bases position + 1 .. n are deleted, doubled in tandem, inverted
    <HAP:END=n>                             all that a haplotype has in position .. n (`megabase.haplotypes`)
    t[chrom:n[   t]chrom:n]   ]chrom:n]t   [chrom:n[t   breakends as VCF writes them, t with the base at REF
    t.   .t                                 single breakends: what lies beyond is unknown

n is 1-based as in VCF, `position` that of REF: for the first three the base before the event.
`megabase.structural_records` makes these texts from the many ways in which files write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from megabase.alleles import Piece, Pieces, cut, edited
from megabase.spec import UNKNOWN_BASE

if TYPE_CHECKING:
    from megabase.alignment import Alignment

MARKS = frozenset("<>[].*")  # characters of an ALT that is no sequence
_SPAN = re.compile(r"<(DEL|DUP|INV|HAP):END=(\d+)>")
_JOINED = re.compile(r"([A-Z]*)([\[\]])(.+):(\d+)\2([A-Z]*)")
_SINGLE = re.compile(r"([A-Z]+)\.|\.([A-Z]+)")
WORDS = {
    "DEL": "deletion",
    "DUP": "tandem duplication",
    "INV": "inversion",
    "BND": "breakend",
    "HAP": "haplotype",
}


class Allele(Protocol):
    """What a variant is here."""

    chrom: str
    position: int
    ref: str
    alt: str


@dataclass(frozen=True, slots=True)
class Event:
    """DEL, DUP or INV of the bases [start, end) of the variant's chromosome, 0-based; HAP: a region."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Breakend:
    """A join at the base `position`: `bases` stand for REF, with inserted ones beside it.

    before: the mate comes before `bases`, else after. mate: chromosome and 0-based base next to the join, or
    None where unknown. reverse: the mate is read on the - strand.
    """

    position: int
    bases: str
    before: bool
    mate: tuple[str, int] | None
    reverse: bool

    @property
    def kind(self) -> str:
        """`BND`, as in VCF."""
        return "BND"

    @property
    def rightwards(self) -> bool:
        """Whether the mate's bases lie to the right of its place."""
        return self.before == self.reverse

    @property
    def alt(self) -> str:
        """The text of the breakend."""
        if self.mate is None:
            return f".{self.bases}" if self.before else f"{self.bases}."
        bracket = "[" if self.rightwards else "]"
        place = f"{bracket}{self.mate[0]}:{self.mate[1] + 1}{bracket}"
        return place + self.bases if self.before else self.bases + place


def parse_structural(position: int, alt: str) -> Event | Breakend | None:
    """The event that the ALT of a variant at the 0-based `position` names; None if it is not one."""
    if match := _SPAN.fullmatch(alt):
        return Event(match[1], position + (match[1] != "HAP"), int(match[2]))
    if match := _SINGLE.fullmatch(alt):
        return Breakend(position, match[1] or match[2], match[1] is None, None, False)
    match = _JOINED.fullmatch(alt)
    if match is None or bool(match[1]) == bool(match[5]):
        return None
    before = not match[1]
    mate = (match[3], int(match[4]) - 1)
    return Breakend(position, match[1] or match[5], before, mate, (match[2] == "[") == before)


def is_structural(alt: str) -> bool:
    """Whether an ALT is no sequence."""
    return not MARKS.isdisjoint(alt)


def structural_pieces(chrom: str, start: int, length: int, found: Event | Breakend) -> Pieces:
    """Pieces of the ALT allele of a window of `length` bases that begins at the genome's `start`.

    The window's left end stays; at a breakend whose mate comes before, what follows it stays instead.
    """
    if isinstance(found, Breakend):
        return _across(chrom, start, length, found)
    if found.kind == "HAP":
        raise ValueError(f"{chrom}:{found.start + 1}-{found.end}: a haplotype needs the alleles that it has")
    inside = Piece(chrom, found.start, found.end, reverse=found.kind == "INV")
    size = len(inside)
    if found.kind == "DUP":
        return edited(chrom, start, length, [(found.end, 0, [inside])])
    return edited(chrom, start, length, [(found.start, size, [inside] if found.kind == "INV" else [])])


def _across(chrom: str, start: int, length: int, found: Breakend) -> Pieces:
    bases = Piece.literal(found.bases)
    if not found.before:
        kept = Piece(chrom, start, found.position)
        return cut((kept, bases, _mate(found, length)), 0, length)
    kept = Piece(chrom, found.position + 1, max(start + length, found.position + 1))
    parts = (_mate(found, length), bases, kept)
    return cut(parts, sum(map(len, parts)) - length, sum(map(len, parts)))


def _mate(found: Breakend, n: int) -> Piece:
    """The `n` bases of the mate next to the join."""
    if found.mate is None:
        return Piece.literal(np.full(n, UNKNOWN_BASE, np.uint8))
    chrom, at = found.mate
    first = at if found.rightwards else at + 1 - n
    return Piece(chrom, first, first + n, found.reverse)


def align_edits(
    start: int, length: int, edits: Iterable[tuple[int, int, int]], *, first: int = 0, shift: int = 0
) -> Alignment:
    """Alignment of a window with edits (position, bases replaced, bases put there), ascending and apart.

    Each edit is laid as that of one variant is (`megabase.alignment.align_alternate`). first: the window
    position from which on edits are given; shift: how far it lies further right on ALT.
    """
    from megabase.alignment import Alignment, Run

    runs, maxima = [], []
    at = first
    for position, replaced, put in edits:
        offset, change = position - start, put - replaced
        if change > 0:
            anchor = offset + replaced - 1
            runs.append(Run(at, anchor, at + shift))
            maxima.append((anchor, anchor + shift, anchor + shift + change + 1))
            at = anchor + 1
        elif change < 0:
            runs.append(Run(at, offset + put, at + shift))
            at = offset + replaced
        shift += change
    runs.append(Run(at, length, at + shift))
    return Alignment(*_within(runs, maxima, length))


def reference_span(variant: Allele) -> tuple[int, int]:
    """Genome bases [first, last) of a variant: those of REF, up to the end of an event."""
    found = parse_structural(variant.position, variant.alt) if is_structural(variant.alt) else None
    last = found.end if isinstance(found, Event) else variant.position + len(variant.ref)
    return variant.position, last


def allele_alignment(variant: Allele, start: int, length: int) -> Alignment:
    """Where the REF positions of a window lie on the ALT allele of `megabase.variants.allele_pieces`."""
    if not is_structural(variant.alt):
        return align_edits(start, length, [(variant.position, len(variant.ref), len(variant.alt))])
    if (found := parse_structural(variant.position, variant.alt)) is None:
        raise ValueError(f"{variant.chrom}:{variant.position + 1}: ALT {variant.alt[:60]} is no event")
    return structural_alignment(variant.chrom, start, length, found)


def structural_alignment(chrom: str, start: int, length: int, found: Event | Breakend) -> Alignment:
    """Where REF's positions of a window lie on the ALT allele of `structural_pieces`.

    Deleted bases have no place, the second copy of a duplication is laid as inserted bases are, inverted ones
    are mirrored. Of what lies beyond a breakend, only bases of the same window have a place: their own.
    """
    from megabase.alignment import Alignment, Run

    if isinstance(found, Event) and found.kind != "INV":
        size = found.end - found.start
        edit = (found.start, size, 0) if found.kind == "DEL" else (found.end, 0, size)
        return align_edits(start, length, [edit])
    if isinstance(found, Event):
        a, b = found.start - start, found.end - start
        return Alignment(*_within([Run(0, a, 0), Run(a, b, b - 1, -1), Run(b, length, b)], [], length))
    offset, more = found.position - start, len(found.bases) - 1
    if found.before:
        kept, anchor = Run(offset + 1, length, offset + 1), (offset, offset - more, offset + 1)
        beyond, at = (0, offset), offset - more
    else:
        kept, anchor = Run(0, offset, 0), (offset, offset, offset + 1 + more)
        beyond, at = (offset + 1, length), offset + 1 + more
    return Alignment(
        *_within([kept, *_own_places(chrom, start, length, found, beyond, at)], [anchor], length)
    )


def _own_places(
    chrom: str, start: int, length: int, found: Breakend, beyond: tuple[int, int], join: int
) -> list[Any]:
    """Runs of REF positions `beyond` the breakend that the mate brings back; `join`: its edge on ALT."""
    from megabase.alignment import Run

    if found.mate is None or found.mate[0] != chrom:
        return []
    piece = _mate(found, length)
    at = join - length if found.before else join
    first, last = max(piece.start - start, beyond[0]), min(piece.end - start, beyond[1])
    if first >= last:
        return []
    if found.reverse:
        return [Run(first, last, at + piece.end - start - 1 - first, -1)]
    return [Run(first, last, at + first - (piece.start - start))]


def _within(
    runs: Sequence[Any], maxima: Sequence[tuple[int, int, int]], length: int
) -> tuple[tuple[Any, ...], tuple[tuple[int, int, int], ...]]:
    """Runs and maxima cut to the positions that lie in both windows."""
    from megabase.alignment import Run

    found = []
    for run in runs:
        first, last = max(run.first, 0), min(run.last, length)
        if run.step > 0:
            first, last = max(first, run.first - run.alt), min(last, run.first + length - run.alt)
        else:
            first, last = max(first, run.first + run.alt - length + 1), min(last, run.first + run.alt + 1)
        # an empty run stays: an alignment of one run without maxima would be taken for the identity
        found.append(Run(first, max(first, last), run.at(first), run.step))
    clipped = ((p, max(a, 0), min(b, length)) for p, a, b in maxima if 0 <= p < length)
    return tuple(found), tuple(m for m in clipped if m[1] < m[2])
