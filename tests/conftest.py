"""Fixtures that every test may use: the real data and references, skipped loudly where they are absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portal import Portal

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("MEGABASE_SHARED", ROOT.parent / "shared"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, and those of the full-size network: it is 2 GB, made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "numerics" if "/numerics/" in file else file

    return ByFile(config, log)


@pytest.hookimpl
def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their number: what gzip writes holds the time, all processes must name a test alike."""
    return f"{argname}_of_{len(val)}" if isinstance(val, bytes) else None


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


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    """A portal on this machine (tests/portal): recorded answers, small files, faults. No proxy, no logins."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "NETRC" or name.startswith("MEGABASE_LOGIN_"):
            monkeypatch.delenv(name)
    with Portal() as running:
        yield running
