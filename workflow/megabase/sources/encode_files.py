"""Which files of an ENCODE experiment are used, and why each of the others is not.

An experiment has the same output type several times: of older pipelines, other assemblies, revoked files.
What counts is the default analysis; within it each set of biological replicates has one file a strand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from megabase.sources.encode_objects import Experiment, PortalFile
from megabase.sources.rules import AssayRule, Rules
from megabase.sources.selection import Problem, audit_problem, quality_problem

PRIVATE = "encode-private"  # bucket of files that are not, or no longer, handed out
Files = Mapping[str, PortalFile]
Sets = dict[tuple[int, ...], dict[str, PortalFile]]  # replicates -> strand -> file


@dataclass
class Choice:
    """Files of an experiment that are used, by replicates and strand, and the refused ones."""

    used: Sets = field(default_factory=dict)
    refused: list[tuple[PortalFile, Problem]] = field(default_factory=list)

    def drop(self, replicates: tuple[int, ...], problem: Problem) -> None:
        """Refuse the files of a set of replicates."""
        self.refused += [(file, problem) for file in self.used.pop(replicates).values()]


def choose_files(
    experiment: Experiment,
    rule: AssayRule,
    files: Files,
    *,
    analysis: frozenset[str] | None,
    assembly: str,
    rules: Rules,
    accept_unknown: bool = False,
) -> Choice:
    """The files of an experiment that its rule asks for.

    files: all files of the experiment, by accession. analysis: accessions of its default analysis; none:
    it has none, and the rule does not need one. accept_unknown: whether a file passes whose read length or
    FRiP is limited but not told.
    """
    choice = Choice()
    candidates = []
    for file in files.values():
        if file.file_format == rule.file_format and file.output_type in rule.portal_types:
            if problem := _file_problem(file, rule, analysis, assembly):
                choice.refused.append((file, problem))
            else:
                candidates.append(file)
    _by_replicates(candidates, rule, choice)
    audit = audit_problem(experiment, rules)
    for replicates, strands in list(choice.used.items()):
        found = list(strands.values())
        enrichment = _frip_problem(found[0], files, rule, accept_unknown)
        problem = _length_problem(found, files, rule, accept_unknown) or quality_problem(
            rule, audit, enrichment
        )
        if problem:
            choice.drop(replicates, problem)
    _keep_best(choice, files, rule)
    return choice


def _file_problem(
    file: PortalFile, rule: AssayRule, analysis: frozenset[str] | None, assembly: str
) -> Problem | None:
    if file.status != "released":
        return "status", f"the file is {file.status or 'of unknown status'}, wanted released"
    if file.assembly != assembly:
        return "assembly", f"assembly {file.assembly or 'unknown'}, wanted {assembly}"
    if analysis is not None and file.accession not in analysis:
        return "other analysis", "not of the default analysis"
    if rule.created_from and file.created < rule.created_from:
        return "old", f"made {file.created or 'at an unknown date'}, wanted {rule.created_from} or later"
    if not file.url.startswith(("http://", "https://")) or PRIVATE in file.url:
        return "no url", "the portal names no public address"
    return None


def _by_replicates(candidates: Iterable[PortalFile], rule: AssayRule, choice: Choice) -> None:
    """Fill `choice.used`: one file a strand and set of replicates, both strands where there is one."""
    found: dict[tuple[int, ...], dict[str, list[PortalFile]]] = defaultdict(lambda: defaultdict(list))
    for file in candidates:
        strand = next(strand for strand, names in rule.strands if file.output_type in names)
        found[file.replicates][strand].append(file)
    preference = {name: n for _, names in rule.strands for n, name in enumerate(names)}
    for replicates, strands in sorted(found.items()):
        if rule.files == "each" and len(replicates) > 1:
            _refuse_all(choice, strands, ("pooled", f"of replicates {_words(replicates)} together"))
            continue
        chosen: dict[str, PortalFile] = {}
        for strand, files in strands.items():
            best = min(preference[file.output_type] for file in files)
            first = [file for file in files if preference[file.output_type] == best]
            rest = [file for file in files if preference[file.output_type] > best]
            choice.refused += [(file, ("not best", f"{first[0].output_type} is there")) for file in rest]
            if len(first) > 1:
                names = ", ".join(sorted(file.accession for file in first))
                problem = ("ambiguous", f"{names}: one output type, strand and replicate, wanted one file")
                choice.refused += [(file, problem) for file in first]
            else:
                chosen[strand] = first[0]
        choice.used[replicates] = _whole_strands(chosen, choice)
        if not choice.used[replicates]:
            del choice.used[replicates]


def _whole_strands(chosen: dict[str, PortalFile], choice: Choice) -> dict[str, PortalFile]:
    """Both strands where both are there, else the unstranded file; the others are refused."""
    if {"+", "-"} <= set(chosen):
        keep, problem = {"+", "-"}, ("not best", "signal of both strands is there")
    else:
        keep, problem = {"."}, ("lone strand", "the file of the other strand is missing or was refused")
    choice.refused += [(file, problem) for strand, file in chosen.items() if strand not in keep]
    return {strand: file for strand, file in chosen.items() if strand in keep}


def _keep_best(choice: Choice, files: Files, rule: AssayRule) -> None:
    """Where a rule wants one set of replicates: the most complete, best read and most recent one."""
    if rule.files != "best" or len(choice.used) < 2:
        return

    def rank(replicates: tuple[int, ...]) -> tuple:
        file = min(choice.used[replicates].values(), key=lambda one: one.accession)
        paired = endedness([file], files) == "paired-ended"
        length = read_length(file, files) or 0
        return len(replicates), len(file.technical), paired, length, file.created, file.accession

    best = max(choice.used, key=rank)
    for replicates in [one for one in choice.used if one != best]:
        choice.drop(replicates, ("not best", f"replicates {_words(best)} are more complete, or more recent"))


def _length_problem(
    found: Iterable[PortalFile], files: Files, rule: AssayRule, accept: bool
) -> Problem | None:
    if rule.min_read_length is None:
        return None
    lengths = [read_length(file, files) for file in found]
    if None in lengths:
        return None if accept else ("read length", "not told by the portal")
    short = min(length for length in lengths if length is not None)
    if short >= rule.min_read_length:
        return None
    return "read length", f"reads of {short} nt, wanted {rule.min_read_length} or more"


def _frip_problem(file: PortalFile, files: Files, rule: AssayRule, accept: bool) -> Problem | None:
    if rule.frip_above is None:
        return None
    found = frip(file, files)
    if found is None:
        return None if accept else ("FRiP", "not told by the portal")
    return None if found > rule.frip_above else ("FRiP", f"{found:.4g}, wanted more than {rule.frip_above:g}")


def origins(file: PortalFile, files: Files) -> list[PortalFile]:
    """The file, and the files of its experiment that it was made from, nearest first."""
    found, queue, seen = [], [file], {file.accession}
    while queue:
        one = queue.pop(0)
        found.append(one)
        for name in one.sources:
            if name in files and name not in seen:
                seen.add(name)
                queue.append(files[name])
    return found


def read_length(file: PortalFile, files: Files) -> int | None:
    """Shortest reads (nt) that a file was made from: as mapped where that is told, else as sequenced.

    Where its origins tell nothing, the reads of the same biological replicates; None if these do not either.
    """
    chain = origins(file, files)
    mapped = [one.read_length for one in chain if one.file_format != "fastq" and one.read_length is not None]
    if mapped:
        return min(mapped)
    raw = [one for one in chain if one.file_format == "fastq"] or _reads(file, files)
    return min((one.read_length for one in raw if one.read_length is not None), default=None)


def endedness(found: Iterable[PortalFile], files: Files) -> str:
    """`paired-ended`, `single-ended` if any read was, or empty where the portal does not tell."""
    types = set()
    for file in found:
        told = [one.run_type for one in origins(file, files) if one.run_type]
        types |= set(told or [one.run_type for one in _reads(file, files) if one.run_type])
    return "single-ended" if "single-ended" in types else "paired-ended" if types else ""


def frip(file: PortalFile, files: Files) -> float | None:
    """Fraction of reads in peaks (of DNase-seq: the SPOT1 score) of a file, or of its replicates.

    The metric lies on alignments or peaks: on the file itself, else on files of the same set of replicates,
    else on files that share a replicate; the best of them, None where the portal has none.
    """
    if file.frip is not None:
        return file.frip
    told = [
        one for one in files.values()
        if one.frip is not None and one.status == "released" and one.assembly == file.assembly
    ]  # fmt: skip
    same = [one.frip for one in told if one.replicates == file.replicates]
    shared = [one.frip for one in told if set(one.replicates) & set(file.replicates)]
    return max((value for value in same or shared if value is not None), default=None)


def _reads(file: PortalFile, files: Files) -> list[PortalFile]:
    wanted = set(file.replicates)
    return [one for one in files.values() if one.file_format == "fastq" and wanted & set(one.replicates)]


def _refuse_all(choice: Choice, strands: Mapping[str, list[PortalFile]], problem: Problem) -> None:
    choice.refused += [(file, problem) for found in strands.values() for file in found]


def _words(replicates: Iterable[int]) -> str:
    return ",".join(map(str, replicates)) or "unknown"
