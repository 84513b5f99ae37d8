"""One process at a time makes a file; what killed ones left is removed."""

from __future__ import annotations

import errno
import fcntl
import threading

import pytest

from megabase.files import atomic_path, sole_writer


def test_the_lock_goes_with_the_block_and_the_litter_with_the_next(tmp_path):
    path = tmp_path / "scores"
    (tmp_path / ".tmp-0123abcd-scores").mkdir()
    (tmp_path / ".tmp-0123abcd-scores" / "part").touch()
    (tmp_path / ".tmp-0123abcd-other-scores").touch()
    with sole_writer(path) as waited, atomic_path(path) as temporary:
        assert not waited
        temporary.mkdir()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tmp-0123abcd-other-scores", "scores"]
    with pytest.raises(ZeroDivisionError), sole_writer(path):
        _ = 1 / 0
    assert not (tmp_path / ".lock-scores").exists()


def test_writers_wait_for_each_other(tmp_path):
    inside, most, waits = 0, 0, []
    barrier, count = threading.Barrier(4), threading.Lock()

    def write() -> None:
        nonlocal inside, most
        barrier.wait()
        for _ in range(50):
            with sole_writer(tmp_path / "x") as waited:
                with count:
                    inside += 1
                    most = max(most, inside)
                waits.append(waited)
                with count:
                    inside -= 1

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1 and len(waits) == 200 and any(waits)
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_writer(tmp_path / "x") as waited:
        assert not waited
    assert not list(tmp_path.iterdir())
