"""The rule of regulation: from motif sites to open chromatin, element activity and gene expression.

drive(x, cell) = sum over sites of weight x strength x Gaussian(x - site), plus a bonus where the two
partners of a
pair lie 10 to 30 bp apart. Activity is a softplus of the drive, so that one site does little and two do much.
Expression of a gene = core promoter x (base + activity around its TSS, fading with distance).
"""

from __future__ import annotations

import numpy as np

from megabase.simulate.motifs import NUMBER, SCANNED, Sites, find_sites

N_CELLS = 3
# Weight by cell type: hepatic, neural, lymphoid.
WEIGHTS = {
    "CTCF": (0.0, 0.0, 0.0),
    "CORE1": (1.0, 1.0, 1.0),
    "HEPA1": (1.5, 0.0, 0.0),
    "HEPA2": (1.3, 0.0, 0.0),
    "NEUR1": (0.0, 1.5, 0.0),
    "NEUR2": (0.0, 1.3, 0.0),
    "LYMP1": (0.0, 0.0, 1.5),
    "SHAR1": (0.0, 1.2, 1.2),
    "REPR1": (-1.5, 0.0, -1.5),
}
CTCF_OPENNESS = 1.5  # what CTCF adds to the drive of open chromatin, in every cell type
PAIRS = (("HEPA1", "HEPA2", 0, 1.0), ("NEUR1", "NEUR2", 1, 1.0), ("LYMP1", "SHAR1", 2, 1.0))
PAIR_GAP = (12, 42)  # anchor to anchor: 10 to 30 bp between partners of 12 bp or so
SPREAD = 90  # standard deviation of a site's Gaussian (bp)
REACH = 3 * SPREAD  # a site acts no further (bp)
STEEPNESS, OFFSET = 3.0, 0.75  # of the softplus
ENHANCER_DECAY, ENHANCER_REACH = 600.0, 3000  # distance over which activity fades to 1/e, and its limit (bp)
ACTIVITY_UNIT = 250.0  # area under one element of height 1 (bp)
BASE_EXPRESSION = 0.05
TATA_WINDOW, CORE_WINDOW, INR_WINDOW = (-36, -22), (-160, -35), (-2, 3)  # anchors, relative to the TSS
PROMOTER_BASE, CPG_STRENGTH = 0.3, 0.7
LEAK = 0.08  # initiation without an initiator

REGULATORY = (*WEIGHTS, "TATA", "INR")

_KERNEL = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / SPREAD) ** 2)
_DECAY = np.exp(-np.abs(np.arange(-ENHANCER_REACH, ENHANCER_REACH + 1)) / ENHANCER_DECAY) / ACTIVITY_UNIT
_WEIGHT_TABLE = np.array([WEIGHTS.get(motif.name, (0.0,) * N_CELLS) for motif in SCANNED])


def add_kernels(track: np.ndarray, positions: np.ndarray, heights: np.ndarray) -> None:
    """Add Gaussians of `heights` [N, cells] at `positions` [N] to track [cells, S], in place."""
    size = track.shape[1]
    for position, height in zip(positions.tolist(), heights, strict=True):
        low, high = max(position - REACH, 0), min(position + REACH + 1, size)
        if low < high:
            track[:, low:high] += height[:, None] * _KERNEL[low - position + REACH : high - position + REACH]


def pair_bonuses(sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    """Positions int [N] and heights [N, cells] of the spacing bonus: partners `PAIR_GAP` apart, midway."""
    positions, heights = [], []
    for first, second, cell, bonus in PAIRS:
        left = np.flatnonzero(sites.motif == NUMBER[first])
        right = np.flatnonzero(sites.motif == NUMBER[second])
        ends = sites.position[right]
        for one in left:
            here = sites.position[one]
            low, high = np.searchsorted(ends, (here - PAIR_GAP[1], here + PAIR_GAP[1] + 1))
            for other in right[low:high]:
                if abs(sites.position[other] - here) >= PAIR_GAP[0]:
                    height = np.zeros(N_CELLS)
                    height[cell] = bonus * sites.strength[one] * sites.strength[other]
                    positions.append((here + sites.position[other]) // 2)
                    heights.append(height)
    return np.array(positions, dtype=np.int64), np.array(heights).reshape(-1, N_CELLS)


def drive(sites: Sites, length: int) -> np.ndarray:
    """float64 [cells, S]: weighted sum of sites and pair bonuses at each base."""
    track = np.zeros((N_CELLS, length))
    heights = _WEIGHT_TABLE[sites.motif] * sites.strength[:, None]
    acting = np.any(heights != 0, axis=1)
    add_kernels(track, sites.position[acting], heights[acting])
    add_kernels(track, *pair_bonuses(sites))
    return track


def respond(track: np.ndarray) -> np.ndarray:
    """Softplus of a drive, shifted so that no drive gives 0; a closed base is not below 0."""
    rest = np.logaddexp(0, -STEEPNESS * OFFSET)
    return np.maximum(np.logaddexp(0, STEEPNESS * (track - OFFSET)) - rest, 0) / STEEPNESS


def open_drive(sites: Sites, track: np.ndarray) -> np.ndarray:
    """The drive of open chromatin: that of activity plus CTCF."""
    bound = sites.motif == NUMBER["CTCF"]
    opened = track.copy()
    heights = np.repeat(CTCF_OPENNESS * sites.strength[bound][:, None], N_CELLS, axis=1)
    add_kernels(opened, sites.position[bound], heights)
    return opened


def _strongest(strengths: np.ndarray) -> float:
    return float(strengths.max()) if len(strengths) else 0.0


def core_promoter(sites: Sites, tss: int) -> float:
    """Strength of the promoter of a + strand TSS: the initiator times TATA or CpG-like boxes."""
    inr = _strongest(sites.select("INR", tss + INR_WINDOW[0], tss + INR_WINDOW[1], 1))
    tata = _strongest(sites.select("TATA", tss + TATA_WINDOW[0], tss + TATA_WINDOW[1], 1))
    boxes = sites.select("CORE1", tss + CORE_WINDOW[0], tss + CORE_WINDOW[1]).sum()
    return (LEAK + (1 - LEAK) * inr) * (PROMOTER_BASE + max(tata, CPG_STRENGTH * min(1.0, float(boxes))))


MARGIN = ENHANCER_REACH + REACH + 32  # bases each side of a TSS that its expression depends on


def expression(codes: np.ndarray) -> np.ndarray:
    """Expression float64 [cells] of the gene whose TSS is base MARGIN of codes uint8 [2 MARGIN + 1], +
    strand.
    """
    sites = find_sites(codes, REGULATORY)
    activity = respond(drive(sites, len(codes)))
    nearby = activity[:, MARGIN - ENHANCER_REACH : MARGIN + ENHANCER_REACH + 1] @ _DECAY
    return core_promoter(sites, MARGIN) * (BASE_EXPRESSION + nearby)
