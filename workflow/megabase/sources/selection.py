"""Which experiments of ENCODE are used: limits, audits and priorities, as pure functions.

Source: AlphaGenome (bioRxiv 2025.06.25.661532), Methods, data processing; docs/listing.md tells which of its
words are read as filters and which as an order of preference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from megabase.sources.encode_objects import Experiment
from megabase.sources.rules import AssayRule, Priority, Rules

Problem = tuple[str, str]  # (reason, detail) of a refusal
T = TypeVar("T")


def judge(experiment: Experiment, rule: AssayRule, species: str) -> Problem | None:
    """Why an experiment cannot be used, whatever its files are; None where it can.

    Audits are judged apart (`audit_problem`): good enrichment may outweigh them. species: scientific name.
    """
    found = experiment
    if found.status != "released":
        return "status", f"the experiment is {found.status or 'of unknown status'}, wanted released"
    if found.control:
        return "control", f"it is a control: {found.control}"
    if not found.sampled:
        return "no sample", "the portal does not tell its samples, so not whether they were treated"
    if found.species and found.species != (species,):
        return "organism", f"samples of {', '.join(found.species)}, wanted {species}"
    if not found.curie:
        return "no term", "no ontology term of its biosample"
    if rule.target and not found.target:
        return "no target", "no target of the antibody"
    if found.treatments:
        return "treated", f"treated with {', '.join(found.treatments)}"
    if found.cell_cycle:
        return "cell cycle", f"cells of a phase or synchronized: {', '.join(found.cell_cycle)}"
    if found.perturbed:
        return "perturbed", "its samples are perturbed"
    if found.modification and rule.modified == "no":
        return "modified", found.modification
    if not found.analysis and rule.analysis == "required":
        return "no analysis", "no default analysis"
    return None


def audit_problem(experiment: Experiment, rules: Rules) -> Problem | None:
    """The audits that refuse an experiment, or None."""
    bad = [f"{level}: {category}" for level, category in experiment.audits if rules.refuses(level, category)]
    return ("audit", "; ".join(bad)) if bad else None


def quality_problem(rule: AssayRule, audit: Problem | None, enrichment: Problem | None) -> Problem | None:
    """What refuses a file of an experiment with these audits and this FRiP; None where it passes."""
    if rule.quality == "audit":
        return audit
    if rule.quality == "audit and frip":
        return audit or enrichment
    if rule.quality == "audit or frip" and audit and enrichment:
        return audit[0], f"{audit[1]}; and {enrichment[1]}"
    return None


def facts_of(experiment: Experiment, endedness: str) -> dict[str, str]:
    """The facts of an experiment that priorities ask for."""
    levels = [level for level, _ in experiment.audits]
    return {
        "modification": "modified" if experiment.modification else "unmodified",
        "audit": levels[0] if levels else "PASS",  # worst first
        "endedness": endedness,
        "classification": experiment.classification,
        "life_stage": experiment.life_stage,
        "fraction": "subcellular" if experiment.fractions else "whole",
    }


def best_of_group(
    members: Iterable[tuple[T, Mapping[str, str]]], priorities: Iterable[Priority]
) -> tuple[list[T], list[tuple[T, str]]]:
    """Members of one track group (each with its facts) that are used, and the others with what they lack.

    Priority after priority, only those of the best level that is there stay; so every track is of one kind of
    reads, one life stage and one grade of audits, as the published tracks are.
    """
    kept, left = list(members), []
    for priority in priorities:
        best = min((priority.rank(facts[priority.fact]) for _, facts in kept), default=0)
        names = sorted(
            {facts[priority.fact] for _, facts in kept if priority.rank(facts[priority.fact]) == best}
        )
        for member, facts in kept:
            if priority.rank(facts[priority.fact]) > best:
                has = facts[priority.fact] or "unknown"
                left.append((member, f"{priority.fact} {has}; the group has {', '.join(names) or 'unknown'}"))
        kept = [(m, facts) for m, facts in kept if priority.rank(facts[priority.fact]) == best]
    return [member for member, _ in kept], left
