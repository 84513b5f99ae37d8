"""Freezing a release: tables of sources in, one manifest with sizes and MD5 sums out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from megabase.files import FileError
from megabase.logs import LOGGER, progress
from megabase.sources.manifest import (
    local_path,
    md5_of,
    read_manifest,
    read_rows,
    resolve_url,
    write_manifest,
)

DEFAULT_PORTAL = "files"  # portal of a row that names none: a user's own file


def list_sources(tables: Sequence[str | Path], output: str | Path, *, data: str | Path = "") -> pl.DataFrame:
    """Write the manifest of a release from one or more TSVs of its columns; returns its rows.

    Of every file that this machine reaches (`file:`, `{data}/...`, or a bare path, which is taken from the
    table's own folder) the `size`, `md5` and `retrieved_utc` are filled in; a stated MD5 or size that the
    file does not have is a FileError with the row. Rows of other URLs are kept as they are. An empty portal
    becomes `files`, an empty status `released`.
    """
    rows: list[dict[str, Any]] = []
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for table in map(Path, tables):
        listed = read_rows(table)
        with progress(len(listed), f"listing {table.name}", "files") as done:
            for line, row in listed:
                rows.append(_filled(row, table, line, data, now))
                done.advance()
    write_manifest(rows, output)
    try:
        found = read_manifest(output)
    except FileError:
        Path(output).unlink()  # a manifest that no stage would read is of no use
        raise
    LOGGER.info("sources: %d files, %d without an MD5", found.height, found["md5"].null_count())
    return found


def _filled(row: dict[str, Any], table: Path, line: int, data: str | Path, now: str) -> dict[str, Any]:
    """The row with what its file tells, and the defaults of a user's own file."""
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
