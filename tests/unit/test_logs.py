"""Logs: a loop that waits for its data says so, and of many processes only the first tells how far it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from megabase import logs


def _loop(waits: list[float], works: list[float]) -> None:
    """A loop whose steps wait and work for so many seconds."""
    now = [0.0]
    waiting = logs.Waiting("teacher", clock=lambda: now[0])
    for wait, work in zip(waits, works, strict=True):
        with waiting:
            now[0] += wait
        now[0] += work


def test_a_loop_that_starves_says_so_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="megabase"):
        _loop([3.0] * 25, [7.0] * 25)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4 and all(record.levelno == logging.WARNING for record in caplog.records)
    assert lines[0].startswith("teacher: waited for data 33% of the last 63 s; ")
    assert lines[1].startswith("teacher: waited for data 30% of the last 60 s; ")


def test_a_loop_that_is_fed_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="megabase"):
        _loop([1.0] * 30, [9.0] * 30)
        _loop([30.0, 1.0], [1.0, 1.0])  # less than a minute
    assert caplog.records == []


@pytest.fixture
def restored() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize(("rank", "lines"), [("0", 2), ("3", 1)])
def test_only_the_first_process_tells_how_far_it_is(
    rank: str, lines: int, restored: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("RANK", rank)
    logs.start("train-teacher").warning("look here")
    found = capsys.readouterr().err.splitlines()
    assert len(found) == lines and found[-1].endswith("rank 3: look here" if rank == "3" else "look here")
