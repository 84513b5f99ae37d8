"""Junctions that recount3 counted: a sparse matrix of a project's introns by samples.

A project has three files: `RR` (the introns, a row each), `ID` (the samples by `rail_id`, a column each) and
`MM` (counts, Matrix Market). Positions are 1-based and closed
there (the first and last base of the intron), 0-based half-open here. Matrices are read in blocks and their
counts laid down by tissue and chromosome: a project has a billion of them.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from megabase.files import FileError
from megabase.genome import Genome
from megabase.sources.gtex import USED, metadata_table, tissue_of, tissue_terms
from megabase.sources.tables.reading import Part, pick
from megabase.tracks.junction_samples import SAMPLED

BLOCK = 1 << 22  # bytes of text that are parsed at a time
REFETCH = "fetch it again"
_INTRONS = ("chromosome", "start", "end", "strand")
PROJECT_FILES = ("MM", "RR", "ID", "MD")  # what stands before `.gz` in the names of a project's files
_ENTRY = np.dtype([("row", "<u4"), ("sample", "<u4"), ("count", "<u4")])


def project_file(path: str | Path) -> str | None:
    """Which of a project's files a path is, by its ending (`MM`, `RR`, `ID`, `MD`), or none of them."""
    name = str(path).removesuffix(".gz").rpartition(".")[2]
    return name if name in PROJECT_FILES and str(path).endswith(".gz") else None


def read_projects(
    rows: Sequence[Mapping[str, Any]], files: Sequence[str | Path], genome: Genome, scratch: Path
) -> list[tuple[dict[str, Any], TissueCounts]]:
    """(row, counts of each individual) of each tissue of GTEx projects.

    rows, files: manifest rows of the four files of each project (`experiment`). The row of a tissue is that
    of the counts with the tissue's term and biosample. Counts lie in `scratch`, which must last as long as
    they are read. FileError where a project lacks a file.
    """
    projects: dict[str, dict[str, tuple[Mapping[str, Any], Path]]] = {}
    for row, path in zip(rows, files, strict=True):
        if kind := project_file(path):
            projects.setdefault(str(row["experiment"]), {})[kind] = (row, Path(path))
    found = []
    for number, (name, parts) in enumerate(sorted(projects.items())):
        if missing := [kind for kind in PROJECT_FILES if kind not in parts]:
            raise FileError(f"GTEx project {name}: no {', '.join(missing)} file; list its junctions again")
        counts, introns, samples, metadata = (parts[kind][1] for kind in PROJECT_FILES)
        terms, tissues, folder = tissue_terms(), tissues_of(metadata), scratch / f"project-{number}"
        for tissue, one in read_recount3(counts, introns, samples, tissues, genome, folder).items():
            term = {key: terms[tissue][key] for key in ("ontology_curie", "biosample")}
            found.append((dict(parts["MM"][0]) | term | {"accession": tissue}, one))
    return found


def tissues_of(metadata: str | Path) -> dict[str, str]:
    """Tissue of each sample (`rail_id`) of a project that is in the analysis freeze, from its MD file."""
    table = metadata_table(Path(metadata).read_bytes(), ("smtsd", "smafrze"), str(metadata))
    used = table.filter(pl.col("smafrze") == USED)
    named = {rail: tissue_of(detail) for rail, detail in used.select("rail_id", "smtsd").iter_rows()}
    terms = tissue_terms()
    return {rail: tissue for rail, tissue in named.items() if tissue in terms}


@dataclass(frozen=True)
class TissueCounts:
    """Counts of the samples of a group (`rail_id`), on disk, by chromosome; see `JunctionSamples`."""

    names: Sequence[str]
    introns: Mapping[str, pl.DataFrame]  # `row` and INTRON by chromosome
    files: Mapping[str, Path]  # of _ENTRY, by chromosome

    @property
    def chromosomes(self) -> Collection[str]:
        """Chromosomes that have counts."""
        return self.files.keys()

    def read(self, chrom: str) -> pl.DataFrame:
        """SAMPLED of a chromosome."""
        if chrom not in self.files:
            return pl.DataFrame(schema=SAMPLED)
        entries = np.fromfile(self.files[chrom], _ENTRY)
        columns = {name: entries[name].astype(np.int64) for name in ("row", "sample", "count")}
        return pl.DataFrame(columns).join(self.introns[chrom], on="row").select(*SAMPLED)


def read_recount3(
    counts: str | Path,
    introns: str | Path,
    samples: str | Path,
    groups: Mapping[str, str],
    genome: Genome,
    scratch: Path,
) -> dict[str, TissueCounts]:
    """Counts of every sample of each group that the files have.

    counts, introns, samples: the files MM, RR and ID. groups: group of each sample by `rail_id`; samples that
    it does not name are left out. scratch: a folder to make, for the counts (12 bytes each). Introns of
    unknown strand, or on chromosomes that the genome does not have, are left out. FileError for files that do
    not belong together or are cut short.
    """
    columns = _column_groups(samples, groups)
    names = sorted({group for _, group in columns if group is not None})
    members = {name: [rail for rail, group in columns if group == name] for name in names}
    places = {
        rail: (number, at) for number, name in enumerate(names) for at, rail in enumerate(members[name])
    }
    group, sample = np.array([places.get(rail, (-1, -1)) for rail, _ in columns]).T
    table = read_introns(introns, genome)
    chroms = [str(chrom) for chrom in table["chrom"].drop_nulls().unique(maintain_order=True)]
    chrom_of = table["chrom"].replace_strict(chroms, range(len(chroms)), default=-1).to_numpy()
    by_chrom = {chrom: table.filter(pl.col("chrom") == chrom) for chrom in chroms}
    scratch.mkdir(parents=True)
    for rows, columns_of, values in _entries(counts, table.height, len(columns)):
        kept = (group[columns_of] >= 0) & (chrom_of[rows] >= 0) & (values > 0)
        rows, columns_of = rows[kept], columns_of[kept]
        entries = np.empty(len(rows), _ENTRY)
        entries["row"], entries["sample"], entries["count"] = rows, sample[columns_of], values[kept].round()
        _lay_down(entries, group[columns_of], chrom_of[rows], scratch)
    return {
        name: TissueCounts(
            members[name],
            by_chrom,
            {c: p for n, c in enumerate(chroms) if (p := scratch / f"{number}-{n}").exists()},
        )
        for number, name in enumerate(names)
    }


def _lay_down(entries: np.ndarray, group: np.ndarray, chrom: np.ndarray, folder: Path) -> None:
    """Append entries to the files `{group}-{chrom}` of a folder."""
    key = group * (1 << 32) + chrom
    order = np.argsort(key, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if len(part):
            with (folder / f"{group[part[0]]}-{chrom[part[0]]}").open("ab") as handle:
                handle.write(entries[part].tobytes())


def read_samples(path: str | Path) -> list[str]:
    """`rail_id` of each column of a matrix, from its ID file (a header, then one a line)."""
    with _open(path) as lines:
        fields = [line.split("\t")[0].strip() for line in lines if line.strip()]
    if not fields or fields[0] != "rail_id":
        raise FileError(f"{path}: first line {fields[:1]}, wanted `rail_id`; {REFETCH}")
    if len(set(fields)) < len(fields):
        raise FileError(f"{path}: a rail_id is there twice; {REFETCH}")
    return fields[1:]


def _column_groups(path: str | Path, groups: Mapping[str, str]) -> list[tuple[str, str | None]]:
    names = read_samples(path)
    if not any(name in groups for name in names):
        raise FileError(
            f"{path}: none of its {len(names)} samples is in the sample table; both must be of one project"
        )
    return [(name, groups.get(name)) for name in names]


def read_introns(path: str | Path, genome: Genome) -> pl.DataFrame:
    """`row` (0-based) and INTRON of an RR file; `chrom` is null where an intron cannot be used."""
    names = {column: column for column in _INTRONS}
    table = pick(Part(str(path), Path(path)), names, "introns of recount3").drop("row")
    try:
        table = table.with_columns(pl.col("start", "end").cast(pl.Int64))
    except pl.exceptions.PolarsError as error:
        raise FileError(f"{path}: cannot be read as introns of recount3 ({error}); {REFETCH}") from error
    wrong = table.with_row_index("row").filter((pl.col("start") < 1) | (pl.col("end") < pl.col("start")))
    if wrong.height:
        row = wrong.row(0, named=True)
        raise FileError(
            f"{path}: row {row['row'] + 1}: {row['start']}-{row['end']}; wanted 1 <= start <= end"
        )
    names = genome.resolve_names(table["chromosome"].unique())
    known = {name: chrom for name, chrom in names.items() if chrom is not None}
    if names and not known:
        raise FileError(f"{path}: chromosomes {sorted(names)[:3]}..., none of them is in the genome")
    usable = pl.col("chromosome").is_in(list(known)) & pl.col("strand").is_in(["+", "-"])
    chrom = pl.col("chromosome").replace_strict(known, default=None, return_dtype=pl.String)
    return table.with_row_index("row").select(
        pl.col("row").cast(pl.Int64),
        pl.when(usable).then(chrom).alias("chrom"),
        pl.col("start") - 1,
        "end",
        "strand",
    )


def _entries(
    path: str | Path, n_rows: int | None, n_columns: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of (row, column, value) of a Matrix Market file of coordinates, counted from 0.

    FileError unless its size is `n_rows` (any, if none) by `n_columns` and it has as many entries as it says.
    """
    try:
        with _open(path) as lines:
            wanted = _matrix_size(lines, path, n_rows, n_columns)
            found = 0
            while block := lines.readlines(BLOCK):
                numbers = np.array("".join(block).split(), dtype=np.float64)
                if numbers.size % 3:
                    raise FileError(f"{path}: a line of an entry has not three numbers; {REFETCH}")
                rows, columns, values = numbers.reshape(-1, 3).T
                rows, columns = rows.astype(np.int64) - 1, columns.astype(np.int64) - 1
                inside = (rows >= 0) & (columns >= 0) & (rows < wanted[0]) & (columns < wanted[1])
                if not inside.all():
                    at = int(np.argmin(inside))
                    raise FileError(
                        f"{path}: entry {found + at + 1} is of row {rows[at] + 1}, column {columns[at] + 1}; "
                        f"the matrix is {wanted[0]} x {wanted[1]}"
                    )
                found += len(rows)
                yield rows, columns, values
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be read as a matrix ({error}); {REFETCH}") from error
    if found != wanted[2]:
        raise FileError(f"{path}: {found} entries, it says {wanted[2]}: it is cut short; {REFETCH}")


def _matrix_size(
    lines: IO[str], path: str | Path, n_rows: int | None, n_columns: int
) -> tuple[int, int, int]:
    """Rows, columns and entries of a Matrix Market header, whose lines are taken off."""
    first = lines.readline()
    if not first.lower().startswith("%%matrixmarket matrix coordinate"):
        raise FileError(f"{path}: begins {first[:40]!r}, wanted %%MatrixMarket matrix coordinate; {REFETCH}")
    line = next((line for line in lines if line.strip() and not line.startswith("%")), "")
    fields = line.split()
    if len(fields) != 3 or not all(field.isdigit() for field in fields):
        raise FileError(f"{path}: size line {line.strip()!r}, wanted rows, columns, entries; {REFETCH}")
    rows, columns, entries = map(int, fields)
    if columns != n_columns or (n_rows is not None and rows != n_rows):
        raise FileError(
            f"{path}: {rows} introns x {columns} samples, the files beside it have "
            f"{'any' if n_rows is None else n_rows} x {n_columns}; the three must be of one project"
        )
    return rows, columns, entries


def _open(path: str | Path) -> IO[str]:
    with Path(path).open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="ascii") if packed else Path(path).open(encoding="ascii")
