"""GTEx's own junction table (GCT): counts of known introns by samples, pooled by tissue.

Release v8 names an intron without its strand, which is that of its gene; v10 names the strand, but lists
hardly a junction that is not annotated (0.3 %), so it shows no new ones: prefer recount3's (`recount3.py`).
"""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from megabase.files import FileError
from megabase.genome import Genome
from megabase.tracks.junctions import INTRON

LOGGER = logging.getLogger("megabase")
_V8 = re.compile(r"(?P<chrom>\w+)_(?P<first>\d+)_(?P<last>\d+)")
_V10 = re.compile(r"(?P<chrom>[^:]+):(?P<first>\d+)-(?P<last>\d+):(?P<strand>[+-])")
ANNOTATED_ONLY = "GTEx v10 lists annotated junctions only: no new junction can be learned from it"


def read_gct(
    path: str | Path, groups: Mapping[str, str], genome: Genome, strands: Mapping[str, str] | None = None
) -> dict[str, pl.DataFrame]:
    """INTRON and `count` (float64) of each group of samples, summed, from a junction GCT (plain or gzip).

    groups: group of each sample by its name in the header; others are left out. strands: strand of each gene
    (its id without version), for names that tell none (v8); an intron of a gene that it does not know is left
    out. Positions in names are the first and last base of the intron, 1-based. One line is in memory at a
    time, and a number an intron and group. FileError for a file that is no GCT or is cut short.
    """
    chosen = sorted(set(groups.values()))
    rows: list[tuple[str, int, int, str]] = []
    sums: list[np.ndarray] = []
    unknown = told = 0
    try:
        with _open(path) as lines:
            n_rows, samples = _header(lines, path)
            places = _places(samples, groups, chosen, path)
            for number, fields in _lines(lines, path, len(samples) + 2, n_rows):
                intron, has_strand = _intron(fields[0], fields[1], strands, path, number)
                told += has_strand
                chrom = genome.resolve(intron[0])
                if chrom is None or intron[3] == "":
                    unknown += 1
                    continue
                values = np.array(fields[2:], dtype=np.float64)
                sums.append(np.array([values[columns].sum() for columns in places]))
                rows.append((chrom, *intron[1:]))
    except (OSError, EOFError) as error:
        raise FileError(f"{path}: cannot be read ({error}); fetch it again") from error
    if told:
        LOGGER.warning("%s: %s", path, ANNOTATED_ONLY)
    if unknown:
        LOGGER.warning("%s: %d introns of unknown chromosome or strand left out", path, unknown)
    schema = dict(zip(INTRON, (pl.String, pl.Int64, pl.Int64, pl.String), strict=True))
    table = pl.DataFrame(rows, schema=schema, orient="row")
    matrix = np.array(sums).reshape(-1, len(chosen))
    counted = {name: table.with_columns(count=pl.Series(matrix[:, n])) for n, name in enumerate(chosen)}
    return {name: part.filter(pl.col("count") > 0) for name, part in counted.items()}


def _header(lines: IO[str], path: str | Path) -> tuple[int, list[str]]:
    """(introns that it says it has, names of its samples)."""
    first, size, names = (lines.readline().rstrip("\n").split("\t") for _ in range(3))
    if first[0] != "#1.2" or names[:2] != ["Name", "Description"] or not size[0].isdigit():
        raise FileError(
            f"{path}: begins {first[0]!r}, {size}, {names[:2]}; wanted a GCT (#1.2; introns and samples; "
            "Name, Description and samples)"
        )
    samples = names[2:]
    if len(set(samples)) < len(samples):
        raise FileError(f"{path}: a sample is named twice in the header")
    return int(size[0]), samples


def _places(
    samples: list[str], groups: Mapping[str, str], chosen: list[str], path: str | Path
) -> list[list[int]]:
    """Columns of each group."""
    found = [[n for n, name in enumerate(samples) if groups.get(name) == group] for group in chosen]
    if not any(found):
        raise FileError(f"{path}: none of its {len(samples)} samples is in the sample table")
    return found


def _lines(lines: IO[str], path: str | Path, width: int, n_rows: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of the introns; FileError unless there are as many as the header says."""
    found = 0
    for number, line in enumerate(lines, 4):
        fields = line.rstrip("\n").split("\t")
        if len(fields) != width:
            raise FileError(f"{path}: line {number}: {len(fields)} fields, wanted {width}; fetch it again")
        found += 1
        yield number, fields
    if found != n_rows:
        raise FileError(f"{path}: {found} introns, it says {n_rows}: it is cut short; fetch it again")


def _intron(
    name: str, gene: str, strands: Mapping[str, str] | None, path: str | Path, number: int
) -> tuple[tuple[str, int, int, str], bool]:
    """((chromosome, start, end, strand), whether the name tells the strand); strand empty: not known."""
    match = _V10.fullmatch(name) or _V8.fullmatch(name)
    if match is None:
        raise FileError(
            f"{path}: line {number}: intron {name!r}, wanted chr1_12058_12178 or chr1:12058-12178:+"
        )
    told = match.groupdict().get("strand")
    if told is None and strands is None:
        raise FileError(f"{path}: line {number}: {name!r} has no strand; give the strands of genes")
    strand = told or (strands or {}).get(gene.split(".")[0], "")
    return (match["chrom"], int(match["first"]) - 1, int(match["last"]), strand), told is not None


def _open(path: str | Path) -> IO[str]:
    with Path(path).open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt") if packed else Path(path).open()
