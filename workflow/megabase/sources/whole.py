"""Does a file end where it should? What its format alone proves, where nobody stated a size or checksum.

A server that sends no length (in chunks, or until it closes) can end early without anyone noticing. Formats
with an end of their own tell: gzip (RFC 1952: CRC and length behind each member), BGZF and BAM (SAM
specification 4.1: an empty block at the end), bigWig and bigBed (Kent et al. 2010, supplement: the magic at
both ends), HDF5, hence .cool and .h5ad (format specification, superblock: end-of-file address), Parquet (the
magic at both ends). Text has none. The format is told by the first bytes, not by the name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_BLOCK = 1 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BIGWIG, _BIGBED, _R_TREE = 0x888FFC26, 0x8789F2EB, 0x2468ACE0
_BIG_HEADER = 64


class Cut(ValueError):
    """A file that its own format shows to be cut; the message says what is missing."""


def proof(path: str | Path) -> str | None:
    """What proves that the file is whole, such as `gzip trailer`; None where its format cannot.

    Cut (a ValueError) where the format proves that it is not.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as handle:
        first = handle.read(_BIG_HEADER)
        check = _check_of(first)
        return check(handle, first, size) if check is not None else None


def _check_of(first: bytes) -> Callable[[BinaryIO, bytes, int], str] | None:
    if first[:2] == b"\x1f\x8b":
        return _bgzf if first[3:4] == b"\x04" and first[12:14] == b"BC" else _gzip
    if first[:8] == _HDF5:
        return _hdf5
    if first[:4] == b"PAR1":
        return _parquet
    if _order_of(first) is not None:
        return _big
    return None


def _end(handle: BinaryIO, size: int, number: int) -> bytes:
    handle.seek(max(size - number, 0))
    return handle.read(number)


def _bgzf(handle: BinaryIO, first: bytes, size: int) -> str:
    if _end(handle, size, len(BGZF_END)) != BGZF_END:
        raise Cut("BGZF without its empty last block")
    return "BGZF end block"


def _gzip(handle: BinaryIO, first: bytes, size: int) -> str:
    """Every member is unpacked: its CRC and length must be there, and nothing behind the last."""
    handle.seek(0)
    member, block = zlib.decompressobj(wbits=31), handle.read(_BLOCK)
    try:
        while block:
            member.decompress(block, _BLOCK)
            if member.eof:
                block = member.unused_data or handle.read(_BLOCK)
                if not block:
                    return "gzip trailer"
                member = zlib.decompressobj(wbits=31)
            else:
                block = member.unconsumed_tail or handle.read(_BLOCK)
    except zlib.error as error:
        raise Cut(f"gzip that cannot be unpacked ({error})") from None
    while not member.eof and member.decompress(b"", _BLOCK):  # what it still held back
        pass
    if member.eof and not member.unused_data:
        return "gzip trailer"
    raise Cut("gzip without its trailer")


def _order_of(first: bytes) -> str | None:
    """Byte order (of `struct`) of a bigWig or bigBed."""
    magics = ((o, struct.unpack_from(f"{o}I", first)[0]) for o in "<>" if len(first) >= 4)
    return next((order for order, magic in magics if magic in (_BIGWIG, _BIGBED)), None)


def _big(handle: BinaryIO, first: bytes, size: int) -> str:
    """The magic at both ends, and the index where the header says."""
    if len(first) < _BIG_HEADER:
        raise Cut("bigWig without its header")
    index = struct.unpack_from(f"{_order_of(first)}Q", first, 24)[0]
    handle.seek(min(index, size))
    magic = handle.read(4)
    if len(magic) < 4 or struct.unpack(f"{_order_of(first)}I", magic)[0] != _R_TREE:
        raise Cut(f"bigWig whose index, at byte {index}, is not in its {size} bytes")
    if _end(handle, size, 4) != first[:4]:
        raise Cut("bigWig without the magic at its end")
    return "bigWig end magic"


def _hdf5(handle: BinaryIO, first: bytes, size: int) -> str:
    """At least as many bytes as the superblock says (versions 0 to 3)."""
    version = first[8] if len(first) > 8 else 0
    width_at, start = (13, {0: 24, 1: 28}[version]) if version < 2 else (9, 12)
    width = first[width_at] if len(first) > width_at else 0
    at = start + 2 * width  # behind the base address and another one
    if width not in (4, 8) or len(first) < at + width:
        raise Cut("HDF5 without its superblock")
    base = int.from_bytes(first[start : start + width], "little")
    stated = base + int.from_bytes(first[at : at + width], "little")
    if size < stated:
        raise Cut(f"HDF5 of {stated} bytes, of which {size} are there")
    return "HDF5 end-of-file address"


def _parquet(handle: BinaryIO, first: bytes, size: int) -> str:
    """The magic at the end, behind the length of a footer that fits in."""
    last = _end(handle, size, 8)
    if size < 12 or last[4:] != b"PAR1" or int.from_bytes(last[:4], "little") > size - 12:
        raise Cut("Parquet without its footer")
    return "Parquet footer"
