"""One run in a folder at a time; what a killed run left is cleared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from megabase import alone


def _start(folder: Path, *command: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "megabase.alone", *command]
    return subprocess.Popen(arguments, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert path.exists(), path


@pytest.fixture
def started() -> Iterator[list[int]]:
    """Process ids that a test started and that must not outlive it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if alone.send(pid, 0):
            os.kill(pid, 9)


def test_second_run_is_refused_with_one_message(tmp_path: Path) -> None:
    first = _start(tmp_path, "bash", "-c", "touch up; sleep 60")
    try:
        _wait_for(tmp_path / "up")
        second = _start(tmp_path, "touch", "second")
        out, err = second.communicate(timeout=60)
        assert second.returncode == 1 and out == ""
        assert (
            err.startswith(f"error: process {first.pid} runs the workflow in this folder")
            and err.count("\n") == 1
        )
        assert not (tmp_path / "second").exists()
    finally:
        first.kill()
        first.communicate()


def test_command_replaces_the_process_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    run = _start(tmp_path, "bash", "-c", "exit 7")
    run.communicate(timeout=60)
    assert run.returncode == 7


def test_stale_lock_of_a_killed_run_is_cleared(tmp_path: Path) -> None:
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("x")
    first = _start(tmp_path, "bash", "-c", "touch up; sleep 60")
    _wait_for(tmp_path / "up")
    first.kill()
    first.communicate()
    second = _start(tmp_path, "touch", "second")
    second.communicate(timeout=60)
    assert second.returncode == 0 and (tmp_path / "second").exists() and not locks.exists()


def test_left_over_job_of_a_killed_run_is_ended(tmp_path: Path, started: list[int]) -> None:
    first = _start(tmp_path, "bash", "-c", "sleep 600 & echo $! > job; touch up; wait")
    _wait_for(tmp_path / "up")
    started.append(job := int((tmp_path / "job").read_text()))
    first.kill()
    first.wait(timeout=60)
    assert alone.send(job, 0)
    second = _start(tmp_path, "true")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0 and "left 1 jobs behind" in err
    assert not alone.send(job, 0)


def test_plain_snakemake_in_the_folder_is_respected(tmp_path: Path) -> None:
    fake = tmp_path / "snakemake"
    fake.write_text("import time\nopen('up', 'w').close()\ntime.sleep(60)\n")
    plain = subprocess.Popen([sys.executable, str(fake)], cwd=tmp_path)
    try:
        _wait_for(tmp_path / "up")
        run = _start(tmp_path, "touch", "second")
        _, err = run.communicate(timeout=60)
        assert run.returncode == 1 and f"process {plain.pid} runs snakemake" in err
    finally:
        plain.kill()
        plain.wait()
