"""Signal of a window as its blocks hold it: read by the loader's threads, spread out on the device.

Opening a block is decompression alone, which threads do side by side. What is left (joining byte planes,
looking up values, repeating them) is done where the window is wanted: an accelerator does it in no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megabase.shards.encoding import ChunkFormat, OpenChunk, body_parts
from megabase.shards.runs import Runs, cut_chunk, densify, join_runs, missing_runs

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Piece:
    """Bases first..last of a block of `size` bases, which begin at base `start` of the window."""

    start: int
    chunk: OpenChunk
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class PackedSignal:
    """Signal of P channels in one window of `length` bases; bases that no piece has are missing."""

    form: ChunkFormat
    length: int
    pieces: Sequence[Piece]

    @property
    def nbytes(self) -> int:
        """Bytes that travel to the device."""
        return sum(piece.chunk.body.nbytes for piece in self.pieces)

    def runs(self) -> Runs:
        """The window as runs, in the memory of the host."""
        parts, end = [], 0
        for piece in self.pieces:
            if piece.start > end:
                parts.append(missing_runs(self.form.channels, piece.start - end))
            parts.append(cut_chunk(piece.chunk, self.form, piece.first, piece.last))
            end = piece.start + piece.last - piece.first
        if end < self.length:
            parts.append(missing_runs(self.form.channels, self.length - end))
        return join_runs(parts)

    def dense(self, device: torch.device | str = "cpu") -> Tensor:
        """float32 [S, P] on a device, NaN where missing; a transposed view, as `densify` gives it."""
        if torch.device(device).type == "cpu":
            return densify(self.runs(), self.length)
        return self.spread(device)

    def spread(self, device: torch.device | str) -> Tensor:
        """As `dense`, by tensor operations on any device; ValueError if a block's runs do not add up."""
        dense = torch.full((self.form.channels, self.length), torch.nan, device=device)
        for piece in self.pieces:
            values = spread_chunk(piece.chunk, self.form, piece.size, device)
            stop = piece.start + piece.last - piece.first
            dense[:, piece.start : stop] = values[:, piece.first : piece.last]
        return dense.T


def spread_chunk(chunk: OpenChunk, form: ChunkFormat, size: int, device: torch.device | str) -> Tensor:
    """float32 [P, size] of an open block of `size` bases, made dense on a device.

    ValueError if the runs do not add up to the block's bases.
    """
    counts, entries = (torch.from_numpy(x).to(device) for x in (chunk.counts, chunk.entries))
    body = torch.tensor(chunk.body, device=device)
    in_lengths, in_table, ranks, in_plain = body.split(body_parts(chunk, form))
    lengths = _joined(in_lengths, chunk.planes) + 1
    if int(lengths.sum()) != len(counts) * size:
        raise ValueError("its channels differ in length")
    values = _values(in_plain, form.dtype)
    if len(ranks):
        ranked = entries > 0
        first = torch.repeat_interleave(
            (entries.cumsum(0) - entries)[ranked], counts[ranked], output_size=len(ranks)
        )
        looked_up = _values(in_table, form.dtype)[first + ranks]
        is_ranked = torch.repeat_interleave(ranked, counts, output_size=len(lengths))
        mixed = torch.empty(len(lengths), device=device)
        values = mixed.masked_scatter(is_ranked, looked_up).masked_scatter(~is_ranked, values)
    dense = torch.repeat_interleave(values, lengths, output_size=len(counts) * size)
    return dense.view(len(counts), size)


def _joined(body: Tensor, planes: int) -> Tensor:
    """int32 of byte planes that follow each other."""
    total = torch.zeros(len(body) // planes, dtype=torch.int32, device=body.device)
    for number, plane in enumerate(body.view(planes, len(total))):
        total |= plane.to(torch.int32) << (8 * number)
    return total


def _values(body: Tensor, dtype: str) -> Tensor:
    """float32 of byte planes of stored values."""
    kind = _DTYPES[dtype]
    planes = body.view(kind.itemsize, len(body) // kind.itemsize)
    return planes.T.clone(memory_format=torch.contiguous_format).view(kind).flatten().float()
