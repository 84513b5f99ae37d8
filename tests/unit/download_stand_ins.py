"""A file on a portal and how the tests of downloads fetch it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import google_crc32c

from megabase.seeds import generator
from megabase.sources.download import fetch_source
from portal import Portal

BODY = b"\x01" + generator(0, "portal faults").bytes(99_999)
OTHER = BODY[::-1]
MD5 = hashlib.md5(BODY).hexdigest()
MD5_64 = base64.b64encode(bytes.fromhex(MD5)).decode()
CRC = base64.b64encode(google_crc32c.Checksum(BODY).digest()).decode()
PATH = "/files/ENCFF000AAA/@@download/ENCFF000AAA.bigWig"


def fetch(url: str, folder: Path, **options: object) -> Path:
    given = {"size": len(BODY), "md5": MD5, "attempts": 3, "backoff": 0.001, "patience": 5.0} | options
    return fetch_source(url, folder / "out" / "x.bw", **given)  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir())


def statuses(portal: Portal) -> list[int]:
    return [request.status for request in portal.requests]
