"""Coverage, starts and cut sites: replicates to one normalized track a strand.

Two passes over the genome in blocks (totals, then values), so that memory does not grow with the genome.
Rules: AlphaGenome (bioRxiv 2025.06.25.661532), Methods, data processing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, write_json
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.spec import OUTPUTS, STRANDS, TRACK_OUTPUTS, OutputType
from megabase.tracks.bigwig import BigWigSource, RunWriter, blocks
from megabase.tracks.cut_sites import read_ctss, read_cut_sites
from megabase.tracks.measured import Measured
from megabase.tracks.table import STRAND_FILES, channel_row

CUT_SITE_OUTPUTS = (OutputType.ATAC, OutputType.DNASE)  # averaged first, scaled after


class Source(Protocol):
    """Anything that has a value at every base."""

    def block(self, chrom: str, start: int, end: int) -> np.ndarray: ...


@dataclass
class Replicate:
    """One replicate: its rows, a source by strand (`+` and `-` together, or `.`), and what scales it."""

    key: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    signs: dict[str, float] = field(default_factory=dict)
    factor: float = 1.0

    def block(self, strand: str, chrom: str, start: int, end: int) -> np.ndarray:
        """Scaled signal float64 [end - start]; NaN where missing at the source."""
        return self.sources[strand].block(chrom, start, end) * (self.signs.get(strand, 1.0) * self.factor)


@dataclass
class Statistics:
    """Running sum and count of the non-zero measured bases of one strand."""

    total: float = 0.0
    nonzero: int = 0

    def add(self, values: np.ndarray) -> None:
        """Take in float32 [n]; NaN does not count."""
        self.total += float(np.nansum(values, dtype=np.float64))
        self.nonzero += int(np.count_nonzero(np.nan_to_num(values)))


def normalize_track(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: TrackSettings,
    regions: str | Path | None = None,
    blacklist: str | Path | None = None,
) -> Path:
    """Normalize one group (ontology term x assay x target, all strands and replicates) into `output_dir`.

    rows: manifest rows (MANIFEST_COLUMNS) and `files`, their raw files in the same order: bigWig, CTSS BED
    (both strands unless the row names one) or BAM (cut sites). Rows of one experiment and replicate belong
    together. RNA-seq, CAGE and PRO-cap: each replicate, both strands together, is scaled to sum to
    `settings.total` over the measured bases, then replicates are averaged. ATAC and DNase: averaged, then
    scaled. ChIP, or `scale_to_total` false: averaged as measured. Bases outside the BED `regions`, inside
    the BED `blacklist`, N in the genome or NaN at the source are missing: they get no interval, whereas a
    measured zero is an interval of zero. A base that only some replicates measured is their mean.

    Writes `{plus,minus,unstranded}.bw` (float32) and `track.json` (`track`); returns the latter's path.
    Raises FileError for files that cannot be used.
    """
    output_type = _check_rows(rows, files)
    genome = Genome.open(genome_folder)
    measured = Measured(genome, regions, blacklist)
    with tempfile.TemporaryDirectory() as scratch, atomic_path(output_dir) as folder:
        folder.mkdir()
        replicates = _open_replicates(rows, files, genome, settings, Path(scratch))
        channels = []
        for strands in (("+", "-"), (".",)):
            chosen = [r for r in replicates if set(r.sources) == set(strands)]
            if chosen:
                scale = _find_scales(chosen, strands, output_type, genome, measured, settings)
                channels += _write_strands(chosen, strands, scale, genome, measured, folder)
        inputs = hash_inputs([*files, *(p for p in (regions, blacklist) if p)])
        write_json({"channels": channels}, folder / "track.json", Stamp("track", settings.hash(), inputs))
    return Path(output_dir) / "track.json"


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


def _open_replicates(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    genome: Genome,
    settings: TrackSettings,
    scratch: Path,
) -> list[Replicate]:
    """Replicates in the order of their keys, each with its strands."""
    found: dict[str, Replicate] = {}
    for row, path in zip(rows, files, strict=True):
        key = f"{row['experiment'] or ''} {row['replicate'] or ''}"
        replicate = found.setdefault(key, Replicate(key))
        replicate.rows.append(row)
        for strand, source in _open_sources(row, path, genome, settings, scratch).items():
            if strand in replicate.sources:
                raise FileError(
                    f"{path}: second file of strand {strand} for experiment and replicate {key!r} "
                    f"({[r['accession'] for r in replicate.rows]}); number the replicates in the manifest"
                )
            replicate.sources[strand] = source
    for replicate in found.values():
        if set(replicate.sources) not in ({"+", "-"}, {"."}):
            raise FileError(
                f"{[r['accession'] for r in replicate.rows]}: strands {sorted(replicate.sources)} for "
                f"experiment and replicate {replicate.key!r}; wanted + and - together, or . alone"
            )
    return [found[key] for key in sorted(found)]


def _open_sources(
    row: Mapping[str, Any], path: str | Path, genome: Genome, settings: TrackSettings, scratch: Path
) -> dict[str, Source]:
    """`{strand: source}` of one raw file, by its ending."""
    strand = row["strand"] or "."
    if strand not in STRANDS:
        raise FileError(f"{path}: strand {strand!r} in the manifest, wanted one of {', '.join(STRANDS)}")
    name = Path(path).name.lower()
    if name.endswith((".bw", ".bigwig")):
        return {strand: BigWigSource(path, genome)}
    if name.endswith((".bed", ".bed.gz")):
        both = read_ctss(path, genome)
        return dict(both) if strand == "." else {strand: both[strand]}
    if name.endswith(".bam"):
        shift = settings.dnase_shift if row["output_type"] == OutputType.DNASE else settings.atac_shift
        if row["output_type"] not in CUT_SITE_OUTPUTS:
            raise FileError(f"{path}: a BAM is read as cut sites, {row['output_type']} wants a bigWig")
        return {".": read_cut_sites(path, genome, shift, settings.min_mapping_quality, scratch)}
    raise FileError(f"{path}: unknown format; wanted .bw, .bigWig, .bed(.gz) of CTSS, or .bam")


def _find_scales(
    replicates: list[Replicate],
    strands: tuple[str, ...],
    output_type: OutputType,
    genome: Genome,
    measured: Measured,
    settings: TrackSettings,
) -> float:
    """First pass: set each replicate's factor and sign; return the factor of their mean."""
    totals, mean_total = _totals(replicates, strands, genome, measured)
    if OUTPUTS[output_type].scale_total is None or not settings.scale_to_total:
        return 1.0
    for replicate, total in zip(replicates, totals, strict=True):
        if not total > 0:
            accessions = [row["accession"] for row in replicate.rows]
            raise FileError(
                f"{accessions}: no signal on any measured base, cannot be scaled; leave the file out"
            )
    if output_type in CUT_SITE_OUTPUTS:
        return settings.total / mean_total
    for replicate, total in zip(replicates, totals, strict=True):
        replicate.factor = settings.total / total
    return 1.0


def _totals(
    replicates: list[Replicate], strands: tuple[str, ...], genome: Genome, measured: Measured
) -> tuple[list[float], float]:
    """Sum over measured bases of each replicate (strands together), and of the mean of the replicates.

    A minus-strand file of values below zero (a drawing convention) is turned positive; its sign is kept in
    the replicate. Other negative values are refused.
    """
    sums = np.zeros((len(replicates), len(strands)))
    low, high = np.zeros_like(sums), np.zeros_like(sums)
    mean_total = 0.0
    for chrom, start, end in blocks(genome):
        mask = measured.block(chrom, start, end)
        if not mask.any():
            continue
        for s, strand in enumerate(strands):
            signal = [np.where(mask, r.block(strand, chrom, start, end), np.nan) for r in replicates]
            for r, values in enumerate(signal):
                sums[r, s] += np.nansum(values)
                low[r, s] = min(low[r, s], np.nanmin(values, initial=0.0))
                high[r, s] = max(high[r, s], np.nanmax(values, initial=0.0))
            mean_total += float(np.nansum(_mean(signal)))
    for r, replicate in enumerate(replicates):
        for s, strand in enumerate(strands):
            replicate.signs[strand] = _sign(replicate, strand, low[r, s], high[r, s])
            sums[r, s] *= replicate.signs[strand]
    return sums.sum(1).tolist(), mean_total


def _sign(replicate: Replicate, strand: str, low: float, high: float) -> float:
    """-1 for a minus strand drawn below zero, else 1; FileError for any other negative value."""
    if low >= 0:
        return 1.0
    if strand == "-" and high <= 0:
        return -1.0
    accessions = [row["accession"] for row in replicate.rows if (row["strand"] or ".") in (strand, ".")]
    raise FileError(f"{accessions}: strand {strand} holds values from {low:g} to {high:g}; wanted 0 or more")


def _mean(signal: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over replicates float64 [n] of those that are not NaN; NaN where all are."""
    if len(signal) == 1:
        return signal[0]
    count = np.sum([~np.isnan(values) for values in signal], axis=0)
    total = np.sum([np.nan_to_num(values) for values in signal], axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _write_strands(
    replicates: list[Replicate],
    strands: tuple[str, ...],
    scale: float,
    genome: Genome,
    measured: Measured,
    folder: Path,
) -> list[dict[str, Any]]:
    """Second pass: write a bigWig a strand; returns their channel rows (with `file`)."""
    statistics = {strand: Statistics() for strand in strands}
    with ExitStack() as stack:
        writers = {
            s: stack.enter_context(RunWriter(folder / f"{STRAND_FILES[s]}.bw", genome)) for s in strands
        }
        for chrom, start, end in blocks(genome):
            mask = measured.block(chrom, start, end)
            if not mask.any():
                continue
            for strand in strands:
                mean = _mean([r.block(strand, chrom, start, end) for r in replicates]) * scale
                values = np.where(mask, mean, np.nan).astype(np.float32) + np.float32(0)  # no minus zero
                writers[strand].add(chrom, start, values)
                statistics[strand].add(values)
    means = [s.total / s.nonzero if s.nonzero else 0.0 for s in statistics.values()]
    rows = [row for replicate in replicates for row in replicate.rows]
    return [
        channel_row(
            [row for row in rows if (row["strand"] or ".") in (strand, ".")] or rows,
            strand,
            nonzero_mean=sum(means) / len(means) or None,  # strand partners share one scale
            total=statistics[strand].total,
            n_replicates=len(replicates),
        )
        | {"file": f"{STRAND_FILES[strand]}.bw"}
        for strand in strands
    ]
