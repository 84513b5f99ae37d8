"""bigWig intervals as arrays: the file's blocks decoded whole, without a Python object an interval.

pyBigWig hands out intervals as tuples, which takes twenty times as long and holds a hundred bytes an
interval. Layout: Kent et al., BigWig and BigBed (Bioinformatics 2010), supplement. A file is opened for each
read and closed again, so that a group may have more files than a process may hold open.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from megabase.files import FileError

BIGWIG, BIGBED, NAMES, INDEX = 0x888FFC26, 0x8789F2EB, 0x78CA8C91, 0x2468ACE0
BEDGRAPH, VARIABLE_STEP, FIXED_STEP = 1, 2, 3
_HEADER = struct.Struct("<IHHQQQHHQQIQ")
_BLOCK = struct.Struct("<IIIIIBBH")
_LEAF = np.dtype([("c0", "<u4"), ("s", "<u4"), ("c1", "<u4"), ("e", "<u4"), ("at", "<u8"), ("size", "<u8")])
_NODE = np.dtype([("c0", "<u4"), ("s", "<u4"), ("c1", "<u4"), ("e", "<u4"), ("at", "<u8")])
_ITEMS = {
    BEDGRAPH: np.dtype([("start", "<u4"), ("end", "<u4"), ("value", "<f4")]),
    VARIABLE_STEP: np.dtype([("start", "<u4"), ("value", "<f4")]),
    FIXED_STEP: np.dtype([("value", "<f4")]),
}
_GAP = 1 << 16  # bytes between two blocks that are read rather than sought over
Intervals = tuple[np.ndarray, np.ndarray, np.ndarray]  # starts, ends int64 [n], values float32 [n]


class BigWigFile:
    """Chromosomes and intervals of a bigWig; FileError if it is none, or where it is damaged.

    advice: what an error tells its reader to do. An object may be pickled.
    """

    def __init__(self, path: str | Path, advice: str = "fetch it again") -> None:
        self.path, self.advice = Path(path), advice
        self.chroms: dict[str, int] = {}  # name in the file: its length in bases
        self._numbers: dict[str, int] = {}
        try:
            with self.path.open("rb") as file:
                self._read_header(file)
        except (OSError, struct.error, UnicodeDecodeError, ValueError) as error:
            if isinstance(error, FileError):
                raise
            raise self._broken("cannot be opened as bigWig", error) from error

    def _broken(self, what: str, error: object) -> FileError:
        return FileError(f"{self.path}: {what} ({error}); {self.advice}")

    def _read_header(self, file: BinaryIO) -> None:
        magic, _, _, names_at, _, self._index_at, _, _, _, _, unpacked, _ = _HEADER.unpack(file.read(64))
        if magic == BIGBED:
            raise FileError(f"{self.path}: is a bigBed file, wanted a bigWig")
        if magic != BIGWIG:
            raise ValueError(f"begins with {magic:#x}, not with {BIGWIG:#x}")
        self._packed = unpacked > 0
        file.seek(names_at)
        magic, _, key_size, _, _, _ = struct.unpack("<IIIIQQ", file.read(32))
        if magic != NAMES:
            raise ValueError("no table of chromosomes where the header points")
        self._read_names(file, key_size)
        file.seek(self._index_at)
        if self._index_at and struct.unpack("<I", file.read(4))[0] != INDEX:
            raise ValueError("no index where the header points")

    def _read_names(self, file: BinaryIO, key_size: int) -> None:
        """Walk a node of the tree of names, which begins where `file` stands."""
        is_leaf, _, count = struct.unpack("<BBH", file.read(4))
        items = [file.read(key_size + 8) for _ in range(count)]
        for item in items:
            if is_leaf:
                number, length = struct.unpack("<II", item[key_size:])
                name = item[:key_size].rstrip(b"\0").decode()
                self.chroms[name], self._numbers[name] = length, number
            else:
                file.seek(struct.unpack("<Q", item[key_size:])[0])
                self._read_names(file, key_size)

    def intervals(self, name: str, start: int, end: int) -> Intervals:
        """Intervals of the chromosome `name` that overlap bases start..end (0-based half-open), in order."""
        number = self._numbers[name]
        found: list[Intervals] = []
        try:
            with self.path.open("rb") as file:
                places = list(self._blocks(file, self._index_at + 48, number, start, end))
                for data in _read_together(file, places):
                    found.append(_decode(zlib.decompress(data) if self._packed else data, number))
        except (OSError, struct.error, ValueError, zlib.error) as error:
            raise self._broken(f"damaged at {name}:{start}-{end}", error) from error
        starts, ends, values = (
            np.concatenate([part[k] for part in found] or [np.zeros(0, kind)])
            for k, kind in enumerate((np.int64, np.int64, np.float32))
        )
        inside = (starts < end) & (ends > start)
        return (starts, ends, values) if inside.all() else (starts[inside], ends[inside], values[inside])

    def within(self, name: str, start: int, end: int) -> Intervals:
        """`intervals` cut to bases start..end; none for a chromosome that the file does not list."""
        if name not in self._numbers:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        starts, ends, values = self.intervals(name, start, end)
        return np.maximum(starts, start), np.minimum(ends, end), values

    def _blocks(
        self, file: BinaryIO, at: int, number: int, start: int, end: int
    ) -> Iterator[tuple[int, int]]:
        """`(offset, size)` of data blocks under the index node at `at` that overlap a stretch, in order."""
        if not self._index_at:  # a file without any interval has no index
            return
        file.seek(at)
        is_leaf, _, count = struct.unpack("<BBH", file.read(4))
        kind = _LEAF if is_leaf else _NODE
        items = np.frombuffer(file.read(count * kind.itemsize), dtype=kind)
        if len(items) < count:
            raise ValueError(f"index ends after {len(items)} of {count} entries of a node")
        before = (items["c1"] < number) | ((items["c1"] == number) & (items["e"] <= start))
        after = (items["c0"] > number) | ((items["c0"] == number) & (items["s"] >= end))
        for item in items[~(before | after)]:
            if is_leaf:
                yield int(item["at"]), int(item["size"])
            else:
                yield from self._blocks(file, int(item["at"]), number, start, end)


def _read_together(file: BinaryIO, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Bytes of every place `(offset, size)`; those that lie side by side are read at once."""
    first = 0
    for last, (at, size) in enumerate(places):
        following = places[last + 1][0] if last + 1 < len(places) else -1
        if at + size <= following <= at + size + _GAP:
            continue
        origin = places[first][0]
        file.seek(origin)
        data = file.read(at + size - origin)
        if len(data) < at + size - origin:
            raise ValueError(f"ends at byte {origin + len(data)}")
        for offset, length in places[first : last + 1]:
            yield data[offset - origin : offset - origin + length]
        first = last + 1


def _decode(data: bytes, number: int) -> Intervals:
    """Intervals of one unpacked data block of chromosome `number`; none if it is another's."""
    chrom, first, _, step, span, kind, _, count = _BLOCK.unpack_from(data)
    if kind not in _ITEMS:
        raise ValueError(f"block of kind {kind}, wanted 1, 2 or 3")
    items = np.frombuffer(data, dtype=_ITEMS[kind], count=count, offset=_BLOCK.size)
    if chrom != number:
        items = items[:0]
    if kind == FIXED_STEP:
        starts = first + np.arange(len(items), dtype=np.int64) * step
    else:
        starts = items["start"].astype(np.int64)
    ends = items["end"].astype(np.int64) if kind == BEDGRAPH else starts + span
    return starts, ends, items["value"]
