"""Records of a VCF or BCF as cyvcf2 gives them, numbered, and the columns of the tables made of them.

A file that cannot be read on is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from megabase.faults import head_fault, record_fault
from megabase.files import FileError

ACCEPTED_SCHEMA = {
    "variant_id": pl.String, "chrom": pl.String, "position": pl.Int64, "ref": pl.String, "alt": pl.String,
    "source_id": pl.String, "record": pl.Int64, "allele": pl.Int64,
}  # fmt: skip
# the chromosome as the file names it; REF and ALT as it writes them, where that is otherwise
GIVEN_SCHEMA = {"given_chrom": pl.String, "given_ref": pl.String, "given_alt": pl.String}
REJECTED_SCHEMA = {
    "record": pl.Int64, "chrom": pl.String, "position": pl.Int64, "source_id": pl.String, "ref": pl.String,
    "alt": pl.String, "reason": pl.String, "detail": pl.String,
}  # fmt: skip
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def numbered_records(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered (from 1) cyvcf2 records; FileError where the file cannot be read on."""
    from cyvcf2 import VCF

    check_whole(path)
    try:
        reader = VCF(str(path))
    except Exception as error:  # htslib reports a header that it cannot parse as a bare Exception
        raise FileError(f"{path}: {head_fault(path)}") from error
    number = 0
    while True:
        number += 1
        try:
            record = next(reader, None)
        except Exception as error:  # htslib reports a parse failure as a bare Exception
            raise FileError(
                f"{path}: record {number} cannot be read: {record_fault(path, number)}"
            ) from error
        if record is None:
            return
        if not record.ALT and str(record).split("\t")[3] == ".":
            # a line that failed to parse can come back as an empty record, whose REF may not be touched
            raise FileError(f"{path}: record {number} cannot be read: {record_fault(path, number)}")
        yield number, record


def check_whole(path: Path) -> None:
    """FileError if a bgzip file lacks its end marker: cut at a block's end it would read without an error."""
    if not path.exists():
        raise FileError(f"{path}: VCF not found")
    with path.open("rb") as handle:
        head = handle.read(18)
        if head[:2] != b"\x1f\x8b" or head[12:14] != b"BC":
            return
        handle.seek(max(path.stat().st_size - len(_BGZF_END), 0))
        if handle.read() != _BGZF_END:
            raise FileError(f"{path}: cut short, its bgzip end marker is missing; fetch it again")
