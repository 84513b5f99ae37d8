"""Freezing a release: portals and tables of sources in, one manifest with sizes and MD5 sums out.

Beside a manifest `NAME.tsv` lie `NAME.refused.tsv` (every experiment and file of the portals that is not
used, with its reason) and `NAME.answers/` (what the portals answered). While a listing runs, the answers lie
in `NAME.answers.part/`: an interrupted one goes on from there, a finished one is never read again.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, sole_writer, write_tsv
from megabase.logs import LOGGER, progress
from megabase.sources.ask import Asker
from megabase.sources.encode_objects import plain_assay
from megabase.sources.manifest import (
    local_path,
    md5_of,
    read_manifest,
    read_rows,
    resolve_url,
    write_manifest,
)
from megabase.sources.portals import REFUSED_COLUMNS, Listing, Release, list_portal, listing_function
from megabase.sources.turns import Turns

DEFAULT_PORTAL = "files"  # portal of a row that names none: a user's own file
MANIFESTS = Path("resources/manifests")
PER_SECOND = 5.0  # requests to one host; ENCODE allows 10


def manifest_path(release: str, output: str | Path, *, asks: bool) -> Path:
    """Where the manifest of a release goes: `output`, else MANIFESTS/{release}.tsv.

    FileError where neither is named, and where there is nothing to list (`asks`: whether there is).
    """
    if not asks:
        raise FileError("list-sources: nothing to list; give tables, or --portal NAME")
    if not (release or output):
        raise FileError("list-sources: give --release NAME, or -o MANIFEST")
    if release and not release.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise FileError(f"list-sources: release {release!r}; wanted letters, digits and . _ -")
    return Path(output) if output else MANIFESTS / f"{release}.tsv"


def list_sources(
    tables: Sequence[str | Path],
    output: str | Path,
    *,
    data: str | Path = "",
    portals: Sequence[str] = (),
    release: Release | None = None,
    turns: Turns | None = None,
    overwrite: bool = False,
) -> pl.DataFrame:
    """Write the manifest of a release from portals and TSVs of its columns; returns its rows.

    Of every file that this machine reaches (`file:`, `{data}/...`, or a bare path, which is taken from the
    table's own folder) the `size`, `md5` and `retrieved_utc` are filled in; a stated MD5 or size that the
    file does not have is a FileError with the row. Rows of other URLs are kept as they are. An empty portal
    becomes `files`, an empty status `released`. Rows of tables come first, then those of the portals, asked
    for `release`; the same tables and answers give the same bytes. FileError, with nothing written, where
    `output` is there already and `overwrite` is not set, and where a row could not be read again.
    """
    output = Path(output)
    for name in portals:
        listing_function(name)  # an unknown portal is told before any other is asked
    with sole_writer(output):  # a second listing of the name would take this one's record
        if output.exists() and not overwrite:
            raise FileError(
                f"{output}: is there already, and a release is frozen; name another, or --overwrite"
            )
        rows = _rows_of_tables(tables, data)
        found = Listing()
        if portals:
            release = release or Release(output.stem)
            found = _ask_portals(portals, release, beside(output, ".answers.part"), turns)
        manifest = _write(rows, found, output, release if portals else None)
    LOGGER.info("sources: %d files, %d without an MD5", manifest.height, manifest["md5"].null_count())
    for line in summary(found):
        LOGGER.info("%s", line)
    return manifest


def _rows_of_tables(tables: Sequence[str | Path], data: str | Path) -> list[dict[str, Any]]:
    """Rows of a user's tables, with what their files tell."""
    rows: list[dict[str, Any]] = []
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for table in map(Path, tables):
        listed = read_rows(table)
        with progress(len(listed), f"listing {table.name}", "files") as done:
            for line, row in listed:
                rows.append(_filled(row, table, line, data, now))
                done.advance()
    return rows


def _ask_portals(portals: Sequence[str], release: Release, part: Path, turns: Turns | None) -> Listing:
    """What the portals have, one after another; their answers are kept in `part`."""
    found = Listing()
    with Asker(part, turns=turns or Turns(None, PER_SECOND)) as ask:
        for name in portals:
            one = list_portal(name, ask, release)
            found.rows += one.rows
            found.refused += one.refused
        LOGGER.info("portals: %d answers, %d of them from an earlier try", ask.asked + ask.taken, ask.taken)
    return found


def _write(rows: list[dict[str, Any]], found: Listing, output: Path, release: Release | None) -> pl.DataFrame:
    """Write the manifest and, of `release` (none: no portals), what was refused and answered beside it."""
    with atomic_path(output) as temporary:
        write_manifest([*rows, *found.rows], temporary)
        try:
            manifest = read_manifest(temporary)
        except FileError as error:
            raise FileError(str(error).replace(str(temporary), str(output))) from None
        if release is not None:
            _write_refused(found, release, beside(output, ".refused.tsv"))
            _keep_answers(beside(output, ".answers.part"), beside(output, ".answers"))
    return manifest


def beside(manifest: Path, ending: str) -> Path:
    """`NAME{ending}` beside a manifest `NAME.tsv`."""
    return manifest.with_name(f"{manifest.name.removesuffix('.tsv')}{ending}")


def summary(listing: Listing) -> list[str]:
    """Lines that tell, by organism and assay, how many files are used, and how many are refused and why.

    Assays of modified lines count with the plain ones; a refused row without an accession is an experiment.
    """
    used = Counter(_assay_of(row) for row in listing.rows)
    groups: dict[tuple[str, str], Counter[str]] = {key: Counter() for key in used}
    for row in listing.refused:
        key = _assay_of(row)
        what = "files" if row["accession"] else "experiments"
        groups.setdefault(key, Counter())[f"{row['reason']} ({what})"] += 1
    lines = []
    for key in sorted(groups):
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(groups[key].items()))
        lines.append(f"{key[0]} {key[1]}: {used[key]} files used; refused: {reasons or 'none'}")
    return lines


def _assay_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """(organism, assay, or the role of a file that is of none)."""
    assay = plain_assay(str(row.get("assay") or ""))
    return str(row.get("organism") or ""), assay or str(row.get("output_type") or "")


def _write_refused(found: Listing, release: Release, path: Path) -> None:
    """Write what was refused, with its reason."""
    table = pl.DataFrame(found.refused, schema=dict.fromkeys(REFUSED_COLUMNS, pl.String))
    given = release.settings
    rules = map(Path, (given.assay_rules, given.audit_rules, given.priority_rules))
    read = hash_inputs(table for table in rules if table.exists())
    write_tsv(table, path, Stamp("refused", config_hash=given.hash(), inputs=read))


def _keep_answers(part: Path, folder: Path) -> None:
    """Give the answers of a finished listing their name, under which no listing reads them."""
    if not part.is_dir():
        return
    if folder.is_dir():
        shutil.rmtree(folder)
    os.replace(part, folder)


def _filled(row: dict[str, Any], table: Path, line: int, data: str | Path, now: str) -> dict[str, Any]:
    """The row with what its file on this machine tells, and the defaults of a user's own file."""
    row = {**row, "portal": row["portal"] or DEFAULT_PORTAL, "status": row["status"] or "released"}
    url = row["url"] or ""
    if ":" not in url and url and not url.startswith("{data}"):
        row["url"] = url = f"file:{(table.parent / url).resolve()}"
    if not url.startswith(("file:", "{data}")):
        return row
    path = local_path(resolve_url(row, data))
    if not path.is_file():
        raise FileError(f"{table}: line {line}: {path} not found; correct the url")
    found = {"size": str(path.stat().st_size), "md5": md5_of(path)}
    for name, value in found.items():
        if row[name] and row[name] != value:
            raise FileError(f"{table}: line {line}: {path} has {name} {value}, the table says {row[name]}")
    return {**row, **found, "retrieved_utc": row["retrieved_utc"] or now}
