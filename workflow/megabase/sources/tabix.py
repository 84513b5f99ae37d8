"""The lines of a region of a bgzip file with a tabix index, read in ranges and checked block by block.

An index tells the stretches of the file that may hold a region, as virtual offsets: a block's place in the
file, and a place in its text. Every block of a stretch has its length and checksum, and the stretch its end:
what was cut short cannot look whole. Formats: SAM/BAM specifications, BGZF and tabix.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from megabase.files import FileError
from megabase.sources.ranges import Ranges

BLOCK = 1 << 16  # bytes that a block has at most
STEP = 1 << 22  # bytes that are asked for at a time
_LINEAR = 14  # bits of the bases that an entry of the linear index stands for
_DEEPEST = 4681  # number of the first bin of 16,384 bases


@dataclass(frozen=True)
class Contig:
    """What the index tells of one contig: stretches by bin, and where each 16,384 bases begin."""

    bins: dict[int, list[tuple[int, int]]]
    linear: np.ndarray  # uint64


@dataclass(frozen=True)
class Index:
    """A tabix index: contigs in the order of the file."""

    contigs: dict[str, Contig]
    comment: str

    def stretches(self, name: str, start: int, end: int) -> list[tuple[int, int]]:
        """(begin, end) virtual offsets, merged and in order, that hold all lines which overlap a region.

        start, end: 0-based half-open.
        """
        contig = self.contigs[name]
        slot = start >> _LINEAR
        least = int(contig.linear[slot]) if slot < len(contig.linear) else 0
        if slot >= len(contig.linear) and len(contig.linear):
            least = int(contig.linear[-1])
        chunks = sorted(
            chunk
            for number in bins_of(start, end)
            for chunk in contig.bins.get(number, [])
            if chunk[1] > least
        )
        merged: list[tuple[int, int]] = []
        for begin, stop in chunks:
            begin = max(begin, least)
            if merged and begin <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((begin, stop))
        return merged


def bins_of(start: int, end: int) -> list[int]:
    """Numbers of the bins that lines which overlap [start, end) may be in."""
    found, last = [0], max(end - 1, start)
    for shift, first in ((26, 1), (23, 9), (20, 73), (17, 585), (_LINEAR, _DEEPEST)):
        found += range(first + (start >> shift), first + (last >> shift) + 1)
    return found


def read_index(data: bytes, name: str) -> Index:
    """A tabix index of the bytes of a `.tbi` file; FileError for what is none, or is cut short."""
    try:
        raw = gzip.decompress(data)
        if raw[:4] != b"TBI\x01":
            raise FileError(f"{name}: is no tabix index (.tbi)")
        count, _, _, _, _, meta, _, length = struct.unpack_from("<8i", raw, 4)
        names = raw[36 : 36 + length].split(b"\0")[:count]
        at, contigs = 36 + length, {}
        for contig in names:
            parts, at = _contig(raw, at)
            contigs[contig.decode()] = parts
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{name}: the index cannot be read ({error}); fetch it again") from error
    return Index(contigs, chr(meta))


def _contig(raw: bytes, at: int) -> tuple[Contig, int]:
    (n_bins,) = struct.unpack_from("<i", raw, at)
    at, bins = at + 4, {}
    for _ in range(n_bins):
        number, n_chunks = struct.unpack_from("<Ii", raw, at)
        values = struct.unpack_from(f"<{2 * n_chunks}Q", raw, at + 8)
        bins[number] = list(zip(values[::2], values[1::2], strict=True))
        at += 8 + 16 * n_chunks
    (n_intervals,) = struct.unpack_from("<i", raw, at)
    linear = np.frombuffer(raw, "<u8", n_intervals, at + 4)
    return Contig(bins, linear), at + 4 + 8 * n_intervals


def lines_between(file: Ranges, begin: int, end: int) -> Iterator[bytes]:
    """Lines, without their ends, from a virtual offset to another; FileError where they are not whole.

    One step of the file is in memory at a time.
    """
    rest = b""
    for text in _text(file, begin, end):
        lines = (rest + text).split(b"\n")
        rest = lines.pop()
        yield from lines
    if rest:
        raise FileError(f"{file.source}: a line goes on beyond the stretch of the index; {OTHER_FILE}")


OTHER_FILE = "the index is not of this file: fetch both again"


def header_lines(file: Ranges, comment: str) -> list[str]:
    """The lines at the beginning of the file that begin with the comment sign."""
    found: list[str] = []
    rest = b""
    for text in _text(file, 0, None):
        lines = (rest + text).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if not line.startswith(comment.encode()):
                return found
            found.append(line.decode())
    return found


def _text(file: Ranges, begin: int, end: int | None) -> Iterator[bytes]:
    """Text of the blocks from a virtual offset to another, or to the file's end."""
    at, skip = begin >> 16, begin & 0xFFFF
    last, within = (end >> 16, end & 0xFFFF) if end is not None else (None, 0)
    data, used = b"", 0  # bytes of the file from `at - used` on
    while last is None or at < last or (at == last and within):
        if len(data) - used < BLOCK:
            data, used = data[used:], 0
            data += file.read(at + len(data), STEP if last is None else min(STEP, last - at + BLOCK))
        if not data and last is None:
            return
        size, text = _block(file, data[used : used + BLOCK], at)
        yield text[skip : within if at == last else None]
        if at == last:
            return
        at, used, skip = at + size, used + size, 0
    if at != last:
        raise FileError(f"{file.source}: no block begins at byte {last}; {OTHER_FILE}")


def _block(file: Ranges, data: bytes, at: int) -> tuple[int, bytes]:
    """(bytes of the file, text) of the block that `data` begins with; its checksum is checked."""
    if len(data) < 18 or data[:4] != b"\x1f\x8b\x08\x04" or data[12:14] != b"BC":
        raise FileError(f"{file.source}: no bgzip block at byte {at}; it is cut short, or {OTHER_FILE}")
    size = struct.unpack_from("<H", data, 16)[0] + 1
    try:
        return size, zlib.decompress(data[:size], wbits=31)
    except zlib.error as error:
        raise FileError(
            f"{file.source}: the block at byte {at} is damaged or cut short ({error}); fetch it again"
        ) from error
