"""What a format proves of its own end: whole files pass, files cut anywhere do not."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pyBigWig
import pysam
import pytest

from megabase.sources.whole import BGZF_END, Cut, proof

LINES = b"".join(b"chr1\t%d\t%d\tx\n" % (n, n * 7919 % 100) for n in range(20_000))


def gzipped(path: Path) -> None:
    path.write_bytes(gzip.compress(LINES))


def members(path: Path) -> None:
    path.write_bytes(gzip.compress(LINES[:1000]) + gzip.compress(LINES[1000:]))


def large(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(5_000_000)))  # more unpacked than is held at once


def bgzipped(path: Path) -> None:
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(LINES)


def bam(path: Path) -> None:
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": "chr1", "LN": 100_000}]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for n in range(2000):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.query_sequence, read.reference_id = f"r{n}", "ACGT" * 9, 0
            read.reference_start, read.cigarstring = n * 13, "36M"
            file.write(read)


def bigwig(path: Path) -> None:
    file = pyBigWig.open(str(path), "w")
    file.addHeader([("chr1", 100_000)])
    starts = np.arange(0, 100_000, 10)
    file.addEntries(["chr1"] * len(starts), starts, ends=starts + 10, values=np.sin(starts))
    file.close()


def hdf5(path: Path, libver: str) -> None:
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("x", data=np.arange(20_000))


def old_hdf5(path: Path) -> None:
    hdf5(path, "earliest")


def new_hdf5(path: Path) -> None:
    hdf5(path, "latest")


def parquet(path: Path) -> None:
    pl.DataFrame({"x": np.arange(20_000)}).write_parquet(path)


FORMATS = {
    gzipped: "gzip trailer", members: "gzip trailer", large: "gzip trailer", bgzipped: "BGZF end block",
    bam: "BGZF end block", bigwig: "bigWig end magic", old_hdf5: "HDF5 end-of-file address",
    new_hdf5: "HDF5 end-of-file address", parquet: "Parquet footer",
}  # fmt: skip


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_whole_files_are_proved_and_cut_ones_are_not(tmp_path: Path, make) -> None:
    path, cut = tmp_path / "whole", tmp_path / "cut"
    make(path)
    assert proof(path) == FORMATS[make]
    body = path.read_bytes()
    size = len(body)
    for length in (size - 1, size - 4, size - 8, size - 28, size * 3 // 4, size // 2, size // 4, 100, 70, 24):
        if length >= size:
            continue
        cut.write_bytes(body[:length])
        with pytest.raises(Cut):
            proof(cut)
    for length in (10, 3, 2, 1, 0):  # too short to be known as anything, or known and cut
        cut.write_bytes(body[:length])
        try:
            assert proof(cut) is None
        except Cut:
            pass


def test_magics_say_which_superblock_is_tested(tmp_path: Path) -> None:
    old_hdf5(tmp_path / "old")
    new_hdf5(tmp_path / "new")
    assert (tmp_path / "old").read_bytes()[8] == 0 and (tmp_path / "new").read_bytes()[8] in (2, 3)


def test_a_bgzf_cut_between_blocks_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    bgzipped(path)
    body = path.read_bytes()
    first = struct.unpack_from("<H", body, 16)[0] + 1  # BSIZE: the first block's length
    assert gzip.decompress(body[:first]) and body.endswith(BGZF_END)
    path.write_bytes(body[:first])
    with pytest.raises(Cut, match="BGZF without its empty last block"):
        proof(path)


def test_bytes_behind_a_gzip_are_no_member(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(LINES) + b"<html>")
    with pytest.raises(Cut, match="cannot be unpacked"):
        proof(path)


def test_a_big_endian_bigwig_is_known(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    header = struct.pack(">IHHQQQ", 0x888FFC26, 4, 0, 64, 64, 64).ljust(64, b"\0")
    body = header + struct.pack(">I", 0x2468ACE0) + bytes(44)
    path.write_bytes(body + header[:4])
    assert proof(path) == "bigWig end magic"
    path.write_bytes(body)
    with pytest.raises(Cut, match="magic at its end"):
        proof(path)


@pytest.mark.parametrize("body", [b"", b"chr1\t0\t10\n", LINES, b"PK\x03\x04 zip", bytes(1000)])
def test_other_files_prove_nothing(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x").write_bytes(body)
    assert proof(tmp_path / "x") is None
