"""What is wrong with a file that is no sound VCF, in words; only read once reading has failed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_FETCH = "fetch it again"
_TABS = "columns are separated by tabs in a VCF"
_START = 1 << 16  # bytes of a file that are looked at


def head_fault(path: Path) -> str:
    """Why the head of a file is not that of a VCF, and what to do."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as handle:
            head = handle.read(_START)
    except (OSError, EOFError) as error:
        return f"cannot be decompressed ({error}), it is cut short or damaged; {_FETCH}"
    if not head:
        return f"is empty; {_FETCH}"
    if head.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte order mark, as an editor may leave it; save it as plain UTF-8 without BOM"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "is UTF-16; save it as plain UTF-8"
    if b"\n" not in head and b"\r" in head:
        return "has the line ends of old Macs; write it with newlines"
    lines = head.decode("utf-8", "replace").splitlines()
    if not lines[0].startswith("##fileformat=VCF"):
        what = "no header" if "\t" in lines[0] else f"found {lines[0][:60]!r}"
        return f"is not a VCF: {what}; wanted ##fileformat=VCF... first and a #CHROM line"
    columns = next((line for line in lines if line.startswith("#CHROM")), None)
    if columns is not None and "\t" not in columns:
        return f"has spaces in its #CHROM line; {_TABS}"
    if columns is None and len(head) < _START:
        return "is not a VCF: its header has no #CHROM line"
    return "has a header that cannot be read; validate it (bcftools view -h)"


def record_fault(path: Path, number: int) -> str:
    """What the `number`-th record of a text VCF looks like, where that explains why it cannot be read."""
    try:
        line = next(islice(_records(path), number - 1, None), None)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        return f"the file is cut short or damaged ({error}); {_FETCH}"
    if line is None:
        return f"the file is cut short; {_FETCH}"
    if not line.strip():
        return "the line is empty; delete it"
    found = line.count("\t") + 1
    if found < 8:
        hint = _TABS if " " in line.strip() else "the line is broken or the file is cut short"
        return f"{found} columns, wanted 8 or more: {line[:60]!r}; {hint}"
    if not line.split("\t")[1].isdigit():
        return f"POS {line.split(chr(9))[1][:20]!r} is not a whole number"
    return "the line is broken or the file is cut short; validate it (bcftools view) or fetch it again"


def _records(path: Path) -> Iterator[str]:
    """Lines of a text VCF after its header, plain or gzip."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if packed else path.open("rt", encoding="utf-8") as text:
        yield from (line.rstrip("\n") for line in text if not line.startswith("#"))
