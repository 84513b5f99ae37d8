"""Checksums as portals state them: MD5 in hexadecimal, CRC-32C in base64 (Google's storage)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import httpx

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Checksums:
    """What is known of a file's bytes; None: not known. md5 in lower case, crc32c as base64 of 4 bytes."""

    md5: str | None = None
    crc32c: str | None = None

    def __bool__(self) -> bool:
        return bool(self.md5 or self.crc32c)

    def differences(self, found: Checksums, who: str) -> str:
        """Where `found` is not what is stated here: `MD5 is ..., {who} states ...`; empty: nowhere."""
        pairs = (("MD5", self.md5, found.md5), ("CRC-32C", self.crc32c, found.crc32c))
        wrong = (
            f"{name} is {have}, {who} states {want}" for name, want, have in pairs if want and want != have
        )
        return "; ".join(wrong)


def checksums_of(path: str | Path, wanted: Checksums) -> Checksums:
    """Those checksums of a file that `wanted` states, in one reading."""
    if not wanted:
        return Checksums()
    md5 = hashlib.md5(usedforsecurity=False) if wanted.md5 else None
    crc = google_crc32c.Checksum() if wanted.crc32c else None
    with Path(path).open("rb") as handle:
        while block := handle.read(_BLOCK):
            if md5 is not None:
                md5.update(block)
            if crc is not None:
                crc.update(block)
    return Checksums(
        md5.hexdigest() if md5 is not None else None,
        base64.b64encode(crc.digest()).decode() if crc is not None else None,
    )


def checksums_told(headers: Mapping[str, str] | httpx.Headers) -> Checksums:
    """What a server states of the whole file in its answer: `x-goog-hash`, `Content-MD5` (both base64).

    Nothing of an object that Google's storage unpacks on the way: its checksums are of the packed one. An
    ETag is not read: on S3 it is the MD5 of some files only.
    """
    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return Checksums()
    parts = [part.strip().partition("=") for part in headers.get("x-goog-hash", "").split(",")]
    told = {name: value for name, _, value in parts}
    return Checksums(_hex(told.get("md5") or headers.get("content-md5", "")), told.get("crc32c") or None)


def _hex(text: str) -> str | None:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None
