"""A rate limit per host that all jobs share: each request takes the next free time of its host.

Portals count the requests of a user, not of a process (ENCODE: at most 10 GET a second, help/rest-api). The
jobs of a run meet in a folder: a file per host, `{host}.turn`, holds two times, `next` (the first that nobody
has taken) and `hold` (until when the portal wants to be left alone). Who wants to ask locks the file with
flock, takes `next`, moves it on by one interval, lets go, and sleeps until its time: a lock is held for
microseconds, and the kernel frees that of a killed process, which costs one unused turn.

Across nodes the folder's file system must offer flock between nodes: NFS (v4, or v3 with its lock daemon),
GPFS, BeeGFS with `tuneUseGlobalFileLocks`, Lustre mounted with `flock`. With Lustre's `localflock` each node
has the rate for itself; where there are no locks at all, each process has (a warning says so). The nodes'
clocks must agree to within the interval for the rate to be exact; a time further ahead than MOST_AHEAD
(a clock that jumped, bytes that are no time) is taken for none, so that nothing stalls for ever.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from megabase.logs import LOGGER

MOST_AHEAD = 600.0  # seconds: more than any queue of jobs takes or a portal may ask for (`MAX_WAIT`)
_LOCK_PATIENCE = 10.0  # seconds for a lock that is held for microseconds: its holder is stopped, not slow
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@dataclass
class _Times:
    """Seconds since 1970, as `time.time()` gives them."""

    next: float = 0.0
    hold: float = 0.0

    @classmethod
    def parse(cls, text: bytes, now: float) -> _Times:
        """Times of a file; those that cannot be right are none."""
        try:
            values = [float(part) for part in text.split()]
        except ValueError:
            values = []
        if len(values) != 2 or not all(math.isfinite(v) and v <= now + MOST_AHEAD for v in values):
            return cls()
        return cls(*values)

    def text(self) -> bytes:
        return f"{self.next:.6f} {self.hold:.6f}\n".encode()


class Turns:
    """Turns at the hosts, `per_second` a second and host, shared by all that use the same folder.

    Without a folder they are shared by the threads of this process only.
    """

    def __init__(self, folder: Path | None, per_second: float) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.interval = 1.0 / per_second
        self._own: dict[str, _Times] = {}
        self._lock = threading.Lock()

    def wait(self, host: str) -> None:
        """Return when it is this caller's turn at `host`; a hold that came meanwhile is waited for, too."""
        while True:
            now = time.time()
            with self._times(host, now) as times:
                turn = max(times.next, times.hold, now)
                times.next = turn + self.interval
            time.sleep(max(0.0, turn - now))
            if self._hold(host) <= turn:
                return

    def hold(self, host: str, seconds: float) -> None:
        """Let nobody ask `host` for so many seconds from now (at most MOST_AHEAD), as the portal wishes."""
        now = time.time()
        until = now + min(max(seconds, 0.0), MOST_AHEAD)
        with self._times(host, now) as times:
            times.hold = max(times.hold, until)
            times.next = max(times.next, until)

    def _hold(self, host: str) -> float:
        now = time.time()
        if (file := self._file(host)) is None:
            with self._lock:
                return self._own.get(host, _Times()).hold
        try:
            return _Times.parse(file.read_bytes(), now).hold
        except OSError:
            return 0.0

    def _file(self, host: str) -> Path | None:
        name = re.sub(r"[^A-Za-z0-9.-]", "_", host) or "_"
        return None if self.folder is None else self.folder / f"{name}.turn"

    @contextmanager
    def _times(self, host: str, now: float) -> Iterator[_Times]:
        """The times of a host, to be changed while nobody else has them."""
        file = self._file(host)
        handle = None if file is None else self._locked(file)
        if handle is None:
            with self._lock:
                yield self._own.setdefault(host, _Times())
            return
        try:
            times = _Times.parse(os.pread(handle, 100, 0), now)
            yield times
            text = times.text()
            os.pwrite(handle, text, 0)
            os.ftruncate(handle, len(text))
        finally:
            os.close(handle)  # and with it the lock

    def _locked(self, file: Path) -> int | None:
        """Open handle of a file that this caller has locked; None where no lock can be had."""
        patience = time.monotonic() + _LOCK_PATIENCE
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            return self._alone(f"{file}: {error.strerror}")
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() > patience:
                    os.close(handle)
                    return self._alone(f"{file}: locked for {_LOCK_PATIENCE:.0f} s by a process that hangs")
                time.sleep(0.002)
            except OSError as error:
                os.close(handle)
                if error.errno not in _NO_LOCKS:
                    raise
                return self._alone(f"{file}: the file system keeps no locks")

    def _alone(self, why: str) -> None:
        """Go on with this process's own times, and say so once."""
        if self.folder is not None:
            LOGGER.warning("%s; the limit of requests is kept by this process alone", why)
        self.folder = None
