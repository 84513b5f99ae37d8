"""Bytes of a file of this machine or of a server, a range at a time, each one whole or an error."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Self

import httpx

from megabase import __version__
from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.sources.download import RETRY_STATUS
from megabase.sources.manifest import local_path

_HEADERS = {"User-Agent": f"megabase/{__version__}", "Accept-Encoding": "identity"}


class _Again(Exception):
    """A request that may succeed if it is made again."""


class Ranges:
    """A file that is read in ranges: `http(s)://...`, `file:...` or a path. A context manager.

    All answers of a server must be of one file: of one size, and of one ETag where it tells any. attempts,
    backoff: tries of a request, and seconds before the second, doubled before each next.
    """

    def __init__(self, source: str, *, attempts: int = 6, backoff: float = 1.0) -> None:
        self.source, self.attempts, self.backoff = source, attempts, backoff
        self.size: int | None = None
        self._tag: str | None = None
        self._remote = source.startswith(("http://", "https://"))
        self._client = httpx.Client(headers=_HEADERS, follow_redirects=True, timeout=60.0)
        if not self._remote:
            path = Path(local_path(source))
            if not path.is_file():
                raise FileError(f"{path}: not found")
            self._path, self.size = path, path.stat().st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self, start: int, length: int) -> bytes:
        """Bytes start..start + length, fewer only at the file's end; FileError for anything else."""
        if self.size is not None and start >= self.size:
            return b""
        if not self._remote:
            with self._path.open("rb") as handle:
                handle.seek(start, os.SEEK_SET)
                return handle.read(length)
        for attempt in range(1, self.attempts + 1):
            try:
                return self._ask(start, length)
            except (_Again, httpx.TransportError) as error:
                if attempt == self.attempts:
                    raise FileError(
                        f"{self.source}: {error or type(error).__name__}; tried {attempt} times, nothing is "
                        "written; try again later"
                    ) from error
                wait = self.backoff * 2 ** (attempt - 1)
                LOGGER.warning("%s: %s; trying again in %.1f s", self.source, error, wait)
                time.sleep(wait)
        raise ValueError(f"{self.attempts} attempts; wanted at least 1")

    def whole(self) -> bytes:
        """All bytes of a small file, such as an index."""
        block, parts = 1 << 22, []
        while part := self.read(sum(map(len, parts)), block):
            parts.append(part)
            if self.size is not None and sum(map(len, parts)) >= self.size:
                break
        return b"".join(parts)

    def _ask(self, start: int, length: int) -> bytes:
        answer = self._client.get(self.source, headers={"Range": f"bytes={start}-{start + length - 1}"})
        status = answer.status_code
        if status in RETRY_STATUS:
            raise _Again(f"HTTP {status}")
        if status == 416:
            return b""
        if status == 200:
            raise FileError(
                f"{self.source}: the server sends no ranges, only the whole; fetch it, and name the file"
            )
        if status != 206:
            raise FileError(f"{self.source}: HTTP {status} {answer.reason_phrase}; correct the address")
        first, last, size = _content_range(answer.headers.get("content-range", ""))
        self._check_same(size, answer.headers.get("etag"))
        wanted = min(length, size - start)
        if first != start or last - first + 1 != wanted:
            raise FileError(
                f"{self.source}: asked for {wanted} bytes from {start}, the server says {first}-{last}"
            )
        if len(answer.content) != wanted:
            raise _Again(f"{len(answer.content)} of {wanted} bytes from {start} arrived")
        return answer.content

    def _check_same(self, size: int, tag: str | None) -> None:
        self.size, self._tag = self.size or size, self._tag or tag
        if (self.size, self._tag) != (size, tag or self._tag):
            raise FileError(f"{self.source}: the file changed while it was read; run it again")


def _content_range(value: str) -> tuple[int, int, int]:
    """(first, last, size) of `bytes 0-99/1234`; -1 where it does not tell."""
    places, _, size = value.removeprefix("bytes ").partition("/")
    first, _, last = places.partition("-")
    return tuple(int(n) if n.isdigit() else -1 for n in (first, last, size))  # type: ignore[return-value]
