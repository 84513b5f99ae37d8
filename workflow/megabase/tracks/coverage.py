"""Coverage, starts and cut sites: replicates to one normalized track a strand.

Two passes, a chromosome at a time (`passes`), of which the first alone reads the files; memory does not grow
with the genome, nor with the number of replicates.
Rules: AlphaGenome (bioRxiv 2025.06.25.661532), Methods, data processing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, write_json
from megabase.genome import Genome
from megabase.logs import progress
from megabase.settings.data import TrackSettings
from megabase.spec import OUTPUTS, TRACK_OUTPUTS, OutputType
from megabase.tracks.agreement import Agreement, summarize
from megabase.tracks.bigwig import RunWriter
from megabase.tracks.held import read_runs
from megabase.tracks.measured import Measured
from megabase.tracks.passes import Work, Written, each_chromosome, sum_chromosome, write_chromosome
from megabase.tracks.quality import listed_failure, quality_row, write_quality
from megabase.tracks.replicates import CUT_SITE_OUTPUTS, Replicate, open_replicates
from megabase.tracks.table import STRAND_FILES, channel_row


def normalize_track(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: TrackSettings,
    regions: str | Path | None = None,
    blacklist: str | Path | None = None,
    unmappable: str | Path | None = None,
    threads: int = 1,
) -> Path:
    """Normalize one group (ontology term x assay x target, all strands and replicates) into `output_dir`.

    rows: manifest rows (MANIFEST_COLUMNS) and `files`, their raw files in the same order: bigWig, CTSS BED
    (both strands unless the row names one) or BAM (cut sites). Rows of one experiment and replicate belong
    together; a GTEx tissue has a replicate an individual. RNA-seq, CAGE and PRO-cap: each replicate, both
    strands together, is scaled to sum to `settings.total` over the measured bases, then replicates are
    averaged. ATAC and DNase: averaged, then scaled. ChIP, or `scale_to_total` false: averaged as measured.
    Bases outside the BED `regions`, inside the BEDs `blacklist` and `unmappable`, N in the genome or NaN at
    the source are missing: they get no interval, whereas a measured zero is an interval of zero. A base that
    only some replicates measured is their mean. threads: processes; the bytes do not depend on them.

    Writes `{plus,minus,unstranded}.bw` (float32), `quality.json` (`quality`, see `quality`) and `track.json`
    (`track`); returns the latter's path. Raises FileError for files that cannot be used; with
    `settings.keep_going` it is written in a `track.json` without channels instead.
    """
    output_type = _check_rows(rows, files)
    genome = Genome.open(genome_folder)
    measured = Measured(genome, regions, (blacklist, unmappable))
    inputs = hash_inputs([*files, *(p for p in (regions, blacklist, unmappable) if p)])
    stamp = Stamp("track", settings.hash(), inputs)
    with listed_failure(rows, output_dir, stamp, settings):
        _normalize(rows, files, measured, genome, output_type, output_dir, settings, stamp, threads)
    return Path(output_dir) / "track.json"


def _normalize(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    measured: Measured,
    genome: Genome,
    output_type: OutputType,
    output_dir: str | Path,
    settings: TrackSettings,
    stamp: Stamp,
    threads: int,
) -> None:
    """Write the folder of a group."""
    with tempfile.TemporaryDirectory() as scratch, atomic_path(output_dir) as folder:
        folder.mkdir()
        replicates = open_replicates(rows, files, genome, settings, Path(scratch))
        channels, qualities = [], []
        for strands in (("+", "-"), (".",)):
            chosen = [r for r in replicates if set(r.sources) == set(strands)]
            if chosen:
                work = Work(genome, measured, chosen, strands, Path(scratch))
                found = _normalize_strands(work, output_type, settings, folder, threads)
                channels += [row for row, _ in found]
                qualities += [quality for _, quality in found]
        write_quality(qualities, folder, stamp)
        write_json({"channels": channels}, folder / "track.json", stamp)


def _check_rows(rows: Sequence[Mapping[str, Any]], files: Sequence[str | Path]) -> OutputType:
    """Output type of the group; ValueError if the rows are not one group of track files."""
    if not rows or len(rows) != len(files):
        raise ValueError(
            f"{len(rows)} manifest rows and {len(files)} files; wanted one file a row, at least one"
        )
    for column in ("output_type", "organism", "ontology_curie", "assay", "target"):
        values = {str(row[column] or "") for row in rows}
        if len(values) > 1:
            raise ValueError(f"rows of one group differ in {column}: {sorted(values)}")
    output_type = OutputType(rows[0]["output_type"])
    if output_type not in TRACK_OUTPUTS:
        raise ValueError(f"{output_type} is not a track; wanted one of {', '.join(TRACK_OUTPUTS)}")
    return output_type


def _normalize_strands(
    work: Work, output_type: OutputType, settings: TrackSettings, folder: Path, threads: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Channel row and quality row of each strand of the replicates of one kind of strands."""
    scaled = OUTPUTS[output_type].scale_total is not None and settings.scale_to_total
    work = replace(work, mean_wanted=scaled and output_type in CUT_SITE_OUTPUTS)
    sums, mean_total = _totals(work, threads)
    if scaled:
        scale = _set_scales(work, sums.sum(1).tolist(), mean_total, settings)
        work = replace(work, scale=scale)
    return _write_strands(work, sums, folder, threads)


def _set_scales(work: Work, totals: list[float], mean_total: float, settings: TrackSettings) -> float:
    """Set each replicate's factor, or return the factor of their mean (else 1)."""
    for replicate, total in zip(work.replicates, totals, strict=True):
        if not total > 0:
            accessions = [row["accession"] for row in replicate.rows]
            raise FileError(
                f"{accessions}: no signal on any measured base, cannot be scaled; leave the file out"
            )
    if work.mean_wanted:
        return settings.total / mean_total
    for replicate, total in zip(work.replicates, totals, strict=True):
        replicate.factor = settings.total / total
    return 1.0


def _totals(work: Work, threads: int) -> tuple[np.ndarray, float]:
    """First pass: sum over measured bases of each replicate and strand [R, strands], and of their mean.

    A minus-strand file of values below zero (a drawing convention) is turned positive; its sign is kept in
    the replicate. Other negative values are refused.
    """
    shape = (len(work.replicates), len(work.strands))
    sums, low, high = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    mean_total = 0.0
    with progress(sum(work.genome.lengths.values()), "read", "bases") as bar:
        for chrom, part in each_chromosome(sum_chromosome, work, threads):
            for totals in part.totals:
                sums += totals
            for mean in part.means:
                mean_total += mean
            low, high = np.minimum(low, part.low), np.maximum(high, part.high)
            bar.advance(work.genome.lengths[chrom])
    for r, replicate in enumerate(work.replicates):
        for s, strand in enumerate(work.strands):
            replicate.signs[strand] = _sign(replicate, strand, low[r, s], high[r, s])
            sums[r, s] *= replicate.signs[strand]
    return sums, mean_total


def _sign(replicate: Replicate, strand: str, low: float, high: float) -> float:
    """-1 for a minus strand drawn below zero, else 1; FileError for any other negative value."""
    if low >= 0:
        return 1.0
    if strand == "-" and high <= 0:
        return -1.0
    raise FileError(
        f"{replicate.accessions(strand)}: strand {strand} holds values from {low:g} to {high:g}; "
        "wanted 0 or more"
    )


def _write_strands(
    work: Work, sums: np.ndarray, folder: Path, threads: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Second pass: write a bigWig a strand; returns their channel rows (with `file`) and quality rows."""
    parts: list[Written] = []
    with ExitStack() as stack:
        writers = {
            s: stack.enter_context(RunWriter(folder / f"{STRAND_FILES[s]}.bw", work.genome))
            for s in work.strands
        }
        bar = stack.enter_context(progress(sum(work.genome.lengths.values()), "write", "bases"))
        for chrom, part in each_chromosome(write_chromosome, work, threads):
            for strand, writer in writers.items():
                path = work.file(f"mean{strand}", chrom)
                for start, (lengths, values) in zip(part.starts, read_runs(path), strict=True):
                    writer.add_runs(chrom, start, lengths, values)
                path.unlink()
            parts.append(part)
            bar.advance(work.genome.lengths[chrom])
    total = {s: _total(part.totals[s] for part in parts) for s in work.strands}
    means = [total[s] / n if (n := sum(p.nonzero.get(s, 0) for p in parts)) else 0.0 for s in work.strands]
    shared = sum(means) / len(means) or None  # strand partners share one scale
    rows = [row for replicate in work.replicates for row in replicate.rows]
    found = []
    for s, strand in enumerate(work.strands):
        channel = channel_row(
            [row for row in rows if (row["strand"] or ".") in (strand, ".")] or rows,
            strand,
            nonzero_mean=shared,
            total=total[strand],
            n_replicates=len(work.replicates),
        ) | {"file": f"{STRAND_FILES[strand]}.bw"}
        share = total["+"] / both if strand != "." and (both := total["+"] + total["-"]) else None
        quality = _quality(work, strand, parts) | {"measured": float(sums[:, s].sum()), "strand_share": share}
        found.append((channel, quality_row(channel, **quality)))
    return found


def _total(parts: Iterable[list[float]]) -> float:
    """Sum over all stretches in the genome's order, one after another."""
    total = 0.0
    for part in parts:
        for value in part:
            total += value
    return total


def _quality(work: Work, strand: str, parts: Sequence[Written]) -> dict[str, Any]:
    """What the second pass of all chromosomes tells of a strand's quality."""
    known, agreement = sum(part.measured.get(strand, 0) for part in parts), Agreement.of(len(work.replicates))
    for part in parts:
        agreement.join(part.agreement[strand])
    maskable = sum(part.maskable for part in parts)
    names = [",".join(replicate.accessions(strand)) for replicate in work.replicates]
    return {
        "covered": sum(part.nonzero.get(strand, 0) for part in parts) / known if known else 0.0,
        "missing": 1 - known / maskable if maskable else 1.0,
        "masked": 1 - maskable / sum(work.genome.lengths.values()),
        "largest": max((part.largest.get(strand, 0.0) for part in parts), default=0.0),
        **summarize(agreement.correlations(), names),
    }
