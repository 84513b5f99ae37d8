"""Aligned reads of ATAC-seq and DNase-seq as coordinate-sorted BAM, written as one block of equal records.

A cut at base p becomes a read whose 5' end the usual shifts bring back to p: ATAC +4 on the + strand and -4
on
the - strand, DNase 0 and +1 (the rule of the tracks stage), so the cuts read from the file are the
simulated ones.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from megabase.files import atomic_path
from megabase.simulate import bgzf

READ_LENGTH = {"atac": 50, "dnase": 36}
SHIFTS = {"atac": (4, -4), "dnase": (0, 1)}  # bases that the tracks stage adds to 5' ends on + and -
MAPPING_QUALITY, BASE_QUALITY = 60, 37
_NAME_LENGTH = 12  # "r" + ten digits + NUL
_NIBBLES = np.array([1, 2, 4, 8, 15], dtype=np.uint8)  # A C G T N in BAM's four-bit code


def _record_type(length: int) -> np.dtype:
    return np.dtype(
        [
            ("block_size", "<i4"),
            ("reference", "<i4"),
            ("position", "<i4"),
            ("name_length", "u1"),
            ("mapq", "u1"),
            ("bin", "<u2"),
            ("n_cigar", "<u2"),
            ("flag", "<u2"),
            ("length", "<i4"),
            ("next_reference", "<i4"),
            ("next_position", "<i4"),
            ("template", "<i4"),
            ("name", "u1", (_NAME_LENGTH,)),
            ("cigar", "<u4"),
            ("sequence", "u1", ((length + 1) // 2,)),
            ("quality", "u1", (length,)),
        ]
    )


def _bins(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The BAM index bin of [start, end): the smallest of the nested 16 kb, 128 kb, ... bins that holds it."""
    last = end - 1
    found = np.zeros(len(start), dtype=np.int64)
    for shift, offset in ((26, 1), (23, 9), (20, 73), (17, 585), (14, 4681)):
        inside = (start >> shift) == (last >> shift)
        found[inside] = offset + (start[inside] >> shift)
    return found


def _names(first: int, count: int) -> np.ndarray:
    digits = (np.arange(first, first + count)[:, None] // 10 ** np.arange(9, -1, -1)) % 10
    names = np.zeros((count, _NAME_LENGTH), dtype=np.uint8)
    names[:, 0] = ord("r")
    names[:, 1:-1] = digits + ord("0")
    return names


def read_starts(cuts: np.ndarray, reverse: np.ndarray, assay: str) -> np.ndarray:
    """First base int [N] of the reads whose shifted 5' ends are the cuts."""
    plus, minus = SHIFTS[assay]
    return np.where(reverse, cuts - minus - READ_LENGTH[assay] + 1, cuts - plus)


def _records(
    codes: np.ndarray, reference: int, starts: np.ndarray, reverse: np.ndarray, length: int, first: int
) -> np.ndarray:
    records = np.zeros(len(starts), dtype=_record_type(length))
    records["block_size"] = records.dtype.itemsize - 4
    records["reference"], records["position"] = reference, starts
    records["name_length"], records["mapq"] = _NAME_LENGTH, MAPPING_QUALITY
    records["bin"] = _bins(starts, starts + length)
    records["n_cigar"], records["cigar"] = 1, length << 4
    records["flag"], records["length"] = np.where(reverse, 16, 0), length
    records["next_reference"] = records["next_position"] = -1
    records["name"] = _names(first, len(starts))
    bases = _NIBBLES[codes[starts[:, None] + np.arange(length + length % 2).clip(max=length - 1)]]
    if length % 2:
        bases[:, -1] = 0
    records["sequence"] = bases[:, 0::2] << 4 | bases[:, 1::2]
    records["quality"] = BASE_QUALITY
    return records


def _header(chromosomes: Mapping[str, np.ndarray]) -> bytes:
    lines = ["@HD\tVN:1.6\tSO:coordinate"]
    lines += [f"@SQ\tSN:{chrom}\tLN:{len(codes)}" for chrom, codes in chromosomes.items()]
    text = ("\n".join(lines) + "\n").encode()
    data = b"BAM\1" + struct.pack("<i", len(text)) + text + struct.pack("<i", len(chromosomes))
    for chrom, codes in chromosomes.items():
        name = chrom.encode() + b"\0"
        data += struct.pack("<i", len(name)) + name + struct.pack("<i", len(codes))
    return data


def write_bam(
    path: Path,
    chromosomes: Mapping[str, np.ndarray],
    cuts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    assay: str,
) -> None:
    """Write single-end reads. cuts: chromosome -> (position int [N], is on the - strand bool [N])."""
    length, parts, first = READ_LENGTH[assay], [_header(chromosomes)], 1
    for reference, (chrom, codes) in enumerate(chromosomes.items()):
        position, reverse = cuts[chrom]
        starts = read_starts(position, reverse, assay)
        whole = (starts >= 0) & (starts + length <= len(codes))
        starts, reverse = starts[whole], reverse[whole]
        order = np.lexsort((reverse, starts))
        parts.append(_records(codes, reference, starts[order], reverse[order], length, first).tobytes())
        first += len(starts)
    with atomic_path(path) as temporary:
        temporary.write_bytes(bgzf.compress(b"".join(parts)))
