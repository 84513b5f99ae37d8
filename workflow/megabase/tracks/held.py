"""Blocks of signal held on disk as runs of equal values, written once and read once in the same order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard

from megabase.tracks.bigwig import run_starts

_RECORD = struct.Struct("<QQ?")  # runs, bytes that follow, whether values are float64
LEVEL = 1  # of zstandard: runs of counts shrink threefold at once, and little more at higher levels


class RunFile:
    """Appends blocks, or yields them again; the values come back bit for bit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")

    def append(self, values: np.ndarray) -> None:
        """Add a block, float32 or float64 [n]; kept in single precision where that is exact."""
        first = run_starts(values)
        heights = values[first]
        with np.errstate(over="ignore"):
            single = heights.astype(np.float32)
        exact = np.array_equal(single, heights, equal_nan=True)
        lengths = np.diff(first, append=len(values)).astype(np.uint32)
        data = lengths.tobytes() + (single if exact else heights).tobytes()
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(data)
        self._file.write(_RECORD.pack(len(first), len(packed), not exact) + packed)

    def close(self) -> None:
        """Finish writing."""
        self._file.close()


def read_runs(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`(lengths uint32 [r], values float32 or float64 [r])` of each block of a closed file, in order."""
    with path.open("rb") as file:
        while head := file.read(_RECORD.size):
            count, size, double = _RECORD.unpack(head)
            data = zstandard.ZstdDecompressor().decompress(file.read(size))
            lengths = np.frombuffer(data, np.uint32, count)
            yield lengths, np.frombuffer(data, np.float64 if double else np.float32, count, 4 * count)


def read_blocks(path: Path) -> Iterator[np.ndarray]:
    """float64 [n] of each block of a closed file, in order."""
    for lengths, values in read_runs(path):
        yield np.repeat(values.astype(np.float64), lengths)
