"""Replicates of a group: the files that belong together, opened as one source of signal a strand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from megabase.files import FileError
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.spec import STRANDS, OutputType
from megabase.tracks.bigwig import BigWigSource
from megabase.tracks.cut_sites import read_ctss, read_cut_sites

CUT_SITE_OUTPUTS = (OutputType.ATAC, OutputType.DNASE)  # averaged first, scaled after


class Source(Protocol):
    """Anything that has a value at every base, and may be pickled."""

    def block(self, chrom: str, start: int, end: int) -> np.ndarray: ...


@dataclass
class Replicate:
    """One replicate: its rows, a source by strand (`+` and `-` together, or `.`), and what scales it."""

    key: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    signs: dict[str, float] = field(default_factory=dict)
    factor: float = 1.0

    def scaled(self, strand: str, values: np.ndarray) -> np.ndarray:
        """Values of the source of a strand, as they count in the mean."""
        return values * (self.signs.get(strand, 1.0) * self.factor)

    def accessions(self, strand: str) -> list[str]:
        """Accessions of the files that hold a strand."""
        return [row["accession"] for row in self.rows if (row["strand"] or ".") in (strand, ".")]


def open_replicates(
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
        kept = both if strand == "." else {strand: both[strand]}
        return {s: source.keep_in(scratch / f"{row['accession']}{s}") for s, source in kept.items()}
    if name.endswith(".bam"):
        shift = settings.dnase_shift if row["output_type"] == OutputType.DNASE else settings.atac_shift
        if row["output_type"] not in CUT_SITE_OUTPUTS:
            raise FileError(f"{path}: a BAM is read as cut sites, {row['output_type']} wants a bigWig")
        return {".": read_cut_sites(path, genome, shift, settings.min_mapping_quality, scratch)}
    raise FileError(f"{path}: unknown format; wanted .bw, .bigWig, .bed(.gz) of CTSS, or .bam")
