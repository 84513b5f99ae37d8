"""A genome with one variant in it, and its genes where they lie then: what is scored on the ALT sequence.

Positions are 0-based; what follows an insertion moves right by its length, what follows a deletion left. A
deleted position becomes the first base that follows the variant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from megabase.scoring.annotation import Annotation
from megabase.sequence import encode
from megabase.structural import is_structural

if TYPE_CHECKING:
    from megabase.scoring.annotation import GeneModel


class AlternateGenome:
    """A genome in which `variant` has its ALT allele; everything else is that of `genome`.

    ValueError for a structural variant, or one on a person's haplotype.
    """

    def __init__(self, genome: Any, variant: Any) -> None:
        if is_structural(variant.alt) or getattr(variant, "haplotype", 0):
            raise ValueError(
                f"{variant.variant_id}: its ALT is no sequence in the genome, and is not mutated"
            )
        self._genome, self._variant = genome, variant
        self.lengths = dict(genome.lengths)
        self.lengths[variant.chrom] += len(variant.alt) - len(variant.ref)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._genome, name)

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        """uint8 [end - start]; outside the chromosome 4 (N)."""
        variant = self._variant
        if chrom != variant.chrom:
            return self._genome.codes(chrom, start, end)
        first, last = variant.position, variant.position + len(variant.alt)
        shift = len(variant.alt) - len(variant.ref)
        parts = [self._genome.codes(chrom, start, min(end, first))] if start < first else []
        if start < last and end > first:
            parts.append(encode(variant.alt)[max(start - first, 0) : end - first])
        if end > last:
            parts.append(self._genome.codes(chrom, max(start, last) - shift, end - shift))
        return np.concatenate(parts)


def moved(positions: np.ndarray, variant: Any) -> np.ndarray:
    """Where positions or edges of spans of the genome lie on the ALT sequence."""
    shared = variant.position + min(len(variant.ref), len(variant.alt))
    after = variant.position + len(variant.ref)
    shift = len(variant.alt) - len(variant.ref)
    return np.where(positions >= after, positions + shift, np.minimum(positions, shared))


def alternate_annotation(annotation: Annotation, variant: Any) -> Annotation:
    """The genes of the variant's chromosome where they lie on the ALT sequence."""

    def on_alternate(gene: GeneModel) -> GeneModel:
        start, end = moved(np.array([gene.start, gene.end]), variant).tolist()
        return replace(
            gene, start=start, end=end, tss=moved(np.array(gene.tss), variant).tolist(),
            exons=moved(gene.exons, variant), introns=moved(gene.introns, variant),
            polya_sites=moved(gene.polya_sites, variant),
        )  # fmt: skip

    return Annotation([on_alternate(gene) for gene in annotation.genes if gene.chrom == variant.chrom])
