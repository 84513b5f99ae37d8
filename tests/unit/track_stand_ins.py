"""Small genomes, manifest rows and raw files that the tests of tracks and shards share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
import pysam

from megabase.genome import prepare_genome
from megabase.seeds import generator
from megabase.sequence import decode
from megabase.settings.data import TrackSettings
from megabase.spec import MANIFEST_COLUMNS

LENGTHS = {"chr1": 9_000, "chr2": 5_003}


def make_genome(
    folder: Path, lengths: dict[str, int] | None = None, n_runs: dict[str, tuple[int, int]] | None = None
) -> Path:
    """A genome of random bases with an optional run of N a chromosome; returns its folder."""
    lengths = lengths or LENGTHS
    folder.mkdir(parents=True, exist_ok=True)
    text = ""
    for chrom, length in lengths.items():
        codes = generator(0, "genome", chrom).integers(0, 4, length).astype(np.uint8)
        if n_runs and chrom in n_runs:
            codes[slice(*n_runs[chrom])] = 4
        text += f">{chrom}\n{decode(codes)}\n"
    (folder / "genome.fa").write_text(text)
    prepare_genome(folder / "genome.fa", folder / "genome", organism="human", name="toy")
    return folder / "genome"


def row(accession: str, output_type: str, **values: Any) -> dict[str, Any]:
    """A manifest row of an organism called human."""
    first = {
        "portal": "toy", "accession": accession, "experiment": "E1", "assay": "assay",
        "output_type": output_type, "organism": "human", "ontology_curie": "CL:1",
        "biosample": "cell", "strand": ".", "replicate": "1",
    }  # fmt: skip
    return dict.fromkeys(MANIFEST_COLUMNS, "") | first | values


def write_bigwig(
    path: Path, signal: dict[str, np.ndarray], lengths: dict[str, int] | None = None, gaps: bool = True
) -> Path:
    """A bigWig of dense float32 signal, one interval a base; zeros are gaps if `gaps`. NaN is kept."""
    file = pyBigWig.open(str(path), "w")
    file.addHeader(list((lengths or {c: len(v) for c, v in signal.items()}).items()))
    for chrom, values in signal.items():
        kept = np.flatnonzero((values != 0) | (not gaps))
        if len(kept):
            heights = values[kept].astype(np.float64)
            file.addEntries([chrom] * len(kept), kept, ends=kept + 1, values=heights)
    file.close()
    return path


def read_bigwig(path: Path) -> dict[str, np.ndarray]:
    """Dense float32 signal by chromosome; NaN where there is no interval."""
    with pyBigWig.open(str(path)) as file:
        return {c: file.values(c, 0, n, numpy=True) for c, n in file.chroms().items()}


def random_signal(
    *names: str, lengths: dict[str, int] | None = None, density: float = 0.3
) -> dict[str, np.ndarray]:
    """Signal of small integers, mostly zero, by chromosome."""
    signal = {}
    for chrom, length in (lengths or LENGTHS).items():
        draws = generator(1, *names, chrom)
        signal[chrom] = (draws.integers(1, 9, length) * (draws.random(length) < density)).astype(np.float32)
    return signal


def write_bam(
    path: Path,
    reads: list[tuple[str, int, int, int, int]],
    lengths: dict[str, int] | None = None,
    order: str = "coordinate",
) -> Path:
    """A BAM of `(chrom, start, end, flag, mapping quality)` reads, 0-based half-open."""
    lengths = lengths or LENGTHS
    header = {"HD": {"VN": "1.6", "SO": order}, "SQ": [{"SN": c, "LN": n} for c, n in lengths.items()]}
    names = list(lengths)
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for number, (chrom, start, end, flag, quality) in enumerate(reads):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.flag, read.mapping_quality = f"r{number}", flag, quality
            if not flag & 4:
                read.reference_id, read.reference_start = names.index(chrom), start
                read.cigartuples = [(0, end - start)]
            read.query_sequence = "A" * (end - start)
            file.write(read)
    return path


SETTINGS = TrackSettings()
