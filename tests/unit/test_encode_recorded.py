"""What ENCODE really answered, read and chosen from; where it is absent the tests are skipped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from portal_stand_ins import serving

from megabase.files import FileError
from megabase.settings.listing import ListingSettings
from megabase.sources.ask import Asker
from megabase.sources.encode import search
from megabase.sources.encode_files import Choice, choose_files, endedness, read_length
from megabase.sources.encode_objects import PortalFile, experiment_of, file_of
from megabase.sources.portals import Release, list_portal
from megabase.sources.rules import AssayRule, Rules, read_rules
from megabase.sources.selection import audit_problem, judge


@pytest.fixture
def recorded(real_data: Path):
    """A recorded JSON by its name."""
    return lambda name: json.loads((real_data / "portals/encode/real" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def rules() -> Rules:
    folder = Path(__file__).resolve().parents[2] / "resources"
    return read_rules(*(folder / f"{name}_rules.tsv" for name in ("assay", "audit", "priority")))


def signal_rule(rules: Rules, **more: Any) -> AssayRule:
    """A rule that asks for the read-depth normalized signal of every replicate, and for no quality."""
    strands = ((".", ("read-depth normalized signal",)),)
    given = {"file_format": "bigWig", "strands": strands, "quality": "none", "min_read_length": None}
    (dnase,) = (rule for rule in rules.assays if rule.assay == "DNase-seq")
    return replace(dnase, **(given | {"files": "each"} | more))


def files_of(items: list[dict[str, Any]], dataset: str) -> dict[str, PortalFile]:
    return {one.accession: replace(one, dataset=dataset) for one in map(file_of, items)}


def chosen(choice: Choice) -> dict[tuple[int, ...], dict[str, str]]:
    return {reps: {s: f.accession for s, f in strands.items()} for reps, strands in choice.used.items()}


def reasons(choice: Choice) -> dict[str, str]:
    return {file.accession: reason for file, (reason, _) in choice.refused}


def test_one_of_three_released_signals_a_replicate(recorded, rules: Rules) -> None:
    """Pipelines of 2017, 2020 and 2025 all left released GRCh38 signals: the default analysis decides."""
    files = files_of(recorded("recorded_2026-09-28_search_File_ENCSR098PTC")["@graph"], "ENCSR098PTC")
    (analysis,) = recorded("recorded_2026-09-28_search_Analysis_ENCAN263FQA")["@graph"]
    members = frozenset(one["accession"] for one in analysis["files"])
    experiment = experiment_of(recorded("recorded_2026-09-28_search_Experiment_donor_partial")["@graph"][1])
    assert experiment.analysis == analysis["accession"] == "ENCAN263FQA"
    same = {one.accession for one in files.values() if (one.status, one.assembly) == ("released", "GRCh38")}
    assert len(same) == 6  # what a search by status, assembly and output type gives: three a replicate
    rule = signal_rule(rules)
    found = choose_files(experiment, rule, files, analysis=members, assembly="GRCh38", rules=rules)
    assert chosen(found) == {(1,): {".": "ENCFF648LHT"}, (2,): {".": "ENCFF275EWP"}}
    assert reasons(found) == {
        "ENCFF674WZU": "other analysis", "ENCFF245FRQ": "other analysis", "ENCFF438PGV": "other analysis",
        "ENCFF996GHG": "other analysis", "ENCFF842DWZ": "assembly", "ENCFF432KCS": "assembly",
    }  # fmt: skip
    assert files["ENCFF648LHT"].url.startswith("https://encode-public.s3.amazonaws.com/2020/11/06/")
    assert files["ENCFF648LHT"].size == 721786101
    assert files["ENCFF648LHT"].md5 == "8b798eca9a9bda749f8f60cbeffc4527"


def test_without_an_analysis_the_three_are_ambiguous_and_none_is_taken(recorded, rules: Rules) -> None:
    files = files_of(recorded("recorded_2026-09-28_search_File_ENCSR098PTC")["@graph"], "ENCSR098PTC")
    experiment = experiment_of({"accession": "ENCSR098PTC"})
    rule = signal_rule(rules, created_from="")
    found = choose_files(experiment, rule, files, analysis=None, assembly="GRCh38", rules=rules)
    assert found.used == {} and list(reasons(found).values()).count("ambiguous") == 6
    old = signal_rule(rules)  # made in 2020 or later: the signals of 2017 go, two are left
    found = choose_files(experiment, old, files, analysis=None, assembly="GRCh38", rules=rules)
    assert reasons(found)["ENCFF438PGV"] == reasons(found)["ENCFF996GHG"] == "old"
    assert list(reasons(found).values()).count("ambiguous") == 4


def test_revoked_files_are_seen_and_refused(recorded, rules: Rules) -> None:
    files = files_of(recorded("recorded_2026-09-28_search_File_ENCSR098PTC")["@graph"], "ENCSR098PTC")
    rule = signal_rule(rules, strands=((".", ("signal of unique reads",)),), created_from="")
    found = choose_files(
        experiment_of({"accession": "ENCSR098PTC"}),
        rule,
        files,
        analysis=None,
        assembly="GRCh38",
        rules=rules,
    )
    problems = {file.accession: problem for file, problem in found.refused}
    assert problems["ENCFF614NIX"] == ("status", "the file is revoked, wanted released")
    assert problems["ENCFF612NGS"] == ("status", "the file is archived, wanted released")
    assert found.used == {}


def test_strands_of_one_replicate_and_the_length_of_its_reads(recorded, rules: Rules) -> None:
    """The bigWig tells no read length: it is that of the FASTQ behind its BAM, 50 nt."""
    items = [one for one in recorded("mirna_files_list") if one["dataset"] == "/experiments/ENCSR715NEZ/"]
    files = files_of(items, "ENCSR715NEZ")
    assert read_length(files["ENCFF525NSB"], files) == 50
    assert endedness([files["ENCFF525NSB"]], files) == "single-ended"
    (rule,) = (rule for rule in rules.assays if rule.assay == "total RNA-seq")
    rule = replace(rule, created_from="2019-01-01")
    experiment = experiment_of({"accession": "ENCSR715NEZ"})
    found = choose_files(experiment, rule, files, analysis=None, assembly="mm10", rules=rules)
    ((replicates, strands),) = chosen(found).items()
    pairs = {(1,): {"+": "ENCFF605MAA", "-": "ENCFF525NSB"}, (2,): {"+": "ENCFF527GCC", "-": "ENCFF603TYA"}}
    assert strands == pairs[replicates]
    assert sorted(reasons(found).values()) == ["not best", "not best"]  # the other replicate
    longer = replace(rule, min_read_length=51)
    found = choose_files(experiment, longer, files, analysis=None, assembly="mm10", rules=rules)
    assert found.used == {} and set(reasons(found).values()) == {"read length"}


def test_samples_of_an_experiment_are_read(recorded, rules: Rules) -> None:
    modified = experiment_of(recorded("ENCSR416YFB_experiment_embedded"))
    assert (modified.curie, modified.biosample, modified.target) == ("EFO:0001187", "HepG2", "SAFB")
    assert modified.modification == "genetically modified using CRISPR" and modified.life_stage == "child"
    assert modified.status == "submitted" and modified.species == ("Homo sapiens",)
    treated = experiment_of(
        recorded("recorded_2026-09-28_search_Experiment_donor_partial")["@graph"][2] | {"status": "released"}
    )
    assert treated.treatments == (
        "erythropoietin", "hydrocortisone succinate", "interleukin-3", "kit ligand",
    )  # fmt: skip
    assert audit_problem(treated, rules) == ("audit", "ERROR: extremely low spot score")
    rule = signal_rule(rules)
    assert judge(replace(treated, curie="CL:1"), rule, "Homo sapiens") == (
        "treated", "treated with erythropoietin, hydrocortisone succinate, interleukin-3, kit ligand",
    )  # fmt: skip


def test_an_answer_of_three_of_eleven_hits_is_no_answer(recorded) -> None:
    """The recorded experiments are cut to 3 of `total` 11, as a portal that breaks off would answer."""
    body = json.dumps(recorded("recorded_2026-09-28_search_Experiment_donor_partial")).encode()
    with serving() as portal, Asker(backoff=0.01) as ask:
        portal.faults = [(200, body, "application/json")] * 2
        with pytest.raises(FileError, match=r"/search/.*3 hits of 11, asked twice"):
            search(ask, portal.url, [("type", "Experiment")], ())
        portal.faults = [(404, json.dumps(recorded("no_results_body_HTTP404")).encode(), "application/json")]
        assert search(ask, portal.url, [("type", "File")], ())[0] == []


def test_recorded_answers_are_listed_end_to_end(recorded, rules: Rules, root: Path, tmp_path: Path) -> None:
    """Experiment, analysis and files of ENCSR098PTC, as they were recorded, through a portal."""
    item = recorded("recorded_2026-09-28_search_Experiment_donor_partial")["@graph"][1]
    ontology = item["biosample_ontology"] | {"term_id": "CL:0000837"}
    item |= {"assay_title": "DNase-seq", "status": "released", "biosample_ontology": ontology}
    files = [one | {"dataset": item["@id"]}
             for one in recorded("recorded_2026-09-28_search_File_ENCSR098PTC")["@graph"]]  # fmt: skip
    analyses = recorded("recorded_2026-09-28_search_Analysis_ENCAN263FQA")["@graph"]
    lines = (root / "resources/assay_rules.tsv").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("DNase-seq"))
    given = line.replace("\tbam\t", "\tbigWig\t").replace(
        "\talignments\t", "\tread-depth normalized signal\t"
    )
    given = given.replace("\taudit and frip\t36\t0.10\t", "\taudit\t\t\t")
    (tmp_path / "rules.tsv").write_text("\n".join([lines[2], given]) + "\n")
    settings = ListingSettings(
        assay_rules=str(tmp_path / "rules.tsv"), audit_rules=str(root / "resources/audit_rules.tsv"),
        priority_rules=str(root / "resources/priority_rules.tsv"),
    )  # fmt: skip
    with serving(Experiment=[item], Analysis=analyses, File=files) as portal, Asker() as ask:
        listing = list_portal("encode", ask, Release("r", base_url=portal.url, settings=settings))
    assert [(row["accession"], row["replicate"], row["strand"]) for row in listing.rows] == [
        ("ENCFF648LHT", "1", "."), ("ENCFF275EWP", "2", "."),
    ]  # fmt: skip
    assert {row["ontology_curie"] for row in listing.rows} == {"CL:0000837"}
    assert len([one for one in listing.refused if one["accession"]]) == 6
