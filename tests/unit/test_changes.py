"""Two releases compared: what came, changed and went, and what a run does anew for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from megabase.files import FileError, Stamp, read_tsv, write_tsv
from megabase.sources.changes import compare, compare_sources, report, words_of
from megabase.sources.groups import rows_identity
from megabase.sources.manifest import write_manifest
from megabase.sources.portals import REFUSED_COLUMNS
from megabase.spec import MANIFEST_COLUMNS

Row = dict[str, Any]


def row(accession: str, **more: Any) -> Row:
    """RNA-seq of human liver, + strand of replicate 1 of experiment E1, 1,000 bytes."""
    given = {
        "portal": "encode", "accession": accession, "experiment": "E1", "assay": "total RNA-seq",
        "output_type": "rna_seq", "organism": "human", "assembly": "GRCh38",
        "ontology_curie": "UBERON:0002107", "biosample": "liver", "life_stage": "adult", "strand": "+",
        "replicate": "1", "url": f"https://x.org/{accession}.bigWig", "md5": "0" * 32, "size": 1000,
        "status": "released", "retrieved_utc": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return dict.fromkeys(MANIFEST_COLUMNS) | given | more


def dnase(accession: str, **more: Any) -> Row:
    given = {"experiment": "E2", "assay": "DNase-seq", "output_type": "dnase", "strand": ".", "size": 5000}
    return row(accession, **(given | more))


def kinds(old: list[Row], new: list[Row], refused: list[Row] | None = None) -> list[tuple[str, str, str]]:
    return [(one.kind, one.old, one.new) for one in compare(old, new, refused or []).files]


def test_a_listing_of_another_day_is_no_change() -> None:
    old = [row("a"), dnase("b")]
    new = [one | {"retrieved_utc": "2027-01-01T00:00:00Z", "licence": "new words"} for one in old][::-1]
    found = compare(old, new)
    assert found.files == [] and found.renormalized == found.resharded == {}
    assert report(found) == ["nothing changed"]


def test_new_and_gone() -> None:
    assert kinds([row("a"), dnase("b")], [row("a"), dnase("c", experiment="E3", biosample="lung")]) == [
        ("gone", "b", ""), ("new", "", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ({"md5": "1" * 32}, 1000), ({"url": "https://y.org/a.bigWig"}, 1000), ({"size": 2000}, 2000),
        ({"md5": "1" * 32, "size": None}, None), ({"life_stage": "child"}, 0), ({"status": "archived"}, 0),
    ],
)  # fmt: skip
def test_a_file_that_changed_tells_what_and_what_is_downloaded(change: Row, size: int | None) -> None:
    (one,) = compare([row("a")], [row("a", **change)]).files
    assert (one.kind, one.fields, one.size) == ("changed", tuple(sorted(change)), size)
    name = next(iter(change))
    assert f"{name}: {row('a')[name]} -> {change[name]}" in one.reason


def test_superseded_by_what_the_portal_says_through_a_chain() -> None:
    assert kinds([row("a")], [row("b", supersedes="a", experiment="E9")]) == [("superseded", "a", "b")]
    chain = [row("c", supersedes="b", experiment="E9"), row("b", supersedes="a", experiment="E8")]
    found = kinds([row("a"), row("b", experiment="E8")], chain)
    assert ("superseded", "a", "c") in found  # through b, which is in both
    both = kinds([row("a"), row("b", strand="-")], [row("c", supersedes="a,b")])
    assert sorted(both) == [("gone", "b", ""), ("superseded", "a", "c")]


def test_replaced_by_what_has_its_place() -> None:
    old = [row("a"), row("b", strand="-"), row("c", replicate="2")]
    new = [row("x"), row("y", strand="-"), row("c", replicate="2")]
    assert kinds(old, new) == [("replaced", "a", "x"), ("replaced", "b", "y")]
    lone = [row("a", experiment=None)], [row("x", experiment=None)]
    assert sorted(kinds(*lone)) == [("gone", "a", ""), ("new", "", "x")]


def test_why_a_file_left() -> None:
    def refusal(accession: str, reason: str, detail: str) -> Row:
        given = {"portal": "encode", "accession": accession, "reason": reason, "detail": detail}
        return dict.fromkeys(REFUSED_COLUMNS) | given

    refused = [refusal("a", "status", "the file is revoked, wanted released"),
               refusal("b", "priority", "audit WARNING; the group has PASS")]  # fmt: skip
    found = compare([row("a"), dnase("b"), dnase("c", replicate="2")], [], refused)
    told = {one.old: (one.kind, one.reason) for one in found.files}
    assert told == {
        "a": ("revoked", "status: the file is revoked, wanted released"),
        "b": ("gone", "priority: audit WARNING; the group has PASS"), "c": ("gone", ""),
    }  # fmt: skip
    assert kinds([row("a")], [row("a", status="revoked")]) == [("revoked", "a", "a")]


def test_groups_that_are_made_anew_and_stores_that_are_written_anew() -> None:
    lung = {"biosample": "lung", "ontology_curie": "UBERON:1"}
    mouse = [row("m", organism="mouse"), row("n", organism="mouse", output_type="splice_junctions")]
    old = [row("a"), row("b", strand="-"), dnase("c"), dnase("d", **lung), *mouse]
    new = [row("a", md5="1" * 32), *old[1:3], *old[4:5],
           row("o", organism="mouse", output_type="splice_junctions")]  # fmt: skip
    found = compare(old, new)
    assert found.renormalized == {
        ("human", "rna_seq"): ["UBERON-0002107.total-RNA-seq"], ("mouse", "splice_junctions"): ["splicing"],
    }  # fmt: skip
    assert found.dropped == {("human", "dnase"): ["UBERON-1.DNase-seq"]}
    assert found.resharded == {"human": ["dnase", "rna_seq"], "mouse": ["splice_junctions"]}
    assert found.downloads == (2, 2000, 0)


def test_what_a_track_is_made_of() -> None:
    same = [row("a"), row("a", retrieved_utc="x", licence="y", url="https://z", status="archived", size=7)]
    assert rows_identity(same[:1]) == rows_identity(same[1:])
    for name in (
        "accession",
        "strand",
        "replicate",
        "target",
        "life_stage",
        "biosample",
        "md5",
        "experiment",
    ):
        assert rows_identity([row("a") | {name: "other"}]) != rows_identity(same[:1]), name


def test_the_table_counts_by_assay_and_biosample() -> None:
    old = [row("a"), row("b", strand="-"), dnase("c")]
    new = [row("a", md5="1" * 32), row("b", strand="-", md5="2" * 32, size=500),
           dnase("e", biosample="lung", experiment="E5", size=None),
           row("g", output_type="genome", experiment=None, assay=None)]  # fmt: skip
    lines = report(compare(old, new))
    head = "organism output_type assay biosample new changed superseded replaced revoked gone download"
    assert lines[0].split() == head.split()
    assert [" ".join(line.split()) for line in lines[1:5]] == [
        "human dnase DNase-seq liver 1", "human dnase DNase-seq lung 1",
        "human genome liver 1 1 kB", "human rna_seq total RNA-seq liver 2 1.5 kB",
    ]  # fmt: skip
    assert "2 new, 2 changed, 0 superseded, 0 replaced, 0 revoked, 1 gone" in lines
    assert "to download: 4 files, 2.5 kB and 1 files of unknown size" in lines
    assert "to shard: human: dnase, rna_seq" in lines and "genome" in lines[-1]


def test_bytes_in_words() -> None:
    numbers = (0, 999, 1000, 721_786_101, 1_413_106_336, 7_740_000_000_000)
    assert [words_of(n) for n in numbers] == ["", "999 B", "1 kB", "722 MB", "1.41 GB", "7.74 TB"]


def test_files_are_compared_and_told_in_a_table(tmp_path: Path) -> None:
    old, new = tmp_path / "old.tsv", tmp_path / "new.tsv"
    write_manifest([row("a"), dnase("c")], old)
    write_manifest([row("b", supersedes="a")], new)
    table = pl.DataFrame(
        [dict.fromkeys(REFUSED_COLUMNS) | {"accession": "c", "reason": "status", "detail": "is revoked"}],
        schema=dict.fromkeys(REFUSED_COLUMNS, pl.String),
    )
    write_tsv(table, tmp_path / "new.refused.tsv", Stamp("refused"))
    text = compare_sources(old, new, tmp_path / "changes.tsv")
    assert "1 superseded" in text and "1 revoked" in text
    told = read_tsv(tmp_path / "changes.tsv", "changes").select("kind", "old", "new", "bytes").rows()
    assert told == [("revoked", "c", "", 0), ("superseded", "a", "b", 1000)]
    with pytest.raises(FileError, match=r"none\.tsv: manifest not found"):
        compare_sources(tmp_path / "none.tsv", new)
