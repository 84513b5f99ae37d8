"""What the encoder gives along a genome, computed once and kept: tokens and skips of blocks.

The encoder is local, so that its activations at a place of the genome are those of every window that holds
the place 513 bases from its ends, on the same grid of 128 bases. Grids are told apart by their phase, the
place of a token's first base modulo 128: after an indel the bases that follow lie on another grid, whose
activations are those of the genome there. Everything is computed in blocks of one length, cut at the same
places of the genome: where two alleles are the same, their activations are the same to the last bit, and
what a score compares is what the variant changes. What is kept is forgotten, the longest unused first, when
it takes more than its share of memory. Torch and numpy only; part of the numerical core.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from megabase.alleles import Piece, Pieces, Sequences, codes_of, cut, placed
from megabase.model.partial import ENCODER_MARGIN, ENCODER_REACH, Encoded, cut_skips, join_skips
from megabase.spec import TOKEN

BLOCK = 64  # tokens: fewer, and the margins cost more; more, and skips are kept that nothing reads
FEWEST = 16  # tokens between two edits that are taken from the genome
PASS_TOKENS = 1024  # most tokens that the encoder sees at once

Span = tuple[int, int]
# Codes uint8 [B, n * 128], tokens less at either end, whether skips are wanted.
Encoder = Callable[[Tensor, int, int, bool], Encoded]


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens [first, last) of a window, which a block of tokens from `start` of the window on holds.

    place: chromosome, phase and number of a block of the genome; None for one that is the window's own:
    at its ends, where the encoder sees zeros, and around what is not the genome's.
    """

    first: int
    last: int
    start: int
    place: tuple[str, int, int] | None = None

    def seen(self, length: int) -> Span:
        """Tokens of a window of `length` tokens that the encoder sees for an own block."""
        return max(self.first - ENCODER_MARGIN, 0), min(self.last + ENCODER_MARGIN, length)


def blocks_of(pieces: Sequence[Piece], length: int) -> list[Block]:
    """Blocks of all tokens of a window of `length` tokens, in order.

    A token comes from a block of the genome if all that the encoder sees for it is one piece of the genome,
    read forwards. The others are the window's own: those that see its ends, where the genome goes on, and
    those between pieces, an even number of them, so that blocks of many variants have one shape. A few tokens
    between two edits are not worth a block of the genome.
    """
    found: list[Block] = []
    at = grid = 0
    for start, piece in placed(pieces):
        if piece.bases is not None or piece.reverse:
            continue
        end, place = start + len(piece), piece.start - start  # the window's first base, were all this piece
        phase, index = place % TOKEN, place // TOKEN
        grid = grid if start else index
        first, last = -(-(start + ENCODER_REACH) // TOKEN), (end - ENCODER_REACH) // TOKEN
        first += start > 0 and (first - at) % 2
        between = start > 0 and end < length * TOKEN
        if last - first < (FEWEST if between else 1):
            continue
        for number in range((first + index) // BLOCK, -(-(last + index) // BLOCK)):
            own = number * BLOCK - index
            block = Block(max(own, first), min(own + BLOCK, last), own, (piece.chrom, phase, number))
            found += [*_own(at, block.first, grid), block]
            at, grid = block.last, index
    return [*found, *_own(at, length, grid)]


def _own(first: int, last: int, grid: int) -> Iterator[Block]:
    """Tokens [first, last): few as one block, or in blocks that end at multiples of `BLOCK` of a grid."""
    while first < last:
        end = min(((first + grid) // BLOCK + 1) * BLOCK - grid, last)
        end = last if last - first <= BLOCK // 2 else end
        yield Block(first, end, first)
        first = end


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens [first, last) of the block that is kept under a key.

    codes uint8 [n]: what the encoder sees for the block, `before` and `after` tokens beyond it; None where
    the key tells the place in the genome.
    """

    key: Hashable
    first: int
    last: int
    skips: bool
    codes: np.ndarray | None = None
    before: int = ENCODER_MARGIN
    after: int = ENCODER_MARGIN


class Encodings:
    """Encoder activations of windows of one genome.

    encode: the encoder. limit: bytes that may be kept; what a request needs is there until it is answered.
    """

    def __init__(self, encode: Encoder, genome: Sequences, limit: int) -> None:
        self._encode, self._genome, self._limit = encode, genome, limit
        self._tokens: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._skips: OrderedDict[Hashable, list[Tensor]] = OrderedDict()
        self._bytes = 0
        self._expected: set[Hashable] = set()  # places whose skips will be asked for
        self.encoded = 0  # tokens that the encoder has seen, margins included

    def expect(self, windows: Sequence[Pieces], length: int, near: Sequence[Sequence[Span]]) -> None:
        """Tell by window the tokens whose skips will be asked for, so that they are made with the tokens.

        What was told before is forgotten.
        """
        parts = (
            part for pieces, soon in zip(windows, near, strict=True) for span in soon
            for part in self._parts(pieces, span, length, [span])
        )  # fmt: skip
        self._expected = {part.key for part in parts if part.codes is None}

    def tokens(self, windows: Sequence[Pieces], length: int, near: Sequence[Sequence[Span]] = ()) -> Tensor:
        """All tokens [B, C, T] of windows of `length` tokens.

        near: by window the tokens whose skips will be asked for soon, which are kept with them.
        """
        near = near or [()] * len(windows)
        parts = [
            list(self._parts(window, (0, length), length, soon))
            for window, soon in zip(windows, near, strict=True)
        ]
        known = self._values(parts)
        return torch.stack([
            torch.cat([known[p.key].tokens[0, :, p.first : p.last] for p in window], -1) for window in parts
        ])  # fmt: skip

    def skips(self, asked: Sequence[tuple[Pieces, int, int]], length: int) -> list[list[Tensor]]:
        """Skips [1, C_i, (last - first) * 128 / 2**i] of (window, first token, last token), one by one."""
        parts = [list(self._parts(w, (a, b), length, [(a, b)])) for w, a, b in asked]
        known = self._values(parts)
        return [
            join_skips([cut_skips(known[p.key].skips, p.first, p.last) for p in window]) for window in parts
        ]

    def _parts(self, pieces: Pieces, span: Span, length: int, near: Sequence[Span]) -> Iterator[Part]:
        """What the tokens of a span are read from."""
        for block in blocks_of(pieces, length):
            first, last = max(span[0], block.first), min(span[1], block.last)
            if first >= last:
                continue
            own = (first - block.start, last - block.start)
            skips = block.place in self._expected or any(a < block.last and b > block.first for a, b in near)
            if block.place:
                yield Part(block.place, *own, skips)
                continue
            low, high = block.seen(length)
            codes = codes_of(cut(pieces, low * TOKEN, high * TOKEN), self._genome)
            before, after = block.first - low, high - block.last
            yield Part((codes.tobytes(), before, after), *own, skips, codes, before, after)

    def _values(self, parts: Iterable[Iterable[Part]]) -> dict[Hashable, Encoded]:
        """What is kept under the keys of parts; what is not there yet is computed, many at once."""
        found: dict[Hashable, Encoded] = {}
        missing: dict[Hashable, Part] = {}
        for part in (p for window in parts for p in window):
            kept = self._known(part.key)
            if kept is not None and (kept.skips or not part.skips):
                found[part.key] = kept
            elif part.key not in missing or part.skips:
                missing[part.key] = part
        for key, value in self._compute(list(missing.values())):
            found[key] = value
            self._keep(key, value)
        return found

    def _compute(self, parts: Sequence[Part]) -> Iterator[tuple[Hashable, Encoded]]:
        """Blocks, those of one shape together."""
        alike: dict[tuple[int, int, int, bool], list[tuple[Part, np.ndarray]]] = defaultdict(list)
        for part in parts:
            codes = self._codes(part)
            alike[len(codes), part.before, part.after, part.skips].append((part, codes))
        for (bases, before, after, with_skips), group in alike.items():
            most = max(1, PASS_TOKENS * TOKEN // bases)
            for start in range(0, len(group), most):
                some = group[start : start + most]
                codes = np.stack([codes for _, codes in some])
                self.encoded += codes.size // TOKEN
                found = self._encode(torch.from_numpy(codes), before, after, with_skips)
                for i, (part, _) in enumerate(some):
                    skips = [x[i : i + 1].clone() for x in found.skips]
                    yield part.key, Encoded(found.tokens[i : i + 1].clone(), skips)

    def _codes(self, part: Part) -> np.ndarray:
        """Codes uint8 [n] that the encoder sees for a part."""
        if part.codes is not None:
            return part.codes
        chrom, phase, number = part.key
        first = (number * BLOCK - part.before) * TOKEN + phase
        last = ((number + 1) * BLOCK + part.after) * TOKEN + phase
        return self._genome.codes(chrom, first, last)

    def _known(self, key: Hashable) -> Encoded | None:
        """What is kept under a key, which is then the latest used."""
        if key not in self._tokens:
            return None
        self._tokens.move_to_end(key)
        if key in self._skips:
            self._skips.move_to_end(key)
        return Encoded(self._tokens[key], self._skips.get(key, []))

    def _keep(self, key: Hashable, value: Encoded) -> None:
        """Keep a block, and forget others: skips first, which take 25 times the memory of their tokens."""
        for kept, given in ((self._tokens, value.tokens), (self._skips, value.skips)):
            if key in kept:
                self._bytes -= _size(kept.pop(key))
            if len(given):
                kept[key] = given
                self._bytes += _size(given)
        while self._bytes > self._limit and self._tokens:
            kept = self._skips or self._tokens
            self._bytes -= _size(kept.popitem(last=False)[1])


def _size(value: Tensor | Sequence[Tensor]) -> int:
    tensors = [value] if isinstance(value, Tensor) else value
    return sum(x.numel() * x.element_size() for x in tensors)
