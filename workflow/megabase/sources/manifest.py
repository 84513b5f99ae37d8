"""The manifest of a release: which files it is made of, checked row by row before any work is done.

A plain TSV of MANIFEST_COLUMNS that a user reviews and commits; an empty field is unknown (`strand` of a
file that holds both strands, `md5` and `size` of one that nobody has read yet).
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import polars as pl

from megabase.files import FileError, atomic_path
from megabase.spec import MANIFEST_COLUMNS, MANIFEST_OPTIONAL, MANIFEST_ROLES, STRANDS, OutputType

REQUIRED = ("portal", "accession", "output_type", "organism", "url")
KINDS = (*(str(output) for output in OutputType), *MANIFEST_ROLES)
PLANNED = "planned"  # scheme of the URL of a file that nobody has found yet (`megabase.planned`)
HOW_TO_LIST = "make the manifest of real files with `megabase list-sources`"
SCHEMES = ("http", "https", "file", PLANNED)
SCHEMA = {name: pl.Int64 if name == "size" else pl.String for name in MANIFEST_COLUMNS}
_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*")
_MD5 = re.compile(r"[0-9a-f]{32}")


def read_manifest(path: str | Path) -> pl.DataFrame:
    """Rows of a manifest in their order: MANIFEST_COLUMNS, strings, `size` int64, unknown fields null.

    Behind them come the MANIFEST_OPTIONAL columns that the file has.

    FileError names the row (the line of the file) and what was found and wanted: a column that is missing or
    unknown, a required field that is empty, an output type that is neither an OutputType nor a role (with
    the nearest name), a bad strand, MD5, size or URL, and two rows that would make the same file.
    """
    path = Path(path)
    rows = []
    for line, row in read_rows(path):
        if problem := check_row(row):
            raise FileError(f"{path}: line {line}: {problem}")
        rows.append((line, {**row, "size": int(row["size"]) if row["size"] else None}))
    _check_unique(path, rows)
    more = [name for name in MANIFEST_OPTIONAL if any(name in row for _, row in rows)]
    return pl.DataFrame([row for _, row in rows], schema=SCHEMA | dict.fromkeys(more, pl.String))


def read_rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """(line number, row by column name) of a manifest TSV whose fields are not yet checked."""
    if not path.exists():
        raise FileError(
            f"{path}: manifest not found; `megabase list-sources` makes it, or, for a dry run before its "
            "files are listed, `megabase plan-sources`"
        )
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    data = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not data:
        raise FileError(f"{path}: empty; wanted a header line of {', '.join(MANIFEST_COLUMNS)}")
    header = [name.strip() for name in data[0][1].split("\t")]
    _check_header(path, header)
    rows: list[tuple[int, dict[str, str | None]]] = []
    for number, line in data[1:]:
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != len(header):
            raise FileError(f"{path}: line {number}: {len(fields)} fields, wanted {len(header)} by tabs")
        given = dict(zip(header, fields, strict=True))
        names = (*MANIFEST_COLUMNS, *(name for name in MANIFEST_OPTIONAL if name in given))
        rows.append((number, {name: given[name] or None for name in names}))
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in MANIFEST_COLUMNS if name not in header]
    for name in header:
        if name not in (*MANIFEST_COLUMNS, *MANIFEST_OPTIONAL):
            near = nearest(name, missing or MANIFEST_COLUMNS)
            raise FileError(f"{path}: unknown column {name!r}; nearest: {near}")
    if missing:
        raise FileError(f"{path}: columns missing: {', '.join(missing)}")
    if len(set(header)) < len(header):
        raise FileError(f"{path}: a column is named twice: {', '.join(sorted(header))}")


def nearest(name: str, names: Iterable[str]) -> str:
    """The valid name that is most like `name`."""
    return difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)[0]


def check_row(row: Mapping[str, str | None]) -> str | None:
    """What is wrong with one row, as `field: found, wanted`, or None."""
    for name in REQUIRED:
        if not row[name]:
            return f"{name} is empty, it is required"
    for name in ("portal", "accession"):
        if not _NAME.fullmatch(row[name] or ""):
            return f"{name} {row[name]!r} has characters that a file name should not; wanted A-Za-z0-9._+-"
    if row["output_type"] not in KINDS:
        near = nearest(str(row["output_type"]), KINDS)
        return f"output_type {row['output_type']!r} is neither an output type nor a role; nearest: {near}"
    if row["strand"] and row["strand"] not in STRANDS:
        return f"strand {row['strand']!r} is not one of {' '.join(STRANDS)} (or empty)"
    if row["md5"] and not _MD5.fullmatch(row["md5"]):
        return f"md5 {row['md5']!r} is not 32 hexadecimal digits in lower case (or empty)"
    if row["size"] and not row["size"].isdigit():
        return f"size {row['size']!r} is not a number of bytes (or empty)"
    return _check_url(str(row["url"]))


def _check_url(url: str) -> str | None:
    scheme, found, _ = url.partition(":")
    if url.startswith("{data}/"):
        return None
    if not found or scheme not in SCHEMES:
        return f"url {url!r} is not http(s)://..., file:... or {{data}}/... (gs and s3 have https addresses)"
    if scheme in ("http", "https") and not urlsplit(url).netloc:
        return f"url {url!r} names no host"
    return None


def is_planned(row: Mapping[str, Any]) -> bool:
    """Whether a row stands for a file that nobody has found yet."""
    return str(row["url"]).startswith(f"{PLANNED}:")


def _check_unique(path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    seen: dict[str, int] = {}
    for line, row in rows:
        if (first := seen.setdefault(row["accession"], line)) != line:
            raise FileError(
                f"{path}: line {line}: accession {row['accession']!r} is that of line {first}; one row a file"
            )


def resolve_url(row: Mapping[str, Any], data: str | Path = "") -> str:
    """URL of a row with `{data}` filled in: `http(s)://...`, or `file:` and a path.

    ValueError where the URL needs the config key `data` and it is not given.
    """
    url = str(row["url"])
    if "{data}" in url:
        if not str(data):
            raise ValueError(f"{row['accession']}: url {url} needs the config key `data`, which is not given")
        url = url.replace("{data}", str(data).rstrip("/"))
    return url if url.partition(":")[0] in SCHEMES else f"file:{url}"


def local_path(url: str) -> Path:
    """Path of a `file:` URL (`file:relative`, `file:/absolute`, `file:///percent%20encoded`) or of a path."""
    rest = url.removeprefix("file:")
    if rest != url and rest.startswith("//"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"{url}: names host {parts.netloc!r}; a local path is file:/path or file:path")
        return Path(unquote(parts.path))
    return Path(rest)


def raw_path(row: Mapping[str, Any], results: str | Path = "results") -> Path:
    """`{results}/raw/{portal}/{accession}.{ext}`: where the verified file of a row lies.

    `ext` is what follows the first dot of the last part of the URL's path; without one, no extension.
    """
    url = str(row["url"])
    path = urlsplit(url).path if url.startswith(("http:", "https:")) else url
    _, dot, extension = path.rstrip("/").rpartition("/")[2].partition(".")
    return Path(results) / "raw" / str(row["portal"]) / f"{row['accession']}{dot}{extension}"


def write_manifest(rows: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Write rows (null or missing: empty) as a manifest: plain text for a user to review and commit.

    A MANIFEST_OPTIONAL column is written where a row fills it.
    """
    rows = list(rows)
    names = (*MANIFEST_COLUMNS, *(name for name in MANIFEST_OPTIONAL if any(row.get(name) for row in rows)))
    lines = ["\t".join(names)]
    for row in rows:
        fields = ["" if row.get(name) is None else str(row[name]) for name in names]
        lines.append("\t".join(fields))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def md5_of(path: str | Path) -> str:
    """MD5 of a file's bytes, as portals state it, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
