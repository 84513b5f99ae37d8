"""Which files of a manifest make one track: the groups over which replicates are averaged.

A group is one ontology term x assay x source x target of an organism and output type, as in AlphaGenome
(bioRxiv 2025.06.25.661532, Methods, data processing); the strands of a group are its channels. Splice
tables of an organism are read together, and so are one group.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from megabase.files import FileError, hash_json
from megabase.sources.manifest import filled, local_path, raw_path, resolve_url
from megabase.spec import OUTPUTS, Kind

Row = Mapping[str, Any]
SPLICING_KINDS = (Kind.SITES, Kind.USAGE, Kind.JUNCTIONS)
# What normalization reads of a row; `md5` stands for the bytes of the file.
READ_COLUMNS = (
    "portal", "accession", "experiment", "assay", "output_type", "organism", "assembly", "ontology_curie",
    "biosample", "life_stage", "strand", "replicate", "target", "md5",
)  # fmt: skip
_KEY = ("ontology_curie", "assay", "portal", "target")


def group_key(row: Row) -> tuple[str, ...]:
    """What makes two files replicates: term (else biosample, else experiment), assay, source, target.

    Files of which none of these is known are no replicates of each other.
    """
    term = row["ontology_curie"] or row["biosample"] or row["experiment"] or row["accession"]
    return tuple(str(part or "") for part in (term, *(row[column] for column in _KEY[1:])))


def safe_name(*parts: str) -> str:
    """Parts that are not empty as one folder name of letters, digits, `_`, `+` and `-`, joined by dots."""
    cleaned = (re.sub(r"[^A-Za-z0-9_+]+", "-", part).strip("-") for part in parts)
    return ".".join(part for part in cleaned if part)


def file_key(path: str | Path) -> str:
    """`{portal}/{file}`, the end of a raw file's path, whatever folder the results are in."""
    return "/".join(str(path).rsplit("/", 2)[-2:])  # a release asks this once a file and more: no Path


def rows_identity(rows: Iterable[Row]) -> str:
    """Hash of what a job that makes a track reads of its rows: READ_COLUMNS, and nothing else.

    When and from where a file was listed, or its licence, may change from release to release without a track
    being made anew.
    """
    return hash_json([[row[column] for column in READ_COLUMNS] for row in rows])


def track_groups(rows: Iterable[Row], organism: str, output_type: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of each group of an organism and output type, by group name, both in the order of names.

    The name is made of term, assay and target. Where two groups would share one (another source, or parts
    that differ in characters that a folder name cannot have), a hash of the whole key tells them apart, so
    that a name never depends on the other groups' order.
    """
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["organism"] == organism and row["output_type"] == output_type:
            found.setdefault(group_key(row), []).append(dict(row))
    plain = {key: safe_name(key[0], key[1], key[3]) for key in found}
    shared = {name for name, count in Counter(plain.values()).items() if count > 1}
    named = {
        name if name not in shared else f"{name}.{hash_json(key)[:8]}": rows
        for (key, name), rows in zip(plain.items(), found.values(), strict=True)
    }
    return {name: sorted(named[name], key=lambda row: row["accession"]) for name in sorted(named)}


class Sheet:
    """The files of a release as the workflow looks them up: by path, accession, role and track group."""

    def __init__(self, rows: Iterable[Row], manifest: str, *, data: str = "") -> None:
        """`rows` of a manifest, its name for messages, and the folder that `{data}` in a URL stands for."""
        self.rows = [filled(row) for row in rows]
        self.manifest, self.data = manifest, data
        self._files = {row["accession"]: file_key(raw_path(row)) for row in self.rows}
        self._by_file = {self._files[row["accession"]]: row for row in self.rows}
        self._by_kind: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in self.rows:
            self._by_kind.setdefault((row["organism"], row["output_type"]), []).append(row)
        self._groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}

    def row_at(self, path: str | Path) -> dict[str, Any]:
        """The row whose file is `path`, which ends in `{portal}/{file}`; FileError where there is none."""
        key = file_key(path)
        if key not in self._by_file:
            raise FileError(f"{self.manifest}: no row makes a file {key}; correct the manifest or the path")
        return self._by_file[key]

    def url(self, path: str | Path) -> str:
        """URL of the file `path`, with `{data}` filled in."""
        return resolve_url(self.row_at(path), self.data)

    def local(self, path: str | Path) -> list[str]:
        """Where the file `path` comes from on this machine: one path, or none for a portal's."""
        url = self.url(path)
        return [str(local_path(url))] if url.startswith("file:") else []

    def file(self, accession: str) -> str:
        """`{portal}/{file}` of an accession; FileError names an unknown one and the nearest known one."""
        if accession not in self._files:
            near = difflib.get_close_matches(accession, self._files, n=1, cutoff=0.0)
            hint = f" (nearest: {near[0]})" if near else ""
            raise FileError(
                f"{self.manifest}: no row has accession {accession!r}{hint}; correct the one or the other"
            )
        return self._files[accession]

    def groups(self, organism: str, output_type: str) -> dict[str, list[dict[str, Any]]]:
        """Rows of each track group of an organism and output type, by the group's name."""
        key = (organism, output_type)
        if key not in self._groups:
            self._groups[key] = track_groups(self._by_kind.get(key, []), *key)
        return self._groups[key]

    def of_kind(self, organism: str, kind: Kind) -> list[str]:
        """Output types of a kind of data that an organism has files of, in the order of the vocabulary."""
        return [
            str(o) for o, facts in OUTPUTS.items() if facts.kind is kind and (organism, o) in self._by_kind
        ]

    def splicing(self, organism: str) -> list[dict[str, Any]]:
        """Rows of an organism's splice tables, by accession."""
        rows = (row for kind in SPLICING_KINDS for row in self._of(organism, self.of_kind(organism, kind)))
        return sorted(rows, key=lambda row: row["accession"])

    def role(self, organism: str, role: str) -> list[dict[str, Any]]:
        """Rows of an organism with a role such as `splits` or `genes`, by accession."""
        return sorted(self._of(organism, [role]), key=lambda row: row["accession"])

    def _of(self, organism: str, output_types: Iterable[str]) -> list[dict[str, Any]]:
        return [row for output in output_types for row in self._by_kind.get((organism, output), [])]

    def products(self, folder: str) -> list[str]:
        """Local files under `folder` that the manifest refers to: what `simulate_demo` writes."""
        files = (self.local(key) for key in self._by_file)
        return sorted(file for found in files for file in found if file.startswith(f"{folder}/"))

    def track_folders(self, organism: str, folder: str) -> list[str]:
        """Folders of all normalized tracks of an organism, under `folder`."""
        kinds = [*self.of_kind(organism, Kind.TRACKS), *self.of_kind(organism, Kind.CONTACTS)]
        parts = [f"{output}/{name}" for output in kinds for name in self.groups(organism, output)]
        return [
            f"{folder}/{organism}/{part}" for part in [*parts, *["splicing"] * bool(self.splicing(organism))]
        ]
