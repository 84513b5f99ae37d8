"""Where the positions of two alleles of one window line up.

Torch only; part of the numerical core. Positions are 0-based within the window, spans half-open. An allele
begins `offset` bases into the window, indels are left-aligned. Source: AlphaGenome Methods (variant scoring).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def window_start(position: int, ref_length: int, window: int) -> int:
    """First base (0-based, may be negative) of the window centred on a variant's reference interval."""
    return position + ref_length // 2 - window // 2


def align_alternate(alt: Tensor, offset: int, ref_length: int, alt_length: int) -> Tensor:
    """Predictions on ALT [S, ...] put on the positions of REF, same shape.

    Insertion: the last shared base takes the maximum over itself and the inserted bases, what follows moves
    left and the tail becomes zero. Deletion: zeros at the deleted bases, what follows moves right and the
    last values fall off. `offset` is the variant's first base within the window.
    """
    change = alt_length - ref_length
    if change == 0:
        return alt
    if change > 0:
        anchor = offset + ref_length - 1
        inserted = alt[anchor : anchor + change + 1].amax(0, keepdim=True)
        tail = torch.zeros_like(alt[:change])
        return torch.cat([alt[:anchor], inserted, alt[anchor + change + 1 :], tail])[: len(alt)]
    kept = offset + alt_length
    gap = torch.zeros_like(alt[: min(-change, len(alt) - kept)])
    return torch.cat([alt[:kept], gap, alt[kept:]])[: len(alt)]


def alternate_positions(
    positions: Tensor, offset: int, ref_length: int, alt_length: int, length: int
) -> Tensor:
    """Where positions of the REF sequence lie in the ALT sequence; int64, -1 stays -1.

    A deleted base is read at the base before the deletion; a base pushed out of the window becomes -1.
    """
    shared = offset + min(ref_length, alt_length)
    moved = torch.where(positions < offset + ref_length, torch.full_like(positions, shared - 1),
                        positions + alt_length - ref_length)  # fmt: skip
    moved = torch.where(positions < shared, positions, moved)
    return torch.where((positions < 0) | (moved >= length), torch.full_like(moved, -1), moved)


def alternate_sites(positions: Tensor, alt: Tensor, offset: int, ref_length: int, alt_length: int) -> Tensor:
    """Where splice sites int64 [4, K] of REF are read on ALT; -1 where ALT's window has no such place.

    The base before an insertion stands for the inserted bases too: it is read at the likeliest of them. alt
    [S, 4 or 5]: class probabilities of the ALT sequence.
    """
    alt = alt[:, :4].float().cpu()
    moved = alternate_positions(positions, offset, ref_length, alt_length, len(alt))
    inserted = alt_length - ref_length
    if inserted <= 0:
        return moved
    anchor = offset + ref_length - 1
    best = anchor + alt[anchor : anchor + inserted + 1].argmax(0)
    return torch.where(positions == anchor, best.unsqueeze(-1), moved)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which positions of ALT's window stand for the positions of REF's.

    runs: (first, last, alt): REF positions [first, last) are ALT positions alt, alt + 1, ... ; with `step` -1
    alt, alt - 1, ... maxima: (position, first, last): a REF position takes the maximum over ALT positions
    [first, last). No REF position is in two of them; one that is in none has no base on ALT: its value is 0.
    """

    runs: tuple[Run, ...]
    maxima: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of_alleles(cls, offset: int, ref_length: int, alt_length: int, length: int) -> Alignment:
        """That of `align_alternate`, for windows of `length` bases."""
        change = alt_length - ref_length
        if change == 0:
            return cls((Run(0, length, 0),))
        if change > 0:
            anchor = offset + ref_length - 1
            after = Run(anchor + 1, max(length - change, anchor + 1), anchor + 1 + change)
            return cls((Run(0, anchor, 0), after), ((anchor, anchor, min(anchor + change + 1, length)),))
        kept = offset + alt_length
        return cls((Run(0, kept, 0), Run(min(kept - change, length), length, kept)))

    @property
    def is_identity(self) -> bool:
        """Whether every position of REF is the same position of ALT."""
        return len(self.runs) == 1 and not self.maxima and self.runs[0].alt == self.runs[0].first == 0

    def reads(self, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Spans of ALT that `align` reads for spans of REF; sorted, apart."""
        found = []
        for first, last in spans:
            for run in self.runs:
                a, b = max(first, run.first), min(last, run.last)
                if a < b:
                    ends = (run.at(a), run.at(b - 1))
                    found.append((min(ends), max(ends) + 1))
            found += [(a, b) for position, a, b in self.maxima if first <= position < last]
            if (before := self._before(first)) is not None:  # where `sites` reads a base that ALT lacks
                found.append((before, before + 1))
        return merged(found)

    def _before(self, position: int) -> int | None:
        """ALT position of the base before those that ALT lacks at a REF position; None if it lacks none.

        ALT lacks them where what precedes and what follows them on REF are neighbours on ALT.
        """
        places = [(r.first, r.last, r.alt, r.at(r.last - 1)) for r in self.runs if r.step > 0]
        places = sorted(places + [(at, at + 1, a, b - 1) for at, a, b in self.maxima])
        earlier = [place for place in places if place[0] <= position and place[0] < place[1]]
        if not earlier or position < earlier[-1][1]:
            return None
        _, end, _, last = earlier[-1]
        following = next((alt for first, _, alt, _ in places if first > position and first >= end), None)
        return last if following == last + 1 else None

    def sources(self, positions: Tensor) -> Tensor:
        """ALT positions of REF positions int64 of any shape by the runs alone, -1 where they have none."""
        source = torch.full_like(positions, -1)
        for run in self.runs:
            inside = (positions >= run.first) & (positions < run.last)
            source = torch.where(inside, run.alt + run.step * (positions - run.first), source)
        return source

    def mirrored(self, positions: Tensor) -> Tensor:
        """bool, as positions: which REF positions lie on the other strand of ALT."""
        inside = torch.zeros_like(positions, dtype=torch.bool)
        for run in self.runs:
            if run.step < 0:
                inside |= (positions >= run.first) & (positions < run.last)
        return inside

    def align(
        self, positions: Tensor, read: Callable[[Tensor], Tensor], partners: Tensor | None = None
    ) -> Tensor:
        """ALT values [n, ...] of REF positions int64 [n]; read: [m] of ALT -> [m, ...].

        partners: int64 [P], the channel of the other strand for each channel of values [n, P]; given, it is
        read where ALT has the bases on that strand.
        """
        if self.is_identity:
            return read(positions)
        source = self.sources(positions)
        known = source >= 0
        values = read(source[known])
        if partners is not None and bool((turned := self.mirrored(positions)[known]).any()):
            turned, other = turned.to(values.device), partners.to(values.device)
            values = torch.where(turned.unsqueeze(-1), values[:, other], values)
        found = values.new_zeros(len(positions), *values.shape[1:])
        found[known.to(values.device)] = values
        for position, first, last in self.maxima:
            at = torch.nonzero(positions == position)[:, 0]
            if len(at):
                found[at.to(values.device)] = read(torch.arange(first, last)).amax(0)
        return found

    def sites(self, positions: Tensor, read: Callable[[int, int], Tensor]) -> Tensor:
        """Where splice sites int64 [4, K] of REF are read on ALT, -1 where ALT's window has no such place.

        A deleted base is read at the base before it; the base before an insertion stands for the inserted
        bases too and is read at the likeliest of them. Sites on the other strand of ALT are nowhere. read:
        ALT span -> class probabilities [n, 4 or more].
        """
        found = torch.where(self.mirrored(positions), -1, self.sources(positions))
        for place in positions[(found < 0) & (positions >= 0)].unique().tolist():
            if (before := self._before(place)) is not None:
                found[positions == place] = before
        for position, first, last in self.maxima:
            at = positions == position
            if bool(at.any()):
                best = first + read(first, last)[:, :4].float().cpu().argmax(0)
                found = torch.where(at, best.unsqueeze(-1), found)
        return found


@dataclass(frozen=True, slots=True)
class Run:
    """REF positions [first, last) and where the first of them lies on ALT; step -1 for an inversion."""

    first: int
    last: int
    alt: int
    step: int = 1

    def at(self, position: int) -> int:
        """ALT position of a REF position of the run."""
        return self.alt + self.step * (position - self.first)


def merged(spans: Iterable[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """Sorted spans of the same positions; spans at most `gap` apart become one, empty ones none."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if first >= last:
            continue
        if found and first <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
