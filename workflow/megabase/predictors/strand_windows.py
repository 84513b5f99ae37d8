"""Predictions at chosen places of windows, as the mean of both strands.

The other strand is read as windows of a genome that is turned round: base p lies at -p - 1 there,
complemented. So what the encoder gives along it is kept and shared, too. Torch only; part of the numerical
core. Source: AlphaGenome Methods; a signal of cut sites moves by one base between the strands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megabase.alignment import merged
from megabase.alleles import Pieces, turned
from megabase.augment import SITE_ORDER, swap_halves
from megabase.predictors.readings import Reading, Span
from megabase.predictors.windows import Found, Transformed, Wanted, Windows
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass


@dataclass(frozen=True, slots=True)
class Both:
    """Something of the strand that is asked about (`ahead`), and of the other one (`behind`)."""

    ahead: Any
    behind: Any


class StrandWindows:
    """`Windows` of one model on both strands of a genome.

    ahead, behind: its windows on the genome and on `OtherStrand` of it. partners: by output type the channel
    of the other strand, int64 [P].
    """

    def __init__(self, ahead: Windows, behind: Windows, partners: Mapping[OutputType, Tensor]) -> None:
        self._ahead, self._behind, self._partners = ahead, behind, partners
        self.window = ahead.window

    def expect(self, alleles: Sequence[Pieces], reads: Sequence[Sequence[Wanted]]) -> None:
        """As `Windows.expect`."""
        self._ahead.expect(alleles, reads)
        self._behind.expect([turned(pieces) for pieces in alleles], self._turned_reads(reads))

    def transform(self, alleles: Sequence[Pieces], reads: Sequence[Sequence[Wanted]]) -> list[Both]:
        """As `Windows.transform`, on both strands."""
        behind = self._behind.transform([turned(pieces) for pieces in alleles], self._turned_reads(reads))
        return [Both(*pair) for pair in zip(self._ahead.transform(alleles, reads), behind, strict=True)]

    def read(
        self, asked: Sequence[tuple[Both, Wanted]], *, keep: Sequence[Sequence[Span]] | None = None
    ) -> list[Found]:
        """As `Windows.read`: the means of both strands; kept embeddings are `Both`."""
        ahead: list[tuple[Transformed, Wanted]] = [(both.ahead, want) for both, want in asked]
        behind = [(both.behind, self._turned(want)) for both, want in asked]
        kept = [[_turned_span(s, self.window) for s in spans] for spans in keep] if keep else None
        pairs = zip(self._ahead.read(ahead, keep=keep), self._behind.read(behind, keep=kept), strict=True)
        return [self._mean(one, other) for one, other in pairs]

    @torch.inference_mode()
    def junctions(self, embedding: Both, positions: Tensor) -> Tensor:
        """As `Windows.junctions`, of a kept embedding of both strands."""
        known = torch.where(positions >= 0, self.window - 1 - positions, positions)
        other = self._behind.junctions(embedding.behind, known[list(SiteClass.REVERSE_COMPLEMENT[:4])])
        return (self._ahead.junctions(embedding.ahead, positions) + swap_halves(other)) / 2

    def _turned_reads(self, reads: Sequence[Sequence[Wanted]]) -> list[list[Wanted]]:
        return [[self._turned(want) for want in wanted] for wanted in reads]

    def _turned(self, wanted: Wanted) -> dict[OutputType, list[Span]]:
        return {
            output: merged(_turned_span(span, self._bins(output), _shift(output)) for span in spans)
            for output, spans in wanted.items()
        }

    def _bins(self, output: OutputType) -> int:
        return self.window // OUTPUTS[output].resolutions[0]

    def _mean(self, one: Found, other: Found) -> Found:
        means = {
            output: Reading(read.spans, (read.values + self._ahead_of(output, read, other)) / 2)
            for output, read in one.readings.items()
        }
        both = Both(one.embedding, other.embedding) if one.embedding is not None else None
        return Found(means, both)

    def _ahead_of(self, output: OutputType, read: Reading, other: Found) -> Tensor:
        """What was read on the other strand, on the positions of `read` and in their order."""
        length, shift = self._bins(output), _shift(output)
        parts = []
        for span in read.spans:
            values = other.readings[output].span(*_turned_span(span, length, shift)).flip(0)
            lost = span[1] - span[0] - len(values)  # moved beyond the window, as published zero
            parts.append(torch.cat([values.new_zeros(lost, *values.shape[1:]), values]) if lost else values)
        values = torch.cat(parts) if len(parts) > 1 else parts[0]
        kind = OUTPUTS[output].kind
        if kind is Kind.TRACKS:
            return values[..., self._partners[output].to(values.device)]
        if kind is Kind.CONTACTS:
            return values.flip(1)
        return values[..., list(SITE_ORDER)] if kind is Kind.SITES else swap_halves(values)


def _shift(output: OutputType) -> int:
    """Bases by which the other strand's signal is moved, at its finest resolution."""
    return OUTPUTS[output].rc_shift if OUTPUTS[output].resolutions[0] == 1 else 0


def _turned_span(span: Span, length: int, shift: int = 0) -> Span:
    """The same positions of a window of so many on the other strand."""
    return length - span[1] + shift, min(length - span[0] + shift, length)
