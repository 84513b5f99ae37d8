"""Rules are tables that are checked line by line; what they say of an experiment is a pure function."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from megabase.files import FileError
from megabase.sources.encode_objects import (
    Experiment,
    accession_of,
    experiment_of,
    file_of,
    modification_of,
    values,
)
from megabase.sources.rules import Priority, Rules, read_rules
from megabase.sources.selection import (
    audit_problem,
    best_of_group,
    facts_of,
    judge,
    quality_problem,
)
from megabase.spec import TRACK_OUTPUTS

NAMES = ("assay", "audit", "priority")


@pytest.fixture
def tables(root: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies of the three tables."""
    found = {}
    for name in NAMES:
        found[name] = tmp_path / f"{name}.tsv"
        found[name].write_text((root / f"resources/{name}_rules.tsv").read_text())
    return found


def read(tables: dict[str, Path]) -> Rules:
    return read_rules(*(tables[name] for name in NAMES))


def test_the_committed_tables_are_those_of_the_publication(tables: dict[str, Path]) -> None:
    """Limits of AlphaGenome, Methods: reads of 50, 36 and 45 nt; FRiP above 10%, 6% and 1%."""
    rules = {rule.assay: rule for rule in read(tables).assays}
    lengths = {name: rule.min_read_length for name, rule in rules.items()}
    assert lengths == {"total RNA-seq": 50, "polyA plus RNA-seq": 50, "DNase-seq": 36, "ATAC-seq": 45,
                       "Histone ChIP-seq": 50, "TF ChIP-seq": 50, "PRO-cap": None}  # fmt: skip
    enrichment = {name: rule.frip_above for name, rule in rules.items() if rule.frip_above}
    assert enrichment == {"DNase-seq": 0.1, "ATAC-seq": 0.1, "Histone ChIP-seq": 0.06, "TF ChIP-seq": 0.01}
    chip = {rule.portal_types for name, rule in rules.items() if "ChIP" in name}
    assert chip == {("fold change over control",)}  # and never the p-value, where the portal's favour sits
    assert {rule.quality for name, rule in rules.items() if "ChIP" in name} == {"audit or frip"}
    assert [name for name, rule in rules.items() if rule.modified != "no"] == ["TF ChIP-seq"]
    assert all(rule.output_type in TRACK_OUTPUTS for rule in rules.values())
    assert rules["PRO-cap"].organisms == ("human",) and len(rules["PRO-cap"].experiments) == 6
    assert not {"CAGE", "RAMPAGE"} & set(rules)
    assert {rule.created_from for name, rule in rules.items() if name != "PRO-cap"} == {"2020-01-01"}


def test_audits_of_the_committed_table(tables: dict[str, Path]) -> None:
    rules = read(tables)
    assert rules.refuses("ERROR", "whatever it is") and not rules.refuses("WARNING", "low read depth")
    for category in ("severe bottlenecking", "inconsistent age", "low TSS enrichment",
                     "insufficient replicate concordance", "poor library complexity"):  # fmt: skip
        assert rules.refuses("NOT_COMPLIANT", category)
    assert not rules.refuses("NOT_COMPLIANT", "unreplicated experiment")
    assert not rules.refuses("SOMETHING NEW", "x")
    order = [priority.fact for priority in rules.priorities]
    assert order == ["modification", "audit", "endedness", "classification", "life_stage", "fraction"]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("assay", "\taudit or frip\t", "\tsometimes\t", "line 8: quality 'sometimes'; wanted one of none"),
        ("assay", "\tchip_tf\t", "\tchip\t", "line 9: output_type 'chip'; wanted one of rna_seq"),
        ("assay", "\t36\t0.10\t", "\tlong\t0.10\t", "line 6: min_read_length 'long' is not a number"),
        ("assay", "\t36\t0.10\t", "\t36\t\t", "line 6: quality 'audit and frip' needs a limit in frip_above"),
        ("assay", "2020-01-01", "2020", "line 4: created_from '2020'"),
        ("assay", "\tminus strand signal of unique reads\t", "\t\t", "line 4: wanted types for plus"),
        ("assay", "assay_title", "assay", "columns assay, organisms.*wanted assay_title"),
        ("audit", "\trefuse\tany", "\tmaybe\tany", "line 4: verdict 'maybe'; wanted one of refuse, accept"),
        ("audit", "*\trefuse\tany", "*\trefuse", "line 4: 3 fields, wanted 4"),
        ("priority", "1\tmodification", "first\tmodification", "line 4: order 'first' is not a number"),
        ("priority", "\tlife_stage\t", "\tage\t", "line 8: fact 'age'; wanted one of modification"),
        ("priority", "\tfilter\tunmodified", "\tprefer\tunmodified", "line 4: action 'prefer'"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tables: dict[str, Path], name: str, old: str, new: str, message: str) -> None:
    text = tables[name].read_text()
    assert old in text
    tables[name].write_text(text.replace(old, new, 1))
    with pytest.raises(FileError, match=rf"{name}.tsv: {message}"):
        read(tables)


def test_a_table_that_is_not_there_is_named(tables: dict[str, Path]) -> None:
    tables["audit"].unlink()
    with pytest.raises(FileError, match=r"audit\.tsv: table of rules not found"):
        read(tables)


def test_quality_is_audit_frip_both_or_either(tables: dict[str, Path]) -> None:
    rule = read(tables).assays[0]
    audit, enrichment = ("audit", "ERROR: x"), ("FRiP", "0.01, wanted more than 0.1")
    for quality, neither, bad_audit, low_frip, both in (
        ("none", None, None, None, None),
        ("audit", None, audit, None, audit),
        ("audit and frip", None, audit, enrichment, audit),
        ("audit or frip", None, None, None, ("audit", "ERROR: x; and 0.01, wanted more than 0.1")),
    ):
        given = replace(rule, quality=quality)
        assert quality_problem(given, None, None) == neither
        assert quality_problem(given, audit, None) == bad_audit
        assert quality_problem(given, None, enrichment) == low_frip
        assert quality_problem(given, audit, enrichment) == both


def test_priorities_go_one_after_the_other_and_ties_stay(tables: dict[str, Path]) -> None:
    priorities = read(tables).priorities
    best = {"modification": "unmodified", "audit": "PASS", "endedness": "paired-ended",
            "classification": "tissue", "life_stage": "adult", "fraction": "whole"}  # fmt: skip
    members = [
        ("a", best), ("b", best | {"classification": "primary cell"}),  # equals
        ("c", best | {"classification": "organoid"}), ("d", best | {"fraction": "subcellular"}),
        ("e", best | {"audit": "NOT_COMPLIANT"}), ("f", best | {"life_stage": "newborn"}),
    ]  # fmt: skip
    kept, left = best_of_group(members, priorities)
    assert kept == ["a", "b"] and [name for name, _ in left] == ["e", "c", "f", "d"]
    assert dict(left)["f"] == "life_stage newborn; the group has adult"
    # The worst is used where there is nothing else; an earlier priority outweighs all later ones.
    assert best_of_group(members[-1:], priorities)[0] == ["f"]
    two = [
        ("x", best | {"audit": "WARNING"}),
        ("y", best | {"life_stage": "child", "endedness": "single-ended"}),
    ]
    assert best_of_group(two, priorities)[0] == ["y"]
    assert best_of_group([], priorities) == ([], [])


def test_a_priority_may_be_turned_off_or_ordered_otherwise(tables: dict[str, Path]) -> None:
    text = (
        tables["priority"].read_text().replace("adult|embryonic|child\tfilter", "adult|embryonic|child\toff")
    )
    tables["priority"].write_text(text)
    assert "life_stage" not in [priority.fact for priority in read(tables).priorities]
    rank = Priority("life_stage", (frozenset({"embryonic", "newborn"}), frozenset({"adult"}))).rank
    assert [rank(stage) for stage in ("newborn", "embryonic", "adult", "child", "")] == [0, 0, 1, 2, 2]


def test_facts_of_an_experiment() -> None:
    plain = facts_of(Experiment("E", life_stage="adult"), "paired-ended")
    assert (plain["modification"], plain["audit"], plain["fraction"]) == ("unmodified", "PASS", "whole")
    audits = (("NOT_COMPLIANT", "x"), ("WARNING", "y"))
    other = facts_of(Experiment("E", modification="so", audits=audits, fractions=("nucleus",)), "")
    assert (other["modification"], other["audit"], other["fraction"]) == (
        "modified", "NOT_COMPLIANT", "subcellular",
    )  # fmt: skip


def test_an_experiment_that_is_not_released_or_lacks_its_target(tables: dict[str, Path]) -> None:
    rules = read(tables)
    chip = next(rule for rule in rules.assays if rule.assay == "TF ChIP-seq")
    good = Experiment("E", status="released", sampled=True, curie="CL:1", target="CTCF", analysis="A")
    assert judge(good, chip, "Homo sapiens") is None and audit_problem(good, rules) is None
    for change, reason in (
        ({"status": "archived"}, "status"), ({"status": ""}, "status"), ({"target": ""}, "no target"),
    ):  # fmt: skip
        problem = judge(replace(good, **change), chip, "Homo sapiens")
        assert problem is not None and problem[0] == reason
    assert judge(replace(good, modification="so"), chip, "Homo sapiens") is None
    assert judge(replace(good, modification="so"), replace(chip, modified="no"), "Homo sapiens") == (
        "modified", "so",
    )  # fmt: skip


def test_values_are_found_through_lists_at_any_depth() -> None:
    item = {"a": [{"b": {"c": 1}}, {"b": [{"c": [2, None, 3]}, {"d": 4}]}, "text", None]}
    assert values(item, "a.b.c") == [1, 2, 3] and values(item, "a.x.c") == [] and values({}, "a") == []
    links = ("/files/ENCFF000AAA/", {"accession": "ENCFF000AAA"}, {"@id": "/x/ENCFF000AAA/"}, "ENCFF000AAA")
    assert {accession_of(link) for link in links} == {"ENCFF000AAA"}


def test_an_empty_object_is_a_record_of_nothing() -> None:
    assert experiment_of({"accession": "E"}) == Experiment("E")
    bare = file_of({"accession": "F"})
    assert (bare.url, bare.md5, bare.size, bare.replicates, bare.frip) == ("", "", None, (), None)


def test_how_a_line_was_modified() -> None:
    words = "genetically modified (insertion) using CRISPR targeting H. sapiens ATF3"
    assert modification_of(f"Homo sapiens HepG2 {words}", True) == words
    assert modification_of("Homo sapiens HepG2", True) == "genetically modified"
    assert modification_of("Homo sapiens HepG2", False) == ""
    long = [modification_of(f"K562 genetically modified {'x' * 200}{end}", True) for end in "ab"]
    assert len(set(long)) == 2 and max(map(len, long)) < 170  # they become names of folders


def test_every_reason_is_told_on_the_page(root: Path) -> None:
    """docs/listing.md explains each reason that the code gives."""
    package = root / "workflow/megabase/sources"
    code = "".join((package / f"{name}.py").read_text() for name in ("encode", "encode_files", "selection"))
    starts = r"(?:return|problem =|refuse\(|else|, \()"
    given = set(re.findall(rf'{starts}\s*\(?"([A-Za-z][A-Za-z ]*)", (?!"all"|"json")', code))
    given -= {"PASS", "accession"}  # a fact and a parameter, no reasons
    assert {"status", "ambiguous", "priority", "no file", "treated", "FRiP", "lone strand"} <= given
    page = (root / "docs/listing.md").read_text().split("### Reasons")[1].split("\n## ")[0]
    told = {
        name for cells in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall("`([^`]+)`", cells)
    }
    assert given - told == set()
