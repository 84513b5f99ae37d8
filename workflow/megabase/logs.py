"""Logs and progress: one header line a job, a bar on a terminal, one line a minute in a log file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from megabase import __version__

LOGGER = logging.getLogger("megabase")
SECONDS_BETWEEN_LINES = 60.0
MOST_WAITING = 0.2  # share of the time that a loop may wait for its data before the log says so


def rank() -> int:
    """Number of this process among those that torchrun started; only the first tells how far it is."""
    return int(os.environ.get("RANK", "0"))


@cache
def git_hash() -> str:
    """Short commit of the checkout that this package runs from, or `release` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "release"


def start(command: str, *, seed: int | None = None, config_hash: str = "") -> logging.Logger:
    """Set up logging to stderr and write the header line of this job."""
    form = "%(asctime)s %(message)s" if not rank() else f"%(asctime)s rank {rank()}: %(message)s"
    level = logging.WARNING if rank() else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format=form, force=True)
    torch = sys.modules.get("torch")  # only the commands that compute load it
    device = "-" if torch is None else ("cuda" if torch.cuda.is_available() else "cpu")
    LOGGER.info(
        "megabase %s | version %s (%s) | torch %s | device %s | seed %s | config %s",
        command, __version__, git_hash(), getattr(torch, "__version__", "-"), device,
        "-" if seed is None else seed, config_hash[:12] or "-",
    )  # fmt: skip
    return LOGGER


class Progress:
    """Counts units of work done and tells the rate and the time left."""

    def __init__(self, total: int, what: str, unit: str, done: int = 0) -> None:
        self.total, self.what, self.unit = total, what, unit
        self.done, self.first = done, done
        self.began = self.last_line = time.monotonic()
        self._bar = None

    @property
    def rate(self) -> float:
        """Units a second since this object was made (work done by an earlier, interrupted run left out)."""
        return (self.done - self.first) / max(time.monotonic() - self.began, 1e-9)

    def advance(self, n: int = 1, note: str = "") -> None:
        """Tell that `n` more units are done; `note` is shown beside the count."""
        self.done += n
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=self.done, description=f"{self.what} {note}".strip())
            return
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES or self.done >= self.total:
            self.last_line = now
            LOGGER.info("%s", self.line(note))

    def line(self, note: str = "") -> str:
        """One line: what, how far, how fast, how long still."""
        left = (self.total - self.done) / self.rate if self.rate > 0 else float("inf")
        left_text = "?" if left == float("inf") else f"{int(left) // 60}:{int(left) % 60:02d}"
        share = 100 * self.done / max(self.total, 1)
        return (
            f"{self.what}: {self.done}/{self.total} {self.unit} ({share:.0f}%), "
            f"{self.rate:.3g} {self.unit}/s, {left_text} left{', ' + note if note else ''}"
        )


@contextmanager
def progress(total: int, what: str, unit: str, done: int = 0) -> Iterator[Progress]:
    """Progress of `total` units, of which `done` were finished by an earlier run."""
    tracker = Progress(total, what, unit, done)
    if rank() or not sys.stderr.isatty():
        yield tracker
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tracker._bar = (bar, bar.add_task(what, total=total, completed=done))
        yield tracker


class Waiting:
    """Time that a loop waits for its data: `with waiting: batch = next_batch()`.

    A warning in the log says when it was more than a fifth of the last minute; nothing else changes.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self.clock = what, clock
        self.began = self.entered = clock()
        self.waited = 0.0

    def __enter__(self) -> None:
        self.entered = self.clock()

    def __exit__(self, *_: object) -> None:
        now = self.clock()
        self.waited += now - self.entered
        if now - self.began < SECONDS_BETWEEN_LINES:
            return
        share = self.waited / (now - self.began)
        if share > MOST_WAITING:
            LOGGER.warning(
                "%s: waited for data %.0f%% of the last %.0f s; windows are read too slowly for this device: "
                "give the job more threads or the store a faster disk",
                self.what, 100 * share, now - self.began,
            )  # fmt: skip
        self.began, self.waited = now, 0.0
