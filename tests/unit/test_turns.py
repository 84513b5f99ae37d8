"""Turns at a host: one rate for all processes, and nothing that stalls them for ever.

What is counted are the times of the requests on the clock of this machine: never more than the rate in a
window, whatever the load; how fast the machine is does not matter.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from megabase.sources import turns
from megabase.sources.turns import Turns
from portal import Portal

RATE = 50.0
EARLY = 0.005  # seconds that the clocks of `time.time` and of the portal may differ by over a test

ASKING = """
import sys, urllib.request
from pathlib import Path
from megabase.sources.turns import Turns
folder, url, number = sys.argv[1:]
turns = Turns(Path(folder), {rate})
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(number)):
    turns.wait("host")
    urllib.request.urlopen(url).read()
"""


def test_processes_share_one_rate(portal: Portal, tmp_path: Path) -> None:
    url = portal.file("/x", b"x")
    command = [sys.executable, "-c", ASKING.format(rate=RATE), str(tmp_path), url, "15"]
    asking = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in asking:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for process in asking:
        process.communicate("go\n", timeout=60)
    assert [process.returncode for process in asking] == [0] * 4
    came = sorted(request.when for request in portal.requests)
    assert len(came) == 60
    for number, when in enumerate(came):  # in every window from the beginning at most its share of requests
        assert when >= began + number / RATE - EARLY


def test_turns_are_an_interval_apart_and_the_same_in_all_threads() -> None:
    own = Turns(None, 200.0)
    taken: list[float] = []

    def take() -> None:
        for _ in range(10):
            own.wait("a")
            taken.append(time.time())

    threads = [threading.Thread(target=take) for _ in range(5)]
    began = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50
    for number, when in enumerate(sorted(taken)):  # the n-th turn never comes before its time
        assert when >= began + number / 200.0 - 1e-3


def test_hosts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    shared = Turns(tmp_path, 0.01)
    shared.wait("a")
    shared.wait("b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.turn", "b.turn"]


def test_a_host_names_no_path(tmp_path: Path) -> None:
    Turns(tmp_path / "turns", 100.0).wait("../../x/y")
    assert [path.name for path in (tmp_path / "turns").iterdir()] == [".._.._x_y.turn"]
    assert [path.name for path in tmp_path.iterdir()] == ["turns"]


@pytest.mark.parametrize("folder", [True, False])
def test_a_hold_keeps_all_back_also_those_that_wait_already(tmp_path: Path, folder: bool) -> None:
    one = Turns(tmp_path if folder else None, 2.0)
    other = Turns(tmp_path, 2.0) if folder else one
    one.wait("a")
    taken = _next(one)
    came: list[float] = []

    def waiting() -> None:
        other.wait("a")
        came.append(time.time())

    thread = threading.Thread(target=waiting)
    thread.start()
    while _next(one) == taken:  # until it has taken its turn, half a second ahead
        time.sleep(0.001)
    began = time.time()
    one.hold("a", 0.8)
    thread.join()
    assert came[0] >= began + 0.8


def _next(own: Turns) -> float:
    with own._times("a", time.time()) as times:
        return times.next


@pytest.mark.parametrize(
    "text", [b"", b"\0\0\0", b"nan nan\n", b"inf inf\n", b"9e99 0\n", b"0 9999999999.0\n", b"1", b"a b\n"]
)
def test_a_file_that_cannot_be_right_stalls_nobody(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.turn").write_bytes(text)
    began = time.monotonic()
    Turns(tmp_path, 100.0).wait("a")
    assert time.monotonic() - began < 5
    following = [float(part) for part in (tmp_path / "a.turn").read_bytes().split()]
    assert abs(following[0] - time.time()) < 5 and following[1] == 0


def test_a_portal_may_not_ask_for_more_than_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_AHEAD", 0.2)
    own = Turns(tmp_path, 100.0)
    own.hold("a", 1e9)
    began = time.time()
    own.wait("a")
    assert time.time() - began < 5


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    Turns(tmp_path, 100.0).wait("a")
    holding = (
        "import fcntl, os, sys, time; h = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(h, fcntl.LOCK_EX)"
    )
    code = f"{holding}; print('has it', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.turn")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"has it\n"
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (Turns(tmp_path, 100.0).wait("a"), done.set()), daemon=True)
    waiting.start()
    assert not done.wait(0.3)  # it is locked
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert done.wait(5)


def test_a_lock_that_never_comes_is_gone_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turns, "_LOCK_PATIENCE", 0.05)
    (tmp_path / "a.turn").touch()
    with (tmp_path / "a.turn").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        own = Turns(tmp_path, 1000.0)
        own.wait("a")
        own.wait("a")
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/a.turn: locked for 0 s by a process that hangs; the limit of requests is kept by this "
        "process alone"
    ]


def test_a_file_system_without_locks_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    own = Turns(tmp_path, 1000.0)
    began = time.time()
    for _ in range(10):
        own.wait("a")
    assert time.time() - began >= 9 / 1000.0 - 1e-3  # still a rate
    assert len(caplog.records) == 1 and "the file system keeps no locks" in caplog.text


def _take(folder: str, number: int, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    own = Turns(Path(folder), 500.0)
    for _ in range(number):
        own.wait("a")
    queue.put(True)


def test_no_turn_is_taken_twice(tmp_path: Path) -> None:
    """After n turns the next free time is n intervals on: a lost update would make it less."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    began = time.time()
    processes = [context.Process(target=_take, args=(str(tmp_path), 40, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    following = float((tmp_path / "a.turn").read_text().split()[0])
    assert following >= began + 120 / 500.0
