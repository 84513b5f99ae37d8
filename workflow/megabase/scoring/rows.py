"""One scorer on one variant: from what was read of both alleles to rows.

Torch only; part of the numerical core. Source: AlphaGenome Methods (variant scoring).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from megabase.alignment import merged
from megabase.predictors.junctions import unstack_junctions
from megabase.predictors.readings import Reading
from megabase.scoring import formulas
from megabase.scoring.masks import centre_span, select_splice_sites, span_mask
from megabase.scoring.reads import bodies, gene_spans, genes_of, is_snv, polya_spans, positions_of
from megabase.scoring.scorers import Part, Scorer
from megabase.spec import PAIR, OutputType

if TYPE_CHECKING:
    from megabase.scoring.annotation import GeneModel
    from megabase.scoring.engine import Case

MAX_SITES = 256  # splice sites a class and window that make junctions
SITE_THRESHOLD = 0.1  # probability from which a position is a candidate splice site

Readings = Mapping[OutputType, Reading]


@dataclass(frozen=True)
class Rows:
    """Rows of one scorer for one variant: raw float32 [N, P] on the CPU, their genes and junctions.

    spread: standard deviation of the scores over the members of an ensemble, float32 [N, P]. largest: the
    largest score of each member over the tracks, float32 [M, N], NaN counted as zero.
    """

    raw: Tensor
    genes: list[GeneModel | None]
    junctions: Tensor | None = None  # int64 [N, 2], introns
    spread: Tensor | None = None
    largest: Tensor | None = None


class RowMaker:
    """Makes rows of scorers. strands: by scorer name the strand of every channel. window: bases.

    partners: by output type the channel of the other strand, int64 [P], read where ALT turns the bases.
    """

    def __init__(
        self, strands: Mapping[str, np.ndarray], window: int, partners: Mapping[OutputType, Tensor]
    ) -> None:
        self._strands, self._window, self._partners = strands, window, partners

    def rows(
        self, scorer: Scorer, case: Case, ref: Readings, alt: Readings, coding: Sequence[GeneModel]
    ) -> Rows:
        """Rows of one scorer, of readings that hold what `reads` names. coding: genes of junctions."""
        match scorer.part:
            case Part.CENTRE:
                return self._centre(scorer, case, ref, alt)
            case Part.CONTACTS:
                return self._contacts(scorer, case, ref, alt)
            case Part.JUNCTIONS:
                return self._junctions(scorer, case, coding)
            case Part.SITES:
                return self._polya(scorer, case, ref, alt)
            case _:
                return self._genes(scorer, case, ref, alt)

    def _centre(self, scorer: Scorer, case: Case, ref: Readings, alt: Readings) -> Rows:
        output = scorer.output_type
        first, last = centre_span(
            case.offset, self._window // scorer.resolution, scorer.width, scorer.resolution
        )
        if first >= last:
            return Rows(torch.full((1, len(self._strands[scorer.name])), torch.nan), [None])
        values = [x[output].span(first, last) for x in (ref, alt)]
        return Rows(
            _rows(formulas.centre_score(*values, (0, last - first), scorer.aggregation)[None]), [None]
        )

    def _contacts(self, scorer: Scorer, case: Case, ref: Readings, alt: Readings) -> Rows:
        """Single-nucleotide variants only: an indel shifts bases between bins; others are NaN."""
        if not is_snv(case.variant):
            return Rows(torch.full((1, len(self._strands[scorer.name])), torch.nan), [None])
        bin_ = case.offset // PAIR
        values = [x[scorer.output_type].span(bin_, bin_ + 1) for x in (ref, alt)]
        return Rows(_rows(formulas.contact_row_score(*(v[0] for v in values))[None]), [None])

    def _genes(self, scorer: Scorer, case: Case, ref: Readings, alt: Readings) -> Rows:
        genes = genes_of(scorer, case)
        if not genes:
            return self._nothing(scorer)
        spans = [gene_spans(scorer, gene, case, self._window) for gene in genes]
        positions = positions_of(merged(s for own in spans for s in own))
        if not len(positions):  # no base of any gene is within the scorer's width
            return Rows(torch.full((len(genes), len(self._strands[scorer.name])), torch.nan), list(genes))
        masks = [span_mask(torch.tensor(own).view(-1, 2), 0, self._window)[positions] for own in spans]
        before, after = self._aligned(scorer.output_type, case, ref, alt, positions)
        if scorer.output_type is OutputType.SPLICE_SITES:
            before, after = before[:, :4], after[:, :4]
        functions = {
            "lfc": formulas.gene_log_fold_change,
            "active": formulas.gene_active,
            "splicing": formulas.gene_splicing,
        }
        raw = functions[scorer.aggregation](before, after, torch.stack(masks, -1).to(before.device))
        return Rows(self._on_strand(scorer, _rows(raw), genes), list(genes))

    def _junctions(self, scorer: Scorer, case: Case, coding: Sequence[GeneModel]) -> Rows:
        """Per gene, the junctions inside it that change most in some biosample."""
        if case.junctions is None:
            return self._nothing(scorer)
        every, strands, change = junction_changes(case)
        raw, genes, spans = [change[:0]], [], [every[:0]]
        for gene in coding:
            inside = (every[:, 0] >= gene.start) & (every[:, 1] <= gene.end)
            inside &= torch.from_numpy(strands == gene.strand) & (every[:, 0] < every[:, 1])
            chosen = torch.where(inside)[0]
            if len(chosen):
                chosen = chosen[change[chosen].argmax(0).unique()]
                raw.append(change[chosen])
                spans.append(every[chosen])
                genes += [gene] * len(chosen)
        return Rows(_rows(torch.cat(raw)), genes, torch.cat(spans))

    def _polya(self, scorer: Scorer, case: Case, ref: Readings, alt: Readings) -> Rows:
        raw, genes = [], []
        for gene in case.overlaps:
            spans = polya_spans(gene, case, self._window)
            if spans is None:
                continue
            positions = positions_of(spans.tolist())
            before, after = self._aligned(scorer.output_type, case, ref, alt, positions)
            ends = (spans[:, 1] - spans[:, 0]).cumsum(0)
            own = torch.stack((ends - (spans[:, 1] - spans[:, 0]), ends), -1)
            raw.append(formulas.polyadenylation_score(before, after, own))
            genes.append(gene)
        if not genes:
            return self._nothing(scorer)
        scores = _rows(torch.stack(raw))
        scores[~scores.isfinite()] = torch.nan
        return Rows(self._on_strand(scorer, scores, genes), genes)

    def _aligned(
        self, output: OutputType, case: Case, ref: Readings, alt: Readings, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values [n, P] of both alleles at positions int64 [n] of REF."""
        after = case.alignment.align(positions, alt[output].at, self._partners[output])
        return ref[output].at(positions), after

    def _on_strand(self, scorer: Scorer, raw: Tensor, genes: Sequence[GeneModel]) -> Tensor:
        """NaN where a track's strand is neither the gene's nor `.`."""
        strands = self._strands[scorer.name]
        for row, gene in zip(raw, genes, strict=True):
            row[torch.from_numpy((strands != ".") & (strands != gene.strand))] = torch.nan
        return raw

    def _nothing(self, scorer: Scorer) -> Rows:
        channels = len(self._strands[scorer.name])
        spans = torch.zeros(0, 2, dtype=torch.int64) if scorer.part is Part.JUNCTIONS else None
        return Rows(torch.zeros(0, channels), [], spans)


def junction_changes(case: Case) -> tuple[Tensor, np.ndarray, Tensor]:
    """Introns int64 [J, 2], their strands and scores [J, B] of a case with junctions."""
    ref, alt, positions = case.junctions
    before, after = (unstack_junctions(x.cpu(), positions, case.start) for x in (ref, alt))
    return before.spans, np.array(before.strands), formulas.junction_score(before.values, after.values)


def same_junctions(rows: Rows, case: Case) -> Tensor:
    """Scores float32 [N, B] of the junctions of `rows` in a case with the same sites."""
    if not len(rows.genes):
        return rows.raw
    spans, strands, change = junction_changes(case)
    places = {(*span, s): i for i, (span, s) in enumerate(zip(spans.tolist(), strands, strict=True))}
    pairs = zip(rows.junctions.tolist(), rows.genes, strict=True)
    return _rows(change[[places[(*span, gene.strand)] for span, gene in pairs]])


def splice_positions(case: Case, ref: Reading, alt: Reading, window: int) -> Tensor:
    """Candidate sites int64 [4, K] on REF positions: annotated, or predicted on either allele.

    ref, alt: class probabilities inside the genes at the variant, at most 256 of a class are kept.
    """
    positions = positions_of(bodies(case, window))
    scores = ref.at(positions)[:, :4].float().cpu()
    scores = torch.maximum(scores, case.alignment.align(positions, alt.at)[:, :4].float().cpu())
    for gene in case.overlaps:
        strand = 2 if gene.strand == "-" else 0
        for kind, sites in enumerate(gene.splice_sites()):
            place = torch.from_numpy(np.asarray(sites)) - case.start
            scores[torch.isin(positions, place), strand + kind] = 1.0
    scores[case.alignment.mirrored(positions)] = 0.0  # turned sites have no junctions to be compared with
    chosen = select_splice_sites(scores, MAX_SITES, SITE_THRESHOLD)
    return torch.where(chosen >= 0, positions[chosen.clamp_min(0)], chosen)


def _rows(raw: Tensor) -> Tensor:
    return raw.to("cpu", torch.float32).clone()
