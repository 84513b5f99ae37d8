"""Files of a release that the workflow fetches, or finds because `fetch-sources` has fetched them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from megabase.sources.manifest import write_manifest
from portal import Portal

BODY = b">chr1\nACGT\n"
CONFIG: dict[str, Any] = {
    "release": "mine",
    "organisms": ["x"],
    "genomes": {"x": {"organism": "x", "fasta": "GENOME1"}},
    "folds": {"names": ["a"], "schemes": {"all": {"valid": [], "test": []}}},
    "teachers": {"folds": []},
}
ASKED = "results/raw/lab/GENOME1.fa --cores 1 --configfile mine.yaml"


@pytest.fixture
def released(portal: Portal, checkout: Path) -> dict[str, Any]:
    """A release of one file on a portal, whose config is mine.yaml."""
    url = portal.file("/g/genome.fa", BODY)
    row = {"portal": "lab", "accession": "GENOME1", "output_type": "genome", "organism": "x", "url": url,
           "md5": hashlib.md5(BODY).hexdigest(), "size": len(BODY)}  # fmt: skip
    write_manifest([row], checkout / "resources" / "manifests" / "mine.tsv")
    (checkout / "mine.yaml").write_text(yaml.safe_dump(CONFIG))
    return row


def test_how_files_are_fetched_may_change_without_fetching_them_again(
    released: dict[str, Any], shell, checkout: Path, portal: Portal
) -> None:
    found = shell(f"snakemake {ASKED}")
    assert found.returncode == 0, found.stderr
    assert (checkout / "results/raw/lab/GENOME1.fa").read_bytes() == BODY
    assert (checkout / "results/raw/.turns/127.0.0.1.turn").exists() and len(portal.requests) == 1
    (checkout / "mine.yaml").write_text(yaml.safe_dump(CONFIG | {"sources": {"requests_per_second": 2}}))
    found = shell(f"snakemake -n {ASKED}")
    assert found.returncode == 0 and "Nothing to be done" in found.stdout + found.stderr
    write_manifest([released | {"md5": None}], checkout / "resources" / "manifests" / "mine.tsv")
    found = shell(f"snakemake -n {ASKED}")
    assert found.returncode == 0 and "fetch_source" in found.stdout + found.stderr  # the row is another one


def test_the_workflow_finds_what_fetch_sources_has_fetched(
    released: dict[str, Any], shell, checkout: Path, portal: Portal
) -> None:
    found = shell("python -m megabase fetch-sources resources/manifests/mine.tsv")
    assert found.returncode == 0, found.stderr
    found = shell(f"snakemake {ASKED}")
    assert found.returncode == 0 and "Nothing to be done" in found.stdout + found.stderr, found.stderr
    assert len(portal.requests) == 1
