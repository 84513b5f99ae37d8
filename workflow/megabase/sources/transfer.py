"""One transfer: `{name}.part` grows by what a server sends, from where it broke off if the file is the same.

Beside the part, `{name}.part.json` notes what the server called the file. One process fills a part at a time:
it holds a lock (flock) on it, which goes with the process.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import httpx

from megabase.files import FileError
from megabase.sources.answers import (
    Broken,
    check_answer,
    is_web_page,
    range_start,
    total_bytes,
    validator,
    web_page,
)
from megabase.sources.checksums import Checksums, checksums_told
from megabase.sources.client import Client
from megabase.sources.credentials import blanked
from megabase.sources.whole import Cut, proof


class Told(Protocol):
    """Who is told how a download goes on."""

    def begin(self, have: int, total: int | None) -> None:
        """An answer begins: `have` bytes of `total` (None: nobody knows) are there."""

    def advance(self, n: int) -> None:
        """`n` more bytes are there."""


class DiskFull(FileError):
    """No room for what is still to come; every other download on this disk would fail, too."""


class Unproved(FileError):
    """Bytes that may be all or not: only a size or a checksum in the manifest could tell."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the server called the file of a part: only the same file may be continued.

    url: without secrets. validator: strong ETag, else Last-Modified. total: bytes. md5, crc32c: as the
    server states them, empty where it does not.
    """

    url: str
    validator: str = ""
    total: int | None = None
    md5: str = ""
    crc32c: str = ""

    @property
    def checksums(self) -> Checksums:
        """What the server states of the bytes."""
        return Checksums(self.md5 or None, self.crc32c or None)


def part_of(output: Path) -> Path:
    """Where the bytes of `output` are until it is whole."""
    return output.with_name(f"{output.name}.part")


def notes_of(part: Path) -> Path:
    """Where it is noted of which file a part is."""
    return part.with_name(f"{part.name}.json")


@contextmanager
def held(part: Path) -> Iterator[bool]:
    """Be the only process that fills a part; yields whether another one was waited for.

    The part is there meanwhile, empty if it was not; an empty one is gone afterwards.
    """
    waited = False
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                os.close(handle)
                raise  # else: a file system that keeps no locks; nobody is waited for
        with suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == part.stat().st_ino:
                break
        os.close(handle)  # its last holder has renamed or removed it
    try:
        yield waited
    finally:
        with suppress(FileNotFoundError):
            if part.stat().st_size == 0:
                forget(part, remove=True)
        os.close(handle)


def forget(part: Path, *, remove: bool = False) -> None:
    """Begin anew: no byte, no notes; the part itself stays, for it is locked, unless it is to be removed."""
    notes_of(part).unlink(missing_ok=True)
    if remove:
        part.unlink(missing_ok=True)
    elif part.exists():
        os.truncate(part, 0)


def transfer(client: Client, url: str, part: Path, size: int | None, told: Told, *, summed: bool) -> Served:
    """One request: append to the part what is missing; returns what the server called the file.

    size: what the manifest states. summed: whether it states a checksum, which the caller compares. Broken or
    httpx.TransportError where another try may succeed; FileError for a refusal, another size than the
    manifest's, a full disk, a file of which nothing proves that it is whole.
    """
    earlier = _earlier(part, url)
    have = part.stat().st_size if earlier else 0
    if earlier and earlier.total == have:
        return earlier
    headers = {"Range": f"bytes={have}-", "If-Range": earlier.validator} if earlier and have else {}
    with client.get(url, headers) as response:
        if response.status_code == 416:
            forget(part)
            raise Broken("the part kept is not of this file")
        check_answer(response, url)
        resumed = response.status_code == 206
        if resumed and range_start(response) != have:
            forget(part)
            raise Broken(f"asked from byte {have}, got {response.headers.get('content-range')!r}")
        if not resumed:
            forget(part)  # before anything is noted of the file that comes: a kill leaves no mixture of two
            have = 0
        served = _served(response, url, have)
        if resumed and earlier is not None and earlier.total not in (None, served.total):
            forget(part)
            raise Broken(f"the file had {earlier.total} bytes, it has {served.total} now")
        if size is not None and served.total is not None and served.total != size:
            raise FileError(
                f"{blanked(url)}: the server has {served.total} bytes, the manifest states {size}; "
                "list it again"
            )
        _check_space(part, (served.total or size or 0) - have)
        notes_of(part).write_text(json.dumps(asdict(served)))
        _append(response, url, part, have, size if served.total is None else served.total, told)
    _check_end(part, url, served, size, summed)
    return served


def _served(response: httpx.Response, url: str, have: int) -> Served:
    said = checksums_told(response.headers)
    total = total_bytes(response, have)
    return Served(blanked(url), validator(response), total, said.md5 or "", said.crc32c or "")


def _earlier(part: Path, url: str) -> Served | None:
    """What an earlier try noted of its part; None (and an empty part) unless it can be continued."""
    try:
        served = Served(**json.loads(notes_of(part).read_text()))
    except (OSError, ValueError, TypeError):
        served = None
    if served is None or served.url != blanked(url) or not served.validator or not part.exists():
        forget(part)
        return None
    return served


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DiskFull(
            f"{part}: {needed} bytes still to come, the disk has {free} free; free space and rerun"
        )


def _append(response: httpx.Response, url: str, part: Path, have: int, total: int | None, told: Told) -> None:
    """Write the body behind the first `have` bytes; what came before an error stays."""
    told.begin(have, total)
    with part.open("r+b") as handle:
        handle.seek(have)
        handle.truncate()
        try:
            for number, block in enumerate(response.iter_raw()):
                if number == 0 and have == 0 and is_web_page(block):
                    raise web_page(url)
                if total is not None and handle.tell() + len(block) > total:
                    raise FileError(
                        f"{blanked(url)}: more than the {total} bytes that are stated; list the release again"
                    )
                handle.write(block)
                told.advance(len(block))
        except FileError:
            handle.truncate(0)
            raise
        handle.flush()
        os.fsync(handle.fileno())


def _check_end(part: Path, url: str, served: Served, size: int | None, summed: bool) -> None:
    """Broken if bytes are missing; FileError if it is a web page, or if nothing could tell."""
    found = part.stat().st_size
    wanted = size if served.total is None else served.total
    if wanted is not None and found < wanted:
        raise Broken(f"broke off after {found} of {wanted} bytes")
    with part.open("rb") as handle:
        if is_web_page(handle.read(64)):  # its first block may have been too short to tell
            forget(part)
            raise web_page(url)
    if wanted is not None:
        return
    try:
        proved = proof(part)
    except Cut as error:
        raise Broken(f"broke off after {found} bytes: {error}") from None
    if proved is None and not (summed or served.checksums):
        forget(part)
        raise Unproved(
            f"{blanked(url)}: the server states no length, and nothing in the file proves that its {found} "
            "bytes are all; state its size, md5 or crc32c in the manifest"
        )
