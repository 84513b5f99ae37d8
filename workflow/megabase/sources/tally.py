"""How far a run of many downloads is: one line of files, bytes, rate and time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from megabase.logs import LOGGER, SECONDS_BETWEEN_LINES

_SHOWN_EVERY = 0.5  # seconds between two states of the line on a terminal


class Stopped(Exception):
    """The user ended the run, or the disk is full: a download breaks off, its part stays."""


class Share:
    """One file's part in the tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally, self._have = tally, 0

    def begin(self, have: int, total: int | None) -> None:
        self._tally.move(have - self._have, counts=False)
        self._have = have

    def advance(self, n: int) -> None:
        if self._tally.stop.is_set():
            raise Stopped
        self._have += n
        self._tally.move(n, counts=True)


class Tally:
    """The one progress line of a run: files, bytes, rate and time left; rewritten on a terminal."""

    def __init__(self, sizes: Sequence[int | None], there: int) -> None:
        """Sizes of the files that are not yet known to be there (None: unknown), and how many are."""
        self.files, self.there, self.new, self.done = len(sizes), there, 0, 0
        self.total = sum(size or 0 for size in sizes)
        self.unknown = sum(size is None for size in sizes)
        self.have = self.moved = 0
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._began = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Tally:
        LOGGER.info(
            "fetch-sources: %d files are there, %d are missing or to be compared", self.there, self.files
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._show(last=True)

    def move(self, n: int, *, counts: bool) -> None:
        """`n` more bytes are there; `counts`: they came just now, and so tell the rate."""
        with self._lock:
            self.have += n
            self.moved += n if counts else 0
        self._show()

    def fetched(self) -> None:
        """One file more came from its portal."""
        with self._lock:
            self.new += 1

    def finished(self) -> None:
        """One file more is there and right."""
        with self._lock:
            self.done += 1
        self._show()

    def line(self) -> str:
        """`fetch-sources: 12/40 files, 1.2 of 30.5 GB (4%), 80.3 MB/s, 6:05 left`."""
        rate = self.moved / max(time.monotonic() - self._began, 1e-9)
        left = f"{_clock((self.total - self.have) / rate)} left" if rate and self.total else "? left"
        unknown = f" and {self.unknown} of unknown size" if self.unknown else ""
        share = f" ({100 * self.have / self.total:.0f}%)" if self.total else ""
        return (
            f"fetch-sources: {self.done}/{self.files} files, {readable(self.have)} of "
            f"{readable(self.total)}{unknown}{share}, {readable(rate)}/s, {left}"
        )

    def _show(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._shown < (_SHOWN_EVERY if self._terminal else SECONDS_BETWEEN_LINES):
            return
        with self._lock:
            self._shown, line = now, self.line()
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{line}" + "\n" * last)
            sys.stderr.flush()
        else:
            LOGGER.info("%s", line)


def readable(number: float) -> str:
    """Bytes in the largest unit of which there is one: `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    hours = f"{whole // 3600}:{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"
