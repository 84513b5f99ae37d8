"""Run-length encoded signal: how it is packed into a chunk, cut to a window, and made dense.

A run is a stretch of equal values of one channel. NaN stands for missing and forms runs like any value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import zstandard
from torch import Tensor

PACKED = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}


@dataclass(frozen=True)
class Runs:
    """Signal of P channels in one window of S bases.

    offsets: int64 [P + 1], where each channel's runs begin and end. starts: int32 [R], first base of each
    run, from 0 at the window's start; the first run of every channel is at 0 and the last one ends with the
    window. values: float32 [R], NaN = missing. Neighbouring runs may have equal values.
    """

    offsets: np.ndarray
    starts: np.ndarray
    values: np.ndarray

    @property
    def channels(self) -> int:
        """P."""
        return len(self.offsets) - 1


def densify(runs: Runs, length: int, device: torch.device | str = "cpu") -> Tensor:
    """float32 [S, P] of the runs of a window of `length` bases; NaN where missing.

    The runs travel to `device` packed and are spread out there. The result is a transposed view (channels
    are contiguous along the bases).
    """
    channels = runs.channels
    starts = torch.from_numpy(runs.starts).to(device, torch.int64)
    values = torch.from_numpy(runs.values).to(device)
    last = torch.from_numpy(runs.offsets[1:] - 1).to(device)
    ends = torch.cat([starts[1:], starts[:1]])
    ends[last] = length
    dense = torch.repeat_interleave(values, ends - starts, output_size=channels * length)
    return dense.view(channels, length).T


def pack(values: np.ndarray, dtype: str) -> np.ndarray:
    """Stored form of float32 [R]: float32, float16, or the upper half of float32's bits (bfloat16) as uint16.

    Rounds to the nearest, ties to even. ValueError if a value overflows.
    """
    values = np.where(np.isnan(values), np.float32(np.nan), values).astype(np.float32)  # one NaN for all
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        packed = np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)
    else:
        with np.errstate(over="ignore"):
            packed = values.astype(PACKED[dtype])
    overflow = np.isinf(unpack(packed, dtype))
    if overflow.any():
        raise ValueError(
            f"value {values[overflow][0]:g} does not fit {dtype}; set shards.dtype to float32 or bfloat16"
        )
    return packed


def unpack(packed: np.ndarray, dtype: str) -> np.ndarray:
    """float32 [R] of the stored form."""
    if dtype == "bfloat16":
        return (packed.astype(np.uint32) << 16).view(np.float32)
    return packed.astype(np.float32)


def find_runs(values: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """`(starts int64 [R], packed values [R])` of dense float32 [S], as long as the stored dtype allows."""
    same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    packed = pack(values[starts], dtype)
    bits = packed.view(f"<u{packed.dtype.itemsize}")
    changed = np.concatenate([[True], bits[1:] != bits[:-1]])
    return starts[changed], packed[changed]


@dataclass(frozen=True)
class ChunkFormat:
    """What a reader must know to unpack a chunk of an output type."""

    channels: int
    chunk: int  # bases
    dtype: str

    @property
    def position_dtype(self) -> np.dtype:
        """Type of a run's start within its chunk."""
        return np.dtype("<u2") if self.chunk <= 1 << 16 else np.dtype("<u4")


def encode_chunk(
    runs: Sequence[tuple[np.ndarray, np.ndarray]], form: ChunkFormat, compressor: zstandard.ZstdCompressor
) -> bytes:
    """One compressed block of `find_runs` of each channel: counts uint32 [P], starts [R], values [R]."""
    counts = np.array([len(starts) for starts, _ in runs], dtype="<u4")
    starts = np.concatenate([starts for starts, _ in runs]).astype(form.position_dtype)
    values = np.concatenate([values for _, values in runs])
    return compressor.compress(counts.tobytes() + starts.tobytes() + values.tobytes())


def decode_chunk(data: bytes, form: ChunkFormat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(counts uint32 [P], starts [R], packed values [R])` of a block of `encode_chunk`."""
    raw = zstandard.ZstdDecompressor().decompress(data)
    counts = np.frombuffer(raw, "<u4", count=form.channels)
    total = int(counts.sum())
    starts = np.frombuffer(raw, form.position_dtype, count=total, offset=counts.nbytes)
    values = np.frombuffer(raw, PACKED[form.dtype], count=total, offset=counts.nbytes + starts.nbytes)
    return counts, starts, values


def cut_chunk(data: bytes, form: ChunkFormat, first: int, last: int, shift: int) -> Runs:
    """Runs of bases first..last (half-open, within the chunk) of a block, their starts moved by `shift`."""
    counts, starts, values = decode_chunk(data, form)
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    low, high = offsets[:-1], offsets[1:]
    if first > 0 or last < form.chunk:
        # starts rise within a channel, so that channel * chunk + start rises over the block
        base = np.arange(form.channels, dtype=np.int64) * form.chunk
        keys = starts + np.repeat(base, counts)
        low = np.searchsorted(keys, base + first, side="right") - 1
        high = np.searchsorted(keys, base + last, side="left")
    kept, index = _spans(low, high)
    begins = np.maximum(starts[index].astype(np.int64), first) + shift
    return Runs(kept, begins.astype(np.int32), unpack(values[index], form.dtype))


def _spans(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64 [P + 1] and the concatenation of the ranges low[p]..high[p]."""
    sizes = high - low
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    index = np.arange(offsets[-1]) + np.repeat(low - offsets[:-1], sizes)
    return offsets, index


def missing_runs(channels: int, start: int) -> Runs:
    """One run of NaN a channel, from `start` on."""
    offsets = np.arange(channels + 1, dtype=np.int64)
    return Runs(offsets, np.full(channels, start, np.int32), np.full(channels, np.nan, np.float32))


def join_runs(pieces: Sequence[Runs]) -> Runs:
    """Runs of consecutive stretches of a window as one, channel by channel."""
    if len(pieces) == 1:
        return pieces[0]
    sizes = np.array([np.diff(piece.offsets) for piece in pieces])
    offsets = np.concatenate([[0], np.cumsum(sizes.sum(0))])
    starts = np.empty(offsets[-1], np.int32)
    values = np.empty(offsets[-1], np.float32)
    begins = offsets[:-1] + np.cumsum(sizes, axis=0) - sizes  # [pieces, P]: where each piece's runs go
    for piece, size, begin in zip(pieces, sizes, begins, strict=True):
        _, index = _spans(begin, begin + size)
        starts[index], values[index] = piece.starts, piece.values
    return Runs(offsets, starts, values)
