"""Predictions of alleles at chosen places of their windows, without the rest of a pass.

The encoder's activations are taken from `Encodings`, the tower runs once an allele, and the decoder and the
heads run where something is read. The numbers are those of whole passes on the same windows, within float
rounding. Torch and numpy only; part of the numerical core.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabase.alignment import merged
from megabase.alleles import Pieces, Sequences
from megabase.model.heads import without_padding
from megabase.model.partial import (
    DecoderPlan,
    Encoded,
    FinestHeads,
    contact_columns,
    embed_part,
    encode_part,
    plan_decoder,
    predict_contacts,
)
from megabase.model.sizes import Sizes
from megabase.predictors.encodings import Encodings
from megabase.predictors.readings import Reading, Span
from megabase.spec import OUTPUTS, PAIR, TOKEN, OutputType

if TYPE_CHECKING:
    from megabase.predictors.alphagenome import AlphaGenomePredictor

ROUND = 32  # bases that the ends of decoded spans are multiples of, so that many have one shape
GAP = 128  # decoding so many bases between two spans costs less than a second span
LONGEST = 16_384  # bases decoded at once, of one allele or of several

Wanted = Mapping[
    OutputType, Sequence[Span]
]  # spans in bins of the finest resolution, contacts in 2,048 bases


@dataclass(frozen=True, slots=True)
class Transformed:
    """An allele after the tower: tokens [1, T, C]; of the pair tensor the columns of `bins` [2, n, Q, C]."""

    pieces: Pieces
    tokens: Tensor
    bins: tuple[int, ...] = ()
    columns: Tensor | None = None


@dataclass(slots=True)
class Found:
    """What was read of an allele, by output type, and the 1-bp embedding [n, D] where it was kept."""

    readings: dict[OutputType, Reading] = field(default_factory=dict)
    embedding: Reading | None = None


class Windows:
    """Reads predictions of one model on windows of one genome.

    window: bases, a multiple of 2,048. limit: bytes of encoder activations that are kept.
    """

    def __init__(
        self, predictor: AlphaGenomePredictor, genome: Sequences, organism: str, *, window: int, limit: int
    ) -> None:
        self._predictor, self._model = predictor, predictor.model
        self.window, self._length = window, window // TOKEN
        self._index = torch.tensor([predictor.organisms.index(organism)], device=predictor.device)
        tracks = predictor.tracks(organism)
        own = {o: range(len(rows)) for o, rows in tracks.items() if o is not OutputType.SPLICE_SITES}
        self._channels = predictor.chosen(own, organism)
        self._heads = FinestHeads(predictor.model, int(self._index), self._channels)
        self.encodings = Encodings(self._encode, genome, limit)
        self.work: Counter[str] = Counter()  # what was computed, as `model/flops.py` counts it

    def _encode(self, codes: Tensor, before: int, after: int, skips: bool) -> Encoded:
        self.work["encoder"] += codes.numel()
        self.work["skips"] += (codes.shape[1] - (before + after) * TOKEN) * len(codes) if skips else 0
        return encode_part(self._model, self._predictor.sequence(codes), before, after, skips=skips)

    @torch.inference_mode()
    def transform(self, alleles: Sequence[Pieces], wanted: Sequence[Wanted]) -> list[Transformed]:
        """Alleles through encoder and tower, as one batch.

        wanted: what will be read: all contact bins, and the spans that will be read next.
        """
        near = [self._decoded_tokens(want) for want in wanted]
        tokens = self.encodings.tokens(alleles, self._length, near)
        tokens, pair = self._model.transform(tokens, self._index.expand(len(alleles)))
        self.work["tower"] += len(alleles)
        found = []
        for i, (pieces, want) in enumerate(zip(alleles, wanted, strict=True)):
            bins = _bins(want)
            columns = contact_columns(self._model, pair[i], bins) if bins else None
            own = tokens[i : i + 1].clone() if len(alleles) > 1 else tokens
            found.append(Transformed(pieces, own, bins, columns))
        return found

    def _decoded_tokens(self, wanted: Wanted) -> list[Span]:
        """Tokens whose skips the decoder reads for the 1-bp spans that are wanted."""
        spans = decoded_spans(_fine(wanted).values(), self.window)
        return [plan_decoder(self._model.sizes, a, b, self.window).tokens for a, b in spans]

    @torch.inference_mode()
    def read(
        self, asked: Sequence[tuple[Transformed, Wanted]], *, keep: Sequence[Sequence[Span]] | None = None
    ) -> list[Found]:
        """Predictions at the wanted spans of each allele; keep: spans whose embedding junctions will need."""
        found = [Found() for _ in asked]
        kept = [merged(spans) for spans in keep] if keep else [[] for _ in asked]
        wanted = [{o: merged(spans) for o, spans in want.items() if spans} for _, want in asked]
        for (allele, _), want, result in zip(asked, wanted, found, strict=True):
            self._read_tokens(allele, want, result)
        self._read_bases([allele for allele, _ in asked], wanted, kept, found)
        return found

    def _read_tokens(self, allele: Transformed, wanted: Wanted, result: Found) -> None:
        """128-bp outputs and contacts, which no decoder is needed for."""
        for spans, outputs in _alike({o: s for o, s in wanted.items() if OUTPUTS[o].resolutions == (TOKEN,)}):
            tokens = torch.cat([allele.tokens[:, a:b] for a, b in spans], 1)
            embedded = self._model.output_embedder(tokens, self._index)
            self.work["output embedder, 128 bp"] += tokens.shape[1] * TOKEN
            values = self._heads.predict(embedded, outputs)
            self._count(outputs, tokens.shape[1] * TOKEN)
            result.readings |= {o: Reading(tuple(spans), v[0]) for o, v in values.items()}
        output = OutputType.CONTACT_MAPS
        if output in wanted:
            order = [allele.bins.index(b) for first, last in wanted[output] for b in range(first, last)]
            columns = allele.columns[:, order]
            values = predict_contacts(self._model, columns, self._index, self._channels.get(output))
            self.work[f"head {output}"] += len(order) * PAIR
            result.readings[output] = Reading(tuple(wanted[output]), values)

    def _read_bases(
        self,
        alleles: Sequence[Transformed],
        wanted: Sequence[Wanted],
        kept: Sequence[list[Span]],
        found: Sequence[Found],
    ) -> None:
        """1-bp outputs: spans of one shape are decoded together."""
        fine = [_fine(want) for want in wanted]
        jobs: dict[tuple, list[tuple[int, DecoderPlan]]] = defaultdict(list)
        for i, (want, keep) in enumerate(zip(fine, kept, strict=True)):
            for first, last in decoded_spans([*want.values(), keep], self.window):
                plan = plan_decoder(self._model.sizes, first, last, self.window)
                jobs[plan.shape].append((i, plan))
        parts: list[dict[tuple, list[tuple[int, Tensor]]]] = [defaultdict(list) for _ in alleles]
        for group in jobs.values():
            size = max(1, LONGEST // (group[0][1].last - group[0][1].first))
            for start in range(0, len(group), size):
                some = group[start : start + size]
                embedded = self._embed([(alleles[i], plan) for i, plan in some])
                for (i, plan), x in zip(some, embedded, strict=True):
                    self._read_span(x[None], plan.first, fine[i], kept[i], parts[i])
        for want, keep, have, result in zip(fine, kept, parts, found, strict=True):
            for output, spans in want.items():
                result.readings[output] = _joined(have[(output,)], spans)
            if keep:
                result.embedding = _joined(have[()], keep)

    def _embed(self, some: Sequence[tuple[Transformed, DecoderPlan]]) -> Tensor:
        """1-bp output embeddings [B, n, D] of spans of one shape."""
        for name, bases in decoded_bases(self._model.sizes, some[0][1]).items():
            self.work[name] += bases * len(some)
        skips = self.encodings.skips([(allele.pieces, *plan.tokens) for allele, plan in some], self._length)
        skips = [torch.cat(level) for level in zip(*skips, strict=True)]
        tokens = torch.cat([allele.tokens[:, slice(*plan.tokens)] for allele, plan in some])
        return embed_part(self._model, some[0][1], tokens, skips, self._index.expand(len(some)))

    def _read_span(
        self,
        x: Tensor,
        start: int,
        wanted: Wanted,
        keep: Sequence[Span],
        parts: dict[tuple, list[tuple[int, Tensor]]],
    ) -> None:
        """What is wanted of an embedded span [1, n, D] from `start` on, by output type and position."""
        for first, last in _within(keep, start, x.shape[1]):
            parts[()].append((first, x[0, first - start : last - start].clone()))
        for spans, outputs in _alike(wanted):
            for first, last in _within(spans, start, x.shape[1]):
                part = x[:, first - start : last - start]
                values = self._heads.predict(part, outputs)
                self._count(outputs, last - first)
                for output, value in values.items():
                    parts[(output,)].append((first, value[0].contiguous()))

    def _count(self, outputs: Iterable[OutputType], bases: int) -> None:
        for output in outputs:
            self.work[f"head {output}"] += bases

    @torch.inference_mode()
    def junctions(self, embedding: Reading, positions: Tensor) -> Tensor:
        """Junction values [K, K, P] at sites int64 [4, K] (-1: none), of a kept embedding."""
        head = self._model.head_of(OutputType.SPLICE_JUNCTIONS)
        safe = without_padding(positions[None])
        known = safe[0] >= 0
        x = embedding.values.new_zeros(*safe.shape[1:], embedding.values.shape[-1])
        x[known.to(x.device)] = embedding.at(safe[0][known])
        h = head.multi_organism_linear(x.flatten(0, 1)[None], self._index).unflatten(1, safe.shape[1:])
        output = OutputType.SPLICE_JUNCTIONS
        positions = positions[None].to(x.device)
        return head.counts(h, self._index, positions, self._channels.get(output))["values"][0]


def decoded_bases(sizes: Sizes, plan: DecoderPlan) -> dict[str, int]:
    """Bases that are computed for a plan, by part as `model/flops.py` names them."""
    found = {}
    for i, (first, last) in enumerate(plan.ranges[:-1]):
        found[f"decoder, {TOKEN >> (i + 1)} bp"] = (last - first) * (TOKEN >> i)
    first, last = (p * sizes.resolution for p in plan.ranges[-1])
    found["output embedder, 1 bp"] = last - first
    found["output embedder, 128 bp"] = (-(-last // TOKEN) - first // TOKEN) * TOKEN
    return found


def _fine(wanted: Wanted) -> Wanted:
    """What is read at 1 bp."""
    return {o: spans for o, spans in wanted.items() if OUTPUTS[o].resolutions[0] == 1}


def _bins(wanted: Wanted) -> tuple[int, ...]:
    """Contact bins that are wanted."""
    spans = wanted.get(OutputType.CONTACT_MAPS, ())
    return tuple(b for first, last in merged(spans) for b in range(first, last))


def decoded_spans(wanted: Iterable[Sequence[Span]], window: int) -> list[Span]:
    """Spans that hold all wanted ones: rounded, near ones joined, long ones in parts."""
    rounded = [
        (first // ROUND * ROUND, min(-(-last // ROUND) * ROUND, window)) for w in wanted for first, last in w
    ]
    return [
        (start, min(start + LONGEST, last))
        for first, last in merged(rounded, GAP)
        for start in range(first, last, LONGEST)
    ]


def _alike(wanted: Wanted) -> Iterator[tuple[list[Span], list[OutputType]]]:
    """Output types by their spans: those of the same ones are one product."""
    groups: dict[tuple[Span, ...], list[OutputType]] = defaultdict(list)
    for output, spans in wanted.items():
        groups[tuple(spans)].append(output)
    for spans, outputs in groups.items():
        yield list(spans), outputs


def _within(spans: Sequence[Span], start: int, length: int) -> Iterator[Span]:
    """Parts of spans within [start, start + length)."""
    for first, last in spans:
        first, last = max(first, start), min(last, start + length)
        if first < last:
            yield first, last


def _joined(parts: list[tuple[int, Tensor]], spans: Sequence[Span]) -> Reading:
    ordered = [value for _, value in sorted(parts, key=lambda part: part[0])]
    return Reading(tuple(spans), torch.cat(ordered) if len(ordered) > 1 else ordered[0])
