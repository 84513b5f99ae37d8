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

PER_BIN = PAIR // TOKEN
GAP = 256  # decoding so many bases between two spans costs less than a second span
LONGEST = 16_384  # bases decoded at once, of one allele or of several
FINE, COARSE, SHORT = 256, 512, 1024  # decoded lengths are multiples of, up to SHORT and beyond: few shapes

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

    def expect(self, alleles: Sequence[Pieces], reads: Sequence[Sequence[Wanted]]) -> None:
        """Tell what `read` will ask of alleles that `transform` will get in batches; arguments as there."""
        near = [[s for want in wanted for s in self._decoded_tokens(want)] for wanted in reads]
        self.encodings.expect(alleles, self._length, near)

    @torch.inference_mode()
    def transform(self, alleles: Sequence[Pieces], reads: Sequence[Sequence[Wanted]]) -> list[Transformed]:
        """Alleles through encoder and tower, as one batch.

        reads: by allele what every `read` of it will ask; of other places it knows nothing.
        """
        near = [[s for want in wanted for s in self._decoded_tokens(want)] for wanted in reads]
        tokens = self.encodings.tokens(alleles, self._length, near)
        bins = [self._read_bins(wanted, spans) for wanted, spans in zip(reads, near, strict=True)]
        chosen = _same_length(bins, self._length // PER_BIN).to(tokens.device)
        tokens, pair = self._model.transform(tokens, self._index.expand(len(alleles)), chosen)
        self.work["tower"] += len(alleles)
        self.work["last block"] += chosen.numel() * PAIR
        found = []
        for i, (pieces, wanted) in enumerate(zip(alleles, reads, strict=True)):
            contacts = _bins(wanted)
            columns = contact_columns(self._model, pair[i], contacts) if contacts else None
            own = tokens[i : i + 1].clone() if len(alleles) > 1 else tokens
            found.append(Transformed(pieces, own, contacts, columns))
        return found

    def _read_bins(self, reads: Sequence[Wanted], decoded: Sequence[Span]) -> set[int]:
        """Bins of 2,048 bases that hold the tokens that are read: decoded ones and 128-bp outputs."""
        outputs = [(o, spans) for wanted in reads for o, spans in wanted.items()]
        spans = [s for o, own in outputs if OUTPUTS[o].resolutions == (TOKEN,) for s in own]
        return {b for a, z in (*spans, *decoded) for b in range(a // PER_BIN, -(-z // PER_BIN))}

    def _decoded_tokens(self, wanted: Wanted) -> list[Span]:
        """Tokens whose skips the decoder reads for the 1-bp spans that are wanted."""
        spans = decoded_spans(_fine(wanted).values(), self.window)
        return [plan_decoder(self._model.sizes, *span, self.window).tokens for span, _ in spans]

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
        jobs: dict[tuple, list[tuple[int, DecoderPlan, Span]]] = defaultdict(list)
        for i, (want, keep) in enumerate(zip(fine, kept, strict=True)):
            for span, own in decoded_spans([*want.values(), keep], self.window):
                plan = plan_decoder(self._model.sizes, *span, self.window)
                jobs[plan.shape].append((i, plan, own))
        parts: list[dict[tuple, list[tuple[int, Tensor]]]] = [defaultdict(list) for _ in alleles]
        for group in jobs.values():
            size = max(1, LONGEST // (group[0][1].last - group[0][1].first))
            for start in range(0, len(group), size):
                some = group[start : start + size]
                embedded = self._embed([(alleles[i], plan) for i, plan, _ in some])
                for (i, plan, own), x in zip(some, embedded, strict=True):
                    inner = x[None, own[0] - plan.first : own[1] - plan.first]
                    self._read_span(inner, own[0], fine[i], kept[i], parts[i])
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


def _same_length(bins: Sequence[set[int]], count: int) -> Tensor:
    """Bins int64 [B, n] of windows of `count` bins: to each own ones others, for all to have as many."""
    most = max(1, *map(len, bins))
    return torch.tensor([sorted(sorted(range(count), key=lambda b: b not in own)[:most]) for own in bins])


def _bins(reads: Iterable[Wanted]) -> tuple[int, ...]:
    """Contact bins that are wanted."""
    spans = merged(s for wanted in reads for s in wanted.get(OutputType.CONTACT_MAPS, ()))
    return tuple(b for first, last in spans for b in range(first, last))


def decoded_spans(wanted: Iterable[Sequence[Span]], window: int) -> list[tuple[Span, Span]]:
    """(span that is decoded, span of it that is read) so that all wanted positions are read once.

    Near spans are joined, long ones parted; what is decoded begins and ends with a token, and has one of few
    lengths where the window is long enough, so that spans of many places are decoded together.
    """
    tokens = [
        (first // TOKEN * TOKEN, -(-last // TOKEN) * TOKEN) for spans in wanted for first, last in spans
    ]
    found = []
    for start, end in merged(tokens, GAP):
        for first in range(start, end, LONGEST):
            last = min(first + LONGEST, end)
            step = FINE if last - first <= SHORT else COARSE
            length = min(-(-(last - first) // step) * step, window)
            left = min(first, window - length)
            found.append(((left, left + length), (first, last)))
    return found


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
