"""Intervals of a bigWig as arrays, read block by block without making them dense or into Python objects.

Written from the description of the format: Kent et al., Bioinformatics 26, 2204 (2010), and its supplement.
A file is opened for a read and closed again, so thousands of tracks need no open files.
"""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from megabase.files import FileError

_MAGIC, _CHROM_MAGIC, _TREE_MAGIC = 0x888FFC26, 0x78CA8C91, 0x2468ACE0
_BED_GRAPH, _VARIABLE_STEP, _FIXED_STEP = 1, 2, 3
_BLOCK_HEAD = struct.Struct("<IIIIIBBH")  # chrom, start, end, step, span, type, reserved, items
_LEAF = np.dtype([("chrom", "<u4"), ("start", "<u4"), ("end_chrom", "<u4"), ("end", "<u4"),
                  ("offset", "<u8"), ("size", "<u8")])  # fmt: skip
_BRANCH = np.dtype([("chrom", "<u4"), ("start", "<u4"), ("end_chrom", "<u4"), ("end", "<u4"),
                    ("offset", "<u8")])  # fmt: skip
_BED_ITEM = np.dtype([("start", "<u4"), ("end", "<u4"), ("value", "<f4")])
_STEP_ITEM = np.dtype([("start", "<u4"), ("value", "<f4")])
_GAP = 1 << 16  # bytes between two blocks that are read rather than sought over

Intervals = tuple[np.ndarray, np.ndarray, np.ndarray]


class BigWigIntervals:
    """Intervals of one bigWig. Holds its chromosomes and where its index is; may be pickled."""

    def __init__(self, path: str | Path) -> None:
        """FileError if the file is no little-endian bigWig."""
        self.path = Path(path)
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise FileError(
                f"{path}: cannot be opened ({error.strerror}); normalize the track again"
            ) from None
        try:
            head = os.pread(handle, 64, 0)
            if len(head) < 64 or struct.unpack_from("<I", head)[0] != _MAGIC:
                raise FileError(f"{path}: is no bigWig (of this byte order), wanted a normalized track")
            tree, _, self._index = struct.unpack_from("<QQQ", head, 8)
            self._packed = struct.unpack_from("<I", head, 52)[0] > 0
            self._numbers, self.lengths = self._chromosomes(handle, tree)
        finally:
            os.close(handle)

    def read(self, chrom: str, start: int, end: int) -> Intervals:
        """`(starts int64 [N], ends int64 [N], values float32 [N])` of bases start..end (0-based half-open).

        In order, cut to the range. FileError if the file is damaged; nothing for an unknown chromosome.
        """
        number = self._numbers.get(chrom)
        if number is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            leaves = self._leaves(handle, number, start, end)
            parts = [part for part in map(self._items, self._blocks(handle, leaves)) if part[0] == number]
        except (struct.error, zlib.error, ValueError, IndexError) as error:
            raise FileError(
                f"{self.path}: damaged around {chrom}:{start}-{end} ({error}); normalize the track again"
            ) from error
        finally:
            os.close(handle)
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        starts, ends, values = (np.concatenate([part[column] for part in parts]) for column in (1, 2, 3))
        inside = slice(np.searchsorted(ends, start, "right"), np.searchsorted(starts, end, "left"))
        return np.maximum(starts[inside], start), np.minimum(ends[inside], end), values[inside]

    def _chromosomes(self, handle: int, offset: int) -> tuple[dict[str, int], dict[str, int]]:
        """Numbers and lengths of the chromosomes in the file's B+ tree."""
        magic, _, key, _, _ = struct.unpack("<IIIIQ", os.pread(handle, 24, offset))
        if magic != _CHROM_MAGIC:
            raise FileError(f"{self.path}: its list of chromosomes is damaged; normalize the track again")
        found: list[tuple[int, str, int]] = []
        nodes = [offset + 32]
        while nodes:
            node = nodes.pop()
            leaf, _, count = struct.unpack("<BBH", os.pread(handle, 4, node))
            data = os.pread(handle, count * (key + 8), node + 4)
            for at in range(0, count * (key + 8), key + 8):
                if leaf:
                    name = data[at : at + key].rstrip(b"\0").decode()
                    found.append((*struct.unpack_from("<I", data, at + key), name,
                                  *struct.unpack_from("<I", data, at + key + 4)))  # fmt: skip
                else:
                    nodes.append(struct.unpack_from("<Q", data, at + key)[0])
        found.sort()
        return {name: number for number, name, _ in found}, {name: length for _, name, length in found}

    def _leaves(self, handle: int, chrom: int, start: int, end: int) -> np.ndarray:
        """Blocks [N] of `_LEAF` that may hold bases of the range, in file order."""
        if struct.unpack("<I", os.pread(handle, 4, self._index))[0] != _TREE_MAGIC:
            raise ValueError("no index where it should be")
        nodes, found = [self._index + 48], [np.zeros(0, _LEAF)]
        while nodes:
            node = nodes.pop()
            leaf, _, count = struct.unpack("<BBH", os.pread(handle, 4, node))
            form = _LEAF if leaf else _BRANCH
            items = np.frombuffer(os.pread(handle, count * form.itemsize, node + 4), form, count)
            begins = (items["chrom"] < chrom) | ((items["chrom"] == chrom) & (items["start"] < end))
            ends = (items["end_chrom"] > chrom) | ((items["end_chrom"] == chrom) & (items["end"] > start))
            items = items[begins & ends]
            if leaf:
                found.append(items)
            else:
                nodes += items["offset"].tolist()
        leaves = np.concatenate(found)
        return leaves[np.lexsort((leaves["offset"], leaves["start"], leaves["chrom"]))]

    def _blocks(self, handle: int, leaves: np.ndarray) -> list[bytes]:
        """Uncompressed bytes of every block; neighbours in the file are read at once."""
        blocks: list[bytes] = []
        ends = leaves["offset"] + leaves["size"]
        breaks = np.flatnonzero(
            (leaves["offset"][1:] < ends[:-1]) | (leaves["offset"][1:] > ends[:-1] + _GAP)
        )
        bounds = [0, *(breaks + 1).tolist(), len(leaves)]
        for low, high in itertools.pairwise(bounds):
            if low == high:
                continue
            origin = int(leaves["offset"][low])
            data = os.pread(handle, int(ends[high - 1]) - origin, origin)
            for offset, size in zip(leaves["offset"][low:high].tolist(), leaves["size"][low:high].tolist(),
                                    strict=True):  # fmt: skip
                block = data[offset - origin : offset - origin + size]
                blocks.append(zlib.decompress(block) if self._packed else block)
        return blocks

    @staticmethod
    def _items(block: bytes) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Chromosome number, starts, ends and values of a block of any of the three types."""
        chrom, first, _, step, span, kind, _, count = _BLOCK_HEAD.unpack_from(block)
        if kind == _BED_GRAPH:
            items = np.frombuffer(block, _BED_ITEM, count, _BLOCK_HEAD.size)
            return chrom, items["start"].astype(np.int64), items["end"].astype(np.int64), items["value"]
        if kind == _VARIABLE_STEP:
            items = np.frombuffer(block, _STEP_ITEM, count, _BLOCK_HEAD.size)
            starts, values = items["start"].astype(np.int64), items["value"]
        elif kind == _FIXED_STEP:
            values = np.frombuffer(block, "<f4", count, _BLOCK_HEAD.size)
            starts = first + step * np.arange(count, dtype=np.int64)
        else:
            raise ValueError(f"block of type {kind}")
        return chrom, starts, starts + span, values
