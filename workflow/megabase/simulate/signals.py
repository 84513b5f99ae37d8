"""Expected signal of every assay: the rule's state turned into rates, before depth and noise.

Block signals are means over BIN bases; cut rates, transcription starts and RNA are given base by base or as
runs of
equal value.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from megabase.simulate.motifs import NUMBER
from megabase.simulate.splicing import junction_shares
from megabase.simulate.state import State
from megabase.spec import UNKNOWN_BASE

BIN = 20  # bases of one ChIP value
DNASE_BASE, ATAC_BASE, ATAC_POWER = 0.012, 0.02, 0.8
HISTONE_BASE, ACETYL_GAIN, ACETYL_DIP, METHYL_GAIN = 0.4, 9.0, 2.5, 6.0
ACETYL_SPREAD, DIP_SPREAD, METHYL_SPREAD, METHYL_SHIFT = 320, 90, 250, 150  # bp
FACTOR_BASE, FACTOR_GAIN, FACTOR_SPREAD = 0.4, 14.0, 70
CAGE_OFFSETS, CAGE_SHAPE = np.arange(-3, 4), np.array([0.04, 0.08, 0.16, 0.44, 0.16, 0.08, 0.04])
PROCAP_OFFSETS = np.arange(-6, 22)
PROCAP_SHAPE = np.exp(-np.abs(PROCAP_OFFSETS - 2) / 6) / np.exp(-np.abs(PROCAP_OFFSETS - 2) / 6).sum()
ANTISENSE_DISTANCE, ANTISENSE_SHARE = 120, 0.3  # divergent transcription upstream of a promoter
INTRON_SHARE = {"total RNA-seq": 0.10, "polyA plus RNA-seq": 0.03}  # unspliced level relative to exons
READTHROUGH, READTHROUGH_SHARE, UNSIGNALLED_SHARE = 250, 0.05, 0.4  # behind the poly-A signal, or without one


def cut_rate(state: State, chrom: str, cell: int, assay: str) -> np.ndarray:
    """Relative rate of cuts float64 [S] of ATAC-seq or DNase-seq; 0 in runs of N."""
    openness = state.openness[chrom][cell].astype(np.float64)
    rate = DNASE_BASE + openness if assay == "dnase" else ATAC_BASE + openness**ATAC_POWER
    rate[state.genome.chromosomes[chrom] == UNKNOWN_BASE] = 0
    return rate


def _bins(track: np.ndarray) -> np.ndarray:
    whole = len(track) // BIN * BIN
    return track[:whole].reshape(-1, BIN).mean(axis=1).astype(np.float64)


def _bumps(size: int, positions: np.ndarray, heights: np.ndarray, spread: float) -> np.ndarray:
    """Gaussians of the given heights at base positions, in bins."""
    track = np.zeros(size)
    np.add.at(track, np.clip(positions // BIN, 0, size - 1), heights)
    peak = spread / BIN * np.sqrt(2 * np.pi)  # height that the unit-area filter takes away
    return gaussian_filter1d(track, spread / BIN, mode="constant") * peak


def _tss(state: State, chrom: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, strands (1, -1) and gene numbers of the genes of a chromosome."""
    rows = [(g.model.tss, g.model.strand, n) for n, g in enumerate(state.genome.genes) if g.chrom == chrom]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def fold_change(state: State, chrom: str, cell: int, target: str) -> np.ndarray:
    """Expected fold change over control float64 [S // BIN] of a ChIP target: a histone mark or a motif's
    factor.
    """
    activity = _bins(state.activity[chrom][cell])
    if target == "H3K27ac":
        wide = gaussian_filter1d(activity, ACETYL_SPREAD / BIN, mode="constant")
        dip = gaussian_filter1d(activity, DIP_SPREAD / BIN, mode="constant")
        return np.maximum(HISTONE_BASE + ACETYL_GAIN * wide - ACETYL_DIP * dip, HISTONE_BASE / 2)
    if target == "H3K4me3":
        tss, strand, gene = _tss(state, chrom)
        heights = METHYL_GAIN * np.log1p(3 * state.expression[gene, cell])
        return HISTONE_BASE + _bumps(len(activity), tss + METHYL_SHIFT * strand, heights, METHYL_SPREAD)
    sites = state.sites[chrom]
    bound = sites.motif == NUMBER[target]
    heights = FACTOR_GAIN * sites.strength[bound] * _occupancy(state, chrom, cell, sites.position[bound])
    return FACTOR_BASE + _bumps(len(activity), sites.position[bound], heights, FACTOR_SPREAD)


def _occupancy(state: State, chrom: str, cell: int, positions: np.ndarray) -> np.ndarray:
    """Share of time that a factor sits on its site: higher where the chromatin is open."""
    return 0.3 + 0.7 * np.minimum(1.0, state.openness[chrom][cell, positions])


def initiation(state: State, chrom: str, cell: int, assay: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Starts of CAGE or PRO-cap by strand: positions int [N] (sorted, unique), rates float64 [N]."""
    tss, strand, gene = _tss(state, chrom)
    level = state.expression[gene, cell]
    offsets, shape = (CAGE_OFFSETS, CAGE_SHAPE) if assay == "cage" else (PROCAP_OFFSETS, PROCAP_SHAPE)
    found = {}
    for name, sign in (("+", 1), ("-", -1)):
        own = strand == sign
        positions = [tss[own, None] + sign * offsets]
        rates = [level[own, None] * shape]
        if assay == "procap":
            other = strand == -sign
            positions.append(tss[other, None] + sign * (ANTISENSE_DISTANCE + offsets))
            rates.append(ANTISENSE_SHARE * level[other, None] * shape)
        places, inverse = np.unique(np.concatenate([p.ravel() for p in positions]), return_inverse=True)
        total = np.bincount(inverse, np.concatenate([r.ravel() for r in rates]), minlength=len(places))
        inside = (places >= 0) & (places < len(state.genome.chromosomes[chrom]))
        found[name] = places[inside], total[inside]
    return found


def _gene_runs(state: State, number: int, cell: int, intron: float) -> list[tuple[int, int, float]]:
    """Runs (start, end, level) of one gene's RNA in rising order: exons by PSI, introns low, then
    readthrough.
    """
    gene = state.genome.genes[number].model
    level, psi = state.expression[number, cell], state.psi[number][:, cell]
    psi = psi if gene.strand > 0 else psi[::-1]
    runs = []
    for index, (start, end) in enumerate(gene.exons):
        runs.append((start, end, level * float(psi[index])))
        if index + 1 < len(gene.exons):
            runs.append((end, gene.exons[index + 1][0], level * intron))
    rest = level * _readthrough(state, number)
    if gene.strand > 0:
        return [*runs, (gene.end, gene.end + READTHROUGH, rest)]
    return [(gene.start - READTHROUGH, gene.start, rest), *runs]


def _readthrough(state: State, number: int) -> float:
    gene = state.genome.genes[number]
    low, high = (-60, 0) if gene.model.strand > 0 else (1, 61)
    last = gene.model.end if gene.model.strand > 0 else gene.model.start - 1
    signals = state.sites[gene.chrom].select("PAS1", last + low, last + high, gene.model.strand)
    strength = float(signals.max()) if len(signals) else 0.0
    return READTHROUGH_SHARE + UNSIGNALLED_SHARE * (1 - strength)


def rna_runs(state: State, chrom: str, cell: int, assay: str, strands: str) -> tuple[np.ndarray, ...]:
    """Starts int [N], ends int [N] and levels float64 [N] of RNA coverage of genes on the given strands."""
    runs: list[tuple[int, int, float]] = []
    size = len(state.genome.chromosomes[chrom])
    for number, gene in enumerate(state.genome.genes):
        if gene.chrom == chrom and gene.strand in strands:
            runs += _gene_runs(state, number, cell, INTRON_SHARE[assay])
    table = np.array(runs).reshape(-1, 3)
    starts, ends = table[:, 0].astype(np.int64), np.minimum(table[:, 1].astype(np.int64), size)
    return starts, ends, table[:, 2]


def junctions(state: State, cell: int) -> list[tuple[str, int, int, int, float]]:
    """Expected junction reads a unit of depth: chrom, intron start, end (0-based half-open), strand, rate."""
    rows = []
    for number, gene in enumerate(state.genome.genes):
        exons = gene.model.exons if gene.model.strand > 0 else gene.model.exons[::-1]
        for (i, j), share in junction_shares(state.psi[number]).items():
            first, second = sorted((exons[i], exons[j]))
            rate = float(state.expression[number, cell] * share[cell])
            rows.append((gene.chrom, first[1], second[0], gene.model.strand, rate))
    return sorted(rows)
