"""Tracks that are like measured ones in what costs time and bytes: how many runs, how long, which values.

Runs come as (starts, values) of one chromosome, the first at base 0; the last one ends with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyBigWig

Track = tuple[np.ndarray, np.ndarray]
# Expressed share of the genome, in stretches of GENE bases, and bases a change of coverage there: about a run
# in 60 bases, as in bigWigs of deep RNA-seq libraries.
RNA_SHARE, RNA_STEP, GENE = 0.5, 20, 20_000
CAGE_STEP = 2_000  # bases a tag start
CUT_STEP = 30  # bases a cut site of a deep DNase or ATAC library
DENSE_STEP = 20  # bases a change of a fold change over control


def counts(kind: str, length: int, rng: np.random.Generator) -> Track:
    """Counts times a scale of its own: rna (coverage of reads), cage (tag starts), cuts (cut sites)."""
    scale = np.float64(rng.uniform(0.01, 3))
    if kind == "rna":
        gaps = rng.geometric(1 / RNA_STEP, int(length / RNA_STEP * 1.2))
        starts = np.cumsum(gaps) - gaps[0]
        starts = starts[starts < length]
        reads = np.abs(np.cumsum(rng.integers(-1, 2, len(starts))))  # one begins or ends
        block = starts // GENE
        values = np.where((rng.random(int(block[-1]) + 1) < RNA_SHARE)[block], reads, 0)
    else:
        step = CAGE_STEP if kind == "cage" else CUT_STEP
        gaps = 2 + rng.geometric(1 / (step - 2), int(length / step * 1.2))
        sites = np.cumsum(gaps)
        sites = sites[sites < length - 1]
        starts, values = np.zeros(2 * len(sites) + 1, np.int64), np.zeros(2 * len(sites) + 1)
        starts[1::2], starts[2::2] = sites, sites + 1
        values[1::2] = 1 + rng.poisson(0.7, len(sites))
    return _runs(starts, (values * scale).astype(np.float32))


def dense(length: int, rng: np.random.Generator) -> Track:
    """Fold change over control: another float about every 20 bases."""
    gaps = rng.geometric(1 / DENSE_STEP, int(length / DENSE_STEP * 1.2))
    starts = np.cumsum(gaps) - gaps[0]
    starts = starts[starts < length]
    return _runs(starts, rng.gamma(1.5, 0.8, len(starts)).astype(np.float32))


def _runs(starts: np.ndarray, values: np.ndarray) -> Track:
    changed = np.concatenate([[True], values[1:] != values[:-1]])
    return starts[changed].astype(np.int64), values[changed]


def write_bigwig(path: Path, chrom: str, length: int, track: Track) -> Path:
    """The track as a normalized one: every base is in an interval."""
    starts, values = track
    file = pyBigWig.open(str(path), "w")
    file.addHeader([(chrom, length)])
    ends = np.append(starts[1:], length)
    for low in range(0, len(starts), 1 << 16):
        part = slice(low, low + (1 << 16))
        names = [chrom] * len(starts[part])
        file.addEntries(names, starts[part], ends=ends[part], values=values[part].astype(np.float64))
    file.close()
    return path
