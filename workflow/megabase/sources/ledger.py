"""Which files are known to be right, so that a rerun need not read terabytes again to know it.

`.verified.tsv` in the folder of raw files: a line a file that was compared with its manifest row, with the
size and time of change that it had then, and the checksums that were compared. A file that has changed since,
or whose row states something else now, is compared again. Lines are only added; one that a kill cut short
says nothing.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from megabase.sources.checksums import Checksums

LEDGER = ".verified.tsv"


class Ledger:
    """What is known of the files below a folder; threads may share one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / LEDGER
        self._lock = threading.Lock()
        self._known: set[str] = set()
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            self._known = {line.rstrip("\n") for line in lines if line.endswith("\n")}

    def knows(self, path: Path, size: int | None, stated: Checksums) -> bool:
        """Whether the file is there as it was when it was found to be what is stated."""
        return path.is_file() and self._line(path, size, stated) in self._known

    def add(self, path: Path, size: int | None, stated: Checksums) -> None:
        """Note that the file is what is stated."""
        line = self._line(path, size, stated)
        with self._lock:
            if line in self._known:
                return
            self._known.add(line)
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(handle, f"\n{line}\n".encode())  # not behind a line that was cut short
            finally:
                os.close(handle)

    def _line(self, path: Path, size: int | None, stated: Checksums) -> str:
        found = path.stat()
        wanted = ("" if size is None else size, stated.md5 or "", stated.crc32c or "")
        fields = (path.relative_to(self._folder), found.st_size, found.st_mtime_ns, *wanted)
        return "\t".join(str(field) for field in fields)
