"""The rules by which files of ENCODE are chosen, as three tables that a person reads and changes.

Source: AlphaGenome (bioRxiv 2025.06.25.661532), Methods, data processing. The tables lie in `resources/`
(`ListingSettings` names them); docs/listing.md tells what was read in the source and what had to be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from megabase.files import FileError
from megabase.spec import TRACK_OUTPUTS

RULE_COLUMNS = (
    "assay_title", "organisms", "output_type", "file_format", "plus", "minus", "unstranded", "files",
    "target", "modified", "quality", "min_read_length", "frip_above", "created_from", "analysis",
    "experiments", "source",
)  # fmt: skip
CHOICES = {
    "files": ("best", "each"),
    "target": ("yes", "no"),
    "modified": ("no", "apart", "together"),
    "quality": ("none", "audit", "audit or frip", "audit and frip"),
    "analysis": ("required", "optional"),
}
AUDIT_COLUMNS = ("level", "category", "verdict", "kind")
PRIORITY_COLUMNS = ("order", "fact", "levels", "action", "meaning")
FACTS = ("modification", "audit", "endedness", "classification", "life_stage", "fraction")
ANY = "*"
T = TypeVar("T")


@dataclass(frozen=True)
class AssayRule:
    """How files of one assay are chosen. `strands`: (strand, output types of the portal, best first)."""

    assay: str
    organisms: tuple[str, ...]
    output_type: str
    file_format: str
    strands: tuple[tuple[str, tuple[str, ...]], ...]
    files: str
    target: bool
    modified: str
    quality: str
    min_read_length: int | None
    frip_above: float | None
    created_from: str
    analysis: str
    experiments: tuple[str, ...]

    @property
    def portal_types(self) -> tuple[str, ...]:
        """All output types that a file of this assay may have on the portal."""
        return tuple(name for _, names in self.strands for name in names)


@dataclass(frozen=True)
class Priority:
    """One priority within a track group: levels of a fact, best first, each a set of equals."""

    fact: str
    levels: tuple[frozenset[str], ...]

    def rank(self, value: str) -> int:
        """0 for the best level; what no level names comes last."""
        return next((n for n, level in enumerate(self.levels) if value in level), len(self.levels))


@dataclass(frozen=True)
class Rules:
    """The three tables together."""

    assays: tuple[AssayRule, ...]
    audits: Mapping[tuple[str, str], bool]  # (level, category or *) -> whether it refuses
    priorities: tuple[Priority, ...]

    def refuses(self, level: str, category: str) -> bool:
        """Whether an audit refuses an experiment."""
        return self.audits.get((level, category), self.audits.get((level, ANY), False))


def read_rules(assays: str | Path, audits: str | Path, priorities: str | Path) -> Rules:
    """The rules of three tables; FileError names the table, the line, what was found and wanted."""
    verdicts: dict[tuple[str, str], bool] = {}
    for line, row in _table(audits, AUDIT_COLUMNS):
        _one_of(audits, line, "verdict", row["verdict"], ("refuse", "accept"))
        verdicts[row["level"], row["category"]] = row["verdict"] == "refuse"
    chosen = []
    for line, row in _table(priorities, PRIORITY_COLUMNS):
        _one_of(priorities, line, "fact", row["fact"], FACTS)
        _one_of(priorities, line, "action", row["action"], ("filter", "off"))
        order = _number(priorities, line, "order", row["order"], int)
        levels = tuple(frozenset(_split(level, ",")) for level in _split(row["levels"], "|"))
        if row["action"] == "filter":
            chosen.append((order, Priority(row["fact"], levels)))
    rules = tuple(_assay_rule(assays, line, row) for line, row in _table(assays, RULE_COLUMNS))
    return Rules(rules, verdicts, tuple(priority for _, priority in sorted(chosen, key=lambda one: one[0])))


def _assay_rule(path: str | Path, line: int, row: Mapping[str, str]) -> AssayRule:
    for name, allowed in CHOICES.items():
        _one_of(path, line, name, row[name], allowed)
    _one_of(path, line, "output_type", row["output_type"], tuple(map(str, TRACK_OUTPUTS)))
    if bool(row["plus"]) != bool(row["minus"]) or not (row["plus"] or row["unstranded"]):
        raise FileError(f"{path}: line {line}: wanted types for plus and minus, for unstranded, or all")
    if row["created_from"]:
        try:
            date.fromisoformat(row["created_from"])
        except ValueError as error:
            raise FileError(f"{path}: line {line}: created_from {row['created_from']!r}: {error}") from error
    limit = _number(path, line, "frip_above", row["frip_above"], float) if row["frip_above"] else None
    if "frip" in row["quality"] and limit is None:
        raise FileError(f"{path}: line {line}: quality {row['quality']!r} needs a limit in frip_above")
    length = row["min_read_length"]
    strands = (("+", row["plus"]), ("-", row["minus"]), (".", row["unstranded"]))
    return AssayRule(
        assay=row["assay_title"],
        organisms=_split(row["organisms"], "|"),
        output_type=row["output_type"],
        file_format=row["file_format"],
        strands=tuple((strand, _split(text, "|")) for strand, text in strands if text),
        files=row["files"],
        target=row["target"] == "yes",
        modified=row["modified"],
        quality=row["quality"],
        min_read_length=_number(path, line, "min_read_length", length, int) if length else None,
        frip_above=limit,
        created_from=row["created_from"],
        analysis=row["analysis"],
        experiments=_split(row["experiments"], "|"),
    )


def _table(path: str | Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, row) of a plain TSV with exactly these columns; lines that begin with # are notes."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: table of rules not found; run in the checkout, or name it in --settings")
    lines = list(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    data = [(n, line.split("\t")) for n, line in lines if line.strip() and not line.startswith("#")]
    header = [name.strip() for name in data[0][1]] if data else []
    if sorted(header) != sorted(columns):
        raise FileError(f"{path}: columns {', '.join(header) or 'none'}; wanted {', '.join(columns)}")
    for line, fields in data[1:]:
        if len(fields) != len(header):
            raise FileError(f"{path}: line {line}: {len(fields)} fields, wanted {len(header)} by tabs")
    return [(n, dict(zip(header, (f.strip() for f in fields), strict=True))) for n, fields in data[1:]]


def _split(text: str, mark: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(mark) if part.strip())


def _one_of(path: str | Path, line: int, name: str, found: str, allowed: Sequence[str]) -> None:
    if found not in allowed:
        raise FileError(f"{path}: line {line}: {name} {found!r}; wanted one of {', '.join(allowed)}")


def _number(path: str | Path, line: int, name: str, found: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(found)
    except ValueError as error:
        raise FileError(f"{path}: line {line}: {name} {found!r} is not a number") from error
