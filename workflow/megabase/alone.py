"""Run the workflow alone in a folder: `python -m megabase.alone snakemake --cores 2`.

Two drivers in one folder would write the same files. Here the second one is refused with one message. A
driver that was killed (`kill -9`, power loss) leaves a stale Snakemake lock, and on Linux its jobs may go on
without it: both are cleared before the command takes the place of this process. Snakemake then does half-done
jobs again, and training and scoring go on from their checkpoints.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

MARK = "MEGABASE_DRIVEN_IN"  # set in the environment of a driver and so of its jobs: the folder it works in
PATIENCE = 10.0  # seconds that a left-over job is given to end before it is killed


class Busy(Exception):
    """Another run works in the same folder."""


def main() -> None:
    """Take the folder's lock, clear what a killed run left, and become the command given."""
    try:
        run_alone(Path.cwd(), sys.argv[1:])
    except Busy as error:
        sys.exit(f"error: {error}")


def run_alone(folder: Path, command: Sequence[str]) -> None:
    """Replace this process by `command`, which then holds the lock of `folder`; Busy where another does."""
    lock = folder / ".snakemake" / "alone.lock"
    if not take_lock(lock):
        holder = lock.read_text() or "another"
        if not holder.isdecimal() or send(int(holder), 0):
            raise Busy(f"process {holder} runs the workflow in this folder; wait until it has ended")
        end_processes(left_over(folder))  # its driver is dead: only its jobs still hold the lock
        if not take_lock(lock):
            raise Busy(f"jobs of a killed run still work in {folder}; wait until they have ended")
    others = [pid for pid in drivers(folder) if pid not in (os.getpid(), os.getppid())]
    if others:
        raise Busy(f"process {others[0]} runs snakemake in {folder}; wait until it has ended")
    end_processes(left_over(folder))
    shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)
    os.environ[MARK] = str(folder)
    os.execvp(command[0], list(command))


def take_lock(path: Path) -> bool:
    """Hold the lock file for the life of this process, whatever program it becomes; false if it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    os.set_inheritable(handle, True)
    return True


def processes(folder: Path) -> Iterator[tuple[int, list[str], bytes]]:
    """`(pid, arguments, environment)` of this user's processes that work in `folder` (none without /proc)."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve(strict=True) == folder.resolve():
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                yield int(entry.name), arguments, (entry / "environ").read_bytes()
        except OSError:
            continue  # ended meanwhile, or another user's


def drivers(folder: Path) -> list[int]:
    """Process ids of the snakemake drivers that work in a folder."""
    return [
        pid for pid, arguments, _ in processes(folder) if "snakemake" in {Path(a).name for a in arguments[:3]}
    ]


def left_over(folder: Path) -> list[int]:
    """Process ids of jobs of an earlier driver in this folder; only asked while no driver is alive."""
    mark = f"{MARK}={folder}".encode()
    mine = (os.getpid(), os.getppid())
    return [pid for pid, _, environ in processes(folder) if mark in environ.split(b"\0") and pid not in mine]


def end_processes(pids: Sequence[int]) -> None:
    """Ask processes to end, and kill those that have not after a while."""
    if pids:
        print(f"a killed run left {len(pids)} jobs behind; ending them", file=sys.stderr)
    for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
        alive = [pid for pid in pids if send(pid, number)]
        until = time.monotonic() + patience
        while time.monotonic() < until and (alive := [pid for pid in alive if send(pid, 0)]):
            time.sleep(0.1)
        pids = alive


def send(pid: int, number: int) -> bool:
    """Send a signal; false if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


if __name__ == "__main__":
    main()
