"""The rule applied to a whole genome: what every assay measures, before noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from megabase.sequence import reverse_complement
from megabase.simulate import grammar, splicing
from megabase.simulate.genomes import DemoGene, DemoGenome
from megabase.simulate.motifs import Sites, find_sites
from megabase.spec import UNKNOWN_BASE


@dataclass(slots=True)
class State:
    """Everything that the sequence decides.

    sites, activity and openness by chromosome (float32 [cells, S]); expression float64 [genes, cells]; psi:
    one
    float64 [exons, cells] a gene, exons in order of transcription.
    """

    genome: DemoGenome
    sites: dict[str, Sites]
    activity: dict[str, np.ndarray]
    openness: dict[str, np.ndarray]
    expression: np.ndarray
    psi: list[np.ndarray]


def slice_codes(codes: np.ndarray, start: int, end: int) -> np.ndarray:
    """codes uint8 [end - start]; unknown bases outside the chromosome."""
    found = np.full(end - start, UNKNOWN_BASE, dtype=np.uint8)
    low, high = max(start, 0), min(end, len(codes))
    if low < high:
        found[low - start : high - start] = codes[low:high]
    return found


def gene_expression(codes: np.ndarray, gene: DemoGene) -> np.ndarray:
    """Expression float64 [cells] of a gene from its chromosome's codes."""
    tss = gene.model.tss
    return expression_around(
        slice_codes(codes, tss - grammar.MARGIN, tss + grammar.MARGIN + 1), gene.model.strand
    )


def expression_around(around: np.ndarray, strand: int) -> np.ndarray:
    """Expression float64 [cells] of the gene of `strand` whose TSS is the middle of codes uint8 [2 MARGIN +
    1].
    """
    return grammar.expression(around if strand > 0 else reverse_complement(around))


def gene_inclusion(codes: np.ndarray, gene: DemoGene) -> np.ndarray:
    """PSI float64 [exons, cells] of a gene from its chromosome's codes."""
    start, end = gene.model.start - splicing.FLANK, gene.model.end + splicing.FLANK
    around = slice_codes(codes, start, end)
    if gene.model.strand > 0:
        return splicing.inclusion(around, [(low - start, high - start) for low, high in gene.model.exons])
    exons = [(end - high, end - low) for low, high in gene.model.exons[::-1]]
    return splicing.inclusion(reverse_complement(around), exons)


def derive_state(genome: DemoGenome) -> State:
    """Apply the rule to every chromosome and gene."""
    sites, activity, openness = {}, {}, {}
    for chrom, codes in genome.chromosomes.items():
        sites[chrom] = find_sites(codes)
        driven = grammar.drive(sites[chrom], len(codes)).astype(np.float32)
        activity[chrom] = grammar.respond(driven)
        openness[chrom] = grammar.respond(grammar.open_drive(sites[chrom], driven))
        openness[chrom][:, codes == UNKNOWN_BASE] = 0
    chromosomes = genome.chromosomes
    expression = np.array([gene_expression(chromosomes[g.chrom], g) for g in genome.genes])
    psi = [gene_inclusion(chromosomes[g.chrom], g) for g in genome.genes]
    return State(genome, sites, activity, openness, expression.reshape(-1, grammar.N_CELLS), psi)
