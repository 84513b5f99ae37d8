"""A copy of the checkout to run the workflow in, so that no test touches the results of the real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "unit"), str(TESTS / "cluster")]  # an untrained model, and a folder to run in

PARTS = ("Snakefile", "workflow", "config", "profiles", "resources", "envs", "docs", "Makefile", "README.md",
         "pyproject.toml", ".ci")  # fmt: skip
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Path:
    """A copy of everything that the workflow runs from."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".snakemake")
    for part in PARTS:
        source = root / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignore)
        else:
            shutil.copy(source, folder / part)
    return folder


@pytest.fixture
def shell(checkout: Path) -> Shell:
    """Run a shell command in the copy, with the package of the copy and the tools of this environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(checkout / "workflow"), "OMP_NUM_THREADS": "1"}

    def run(command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=checkout,
            env=variables | more,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
