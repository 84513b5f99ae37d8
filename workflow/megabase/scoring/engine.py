"""The plain scoring engine: predict REF and ALT of each variant, apply the scorers.

Both alleles are predicted in whole windows centred on the variant; an engine that keeps encoder activations
must give the same numbers. Tensor part of scoring: torch and numpy only. The score of a variant depends on
nothing but its window, the genes and the model. Source: AlphaGenome Methods (variant scoring).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from megabase.alignment import Alignment, window_start
from megabase.alleles import codes_of
from megabase.predictors.junctions import Reader, predict_with_junctions, unstack_junctions
from megabase.scoring import formulas
from megabase.scoring.masks import centre_span, select_splice_sites, span_mask
from megabase.scoring.scorers import Part, Scorer, scorer_tracks
from megabase.spec import OUTPUTS, PAIR, Kind, OutputType, SiteClass
from megabase.structural import reference_span

if TYPE_CHECKING:
    from megabase.scoring.annotation import Annotation, GeneModel

MAX_SITES = 256  # splice sites a class and window that make junctions
SITE_THRESHOLD = 0.1  # probability from which a position is a candidate splice site
MIN_POLYA_SHARE = 0.8  # of a gene's polyadenylation sites must lie in the window

Predictions = dict[OutputType, dict[str, Tensor]]


@dataclass(frozen=True)
class Rows:
    """Rows of one scorer for one variant: raw float32 [N, P] on the CPU, their genes and junctions."""

    raw: Tensor
    genes: list[GeneModel | None]
    junctions: Tensor | None = None  # int64 [N, 2], introns


@dataclass
class Case:
    """One variant in its window: `*_index` are rows of the batch, `overlaps` the genes at the variant."""

    variant: Any
    start: int
    ref_index: int
    alt_index: int
    alignment: Alignment
    starting: list[GeneModel] = field(default_factory=list)
    overlaps: list[GeneModel] = field(default_factory=list)
    junctions: tuple[Tensor, Tensor, Tensor] | None = None  # REF, ALT [K, K, 2B] and REF positions [4, K]

    @property
    def offset(self) -> int:
        """First base of the variant within the window."""
        return self.variant.position - self.start

    def align(self, alt: Tensor, partners: Tensor | None = None) -> Tensor:
        """ALT predictions [S, P] on the positions of REF.

        partners: channels int64 [P] of the other strand, read where ALT has the bases on that strand.
        """
        if self.alignment.is_identity:
            return alt
        return self.alignment.align(torch.arange(len(alt)), lambda p: alt[p.to(alt.device)], partners)

    def alternate_sites(self, positions: Tensor, alt: Tensor) -> Tensor:
        """Where splice sites [4, K] of REF are read on ALT, of class probabilities [S, 5]."""
        return self.alignment.sites(positions, alt)


class Engine:
    """Scores variants with a predictor.

    predictor: meets the `Predictor` protocol. genome: `.organism`, `.codes`. annotation: genes, or None.
    settings: `window` (bases) and `batch_size` (sequences predicted together; at least one variant is).
    alleles: what gives the pieces and the alignment of a variant's alleles, by default the package's.
    """

    def __init__(
        self,
        predictor: Any,
        genome: Any,
        annotation: Annotation | None,
        scorers: Sequence[Scorer],
        settings: Any,
        alleles: Any = None,
    ) -> None:
        if alleles is None:
            from megabase import variants as alleles
        if settings.window % PAIR:
            raise ValueError(f"scoring window of {settings.window} bases; wanted a multiple of {PAIR}")
        self.predictor, self.genome, self.annotation = predictor, genome, annotation
        self.scorers, self.settings, self._alleles = list(scorers), settings, alleles
        self.organism = genome.organism
        self.tracks = predictor.tracks(self.organism)
        self._strands = {s.name: _strands(scorer_tracks(s, self.tracks)) for s in scorers}
        self._partners = {o: _strand_partners(o, rows) for o, rows in self.tracks.items()}
        wanted = {o for s in scorers for o in s.needs} - {OutputType.SPLICE_JUNCTIONS}
        self._outputs = [o for o in OutputType if o in wanted]
        self._with_junctions = any(s.part is Part.JUNCTIONS for s in scorers)

    def batches(self, variants: Sequence[Any]) -> Iterator[slice]:
        """Runs of variants whose REF and ALT sequences are predicted together."""
        size = max(1, self.settings.batch_size // 2)
        for first in range(0, len(variants), size):
            yield slice(first, min(first + size, len(variants)))

    @torch.inference_mode()
    def score(self, variants: Sequence[Any]) -> list[dict[str, Rows]]:
        """Rows by scorer name of each variant, in order."""
        found = []
        for batch in self.batches(variants):
            found += self._score_batch(variants[batch])
        return found

    def _score_batch(self, variants: Sequence[Any]) -> list[dict[str, Rows]]:
        cases, codes = self.cases(variants)
        if self._with_junctions:
            predictions, junctions = self.predict(codes, self._outputs)
            self.predict_junctions(cases, predictions, junctions)
        else:
            predictions = self.predictor.predict(codes, self.organism, outputs=self._outputs)
        return [{s.name: self.score_case(s, case, predictions) for s in self.scorers} for case in cases]

    def _cases(self, variants: Sequence[Any]) -> tuple[list[Case], list[bytes]]:
        """Cases and the distinct alleles of a batch; equal sequences are predicted once."""
        window = self.settings.window
        index: dict[bytes, int] = {}
        cases = []
        for variant in variants:
            first, last = reference_span(variant)
            start = window_start(first, last - first, window)
            pair = self._alleles.allele_pieces(self.genome, variant, start, window)
            codes = [codes_of(pieces, self.genome) for pieces in pair]
            places = [index.setdefault(c.tobytes(), len(index)) for c in codes]
            case = Case(variant, start, *places, self._alleles.allele_alignment(variant, start, window))
            if self.annotation is not None:
                case.starting = self.annotation.starting_in(variant.chrom, start, start + window)
                case.overlaps = self.annotation.overlapping(variant.chrom, first, last)
            cases.append(case)
        return cases, list(index)

    def cases(self, variants: Sequence[Any]) -> tuple[list[Case], Tensor]:
        """Cases and the distinct sequences uint8 [B, S] of a batch."""
        cases, alleles = self._cases(variants)
        codes = np.stack([np.frombuffer(key, np.uint8) for key in alleles])
        return cases, torch.from_numpy(codes)

    # --- splice junctions: read at the sites that the first predictions show

    def predict(self, codes: Tensor, outputs: Sequence[OutputType]) -> tuple[Predictions, Reader]:
        """Predictions of a batch, and what reads junctions of its sequences."""
        return predict_with_junctions(self.predictor, codes, self.organism, outputs)

    def predict_junctions(self, cases: list[Case], predictions: Predictions, junctions: Reader) -> None:
        """Fill `case.junctions` of the cases with genes; positions of a class are at most 256."""
        cases = [c for c in cases if self.annotation and self.annotation.coding(c.overlaps)]
        size = max(1, self.settings.batch_size // 2)
        probabilities = predictions[OutputType.SPLICE_SITES]["probabilities"]
        for first in range(0, len(cases), size):
            part = cases[first : first + size]
            places = [self.splice_positions(case, probabilities) for case in part]
            moved = [
                c.alternate_sites(p, probabilities[c.alt_index]) for c, p in zip(part, places, strict=True)
            ]
            rows = [i for case in part for i in (case.ref_index, case.alt_index)]
            positions = _stack_padded([p for pair in zip(places, moved, strict=True) for p in pair])
            values = junctions(rows, positions)
            for i, case in enumerate(part):
                k = places[i].shape[-1]
                case.junctions = (values[2 * i, :k, :k], values[2 * i + 1, :k, :k], places[i])

    def splice_positions(self, case: Case, probabilities: Tensor) -> Tensor:
        """Candidate sites int64 [4, K] on REF positions: annotated, or predicted on either allele."""
        ref = probabilities[case.ref_index][:, :4].float().cpu()
        alt = case.align(probabilities[case.alt_index])[:, :4].float().cpu()
        scores = torch.maximum(ref, alt)
        for gene in case.overlaps:
            strand = 2 if gene.strand == "-" else 0
            for kind, sites in enumerate(gene.splice_sites()):
                inside = sites[(sites >= case.start) & (sites < case.start + len(scores))] - case.start
                scores[torch.from_numpy(inside), strand + kind] = 1.0
        # a site that an inversion turns has no junction that could be compared
        scores[case.alignment.mirrored(torch.arange(len(scores)))] = 0.0
        bodies = torch.tensor([(gene.start, gene.end) for gene in case.overlaps])
        scores = scores * span_mask(bodies, case.start, len(scores)).unsqueeze(-1)
        return select_splice_sites(scores, MAX_SITES, SITE_THRESHOLD)

    # --- one scorer on one case

    def score_case(self, scorer: Scorer, case: Case, predictions: Predictions) -> Rows:
        """Rows of one scorer for a case whose alleles are rows `ref_index`, `alt_index` of predictions."""
        match scorer.part:
            case Part.CENTRE:
                return self._centre(scorer, case, predictions)
            case Part.CONTACTS:
                return self._contacts(case, predictions)
            case Part.JUNCTIONS:
                return self._junctions(scorer, case)
            case Part.SITES:
                return self._polya(scorer, case, predictions)
            case _:
                return self._genes(scorer, case, predictions)

    def _centre(self, scorer: Scorer, case: Case, predictions: Predictions) -> Rows:
        ref, alt = _pair(case, predictions, scorer.output_type)
        span = centre_span(case.offset, len(ref), scorer.width, scorer.resolution)
        return Rows(_rows(formulas.centre_score(ref, alt, span, scorer.aggregation)[None]), [None])

    def _contacts(self, case: Case, predictions: Predictions) -> Rows:
        """Single-nucleotide variants only: an indel shifts bases between bins; others are NaN."""
        ref, alt = _pair(case, predictions, OutputType.CONTACT_MAPS)
        if len(case.variant.ref) == len(case.variant.alt) == 1:
            raw = formulas.contact_score(ref, alt, case.offset // PAIR)
        else:
            raw = ref.new_full((ref.shape[-1],), torch.nan)
        return Rows(_rows(raw[None]), [None])

    def _genes(self, scorer: Scorer, case: Case, predictions: Predictions) -> Rows:
        genes = case.starting if scorer.part is Part.EXONS else case.overlaps
        if not genes:
            return self._nothing(scorer)
        ref, alt = _pair(case, predictions, scorer.output_type)
        if scorer.output_type is OutputType.SPLICE_SITES:
            ref, alt = ref[:, :4], alt[:, :4]
        spans = [g.exons if scorer.part is Part.EXONS else np.array([[g.start, g.end]]) for g in genes]
        mask = torch.stack([span_mask(torch.from_numpy(s), case.start, len(ref)) for s in spans], -1)
        functions = {
            "lfc": formulas.gene_log_fold_change,
            "active": formulas.gene_active,
            "splicing": formulas.gene_splicing,
        }
        alt = case.align(alt, self._partners[scorer.output_type])
        raw = functions[scorer.aggregation](ref, alt, mask.to(ref.device))
        return Rows(self._on_strand(scorer, _rows(raw), genes), list(genes))

    def _junctions(self, scorer: Scorer, case: Case) -> Rows:
        """Per gene, the junctions inside it that change most in some biosample."""
        if case.junctions is None:
            return self._nothing(scorer)
        ref, alt, positions = case.junctions
        before, after = (unstack_junctions(x.cpu(), positions, case.start) for x in (ref, alt))
        change = formulas.junction_score(before.values, after.values)
        strands = np.array(before.strands)
        raw, genes, spans = [change[:0]], [], [before.spans[:0]]
        for gene in self.annotation.coding(case.overlaps):
            inside = (before.spans[:, 0] >= gene.start) & (before.spans[:, 1] <= gene.end)
            inside &= torch.from_numpy(strands == gene.strand) & (before.spans[:, 0] < before.spans[:, 1])
            chosen = torch.where(inside)[0]
            if len(chosen):
                chosen = chosen[change[chosen].argmax(0).unique()]
                raw.append(change[chosen])
                spans.append(before.spans[chosen])
                genes += [gene] * len(chosen)
        return Rows(_rows(torch.cat(raw)), genes, torch.cat(spans))

    def _polya(self, scorer: Scorer, case: Case, predictions: Predictions) -> Rows:
        window, raw, genes = self.settings.window, [], []
        for gene in case.overlaps:
            spans = _polya_spans(gene, case.start, window)
            if spans is None:
                continue
            ref, alt = _pair(case, predictions, scorer.output_type)
            alt = case.align(alt, self._partners[scorer.output_type])
            raw.append(formulas.polyadenylation_score(ref, alt, spans))
            genes.append(gene)
        if not genes:
            return self._nothing(scorer)
        scores = _rows(torch.stack(raw))
        scores[~scores.isfinite()] = torch.nan
        return Rows(self._on_strand(scorer, scores, genes), genes)

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


def _strands(rows: list[dict]) -> np.ndarray:
    return np.array([row.get("strand") or "." for row in rows])


def _strand_partners(output: OutputType, rows: list[dict]) -> Tensor:
    """Channels int64 [P] of the other strand; of splice-site classes without the class `none`."""
    if output is OutputType.SPLICE_SITES:
        return torch.tensor(SiteClass.REVERSE_COMPLEMENT[:4])
    return torch.tensor([row.get("strand_partner", i) for i, row in enumerate(rows)])


def _rows(raw: Tensor) -> Tensor:
    return raw.to("cpu", torch.float32).clone()


def _pair(case: Case, predictions: Predictions, output: OutputType) -> tuple[Tensor, Tensor]:
    """REF and ALT predictions of a case in the units of the tracks, at the output's finest resolution."""
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        key = f"{OUTPUTS[output].resolutions[0]}bp"
    else:
        key = "values" if kind is Kind.CONTACTS else "probabilities"
    values = predictions[output][key]
    return values[case.ref_index], values[case.alt_index]


def _stack_padded(positions: list[Tensor]) -> Tensor:
    """int64 [B, 4, K] of positions [4, k], padded with -1."""
    width = max(p.shape[-1] for p in positions)
    return torch.stack([torch.nn.functional.pad(p, (0, width - p.shape[-1]), value=-1) for p in positions])


def _polya_spans(gene: GeneModel, start: int, window: int) -> Tensor | None:
    """Coverage spans int64 [N, 2] within the window of a gene's sites, proximal first; None if too few."""
    if len(gene.polya_sites) < 2:
        return None
    sites = torch.from_numpy(gene.polya_sites - start)
    spans = formulas.polyadenylation_windows(sites.flip(0) if gene.strand == "-" else sites, gene.strand)
    inside = (spans[:, 0] >= 0) & (spans[:, 1] <= window)
    enough = int(inside.sum()) >= max(2, MIN_POLYA_SHARE * len(sites))
    return spans[inside] if enough else None
