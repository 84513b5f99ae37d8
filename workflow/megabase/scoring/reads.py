"""Which positions of a variant's window a scorer reads, on the reference allele and on the alternate one.

Torch only; part of the numerical core. Spans are in bins of the output type's finest resolution (bases,
tokens of 128, contact bins of 2,048), 0-based half-open within the window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from megabase.alignment import merged
from megabase.scoring import formulas
from megabase.scoring.masks import centre_span
from megabase.scoring.scorers import Part, Scorer
from megabase.spec import PAIR, OutputType

if TYPE_CHECKING:
    from megabase.scoring.annotation import GeneModel
    from megabase.scoring.engine import Case

Span = tuple[int, int]
MIN_POLYA_SHARE = 0.8  # of a gene's polyadenylation sites must lie in the window
AROUND = (Part.CENTRE, Part.CONTACTS)  # parts that are not aligned: the same bins of both alleles


def is_snv(variant: Any) -> bool:
    """Whether one base is replaced by another."""
    return len(variant.ref) == len(variant.alt) == 1


def genes_of(scorer: Scorer, case: Case) -> list[GeneModel]:
    """Genes that a scorer with genes may have rows for, in one case."""
    return case.starting if scorer.part is Part.EXONS else case.overlaps


def gene_spans(scorer: Scorer, gene: GeneModel, case: Case, window: int) -> list[Span]:
    """Positions of the window that a scorer reads of a gene: exons or body, within the scorer's width."""
    spans = gene.exons.tolist() if scorer.part is Part.EXONS else [(gene.start, gene.end)]
    first, last = centre_span(case.offset, window, scorer.width)
    return merged((max(a - case.start, first), min(b - case.start, last)) for a, b in spans)


def polya_spans(gene: GeneModel, case: Case, window: int) -> Tensor | None:
    """Coverage spans int64 [N, 2] of a gene's polyadenylation sites, proximal first; None if too few."""
    if len(gene.polya_sites) < 2:
        return None
    sites = torch.from_numpy(gene.polya_sites - case.start)
    spans = formulas.polyadenylation_windows(sites.flip(0) if gene.strand == "-" else sites, gene.strand)
    inside = (spans[:, 0] >= 0) & (spans[:, 1] <= window)
    kept = spans[inside]
    return kept if len(kept) >= 2 and len(kept) >= MIN_POLYA_SHARE * len(spans) else None


def spans_read(scorer: Scorer, case: Case, window: int, coding: Sequence[GeneModel]) -> list[Span]:
    """Spans of REF that a scorer reads of its own output type (junctions: of the splice sites).

    coding: the genes at the variant that junctions are scored for.
    """
    match scorer.part:
        case Part.CENTRE:
            bins = window // scorer.resolution
            return merged([centre_span(case.offset, bins, scorer.width, scorer.resolution)])
        case Part.CONTACTS:
            bin_ = case.offset // PAIR
            return [(bin_, bin_ + 1)] if is_snv(case.variant) else []
        case Part.SITES:
            found = (polya_spans(gene, case, window) for gene in case.overlaps)
            return merged((a, b) for spans in found if spans is not None for a, b in spans.tolist())
        case Part.JUNCTIONS:
            return bodies(case, window) if coding else []
        case _:
            return merged(s for g in genes_of(scorer, case) for s in gene_spans(scorer, g, case, window))


def bodies(case: Case, window: int) -> list[Span]:
    """Positions of the window inside genes that overlap the variant."""
    return merged((max(g.start - case.start, 0), min(g.end - case.start, window)) for g in case.overlaps)


def wanted_of(
    scorers: Iterable[Scorer], case: Case, window: int, coding: Sequence[GeneModel]
) -> tuple[dict[OutputType, list[Span]], dict[OutputType, list[Span]]]:
    """Spans by output type of all scorers, of REF and of ALT."""
    ref: dict[OutputType, list[Span]] = defaultdict(list)
    alt: dict[OutputType, list[Span]] = defaultdict(list)
    for scorer in scorers:
        spans = spans_read(scorer, case, window, coding)
        output = OutputType.SPLICE_SITES if scorer.part is Part.JUNCTIONS else scorer.output_type
        if spans:
            ref[output] += spans
            # One base at least, which tells the channels where ALT lacks all that is read.
            alt[output] += spans if scorer.part in AROUND else case.alignment.reads(spans) or [(0, 1)]
    return {o: merged(s) for o, s in ref.items()}, {o: merged(s) for o, s in alt.items()}


def positions_of(spans: Iterable[Span]) -> Tensor:
    """Positions int64 [n] of spans, in their order."""
    parts = [torch.arange(first, last) for first, last in spans]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)
