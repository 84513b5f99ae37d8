"""The engine: predictions of both alleles of every variant, and the scorers applied to them.

Two ways give the same numbers within float rounding. A predictor that opens `windows` is read where the
scorers read (`predictors/windows.py`): the encoder's activations are kept along the genome, the tower runs
once an allele, and the decoder where something is read. Any other predictor, or with `whole_windows` any,
predicts both alleles in whole windows. Tensor part of scoring: torch and numpy only. The score of a variant
depends on nothing but its window, the genes and the model. Source: AlphaGenome Methods (variant scoring).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from megabase.alignment import Alignment
from megabase.alleles import Pieces, codes_of
from megabase.predictors.junctions import Reader, predict_with_junctions
from megabase.predictors.readings import Reading
from megabase.scoring.placement import CENTERED, check_placement, place_window
from megabase.scoring.rows import RowMaker, Rows, splice_positions
from megabase.scoring.scorers import Part, Scorer, scorer_tracks
from megabase.scoring.sparse import SparseScoring
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass
from megabase.structural import reference_span

if TYPE_CHECKING:
    from megabase.scoring.annotation import Annotation, GeneModel

TOGETHER = 32  # variants that are scored together

Predictions = dict[OutputType, dict[str, Tensor]]


@dataclass
class Case:
    """One variant in its window: `*_index` are rows of the batch, `overlaps` the genes at the variant.

    starting: genes with a start site in the window. alignment: from REF's positions to ALT's. partners: by
    output type the channels of the other strand, int64 [P].
    """

    variant: Any
    start: int
    ref_index: int
    alt_index: int
    alignment: Alignment
    starting: list[GeneModel] = field(default_factory=list)
    overlaps: list[GeneModel] = field(default_factory=list)
    junctions: tuple[Tensor, Tensor, Tensor] | None = None  # REF, ALT [K, K, 2B] and REF positions [4, K]
    partners: Mapping[OutputType, Tensor] = field(default_factory=dict)

    @property
    def offset(self) -> int:
        """First base of the variant within the window."""
        return self.variant.position - self.start

    def align(self, alt: Tensor, output: OutputType | None = None) -> Tensor:
        """ALT predictions [S, P] on the positions of REF; of an output type, turned bases on their strand."""
        partners = self.partners.get(output) if output is not None else None
        return self.alignment.align(torch.arange(len(alt)), lambda at: alt[at.to(alt.device)], partners)


class Engine:
    """Scores variants with a predictor.

    predictor: meets the `Predictor` protocol. genome: `.organism`, `.codes`. annotation: genes, or None.
    settings: `window` (bases), `batch_size` (sequences predicted together), and if there `placement`, `tile`,
    `together`, `cache` (GB of encoder activations kept) and `whole_windows`. alleles: what gives the pieces
    and the alignment of a variant's alleles, by default `megabase.variants`. start: of the one window of all
    variants, by default each has its own.
    """

    def __init__(
        self,
        predictor: Any,
        genome: Any,
        annotation: Annotation | None,
        scorers: Sequence[Scorer],
        settings: Any,
        alleles: Any = None,
        *,
        start: int | None = None,
    ) -> None:
        if alleles is None:
            from megabase import variants as alleles
        self._fixed = start
        self.predictor, self.genome, self.annotation = predictor, genome, annotation
        self.scorers, self.settings, self._alleles = list(scorers), settings, alleles
        self.placement = getattr(settings, "placement", CENTERED)
        self.tile = getattr(settings, "tile", 0)
        check_placement(self.placement, settings.window, self.tile)
        self.batch_size = settings.batch_size
        self.organism = genome.organism
        self.tracks = predictor.tracks(self.organism)
        strands = {s.name: _strands(scorer_tracks(s, self.tracks)) for s in scorers}
        self._partners = {o: _strand_partners(o, rows) for o, rows in self.tracks.items()}
        self._rows = RowMaker(strands, settings.window, self._partners)
        wanted = {o for s in scorers for o in s.needs} - {OutputType.SPLICE_JUNCTIONS}
        self._outputs = [o for o in OutputType if o in wanted]
        self.with_junctions = any(s.part is Part.JUNCTIONS for s in scorers)
        self.members: list[Any] = []
        self._sparse = None
        if hasattr(predictor, "windows") and not getattr(settings, "whole_windows", False):
            limit = int(getattr(settings, "cache", 1.0) * 1e9)
            self.members = predictor.windows(genome, self.organism, window=settings.window, limit=limit) or []
        self.with_composite = False  # whether `composite_splicing` is scored, too, for its spread
        if self.members:
            self._sparse = SparseScoring(self.members, self._rows, self.scorers, settings.window)
            self.with_composite = self._sparse.with_composite

    def moved(
        self, scorers: Sequence[Scorer], genome: Any, annotation: Annotation | None, start: int | None
    ) -> Engine:
        """An engine of the same model and settings for other scorers, genome and genes, or in one window."""
        given = self.predictor, genome, annotation, scorers, self.settings, self._alleles
        return Engine(*given, start=start)

    def batches(self, variants: Sequence[Any]) -> Iterator[slice]:
        """Runs of neighbouring variants that are scored together; a window is parted only when it is full."""
        first, starts = 0, [self._start(v) for v in variants]
        least = getattr(self.settings, "together", TOGETHER)
        for i in range(1, len(variants) + 1):
            parted = i < len(variants) and starts[i] == starts[i - 1] and i - first < 2 * least
            if i == len(variants) or (i - first >= least and not parted):
                yield slice(first, i)
                first = i

    @torch.inference_mode()
    def score(self, variants: Sequence[Any]) -> list[dict[str, Rows]]:
        """Rows by scorer name of each variant, in order."""
        found = []
        for batch in self.batches(variants):
            if self._sparse is not None:
                found += self._score_sparsely(variants[batch])
                continue
            size = max(1, self.batch_size // 2)
            for first in range(batch.start, batch.stop, size):
                found += self._score_whole(variants[first : min(first + size, batch.stop)])
        return found

    def _score_sparsely(self, variants: Sequence[Any]) -> list[dict[str, Rows]]:
        cases, alleles = self._cases(variants)
        coding = [self.coding(case) for case in cases]
        return self._sparse.score(cases, alleles, coding, self.batch_size)

    def _score_whole(self, variants: Sequence[Any]) -> list[dict[str, Rows]]:
        cases, codes = self.cases(variants)
        if self.with_junctions:
            predictions, junctions = self.predict(codes, self._outputs)
            self.predict_junctions(cases, predictions, junctions)
        else:
            predictions = self.predictor.predict(codes, self.organism, outputs=self._outputs)
        return [{s.name: self.score_case(s, case, predictions) for s in self.scorers} for case in cases]

    # --- the variants' windows

    def _start(self, variant: Any) -> int:
        if self._fixed is not None:
            return self._fixed
        return place_window(variant, self.placement, self.settings.window, self.tile)

    def _cases(self, variants: Sequence[Any]) -> tuple[list[Case], list[Pieces]]:
        """Cases and the distinct alleles of a batch; equal ones are predicted once."""
        window, index, cases = self.settings.window, {}, []
        for variant in variants:
            start = self._start(variant)
            pair = self._alleles.allele_pieces(self.genome, variant, start, window)
            places = [index.setdefault(pieces, len(index)) for pieces in pair]
            alignment = self._alleles.allele_alignment(variant, start, window)
            case = Case(variant, start, *places, alignment, partners=self._partners)
            if self.annotation is not None:
                case.starting = self.annotation.starting_in(variant.chrom, start, start + window)
                case.overlaps = self.annotation.overlapping(variant.chrom, *reference_span(variant))
            cases.append(case)
        return cases, list(index)

    def cases(self, variants: Sequence[Any]) -> tuple[list[Case], Tensor]:
        """Cases and the distinct sequences uint8 [B, S] of a batch."""
        cases, alleles = self._cases(variants)
        codes = np.stack([codes_of(pieces, self.genome) for pieces in alleles])
        return cases, torch.from_numpy(codes)

    def coding(self, case: Case) -> list[GeneModel]:
        """Genes at the variant that junctions are scored for."""
        return self.annotation.coding(case.overlaps) if self.annotation else []

    # --- whole windows

    def predict(self, codes: Tensor, outputs: Sequence[OutputType]) -> tuple[Predictions, Reader]:
        """Predictions of a batch, and what reads junctions of its sequences."""
        return predict_with_junctions(self.predictor, codes, self.organism, outputs)

    def predict_junctions(self, cases: list[Case], predictions: Predictions, junctions: Reader) -> None:
        """Fill `case.junctions` of the cases with genes; positions of a class are at most 256."""
        cases = [c for c in cases if self.coding(c)]
        size, window = max(1, self.batch_size // 2), self.settings.window
        probabilities = predictions[OutputType.SPLICE_SITES]["probabilities"]
        for first in range(0, len(cases), size):
            part = cases[first : first + size]
            places, moved = [], []
            for case in part:
                ref, alt = (Reading.whole(probabilities[i]) for i in (case.ref_index, case.alt_index))
                places.append(splice_positions(case, ref, alt, window))
                moved.append(case.alignment.sites(places[-1], alt.span))
            rows = [i for case in part for i in (case.ref_index, case.alt_index)]
            positions = _stack_padded([p for pair in zip(places, moved, strict=True) for p in pair])
            values = junctions(rows, positions)
            for i, case in enumerate(part):
                k = places[i].shape[-1]
                case.junctions = (values[2 * i, :k, :k], values[2 * i + 1, :k, :k], places[i])

    def score_case(self, scorer: Scorer, case: Case, predictions: Predictions) -> Rows:
        """Rows of one scorer for a case whose alleles are rows `ref_index`, `alt_index` of predictions."""
        ref, alt = {}, {}
        if scorer.part is not Part.JUNCTIONS:
            values = _values(predictions, scorer.output_type)
            ref = {scorer.output_type: Reading.whole(values[case.ref_index])}
            alt = {scorer.output_type: Reading.whole(values[case.alt_index])}
        return self._rows.rows(scorer, case, ref, alt, self.coding(case))


def _strand_partners(output: OutputType, rows: list[dict]) -> Tensor:
    """Channels int64 [P] of the other strand."""
    if output is OutputType.SPLICE_SITES:
        return torch.tensor(SiteClass.REVERSE_COMPLEMENT)
    return torch.tensor([row.get("strand_partner", i) for i, row in enumerate(rows)])


def _strands(rows: list[dict]) -> np.ndarray:
    return np.array([row.get("strand") or "." for row in rows])


def _values(predictions: Predictions, output: OutputType) -> Tensor:
    """Predictions in the units of the tracks, at the output's finest resolution; contacts by bin."""
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        return predictions[output][f"{OUTPUTS[output].resolutions[0]}bp"]
    if kind is Kind.CONTACTS:
        return predictions[output]["values"].transpose(1, 2)
    return predictions[output]["probabilities"]


def _stack_padded(positions: list[Tensor]) -> Tensor:
    """int64 [B, 4, K] of positions [4, k], padded with -1."""
    width = max(p.shape[-1] for p in positions)
    return torch.stack([torch.nn.functional.pad(p, (0, width - p.shape[-1]), value=-1) for p in positions])
