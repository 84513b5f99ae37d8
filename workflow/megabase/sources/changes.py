"""What a new release changes: files that come, change and go, and what a run would do anew for them.

Two manifests are compared file by file. A file that left is paired with what stands in its place: the one
that supersedes it (the portal says so), else a new one of the same experiment, replicate and strand.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from megabase.files import Stamp, hash_inputs, read_tsv, write_tsv
from megabase.sources.groups import SPLICING_KINDS, rows_identity, track_groups
from megabase.sources.listing import beside
from megabase.sources.manifest import read_manifest
from megabase.spec import MANIFEST_COLUMNS, MANIFEST_ROLES, OUTPUTS, OutputType

KINDS = ("new", "changed", "superseded", "replaced", "revoked", "gone")
FETCHED = ("url", "md5", "size")  # a change of one of these downloads the file again
UNTOLD = ("retrieved_utc", "licence")  # say nothing of the data
WITHDRAWN = ("revoked", "replaced", "deleted")  # statuses of files that were taken back
CHANGE_COLUMNS = (
    "kind", "organism", "output_type", "assay", "biosample", "old", "new", "fields", "bytes", "reason",
)  # fmt: skip
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One file that differs. `size`: bytes to download for it, 0 for none, None where nobody knows."""

    kind: str
    row: Row  # the new one where there is one
    old: str = ""
    new: str = ""
    fields: tuple[str, ...] = ()
    size: int | None = 0
    reason: str = ""


@dataclass
class Changes:
    """Files that differ, and track groups whose files or rows do: (organism, output type) -> names."""

    files: list[Change] = field(default_factory=list)
    renormalized: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    dropped: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    @property
    def resharded(self) -> dict[str, list[str]]:
        """Output types of each organism whose tracks are made anew or fall away."""
        found: dict[str, set[str]] = defaultdict(set)
        for organism, output in [*self.renormalized, *self.dropped]:
            found[organism].add(output)
        return {organism: sorted(outputs) for organism, outputs in sorted(found.items())}

    @property
    def downloads(self) -> tuple[int, int, int]:
        """(files to download, their known bytes, how many of them have no known size)."""
        wanted = [change.size for change in self.files if change.size != 0]
        return len(wanted), sum(size or 0 for size in wanted), wanted.count(None)


def compare_sources(old: str | Path, new: str | Path, output: str | Path | None = None) -> str:
    """The changes from manifest `old` to manifest `new` as text; `output`: a TSV with a row a file.

    Why a file left is read in `NAME.refused.tsv` beside the new manifest, where there is one. FileError for a
    manifest that cannot be read.
    """
    refused = beside(Path(new), ".refused.tsv")
    reasons = read_tsv(refused, "refused").to_dicts() if refused.exists() else []
    changes = compare(read_manifest(old).to_dicts(), read_manifest(new).to_dicts(), reasons)
    if output is not None:
        table = pl.DataFrame([_told(change) for change in changes.files], schema=_schema())
        write_tsv(table, output, Stamp("changes", inputs=hash_inputs([old, new])))
    return "\n".join(report(changes)) + "\n"


def compare(old: Iterable[Row], new: Iterable[Row], refused: Iterable[Row] = ()) -> Changes:
    """Changes from the rows of one manifest to those of another; `refused`: rows of REFUSED_COLUMNS."""
    before = {row["accession"]: row for row in old}
    after = {row["accession"]: row for row in new}
    why = {row["accession"]: f"{row['reason']}: {row['detail']}" for row in refused if row["accession"]}
    gone = {name: row for name, row in before.items() if name not in after}
    fresh = {name: row for name, row in after.items() if name not in before}
    pairs = _superseded(fresh, gone, after)
    pairs |= _replaced({n: r for n, r in fresh.items() if n not in pairs}, gone, set(pairs.values()))
    files = [_changed(before[name], row) for name, row in after.items() if name in before]
    for name, row in fresh.items():
        former = pairs.get(name, "")
        kind = "new" if not former else "superseded" if former in _ancestors(row, after) else "replaced"
        reason = why.get(former, "")
        files.append(Change(kind, row, old=former, new=name, size=row["size"], reason=reason))
    for name, row in gone.items():
        if name not in pairs.values():
            reason = why.get(name, "")
            withdrawn = reason.startswith("status: ") and any(word in reason for word in WITHDRAWN)
            files.append(Change("revoked" if withdrawn else "gone", row, old=name, reason=reason))
    found = Changes([change for change in files if change is not None])
    found.files.sort(key=lambda one: (*(str(v) for v in _place(one)), one.kind, one.old, one.new))
    _compare_groups(list(before.values()), list(after.values()), found)
    return found


def _changed(old: Row, new: Row) -> Change | None:
    """The change of a file that both manifests have."""
    names = [name for name in MANIFEST_COLUMNS if name not in UNTOLD and old[name] != new[name]]
    if not names:
        return None
    size = new["size"] if set(names) & set(FETCHED) else 0
    withdrawn = "status" in names and str(new["status"]) in WITHDRAWN
    reason = "; ".join(f"{name}: {old.get(name)} -> {new.get(name)}" for name in names)
    name = new["accession"]
    return Change("revoked" if withdrawn else "changed", new, name, name, tuple(names), size, reason)


def _ancestors(row: Row, rows: Mapping[str, Row]) -> list[str]:
    """Accessions that a row supersedes, nearest first, through rows that are known themselves."""
    found: list[str] = []
    queue = str(row.get("supersedes") or "").split(",")
    while queue:
        name = queue.pop(0).strip()
        if name and name not in found:
            found.append(name)
            queue += str(rows[name].get("supersedes") or "").split(",") if name in rows else []
    return found


def _superseded(
    fresh: Mapping[str, Row], gone: Mapping[str, Row], after: Mapping[str, Row]
) -> dict[str, str]:
    """New accession -> the one that left and that it supersedes."""
    taken: dict[str, str] = {}
    for name, row in sorted(fresh.items()):
        former = [one for one in _ancestors(row, after) if one in gone and one not in taken.values()]
        if former:
            taken[name] = former[0]
    return taken


def _replaced(fresh: Mapping[str, Row], gone: Mapping[str, Row], taken: set[str]) -> dict[str, str]:
    """New accession -> the one that left whose place (experiment, replicate, strand) it has."""
    free: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, row in sorted(gone.items()):
        if row["experiment"] and name not in taken:
            free[_seat(row)].append(name)
    return {name: free[_seat(row)].pop(0) for name, row in sorted(fresh.items()) if free.get(_seat(row))}


def _seat(row: Row) -> tuple[Any, ...]:
    columns = ("portal", "experiment", "assay", "output_type", "assembly", "replicate", "strand")
    return tuple(row[column] for column in columns)


def _compare_groups(old: list[Row], new: list[Row], found: Changes) -> None:
    """Which tracks are made anew, and which fall away."""
    kinds = {(row["organism"], row["output_type"]) for row in [*old, *new]}
    for organism, output in sorted(kinds):
        if output in MANIFEST_ROLES:
            continue
        before, after = (_groups(rows, organism, output) for rows in (old, new))
        if anew := sorted(name for name, state in after.items() if before.get(name) != state):
            found.renormalized[organism, output] = anew
        if lost := sorted(set(before) - set(after)):
            found.dropped[organism, output] = lost


def _groups(rows: list[Row], organism: str, output: str) -> dict[str, str]:
    """State of every group: what its job reads of the rows, and which bytes are fetched for it."""
    if OUTPUTS[OutputType(output)].kind in SPLICING_KINDS:
        chosen = [row for row in rows if (row["organism"], row["output_type"]) == (organism, output)]
        groups = {"splicing": chosen} if chosen else {}
    else:
        groups = track_groups(rows, organism, output)
    return {
        name: rows_identity(members) + str([[row[column] for column in FETCHED] for row in members])
        for name, members in groups.items()
    }


def report(changes: Changes) -> list[str]:
    """Lines for a person: a table by organism, assay and biosample, then totals and what a run does anew."""
    if not changes.files:
        return ["nothing changed"]
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    sizes: Counter[tuple[str, ...]] = Counter()
    for change in changes.files:
        counts[_place(change)][change.kind] += 1
        sizes[_place(change)] += change.size or 0
    head = ("organism", "output_type", "assay", "biosample", *KINDS, "download")
    body = [
        (*place, *(str(counts[place][kind] or "") for kind in KINDS), words_of(sizes[place]))
        for place in sorted(counts)
    ]
    totals = Counter(change.kind for change in changes.files)
    files, size, unknown = changes.downloads
    lines = _aligned([head, *body])
    lines += ["", ", ".join(f"{totals[kind]} {kind}" for kind in KINDS)]
    more = f" and {unknown} files of unknown size" if unknown else ""
    lines.append(f"to download: {files} files, {words_of(size)}{more}")
    for (organism, output), names in changes.renormalized.items():
        lines.append(f"to normalize: {organism} {output}: {len(names)} tracks groups: {', '.join(names)}")
    for (organism, output), names in changes.dropped.items():
        lines.append(f"to fall away: {organism} {output}: {len(names)} track groups: {', '.join(names)}")
    for organism, outputs in changes.resharded.items():
        lines.append(f"to shard: {organism}: {', '.join(outputs)}")
    roles = sorted({str(c.row["output_type"]) for c in changes.files} & set(MANIFEST_ROLES))
    if roles:
        lines.append(
            f"other files changed ({', '.join(roles)}): the jobs that the config gives them to rerun"
        )
    return lines


def words_of(size: int) -> str:
    """Bytes in decimal units, as portals and disks count them; empty for none."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}" if size else ""
        value /= 1000
    return f"{value:.4g} TB"


def _place(change: Change) -> tuple[str, ...]:
    return tuple(str(change.row[name] or "") for name in ("organism", "output_type", "assay", "biosample"))


def _told(change: Change) -> dict[str, Any]:
    values = (change.kind, *_place(change), change.old, change.new, ",".join(change.fields), change.size,
              change.reason)  # fmt: skip
    return dict(zip(CHANGE_COLUMNS, values, strict=True))


def _schema() -> dict[str, Any]:
    return {name: pl.Int64 if name == "bytes" else pl.String for name in CHANGE_COLUMNS}


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
