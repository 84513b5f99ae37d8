"""Groups of replicates and the look-ups of a release's files."""

from __future__ import annotations

from typing import Any

import pytest

from megabase.files import FileError
from megabase.sources.groups import Sheet, safe_name, track_groups
from megabase.sources.manifest import read_manifest
from megabase.spec import MANIFEST_COLUMNS, Kind


def row(accession: str, **more: Any) -> dict[str, Any]:
    """A manifest row of an ATAC file."""
    base = dict.fromkeys(MANIFEST_COLUMNS) | {
        "portal": "p", "accession": accession, "organism": "x", "output_type": "atac", "assay": "ATAC-seq",
        "ontology_curie": "CL:1", "strand": ".", "url": f"file:{{data}}/{accession}.bam",
    }  # fmt: skip
    return base | more


def test_replicates_and_strands_are_one_group() -> None:
    rows = [row("b", replicate="2"), row("a", replicate="1"), row("c", strand="+"), row("d", strand="-")]
    groups = track_groups(rows, "x", "atac")
    assert list(groups) == ["CL-1.ATAC-seq"]
    assert [r["accession"] for r in groups["CL-1.ATAC-seq"]] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "other", [{"ontology_curie": "CL:2"}, {"assay": "other"}, {"target": "CTCF"}, {"portal": "q"}]
)
def test_what_tells_groups_apart(other: dict[str, str]) -> None:
    groups = track_groups([row("a"), row("b", **other)], "x", "atac")
    assert sorted(len(rows) for rows in groups.values()) == [1, 1]
    assert groups == track_groups([row("b", **other), row("a")], "x", "atac")


def test_names_that_would_be_one_folder_are_told_apart() -> None:
    groups = track_groups([row("a", target="H3/K4"), row("b", target="H3 K4")], "x", "atac")
    assert len(groups) == 2 and all(name.startswith("CL-1.ATAC-seq.H3-K4.") for name in groups)


def test_files_without_any_term_are_no_replicates() -> None:
    rows = [row(name, ontology_curie=None, biosample=None, experiment=None) for name in "ab"]
    assert len(track_groups(rows, "x", "atac")) == 2


def test_safe_names() -> None:
    assert safe_name("UBERON:0002107", "total RNA-seq", "") == "UBERON-0002107.total-RNA-seq"
    assert "/" not in safe_name("../..", "a/b")


def test_sheet_looks_up_by_path_and_accession() -> None:
    sheet = Sheet([row("a"), row("b", url="https://h/f/b.bw")], "m.tsv", data="../shared")
    assert sheet.file("a") == "p/a.bam"
    assert sheet.row_at("anywhere/raw/p/b.bw")["accession"] == "b"
    assert sheet.url("p/a.bam") == "file:../shared/a.bam"
    assert sheet.local("p/a.bam") == ["../shared/a.bam"] and sheet.local("p/b.bw") == []
    with pytest.raises(FileError, match=r"m\.tsv: no row has accession 'aa' \(nearest: a\)"):
        sheet.file("aa")
    with pytest.raises(FileError, match=r"m\.tsv: no row makes a file p/c\.bam"):
        sheet.row_at("p/c.bam")


def test_demo_has_all_kinds_of_data(root) -> None:
    sheet = Sheet(read_manifest(root / "resources/manifests/demo.tsv").to_dicts(), "demo")
    for organism in ("alpha", "beta"):
        assert sheet.of_kind(organism, Kind.CONTACTS) == ["contact_maps"]
        assert len(sheet.of_kind(organism, Kind.TRACKS)) >= 4 and sheet.splicing(organism)
    folders = sheet.track_folders("alpha", "t")
    assert len(folders) == len(set(folders)) and folders[-1] == "t/alpha/splicing"
    products = sheet.products("results/demo")
    assert len(products) == len(sheet.rows) and sheet.products("elsewhere") == []
