"""Bytes of a file of this machine or of a server, a range at a time, each one whole or an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from megabase.files import FileError
from megabase.sources.answers import RETRY_STATUS, Broken, retry_after, total_bytes
from megabase.sources.client import Client, tried_again
from megabase.sources.credentials import blanked
from megabase.sources.manifest import local_path


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
        self._client = Client()
        if not self._remote:
            path = Path(local_path(source))
            if not path.is_file():
                raise FileError(f"{path}: not found")
            self._path, self.size = path, path.stat().st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._client.__exit__(kind, error, trace)

    def read(self, start: int, length: int) -> bytes:
        """Bytes start..start + length, fewer only at the file's end; FileError for anything else."""
        if self.size is not None and start >= self.size:
            return b""
        if not self._remote:
            with self._path.open("rb") as handle:
                handle.seek(start, os.SEEK_SET)
                return handle.read(length)
        return tried_again(
            lambda: self._ask(start, length), self.source, attempts=self.attempts, backoff=self.backoff
        )

    def whole(self) -> bytes:
        """All bytes of a small file, such as an index."""
        block, parts = 1 << 22, []
        while part := self.read(sum(map(len, parts)), block):
            parts.append(part)
            if self.size is not None and sum(map(len, parts)) >= self.size:
                break
        return b"".join(parts)

    def _ask(self, start: int, length: int) -> bytes:
        shown = blanked(self.source)
        with self._client.get(self.source, {"Range": f"bytes={start}-{start + length - 1}"}) as answer:
            status = answer.status_code
            if status in RETRY_STATUS:
                raise Broken(f"HTTP {status}", retry_after(answer))
            if status == 416:
                return b""
            if status == 200:
                raise FileError(
                    f"{shown}: the server sends no ranges, only the whole; fetch it, and name the file"
                )
            if status != 206:
                raise FileError(f"{shown}: HTTP {status} {answer.reason_phrase}; correct the address")
            size = total_bytes(answer, start)
            if size is None:
                raise FileError(f"{shown}: the server does not say how long the file is; fetch it whole")
            self._check_same(size, answer.headers.get("etag"))
            wanted = min(length, size - start)
            told = answer.headers.get("content-range", "")
            if told.rpartition("/")[0] != f"bytes {start}-{start + wanted - 1}":
                raise FileError(f"{shown}: asked for {wanted} bytes from {start}, the server says {told!r}")
            body = answer.read()
        if len(body) != wanted:
            raise Broken(f"{len(body)} of {wanted} bytes from {start} arrived")
        return body

    def _check_same(self, size: int, tag: str | None) -> None:
        self.size, self._tag = self.size or size, self._tag or tag
        if (self.size, self._tag) != (size, tag or self._tag):
            raise FileError(f"{blanked(self.source)}: the file changed while it was read; run it again")
