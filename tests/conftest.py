"""Fixtures that every test may use: the real data and references, skipped loudly where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("MEGABASE_SHARED", ROOT.parent / "shared"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and those of the full-size network: it is 2 GB, made once."""
    for item in items:
        file = item.path.relative_to(ROOT / "tests")
        name = file.parts[0] if file.parts[0] == "numerics" else str(file)
        item.add_marker(pytest.mark.xdist_group(name))


def _shared(folder: str) -> Path:
    path = SHARED / folder
    if not path.exists():
        pytest.skip(f"REAL DATA ABSENT: {path} not found; set MEGABASE_SHARED to what holds {folder}")
    return path


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real measurements (human_tiny, mouse_tiny, yeast, chr20_1mb, mpra, folds)."""
    return _shared("data")


@pytest.fixture(scope="session")
def references() -> Path:
    """Folder of numerical references."""
    return _shared("reference")


@pytest.fixture(scope="session")
def facts() -> Path:
    """Folder of the parameter tree and other checked facts."""
    return _shared("facts")
