"""The small tables that come with the project, in `resources/`, and the rows of a manifest made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from megabase.files import FileError
from megabase.sources.ask import Answer
from megabase.spec import MANIFEST_COLUMNS

FOLDER = Path(__file__).resolve().parents[3] / "resources"


class Ask(Protocol):
    """A question to a portal; `megabase.sources.ask.Asker` is one."""

    def __call__(self, url: str, params: Iterable[tuple[str, Any]] = ()) -> Answer: ...


def read_resource(name: str, columns: Sequence[str], folder: Path = FOLDER) -> list[dict[str, str]]:
    """Rows of `resources/{name}.tsv` by column name, lines of `#` left out.

    FileError where the table is missing (a package without its checkout), or is not of these columns.
    """
    path = folder / f"{name}.tsv"
    if not path.exists():
        raise FileError(f"{path}: not found; it comes with a checkout of the project, run from one")
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    header = lines[0].split("\t") if lines else []
    if header != list(columns):
        raise FileError(f"{path}: columns {header}, wanted {list(columns)}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise FileError(f"{path}: row {number}: {len(fields)} fields, wanted {len(header)}")
        rows.append(dict(zip(header, fields, strict=True)))
    return rows


def manifest_row(**values: Any) -> dict[str, Any]:
    """A row of MANIFEST_COLUMNS with these values, `released` unless told otherwise, the others unknown."""
    return dict.fromkeys(MANIFEST_COLUMNS) | {"status": "released"} | values
