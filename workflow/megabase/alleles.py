"""The bases of an allele's window as pieces of the genome: what is known from elsewhere, and what is new.

A window of S bases is a tuple of pieces, in order, of together S bases. Coordinates are 0-based half-open;
genome positions may lie beyond a chromosome's ends, where every base is unknown. Numpy only; part of the
numerical core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from megabase.sequence import encode, reverse_complement


class Sequences(Protocol):
    """A genome: what `Genome` gives."""

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        """uint8 [end - start], 4 beyond the chromosome."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Genome bases [start, end) of a chromosome, read on the - strand if `reverse`; or literal `bases`.

    bases: codes uint8 as bytes, of no place in the genome; start is 0 and end their number then.
    """

    chrom: str
    start: int
    end: int
    reverse: bool = False
    bases: bytes | None = None

    def __post_init__(self) -> None:
        """ValueError for a piece that ends before it starts."""
        if self.end < self.start:
            raise ValueError(f"piece {self.chrom}:{self.start}-{self.end} ends before it starts")

    @classmethod
    def literal(cls, bases: str | np.ndarray) -> Piece:
        """Bases that are given: letters, or codes uint8 [n]."""
        codes = encode(bases) if isinstance(bases, str) else np.asarray(bases, np.uint8)
        return cls("", 0, len(codes), bases=codes.tobytes())

    def __len__(self) -> int:
        """Number of bases."""
        return self.end - self.start

    def cut(self, first: int, last: int) -> Piece:
        """Bases [first, last) of the piece, counted as it is read."""
        if self.bases is not None:
            return replace(self, end=last - first, bases=self.bases[first:last])
        if self.reverse:
            return replace(self, start=self.end - last, end=self.end - first)
        return replace(self, start=self.start + first, end=self.start + last)

    def codes(self, genome: Sequences) -> np.ndarray:
        """Codes uint8 [len]."""
        if self.bases is not None:
            return np.frombuffer(self.bases, np.uint8)
        codes = genome.codes(self.chrom, self.start, self.end)
        return reverse_complement(codes) if self.reverse else codes


Pieces = tuple[Piece, ...]


def joined(pieces: Iterable[Piece]) -> Pieces:
    """The same bases in as few pieces as their order allows; empty pieces are left out."""
    found: list[Piece] = []
    for piece in pieces:
        if not len(piece):
            continue
        last = found[-1] if found else None
        if last is not None and last.bases is None and piece.bases is None:
            same = (last.chrom, last.reverse) == (piece.chrom, piece.reverse)
            if same and not piece.reverse and last.end == piece.start:
                found[-1] = replace(last, end=piece.end)
                continue
            if same and piece.reverse and last.start == piece.end:
                found[-1] = replace(last, start=piece.start)
                continue
        elif last is not None and last.bases is not None and piece.bases is not None:
            found[-1] = replace(last, end=last.end + piece.end, bases=last.bases + piece.bases)
            continue
        found.append(piece)
    return tuple(found)


def placed(pieces: Sequence[Piece]) -> Iterator[tuple[int, Piece]]:
    """Every piece with the window position of its first base."""
    position = 0
    for piece in pieces:
        yield position, piece
        position += len(piece)


def cut(pieces: Sequence[Piece], first: int, last: int) -> Pieces:
    """Window positions [first, last) of pieces."""
    return joined(
        piece.cut(max(first - at, 0), min(last - at, len(piece)))
        for at, piece in placed(pieces)
        if at < last and at + len(piece) > first
    )


class OtherStrand:
    """A genome turned round: base p of a chromosome lies at -p - 1, complemented."""

    def __init__(self, genome: Sequences) -> None:
        self._genome = genome

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        """uint8 [end - start], 4 beyond the chromosome."""
        return reverse_complement(self._genome.codes(chrom, -end, -start))


def turned(pieces: Pieces) -> Pieces:
    """The reverse complement of a window, as pieces of the `OtherStrand` of its genome."""
    return tuple(
        replace(piece, start=-piece.end, end=-piece.start)
        if piece.bases is None
        else Piece.literal(reverse_complement(np.frombuffer(piece.bases, np.uint8)))
        for piece in reversed(pieces)
    )


def codes_of(pieces: Sequence[Piece], genome: Sequences) -> np.ndarray:
    """Codes uint8 [S] of a window."""
    parts = [piece.codes(genome) for piece in pieces]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def edited(chrom: str, start: int, length: int, edits: Iterable[tuple[int, int, Sequence[Piece]]]) -> Pieces:
    """The window of `length` bases that begins at `start`, with edits (position, bases replaced, by what).

    Positions are the genome's, ascending and apart. The window's left end stays where it is: what follows an
    insertion moves right and falls off the end, a deletion draws in bases from beyond it (AlphaGenome
    Methods, variant scoring). ValueError for an edit that begins before the window or
    before the last one ends.
    """
    parts: list[Piece] = []
    at = start
    for position, replaced, by in edits:
        if position < at:
            raise ValueError(f"edit at {chrom}:{position + 1} begins before {chrom}:{at + 1}")
        parts += [Piece(chrom, at, position), *by]
        at = position + replaced
    have = sum(map(len, parts))
    parts.append(Piece(chrom, at, at + max(length - have, 0)))
    return cut(parts, 0, length)
