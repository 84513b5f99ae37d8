"""Run-length encoded signal: how it is cut to a window, joined, and made dense.

A run is a stretch of equal values of one channel. NaN stands for missing and forms runs like any value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from megabase.shards.encoding import ChunkFormat, OpenChunk, decode_open, unpack


@dataclass(frozen=True)
class Runs:
    """Signal of P channels in one window of S bases.

    offsets: int64 [P + 1], where each channel's runs begin and end. lengths: int32 [R], bases of each run;
    those of a channel follow each other and add up to S. values: float32 [R], NaN = missing. Neighbouring
    runs may have equal values.
    """

    offsets: np.ndarray
    lengths: np.ndarray
    values: np.ndarray

    @property
    def channels(self) -> int:
        """P."""
        return len(self.offsets) - 1

    @property
    def starts(self) -> np.ndarray:
        """int64 [R], first base of each run, from 0 at the window's start."""
        before = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        first = before[self.offsets[:-1]] if len(before) else before
        return before - np.repeat(first, np.diff(self.offsets))

    @property
    def nbytes(self) -> int:
        """Bytes that travel to the device."""
        return self.offsets.nbytes + self.lengths.nbytes + self.values.nbytes


def densify(runs: Runs, length: int, device: torch.device | str = "cpu") -> Tensor:
    """float32 [S, P] of the runs of a window of `length` bases; NaN where missing.

    The runs travel to `device` packed and are spread out there. The result is a transposed view (channels
    are contiguous along the bases).
    """
    total = runs.channels * length
    if torch.device(device).type == "cpu":
        dense = torch.from_numpy(np.repeat(runs.values, runs.lengths))
    else:
        values, repeats = (torch.from_numpy(x).to(device) for x in (runs.values, runs.lengths))
        dense = torch.repeat_interleave(values, repeats, output_size=total)
    return dense.view(runs.channels, length).T


def cut_chunk(chunk: OpenChunk, form: ChunkFormat, first: int, last: int) -> Runs:
    """Runs of bases first..last (half-open, within the chunk's own length) of a block."""
    counts, lengths, bits = decode_open(chunk, form)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    sizes = np.add.reduceat(lengths, offsets[:-1])
    if (counts == 0).any() or (sizes != sizes[0]).any():
        raise ValueError("its channels differ in length")
    size = int(sizes[0])
    if (first, last) == (0, size):
        return Runs(offsets, lengths, unpack(bits, form.dtype))
    ends = np.cumsum(lengths, dtype=np.int64)
    base = np.arange(form.channels, dtype=np.int64) * size
    low = np.searchsorted(ends, base + first, side="right")
    high = np.searchsorted(ends, base + last, side="left") + 1
    kept = _gather(low, high)
    cut = lengths[kept]
    offsets = np.concatenate([[0], np.cumsum(high - low)])
    cut[offsets[:-1]] = ends[low] - (base + first)
    cut[offsets[1:] - 1] -= (ends[high - 1] - (base + last)).astype(np.int32)
    return Runs(offsets, cut, unpack(bits[kept], form.dtype))


def _gather(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The concatenation of the ranges low[p]..high[p]."""
    sizes = high - low
    first = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(low - first, sizes)


def missing_runs(channels: int, length: int) -> Runs:
    """One run of NaN a channel."""
    offsets = np.arange(channels + 1, dtype=np.int64)
    return Runs(offsets, np.full(channels, length, np.int32), np.full(channels, np.nan, np.float32))


def join_runs(pieces: Sequence[Runs]) -> Runs:
    """Runs of consecutive stretches of a window as one, channel by channel."""
    if len(pieces) == 1:
        return pieces[0]
    sizes = np.array([np.diff(piece.offsets) for piece in pieces])
    offsets = np.concatenate([[0], np.cumsum(sizes.sum(0))])
    bounds = [piece.offsets.tolist() for piece in pieces]
    order = [
        (k, bound[channel], bound[channel + 1])
        for channel in range(len(offsets) - 1)
        for k, bound in enumerate(bounds)
    ]
    lengths = np.concatenate([pieces[k].lengths[a:b] for k, a, b in order])
    values = np.concatenate([pieces[k].values[a:b] for k, a, b in order])
    return Runs(offsets, lengths, values)
