"""A predictor that averages its predictions on both strands (test-time augmentation).

Source: AlphaGenome Methods; a signal of cut sites moves by one base between the strands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from megabase.augment import reverse_contacts, reverse_sites, reverse_tracks, reverse_usage, swap_halves
from megabase.sequence import reverse_complement
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass


class BothStrands:
    """Wraps a predictor: the mean of its predictions on a sequence and on the reverse complement."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self.name, self.window, self.organisms = predictor.name, predictor.window, predictor.organisms

    def tracks(self, organism: str) -> dict[OutputType, list[dict]]:
        """Rows of TRACK_COLUMNS by output type, as the wrapped predictor gives them."""
        return self._predictor.tracks(organism)

    @torch.inference_mode()
    def predict(
        self,
        codes: Any,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
    ) -> dict[OutputType, dict[str, Tensor]]:
        """As `Predictor.predict`. Junctions need `splice_positions`, so that both strands use one set."""
        codes = torch.as_tensor(codes)
        outputs = list(outputs if outputs is not None else self.tracks(organism))
        if splice_positions is None:
            outputs = [o for o in outputs if o is not OutputType.SPLICE_JUNCTIONS]
            turned = None
        else:
            turned = _turn_positions(splice_positions, codes.shape[-1])
        ahead = self._predictor.predict(codes, organism, outputs=outputs, splice_positions=splice_positions)
        behind = self._predictor.predict(
            reverse_complement(codes), organism, outputs=outputs, splice_positions=turned
        )
        tracks = self.tracks(organism)
        return {o: _mean(o, heads, behind[o], tracks[o]) for o, heads in ahead.items()}


def _turn_positions(positions: Tensor, length: int) -> Tensor:
    """The same sites on the other strand, each at its old index in the row of its new class."""
    moved = torch.where(positions >= 0, length - 1 - positions, positions)
    return moved[:, list(SiteClass.REVERSE_COMPLEMENT[:4])]


def _mean(output: OutputType, ahead: dict[str, Tensor], behind: dict[str, Tensor], rows: list[dict]) -> dict:
    """Mean of both strands' predictions of one output type, in the frame of the first."""
    found = dict(ahead)
    for key, value in ahead.items():
        if key not in ("positions", "mask"):
            found[key] = (value + _turn(output, key, behind[key], rows)) / 2
    return found


def _turn(output: OutputType, key: str, value: Tensor, rows: list[dict]) -> Tensor:
    spec = OUTPUTS[output]
    if spec.kind is Kind.TRACKS:
        partners = torch.tensor([[row["strand_partner"] for row in rows]], device=value.device)
        shift = spec.rc_shift if key == "1bp" else 0
        return reverse_tracks(value, partners.expand(len(value), -1), shift=shift, missing=0.0)
    if spec.kind is Kind.CONTACTS:
        return reverse_contacts(value)
    if spec.kind is Kind.SITES:
        return reverse_sites(value)
    return reverse_usage(value) if spec.kind is Kind.USAGE else swap_halves(value)
