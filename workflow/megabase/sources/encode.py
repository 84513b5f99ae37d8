"""Listing ENCODE: experiments, the files of their default analyses, and what is refused of both.

Three kinds of questions: experiments of an assay and assembly; analyses, in batches; files of experiments,
in batches. Every answer is checked to be complete (`total`). Nothing is chosen by the portal's own flags:
`preferred_default` never sits on "fold change over control", and revoked files stay visible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from megabase.files import FileError
from megabase.logs import progress
from megabase.sources.ask import Answer, Asker
from megabase.sources.encode_files import Choice, choose_files, endedness
from megabase.sources.encode_objects import (
    EXPERIMENT_FIELDS,
    FILE_FIELDS,
    Experiment,
    PortalFile,
    accession_of,
    experiment_of,
    file_of,
    values,
)
from megabase.sources.groups import group_key
from megabase.sources.portals import Listing, Release
from megabase.sources.rules import AssayRule, Rules, read_rules
from megabase.sources.selection import best_of_group, facts_of, judge

PORTAL = "encode"
BASE_URL = "https://www.encodeproject.org"
LICENCE = "ENCODE data use policy: unrestricted; cite the consortium, the lab and the accessions"
# Peaks and reads tell FRiP, read length and endedness of the files that are used.
EVIDENCE = (
    "reads", "alignments", "peaks", "IDR thresholded peaks", "pseudoreplicated peaks", "replicated peaks",
)  # fmt: skip
Pairs = list[tuple[str, str]]


@dataclass
class _Used:
    """An experiment whose files passed: its manifest rows, and the facts that priorities ask for."""

    experiment: Experiment
    rows: list[dict[str, Any]]
    facts: dict[str, str] = field(default_factory=dict)


def list_encode(ask: Asker, release: Release) -> Listing:
    """Rows and refusals of ENCODE for the organisms and assays of a release, by the tables of its settings.

    FileError for an organism without a scientific name, a table of rules that cannot be used, and an answer
    that is incomplete after it was asked again.
    """
    settings = release.settings
    rules = read_rules(settings.assay_rules, settings.audit_rules, settings.priority_rules)
    listing = Listing()
    for organism, assembly in settings.assemblies.items():
        for rule in rules.assays:
            if organism in rule.organisms and release.wants(organism, rule.assay):
                _list_assay(ask, release, rules, rule, organism, assembly, listing)
    return listing


def _list_assay(
    ask: Asker,
    release: Release,
    rules: Rules,
    rule: AssayRule,
    organism: str,
    assembly: str,
    listing: Listing,
) -> None:
    """Add an assay of one organism to a listing."""
    species = release.settings.species.get(organism)
    if species is None:
        known = ", ".join(release.settings.species)
        raise FileError(f"settings: assemblies: {organism!r} is not of {known}; name it in `species`, too")
    base = (release.base_url or BASE_URL).rstrip("/")
    common = {"portal": PORTAL, "assay": rule.assay, "output_type": rule.output_type, "organism": organism}
    experiments = []
    found = find_experiments(ask, base, rule, assembly)
    for missing in sorted(set(rule.experiments) - {one.accession for one in found}):
        detail = f"{rule.assay} of {assembly} named in the rules, not found among released experiments"
        listing.refuse("not found", detail, **common, experiment=missing)
    for experiment in found:
        if problem := judge(experiment, rule, species):
            listing.refuse(*problem, **common, **_named(experiment))
        else:
            experiments.append(experiment)
    used: list[_Used] = []
    with progress(len(experiments), f"{organism} {rule.assay}", "experiments") as done:
        for start in range(0, len(experiments), release.settings.batch):
            batch = experiments[start : start + release.settings.batch]
            analyses = find_analyses(ask, base, [one.analysis for one in batch if one.analysis])
            files, answer = find_files(ask, base, rule, [one.accession for one in batch])
            for experiment in batch:
                choice = _choose(experiment, rule, rules, release, assembly, analyses, files, listing, common)
                if choice is not None and choice.used:
                    rows = list(_rows(choice, experiment, rule, common | {"assembly": assembly}, answer))
                    ends = endedness(_files(choice), files[experiment.accession])
                    used.append(_Used(experiment, rows, facts_of(experiment, ends)))
            done.advance(len(batch))
    _apply_priorities(used, rules, listing, common)


def _choose(
    experiment: Experiment,
    rule: AssayRule,
    rules: Rules,
    release: Release,
    assembly: str,
    analyses: dict[str, tuple[str, frozenset[str]]],
    files: dict[str, dict[str, PortalFile]],
    listing: Listing,
    common: dict[str, str],
) -> Choice | None:
    """Files of an experiment; what is refused is added to the listing."""
    what = common | _named(experiment)
    analysis: frozenset[str] | None = None
    if experiment.analysis:
        found, analysis = analyses.get(experiment.analysis, ("", None))
        if analysis is None:
            listing.refuse("no analysis", f"default analysis {experiment.analysis} is not found", **what)
            return None
        if found and found != assembly:
            listing.refuse("assembly", f"its default analysis is of {found}, wanted {assembly}", **what)
            return None
    choice = choose_files(
        experiment, rule, files[experiment.accession], analysis=analysis, assembly=assembly, rules=rules,
        accept_unknown=release.settings.unknown == "accept",
    )  # fmt: skip
    for file, (reason, detail) in choice.refused:
        listing.refuse(reason, detail, **what, accession=file.accession)
    if not choice.used:
        listing.refuse(
            "no file", f"none of {len(choice.refused)} {rule.file_format} files can be used", **what
        )
    return choice


def _apply_priorities(used: list[_Used], rules: Rules, listing: Listing, common: dict[str, str]) -> None:
    """Keep the best experiments of every track group; refuse the files of the others."""
    groups: dict[tuple[str, ...], list[_Used]] = defaultdict(list)
    for one in used:
        groups[group_key(one.rows[0])].append(one)
    for members in groups.values():
        kept, left = best_of_group(((one, one.facts) for one in members), rules.priorities)
        listing.rows += [row for one in kept for row in one.rows]
        for one, detail in left:
            for row in one.rows:
                what = common | _named(one.experiment)
                listing.refuse("priority", detail, **what, accession=row["accession"])


def _rows(
    choice: Choice, experiment: Experiment, rule: AssayRule, common: dict[str, str], answer: Answer
) -> Iterator[dict[str, Any]]:
    """Manifest rows of the files of an experiment."""
    apart = experiment.modification if rule.modified == "apart" else ""
    for replicates, strands in choice.used.items():
        for strand, file in strands.items():
            yield common | {
                "accession": file.accession, "experiment": experiment.accession,
                "assay": f"{rule.assay} {apart}".strip(), "ontology_curie": experiment.curie,
                "biosample": experiment.biosample, "life_stage": experiment.life_stage or None,
                "strand": strand, "replicate": ",".join(map(str, replicates)) or None,
                "target": experiment.target if rule.target else None, "url": file.url,
                "md5": file.md5 or None, "size": file.size, "status": file.status, "licence": LICENCE,
                "retrieved_utc": answer.retrieved_utc, "supersedes": ",".join(file.supersedes) or None,
            }  # fmt: skip


def _named(experiment: Experiment) -> dict[str, str]:
    return {"experiment": experiment.accession, "biosample": experiment.biosample}


def _files(choice: Choice) -> list[PortalFile]:
    return [file for strands in choice.used.values() for file in strands.values()]


def find_experiments(ask: Asker, base: str, rule: AssayRule, assembly: str) -> list[Experiment]:
    """Released experiments of an assay with data of an assembly, by accession."""
    params = [("type", "Experiment"), ("assay_title", rule.assay), ("status", "released"),
              ("assembly", assembly), *(("accession", name) for name in rule.experiments)]  # fmt: skip
    graph, _ = search(ask, base, params, EXPERIMENT_FIELDS)
    found = {one.accession: one for one in map(experiment_of, graph)}
    return [found[name] for name in sorted(found)]


def find_analyses(ask: Asker, base: str, accessions: Sequence[str]) -> dict[str, tuple[str, frozenset[str]]]:
    """(assembly, accessions of its files) of each released analysis that the portal has of those named."""
    if not accessions:
        return {}
    params = [("type", "Analysis"), *(("accession", name) for name in sorted(set(accessions)))]
    graph, _ = search(ask, base, params, ("accession", "status", "assembly", "files.accession"))
    return {
        accession_of(item): (
            str(next(iter(values(item, "assembly")), "")),
            frozenset(map(str, values(item, "files.accession"))),
        )
        for item in graph
        if item.get("status", "released") == "released"
    }


def find_files(
    ask: Asker, base: str, rule: AssayRule, experiments: Sequence[str]
) -> tuple[dict[str, dict[str, PortalFile]], Answer]:
    """Files of each experiment by accession (wanted ones, and what tells of them), and the answer."""
    params = [
        ("type", "File"),
        *(("dataset", f"/experiments/{name}/") for name in experiments),
        *(("output_type", name) for name in dict.fromkeys((*rule.portal_types, *EVIDENCE))),
    ]
    graph, answer = search(ask, base, params, FILE_FIELDS)
    found: dict[str, dict[str, PortalFile]] = {name: {} for name in experiments}
    for file in sorted(map(file_of, graph), key=lambda one: one.accession):
        if file.dataset in found:
            found[file.dataset][file.accession] = file
    return found, answer


def search(ask: Asker, base: str, params: Pairs, fields: Iterable[str]) -> tuple[list[Any], Answer]:
    """All hits of a search and the answer; no hits are HTTP 404 with an empty list.

    FileError where an answer has no list of hits, or fewer than its `total`, twice.
    """
    pairs = [*params, ("limit", "all"), ("format", "json"), *(("field", name) for name in fields)]
    for _ in range(2):
        answer = ask(f"{base}/search/", pairs)
        body = answer.json()
        graph = body.get("@graph") if isinstance(body, dict) else None
        if not isinstance(graph, list):
            ask.forget(answer)
            raise FileError(f"{answer.url}: HTTP {answer.status} without a list of hits (@graph)")
        if len(graph) == body.get("total", len(graph)):
            return graph, answer
        ask.forget(answer)
    raise FileError(
        f"{answer.url}: {len(graph)} hits of {body['total']}, asked twice; the answer is not whole, try later"
    )
