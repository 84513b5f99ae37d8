"""Noise and files: one measurement of each kind, drawn from the expected signal at a replicate's depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyBigWig

from megabase.files import atomic_path
from megabase.seeds import generator
from megabase.simulate import bgzf, contacts, signals
from megabase.simulate.alignments import write_bam
from megabase.simulate.catalogue import DemoFile
from megabase.simulate.state import State
from megabase.spec import UNKNOWN_BASE, OutputType

CUTS_PER_BASE = 1 / 25  # reads of a replicate of depth 1
CHIP_READS = 12.0  # reads a bin at fold change 1
CAGE_TAGS, PROCAP_READS = 150.0, 120.0  # tags of a promoter of expression 1
STRAY_STARTS = 1 / 20_000  # single tags a base anywhere
RNA_BLOCK, RNA_READS, READ_LENGTH = 10, 14.0, 100  # bases drawn together, reads of a whole block at level 1
JUNCTION_READS = 250.0
_SIGN = {"+": 1, "-": -1}

Runs = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # chromosome -> starts, ends, values


def draw_cuts(
    state: State, file: DemoFile, rng: np.random.Generator
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cut positions int [N] and strands (is -) bool [N] by chromosome, in proportion to the cut rate."""
    rates = {
        c: signals.cut_rate(state, c, file.cell.index, file.output_type) for c in state.genome.chromosomes
    }
    total = sum(float(rate.sum()) for rate in rates.values())
    bases = sum(len(rate) for rate in rates.values())
    cuts = {}
    for chrom, rate in rates.items():
        cumulative = np.cumsum(rate)
        count = int(rng.poisson(bases * CUTS_PER_BASE * file.depth * cumulative[-1] / total))
        draws = np.sort(rng.random(count)) * cumulative[-1]
        position = np.searchsorted(cumulative, draws, side="right")
        cuts[chrom] = position, rng.random(count) < 0.5
    return cuts


def known_runs(codes: np.ndarray) -> list[tuple[int, int]]:
    """Stretches [start, end) without unknown bases."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (codes != UNKNOWN_BASE).astype(np.int8), [0]])))
    return list(zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True))


def cover(
    starts: np.ndarray, ends: np.ndarray, values: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Disjoint sorted runs completed by runs of 0, cut to known sequence, equal neighbours joined.

    Unknown sequence stays without a value: it is missing, not zero.
    """
    known = known_runs(codes)
    inner = np.array([edge for run in known for edge in run], dtype=np.int64)
    edges = np.unique(np.concatenate([starts, ends, inner]))
    left, right = edges[:-1], edges[1:]
    owner = np.searchsorted(starts, left, side="right") - 1
    inside = (owner >= 0) & (left < ends[owner]) if len(starts) else np.zeros(len(left), dtype=bool)
    level = np.where(inside, values[owner] if len(starts) else 0, 0)
    keep = codes[left] != UNKNOWN_BASE
    left, right, level = left[keep], right[keep], level[keep]
    first = np.ones(len(left), dtype=bool)
    first[1:] = (level[1:] != level[:-1]) | (left[1:] != right[:-1])
    last = np.append(np.flatnonzero(first)[1:] - 1, len(left) - 1)
    return left[first], right[last], level[first]


def write_bigwig(path: Path, chromosomes: dict[str, np.ndarray], runs: Runs) -> None:
    """Write disjoint sorted runs of float32 values."""
    with atomic_path(path) as temporary:
        handle = pyBigWig.open(str(temporary), "w")
        handle.addHeader([(chrom, len(codes)) for chrom, codes in chromosomes.items()])
        for chrom, (starts, ends, values) in runs.items():
            if len(starts):
                handle.addEntries(
                    [chrom] * len(starts),
                    starts.tolist(),
                    ends=ends.tolist(),
                    values=values.astype(float).tolist(),
                )
        handle.close()


def draw_fold_change(state: State, file: DemoFile, rng: np.random.Generator) -> Runs:
    """Runs of BIN bases: counts of treatment over the known control rate, with a pseudocount of one read."""
    reads, runs = CHIP_READS * file.depth, {}
    for chrom, codes in state.genome.chromosomes.items():
        expected = signals.fold_change(state, chrom, file.cell.index, file.experiment.target)
        values = np.round((rng.poisson(expected * reads) + 0.5) / (reads + 0.5), 3)
        starts = np.arange(len(values)) * signals.BIN
        runs[chrom] = cover(starts, starts + signals.BIN, values, codes)
    return runs


def draw_rna(state: State, file: DemoFile, rng: np.random.Generator) -> Runs:
    """Coverage of reads: each run is drawn in blocks of RNA_BLOCK bases that never cross an exon edge."""
    runs = {}
    strands = "+-" if file.strand == "." else file.strand
    for chrom, codes in state.genome.chromosomes.items():
        starts, ends, levels = signals.rna_runs(state, chrom, file.cell.index, file.experiment.assay, strands)
        blocks = -(-(ends - starts) // RNA_BLOCK)
        within = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        first = np.repeat(starts, blocks) + within * RNA_BLOCK
        last = np.minimum(first + RNA_BLOCK, np.repeat(ends, blocks))
        unit = READ_LENGTH / RNA_READS / 10
        reads = rng.poisson(np.repeat(levels, blocks) * RNA_READS * file.depth * (last - first) / RNA_BLOCK)
        values = np.round(reads * unit * RNA_READS * RNA_BLOCK / (last - first), 2)
        runs[chrom] = cover(first, last, values, codes)
    return runs


def draw_starts(state: State, file: DemoFile, rng: np.random.Generator, strand: str) -> dict[str, tuple]:
    """Positions with tags and their counts by chromosome, of CAGE or PRO-cap on one strand, with stray
    tags.
    """
    scale = (CAGE_TAGS if file.output_type == OutputType.CAGE else PROCAP_READS) * file.depth
    found = {}
    for chrom, codes in state.genome.chromosomes.items():
        places, rates = signals.initiation(state, chrom, file.cell.index, file.output_type)[strand]
        counts = rng.poisson(rates * scale)
        stray = rng.integers(0, len(codes), size=int(len(codes) * STRAY_STARTS))
        stray = stray[codes[stray] != UNKNOWN_BASE]
        merged, inverse = np.unique(np.concatenate([places, stray]), return_inverse=True)
        total = np.bincount(inverse, np.concatenate([counts, np.ones(len(stray))]), minlength=len(merged))
        found[chrom] = merged[total > 0], total[total > 0].astype(np.int64)
    return found


def write_ctss(path: Path, state: State, starts: dict[str, dict[str, tuple]]) -> None:
    """CTSS BED of CAGE tags: chrom, start (0-based), end, name `chrom:start..end,strand`, count, strand."""
    lines = []
    for chrom in state.genome.chromosomes:
        rows = [(int(p), s, int(c)) for s in ("+", "-") for p, c in zip(*starts[s][chrom], strict=True)]
        lines += [f"{chrom}\t{p}\t{p + 1}\t{chrom}:{p}..{p + 1},{s}\t{c}\t{s}" for p, s, c in sorted(rows)]
    write_bgzip(path, "\n".join(lines) + "\n")


def write_bgzip(path: Path, text: str) -> None:
    """Write text as BGZF, which every gzip reader reads."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(bgzf.compress(text.encode(), level=6))


def write_signal(state: State, file: DemoFile, path: Path, seed: int) -> None:
    """Draw and write one file of reads, coverage, starts or contacts."""
    rng = generator(seed, "simulate", "measure", file.accession)
    chromosomes = state.genome.chromosomes
    if file.output_type in (OutputType.ATAC, OutputType.DNASE):
        write_bam(path, chromosomes, draw_cuts(state, file, rng), str(file.output_type))
    elif file.output_type in (OutputType.CHIP_TF, OutputType.CHIP_HISTONE):
        write_bigwig(path, chromosomes, draw_fold_change(state, file, rng))
    elif file.output_type == OutputType.RNA_SEQ:
        write_bigwig(path, chromosomes, draw_rna(state, file, rng))
    elif file.output_type == OutputType.CAGE:
        write_ctss(path, state, {strand: draw_starts(state, file, rng, strand) for strand in "+-"})
    elif file.output_type == OutputType.PROCAP:
        starts = draw_starts(state, file, rng, file.strand)
        runs = {c: cover(p, p + 1, n, chromosomes[c]) for c, (p, n) in starts.items()}
        write_bigwig(path, chromosomes, runs)
    else:
        contacts.write_mcool(path, state, contacts.count_contacts(state, file.cell.index, file.depth, rng))
