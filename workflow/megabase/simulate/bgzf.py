"""Blocked gzip (BGZF), the compression of BAM, bgzip and tabix, with no time stamp: same text, same bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

BLOCK = 65_280  # uncompressed bytes of a block, as htslib uses
END_OF_FILE = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_HEADER = struct.Struct("<4BI2BH2BHH")  # the gzip header with the extra field that holds the block size


def _blocks(data: bytes, level: int) -> Iterator[bytes]:
    for start in range(0, len(data), BLOCK):
        part = data[start : start + BLOCK]
        packer = zlib.compressobj(level, zlib.DEFLATED, -15)
        packed = packer.compress(part) + packer.flush()
        size = _HEADER.size + len(packed) + 8
        header = _HEADER.pack(31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1)
        yield header + packed + struct.pack("<II", zlib.crc32(part), len(part))


def compress(data: bytes, level: int = 1) -> bytes:
    """BGZF bytes of `data`, end-of-file block included; any gzip reader reads them."""
    return b"".join(_blocks(data, level)) + END_OF_FILE
