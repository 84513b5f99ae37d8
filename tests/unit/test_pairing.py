"""The paired timings: workers answer in turns, and the ratio is taken within rounds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from implementations import Job
from pairing import PUBLISHED, Worker, WorkerError, markdown, parser, summary, take_turns

CHANNELS = {"dnase": 2, "splice_sites": 5, "splice_junctions": 4, "contact_maps": 1}


def make_worker(task: str, name: str = "megabase") -> Worker:
    """A worker of a small model."""
    return Worker(name, sys.executable, Job(task, 4096, CHANNELS, sites=3, preset="tiny"), threads=1)


@pytest.mark.parametrize("task", ["forward", "train_step"])
def test_a_worker_times_passes(task: str) -> None:
    worker = make_worker(task)
    worker.start()
    try:
        take_turns([worker], rounds=2)
    finally:
        worker.stop()
    assert worker.about["version"] and worker.about["threads"] == 1
    assert len(worker.passes) == 2  # the first pass is warm-up and forgotten
    assert all(p["seconds"] > 0 and p["peak_gb"] > 0.05 for p in worker.passes)
    assert worker.process.returncode == 0


def test_a_worker_that_dies_is_named() -> None:
    worker = make_worker("forward", name="unheard-of")
    with pytest.raises(WorkerError, match=r"unheard-of.*exit status"):
        worker.start()


def test_ratios_are_taken_within_rounds() -> None:
    ours, theirs = make_worker("forward"), make_worker("forward")
    ours.about = theirs.about = {"name": "x", "version": "1", "device": "cpu", "threads": 1, "torch": "2"}
    ours.passes = [{"seconds": s, "peak_gb": 1.0} for s in (1.0, 2.0, 30.0)]  # the machine was busy in turn 3
    theirs.passes = [{"seconds": s, "peak_gb": 3.0} for s in (2.0, 4.0, 60.0)]
    rows = summary([ours, theirs])
    assert [r["ratio"] for r in rows] == [1.0, 0.5]
    assert (rows[1]["low"], rows[1]["high"], rows[1]["peak_gb"]) == (0.5, 0.5, 3.0)
    assert "0.50 (0.50 to 0.50)" in markdown(ours.job, rows)


def test_opponents_are_named_with_their_interpreter(capsys: pytest.CaptureFixture[str]) -> None:
    found = parser("").parse_args(["--against", "alphagenome-pt=a/b=c"]).against
    assert found == [("alphagenome-pt", "a/b=c")]
    for wrong in ("alphagenome-pt", "unheard-of=python", "alphagenome-pt="):
        with pytest.raises(SystemExit):
            parser("").parse_args(["--against", wrong])
        assert "wanted NAME=PYTHON" in capsys.readouterr().err


def test_what_is_timed_is_the_published_network() -> None:
    assert sum(PUBLISHED.values()) == 6493 and len(PUBLISHED) == 11
