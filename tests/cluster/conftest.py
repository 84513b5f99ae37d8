"""One cluster, one set of inputs and one run without a cluster for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))  # the stand-ins of the unit tests

import scoring_run
from throwaway import Cluster, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster; skipped loudly where none can be."""
    if reason := why_not():
        pytest.skip(f"NO CLUSTER ON THIS MACHINE: {reason}")
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genome, genes, model and VCF."""
    return scoring_run.make_world(tmp_path_factory.mktemp("world") / "world")


@pytest.fixture(scope="session")
def local(world: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on this machine."""
    folder = scoring_run.make_run(tmp_path_factory.mktemp("local") / "run", world, root)
    scoring_run.run(folder, scoring_run.command("--cores", "2"))
    return folder
