"""A release is frozen from portals and tables: its manifest, what was refused, and what was answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from portal_stand_ins import Portal, analysis, experiment, file, reads, serving
from typer.testing import CliRunner

from megabase import cli
from megabase.files import FileError, read_tsv
from megabase.settings.listing import ListingSettings
from megabase.sources import listing as module
from megabase.sources.listing import beside, list_sources, manifest_path, summary
from megabase.sources.manifest import read_manifest, write_manifest
from megabase.sources.portals import PORTALS, Listing, Release

SETTINGS = ListingSettings(assemblies={"human": "GRCh38"})


@pytest.fixture(autouse=True)
def in_the_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of rules are named by paths in the checkout; a portal on this machine needs no turns."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(module, "PER_SECOND", 1e6)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def portal() -> Iterator[Portal]:
    """One experiment with both strands of a replicate, and a revoked file."""
    files = [
        file("ENCFF000AA1", output_type="plus strand signal of unique reads"),
        file("ENCFF000AA2", output_type="minus strand signal of unique reads"),
        file("ENCFF000AA3", status="revoked"), reads("ENCFF000AA4"),
    ]  # fmt: skip
    members = analysis("ENCAN0AAA", *(one["accession"] for one in files))
    with serving(Experiment=[experiment()], Analysis=[members], File=files) as running:
        yield running


def release(portal: Portal, name: str = "r1") -> Release:
    return Release(name, (), ("total RNA-seq",), portal.url, SETTINGS)


def listed(portal: Portal, output: Path, **more: Any) -> list[str]:
    found = list_sources([], output, portals=["encode"], release=release(portal), **more)
    return found["accession"].to_list()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_manifest_with_what_was_refused_and_answered_beside_it(portal: Portal, tmp_path: Path) -> None:
    output = tmp_path / "r1.tsv"
    assert listed(portal, output) == ["ENCFF000AA1", "ENCFF000AA2"]
    assert names(tmp_path) == ["r1.answers", "r1.refused.tsv", "r1.tsv"]
    assert read_manifest(output)["portal"].to_list() == ["encode", "encode"]
    refused = read_tsv(tmp_path / "r1.refused.tsv", "refused").to_dicts()
    assert [(one["experiment"], one["accession"], one["reason"]) for one in refused] == [
        ("ENCSR000AAA", "ENCFF000AA3", "status")
    ]
    notes = [json.loads(path.read_text()) for path in (tmp_path / "r1.answers").glob("*.json")]
    assert len(notes) == 3 and all(note["url"].startswith(portal.url) for note in notes)
    assert {"url", "retrieved_utc", "status", "sha256"} == set(notes[0])


def test_tables_and_portals_make_one_release(portal: Portal, tmp_path: Path) -> None:
    (tmp_path / "mine.bw").write_bytes(b"signal")
    own = {"accession": "mine", "output_type": "atac", "organism": "human", "url": "mine.bw"}
    write_manifest([own], tmp_path / "own.tsv")
    found = list_sources(
        [tmp_path / "own.tsv"], tmp_path / "r1.tsv", portals=["encode"], release=release(portal)
    )
    assert found["accession"].to_list() == ["mine", "ENCFF000AA1", "ENCFF000AA2"]


def test_a_frozen_release_is_not_written_over_unless_told(portal: Portal, tmp_path: Path) -> None:
    output = tmp_path / "r1.tsv"
    output.write_text("precious")
    with pytest.raises(FileError, match=r"r1\.tsv: is there already, and a release is frozen"):
        listed(portal, output)
    assert output.read_text() == "precious" and portal.asked == []
    assert listed(portal, output, overwrite=True) == ["ENCFF000AA1", "ENCFF000AA2"]


def test_two_listings_of_one_name_are_one(portal: Portal, tmp_path: Path) -> None:
    """The second waits for the first, and then finds that the release is frozen."""
    output = tmp_path / "r.tsv"
    with ThreadPoolExecutor(2) as pool:
        tries = [pool.submit(list_sources, [], output, portals=["encode"], release=release(portal))
                 for _ in range(2)]  # fmt: skip
        errors = [one.exception() for one in tries]
    (error,) = [one for one in errors if one is not None]
    assert isinstance(error, FileError) and "is frozen" in str(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.answers", "r.refused.tsv", "r.tsv"]


def test_an_interrupted_listing_asks_only_what_is_left(portal: Portal, tmp_path: Path) -> None:
    portal.faults = []
    real = portal.hits
    kinds: list[str] = []

    def breaks_off(pairs):
        kinds.append(dict(pairs)["type"])
        if kinds[-1] == "File" and kinds.count("File") == 1:
            portal.faults = []
            raise ConnectionError
        return real(pairs)

    portal.hits = breaks_off  # the answer never comes
    output = tmp_path / "r1.tsv"
    record = beside(output, ".answers.part")
    from megabase.sources.ask import Asker
    from megabase.sources.portals import list_portal

    with Asker(record, attempts=1) as ask, pytest.raises(FileError, match="rerun"):
        list_portal("encode", ask, release(portal))
    assert names(tmp_path) == ["r1.answers.part"]
    assert listed(portal, output) == ["ENCFF000AA1", "ENCFF000AA2"]
    assert kinds == ["Experiment", "Analysis", "File", "File"]
    assert names(tmp_path) == ["r1.answers", "r1.refused.tsv", "r1.tsv"]


def test_a_finished_listing_is_never_the_source_of_the_next(portal: Portal, tmp_path: Path) -> None:
    output = tmp_path / "r1.tsv"
    listed(portal, output)
    portal.objects["File"][1]["status"] = "revoked"
    assert listed(portal, output, overwrite=True) == []
    assert len([1 for _, pairs in portal.asked if dict(pairs)["type"] == "File"]) == 2


def test_the_same_answers_give_the_same_bytes(portal: Portal, tmp_path: Path) -> None:
    for name in ("a", "b"):
        part = tmp_path / name / "r1.answers.part"
        if name == "b":
            (tmp_path / "b").mkdir()
            (tmp_path / "a/r1.answers").rename(part)
        listed(portal, tmp_path / name / "r1.tsv")
    assert len(portal.asked) == 3  # the second listing found every answer
    for ending in (".tsv", ".refused.tsv"):
        assert (tmp_path / f"a/r1{ending}").read_bytes() == (tmp_path / f"b/r1{ending}").read_bytes()


def test_rows_that_no_stage_would_read_stop_before_anything_is_written(
    portal: Portal, tmp_path: Path
) -> None:
    portal.objects["File"][0]["md5sum"] = "not an MD5"
    with pytest.raises(FileError, match=r"r1\.tsv: line 2: md5 'not an MD5' is not 32"):
        listed(portal, tmp_path / "r1.tsv")
    assert names(tmp_path) == ["r1.answers.part"]


def test_an_unknown_portal_is_told_before_any_is_asked(portal: Portal, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="portal 'encod' is not known; nearest: encode"):
        list_sources([], tmp_path / "r.tsv", portals=["encode", "encod"], release=release(portal))
    assert portal.asked == [] and "encode" in PORTALS


def test_where_the_manifest_goes() -> None:
    assert manifest_path("r1", "", asks=True) == Path("resources/manifests/r1.tsv")
    assert manifest_path("r1", "x/y.tsv", asks=True) == Path("x/y.tsv")
    for arguments, asks, message in (
        (("", ""), True, "give --release NAME, or -o"), (("r1", ""), False, "nothing to list"),
        (("../r1", ""), True, "wanted letters, digits"),
    ):  # fmt: skip
        with pytest.raises(FileError, match=message):
            manifest_path(*arguments, asks=asks)


def test_the_summary_counts_by_assay_and_reason() -> None:
    what = {"organism": "human", "assay": "TF ChIP-seq", "output_type": "chip_tf"}
    changed = what | {"assay": "TF ChIP-seq genetically modified (insertion) using CRISPR"}
    found = Listing(rows=[what, changed, {"organism": "human", "output_type": "genome"}])
    for accession in ("a", "b", None):
        found.refuse("status", "it is revoked", **what, accession=accession)
    found.refuse("treated", "with ethanol", **what | {"assay": "DNase-seq"}, experiment="E")
    assert summary(found) == [
        "human DNase-seq: 0 files used; refused: treated (experiments) 1",
        "human TF ChIP-seq: 2 files used; refused: status (experiments) 1, status (files) 2",
        "human genome: 1 files used; refused: none",
    ]


def test_on_the_command_line(portal: Portal, tmp_path: Path) -> None:
    """The one command of a consortium: list a release, and see what it changes."""
    settings = json.dumps({"assemblies": {"human": "GRCh38"}})
    common = ["list-sources", "--portal", "encode", "--base-url", portal.url, "--assay", "total RNA-seq",
              "--organism", "human", "--settings", settings]  # fmt: skip
    runner = CliRunner()
    first = runner.invoke(cli.app, [*common, "--release", "one", "-o", str(tmp_path / "one.tsv")])
    assert first.exit_code == 0, first.output
    portal.objects["File"][0]["md5sum"] = "f" * 32
    more = ["--release", "two", "-o", str(tmp_path / "two.tsv"), "--against", str(tmp_path / "one.tsv")]
    second = runner.invoke(cli.app, [*common, *more])
    assert second.exit_code == 0, second.output
    assert "0 new, 1 changed, 0 superseded" in second.stdout
    assert "to download: 1 files, 1 kB" in second.stdout and "to shard: human: rna_seq" in second.stdout
    again = runner.invoke(cli.app, ["compare-sources", str(tmp_path / "one.tsv"), str(tmp_path / "two.tsv")])
    assert again.exit_code == 0 and again.stdout.strip() in second.stdout
