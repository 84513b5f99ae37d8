"""A path is there whole or not at all, whatever stops its writer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from megabase.files import atomic_path

REPLACE = """
import os, shutil, sys
from pathlib import Path
from megabase import files
path, stop = Path(sys.argv[1]), int(sys.argv[2])
steps = iter(range(100))

def stopping(function):
    def step(*arguments, **options):
        if next(steps) == stop:
            os._exit(9)
        return function(*arguments, **options)
    return step

os.replace, os.unlink, os.rmdir = map(stopping, (os.replace, os.unlink, os.rmdir))
with files.atomic_path(path) as temporary:
    temporary.mkdir()
    for name in "abc":
        (temporary / name).write_text("new")
"""


def folder_of_three(path: Path, text: str) -> Path:
    path.mkdir()
    for name in "abc":
        (path / name).write_text(text)
    return path


def test_a_folder_takes_the_place_of_another(tmp_path):
    path = folder_of_three(tmp_path / "scores", "old")
    with atomic_path(path) as temporary:
        folder_of_three(temporary, "new")
        assert (path / "a").read_text() == "old"
    assert {p.read_text() for p in path.iterdir()} == {"new"}
    assert [p.name for p in tmp_path.iterdir()] == ["scores"]


def test_an_error_leaves_what_was_there(tmp_path):
    path = folder_of_three(tmp_path / "scores", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        folder_of_three(temporary, str(1 / 0))
    assert {p.read_text() for p in path.iterdir()} == {"old"} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("stop", range(8))
def test_a_writer_killed_at_any_step_leaves_no_half_of_a_folder(tmp_path, stop):
    path = folder_of_three(tmp_path / "scores", "old")
    found = subprocess.run([sys.executable, "-c", REPLACE, str(path), str(stop)], env=os.environ, check=False)
    assert found.returncode == (9 if stop < 7 else 0)  # two renames, five removals
    if path.exists():
        assert [p.name for p in sorted(path.iterdir())] == list("abc")
        assert {p.read_text() for p in path.iterdir()} == {"old" if stop == 0 else "new"}
    else:
        assert stop == 1  # between the renames
    with atomic_path(path) as temporary:  # and the next one writes it
        folder_of_three(temporary, "newer")
    assert {p.read_text() for p in path.iterdir()} == {"newer"}
