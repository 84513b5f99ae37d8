"""Samples of splicing by biosample: read, named, and left out where they hold nothing that counts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import FileError
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.spec import SPLICE_OUTPUTS, OutputType
from megabase.tracks.junction_samples import JunctionSamples
from megabase.tracks.junctions import INTRON, read_introns, read_junctions, read_usage
from megabase.tracks.quality import failed_row
from megabase.tracks.recount3 import project_file, read_projects
from megabase.tracks.spliced_reads import SplicedReads
from megabase.tracks.table import group_name

SITES = OutputType.SPLICE_SITES
COUNT_SCHEMA = {
    "chrom": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "strand": pl.String,
    "count": pl.Float64,
}


@dataclass
class Biosample:
    """Samples of one ontology term and assay: junction counts, and usage tables or reads if there are any."""

    name: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    junctions: JunctionSamples = field(default_factory=JunctionSamples)
    usage: list[pl.DataFrame] = field(default_factory=list)
    reads: list[tuple[str, SplicedReads]] = field(default_factory=list)  # BAMs of usage, by accession
    usage_rows: list[Mapping[str, Any]] = field(default_factory=list)  # of usage tables and BAMs


@contextmanager
def scratch_beside(output_dir: str | Path) -> Iterator[Path]:
    """A hidden folder beside the output, which has room for samples; what a killed run left there goes."""
    folder = Path(output_dir).with_name(f".scratch-{Path(output_dir).name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_biosamples(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    genome: Genome,
    settings: TrackSettings,
    scratch: Path,
) -> tuple[list[Biosample], list[pl.DataFrame], list[dict[str, Any]]]:
    """Biosamples in the order of their names, tables of annotated introns, and what is listed as failed."""
    for row, path in zip(rows, files, strict=True):
        if row["output_type"] not in SPLICE_OUTPUTS:
            raise ValueError(f"{path}: output_type {row['output_type']} is not a file of splicing")
    tissues = read_projects(rows, files, genome, scratch)
    single = [(row, path) for row, path in zip(rows, files, strict=True) if not project_file(path)]
    names = _biosample_names([*(row for row, _ in single), *(row for row, _ in tissues)])
    introns = [read_introns(path, genome) for row, path in single if row["output_type"] == SITES]
    annotated = pl.concat([pl.DataFrame(schema=COUNT_SCHEMA).select(INTRON), *introns])
    found: dict[str, Biosample] = {}
    for (row, samples), name in zip(tissues, names[len(single) :], strict=True):
        biosample = found.setdefault(name, Biosample(name))
        biosample.rows.append(row)
        biosample.junctions.add_stored(samples)
    failed = []
    for (row, path), name in zip(single, names[: len(single)], strict=True):
        if row["output_type"] == SITES:
            continue
        biosample = found.get(name, Biosample(name))
        try:
            _add_sample(biosample, row, path, genome, settings, scratch, annotated)
        except FileError as error:
            if not settings.keep_going:
                raise
            failed.append(failed_row([row], error))
            continue
        biosample.rows.append(row)
        found[name] = biosample
    return [found[name] for name in sorted(found)], introns, failed


def _add_sample(
    biosample: Biosample,
    row: Mapping[str, Any],
    path: str | Path,
    genome: Genome,
    settings: TrackSettings,
    scratch: Path,
    annotated: pl.DataFrame,
) -> None:
    """Read one file into its biosample."""
    counts = row["output_type"] == OutputType.SPLICE_JUNCTIONS
    if Path(path).name.lower().endswith(".bam"):
        reads = SplicedReads(path, genome, settings, scratch)
        if counts:
            biosample.junctions.add(str(row["accession"]), reads.junctions(annotated))
        biosample.reads.append((str(row["accession"]), reads))
        biosample.usage_rows.append(row)
    elif counts:
        biosample.junctions.add(str(row["accession"]), read_junctions(path, genome))
    else:
        biosample.usage.append(read_usage(path, genome))
        biosample.usage_rows.append(row)


def _biosample_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name of each row's biosample: term and assay, and the source where several sources share these."""
    measured = [row for row in rows if row["output_type"] != OutputType.SPLICE_SITES]
    sources: dict[str, set[str]] = {}
    for row in measured:
        sources.setdefault(group_name(row), set()).add(row["portal"])
    names = [group_name(row) for row in rows]
    return [
        f"{name} {row['portal']}" if len(sources.get(name, ())) > 1 else name
        for name, row in zip(names, rows, strict=True)
    ]


def leave_out_empty(
    biosamples: Sequence[Biosample], kept: pl.DataFrame, settings: TrackSettings
) -> list[dict[str, Any]]:
    """Leave out samples without a read on any kept junction, and their usage; what is listed as failed."""
    failed = []
    for biosample in biosamples:
        empty = np.flatnonzero(biosample.junctions.totals(kept).sum(0) == 0)
        names = [biosample.junctions.used[number] for number in empty]
        for name in names:
            error = FileError(f"{name}: no read on any kept junction; leave the file out")
            if not settings.keep_going:
                raise error
            row = next((r for r in biosample.rows if str(r["accession"]) == name), biosample.rows[0])
            failed.append(failed_row([{**row, "accession": name}], error))
        biosample.junctions.leave_out(empty)
        biosample.rows = [row for row in biosample.rows if str(row["accession"]) not in names]
        biosample.reads = [(name, reads) for name, reads in biosample.reads if name not in names]
        biosample.usage_rows = [row for row in biosample.usage_rows if str(row["accession"]) not in names]
    return failed
