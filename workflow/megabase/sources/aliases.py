"""Other names of a genome's chromosomes, from UCSC's chromAlias.txt or NCBI's assembly report."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from megabase.files import FileError, Stamp, atomic_path, hash_inputs
from megabase.logs import LOGGER

_REPORT = ("Sequence-Name", "GenBank-Accn", "RefSeq-Accn", "UCSC-style-name")
_MOLECULE, _ROLE, _LENGTH = "Assigned-Molecule", "Sequence-Role", "Sequence-Length"


def import_aliases(source: str | Path, fasta: str | Path, output: str | Path) -> dict[str, str]:
    """Write `{other name: FASTA's name}` as the headerless table that `genomes.{name}.aliases` takes.

    source: UCSC's chromAlias.txt, or an NCBI assembly report (`*_assembly_report.txt`). fasta: the FASTA
    (plain or gzip), its `.fai`, or chrom.sizes: any names that it uses, the row that has one of them tells
    the others. FileError where no row does, where two rows claim a name, or where a length is another's: the
    two are of different assemblies.
    """
    lengths = chromosome_lengths(fasta)
    found: dict[str, str] = {}
    matched: set[str] = set()
    for number, names, length in _rows(Path(source)):
        here = [name for name in names if name in lengths]
        if len(set(here)) > 1:
            raise FileError(f"{source}: line {number}: {here} are one sequence there, and several in {fasta}")
        if not here:
            continue
        chrom = here[0]
        if length is not None and length != lengths[chrom]:
            raise FileError(
                f"{source}: line {number}: {chrom} has {length} bases, {lengths[chrom]} in {fasta}; "
                "take the table of the FASTA's assembly"
            )
        matched.add(chrom)
        for name in names:
            if name != chrom and found.setdefault(name, chrom) != chrom:
                raise FileError(f"{source}: line {number}: {name} stands for {found[name]} and {chrom}")
    if not matched:
        raise FileError(f"{source}: none of its names is in {fasta} ({', '.join(list(lengths)[:3])}, ...)")
    if rest := [name for name in lengths if name not in matched]:
        LOGGER.warning("%s: no other name of %d sequences (%s, ...)", source, len(rest), rest[0])
    _write(found, Path(output), [source])
    return found


def _write(aliases: dict[str, str], output: Path, inputs: list[str | Path]) -> None:
    stamp = Stamp("aliases", inputs=hash_inputs(inputs))
    with atomic_path(output) as temporary:
        lines = [f"#megabase {json.dumps(stamp.as_dict())}", *(f"{a}\t{b}" for a, b in aliases.items())]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(path: Path) -> Iterator[tuple[int, list[str], int | None]]:
    """(line number, names of a sequence, its length if told) of either table."""
    header: list[str] = []
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip("\r\n").split("\t")
            if line.startswith("#"):
                header = [fields[0].lstrip("# "), *fields[1:]]
            elif any(fields):
                yield number, *_names(dict(zip(header, fields, strict=False)), fields)


def _names(row: dict[str, str], fields: list[str]) -> tuple[list[str], int | None]:
    """Names and length of a row: of a report by its columns, of chromAlias all fields."""
    if "RefSeq-Accn" not in row:
        return _known(fields), None
    names = [row.get(column, "") for column in _REPORT]
    if row.get(_ROLE) == "assembled-molecule":  # an unplaced one names the chromosome that it lies on
        names.append(row.get(_MOLECULE, ""))
    length = row.get(_LENGTH, "")
    return _known(names), int(length) if length.isdigit() else None


def _known(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names if name.strip() not in ("", "na")))


def chromosome_lengths(path: str | Path) -> dict[str, int]:
    """`{name: bases}` of a FASTA (plain or gzip), a `.fai` or a table of sizes; else FileError."""
    lengths: dict[str, int] = {}
    with _open(Path(path)) as lines:
        first = lines.readline()
        if first.startswith(">"):
            name = first[1:].split()[0]
            lengths[name] = 0
            for line in lines:
                if line.startswith(">"):
                    name = line[1:].split()[0]
                    lengths[name] = 0
                else:
                    lengths[name] += len(line.strip())
            return lengths
        for number, line in enumerate([first, *lines], 1):
            fields = line.split("\t")
            if len(fields) < 2 or not fields[1].strip().isdigit():
                raise FileError(
                    f"{path}: line {number}: {line.strip()[:60]!r}, wanted a FASTA, .fai or sizes"
                )
            lengths[fields[0]] = int(fields[1])
    return lengths


def _open(path: Path) -> IO[str]:
    if not path.exists():
        raise FileError(f"{path}: not found")
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt") if packed else path.open(encoding="utf-8")
