"""The rule of splicing: from splice sites and splice enhancers to exon inclusion and junction usage.

Each internal exon is included with probability PSI, independently of the others; first and last exons
always are:
logit PSI = SITE_SLOPE x (donor + acceptor - SITE_OFFSET) + ESE x exonic enhancers + cell-specific enhancers
in
the first bases of the next intron.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megabase.simulate.grammar import N_CELLS
from megabase.simulate.motifs import ACCEPTOR, DONOR, Sites, find_sites, site_strengths

SITE_SLOPE, SITE_OFFSET = 6.0, 1.45
ESE_EFFECT, MAX_ESE = 2.0, 2.0
INTRONIC = {"NSE1": (0.0, 3.0, 0.0), "LSE1": (0.0, 0.0, 3.0)}  # logit by cell type
SPLICING = ("ESE1", *INTRONIC)
INTRONIC_REACH = 110  # bases of the intron behind an exon that its cell-specific enhancers lie in
FLANK = 150  # bases around a gene that its splicing depends on

Exons = Sequence[tuple[int, int]]


def _logits(codes: np.ndarray, sites: Sites, exons: Exons) -> np.ndarray:
    inner = exons[1:-1]
    donors = site_strengths(codes, np.array([end - 1 - DONOR.anchor for _, end in inner]), DONOR)
    acceptors = site_strengths(codes, np.array([start - ACCEPTOR.anchor for start, _ in inner]), ACCEPTOR)
    logits = np.repeat((SITE_SLOPE * (donors + acceptors - SITE_OFFSET))[:, None], N_CELLS, axis=1)
    for number, (start, end) in enumerate(inner):
        logits[number] += ESE_EFFECT * min(MAX_ESE, float(sites.select("ESE1", start, end, 1).sum()))
        for name, effects in INTRONIC.items():
            strength = float(sites.select(name, end, end + INTRONIC_REACH, 1).sum())
            logits[number] += np.array(effects) * min(1.0, strength)
    return logits


def inclusion(codes: np.ndarray, exons: Exons) -> np.ndarray:
    """PSI float64 [exons, cells] of a + strand gene; exons are (start, end) in codes, in order of
    transcription.
    """
    psi = np.ones((len(exons), N_CELLS))
    if len(exons) > 2:
        psi[1:-1] = 1 / (1 + np.exp(-_logits(codes, find_sites(codes, SPLICING), exons)))
    return psi


def junction_shares(psi: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Share [cells] of transcripts that join exon i to exon j: both are in and none between them is."""
    shares = {}
    for i in range(len(psi)):
        for j in range(i + 1, len(psi)):
            shares[i, j] = psi[i] * psi[j] * np.prod(1 - psi[i + 1 : j], axis=0)
    return shares
