"""A predictor that averages its predictions on both strands (test-time augmentation).

Source: AlphaGenome Methods; a signal of cut sites moves by one base between the strands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from megabase.alleles import OtherStrand
from megabase.augment import reverse_contacts, reverse_sites, reverse_tracks, reverse_usage, swap_halves
from megabase.predictors.junctions import Reader, predict_with_junctions
from megabase.predictors.strand_windows import StrandWindows
from megabase.sequence import reverse_complement
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass


class BothStrands:
    """Wraps a predictor: the mean of its predictions on a sequence and on the reverse complement.

    It takes the options that the wrapped one takes; `channels` must hold the strand partner of each.
    """

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self.name, self.window, self.organisms = predictor.name, predictor.window, predictor.organisms
        for name in ("selects_channels", "gives_spread", "max_sites", "site_threshold"):
            if hasattr(predictor, name):
                setattr(self, name, getattr(predictor, name))

    @property
    def wrapped(self) -> Any:
        """The predictor whose predictions are averaged."""
        return self._predictor

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
        **options: Any,
    ) -> dict[OutputType, dict[str, Tensor]]:
        """As `Predictor.predict`. Junctions need `splice_positions`, so that both strands use one set."""
        codes = torch.as_tensor(codes)
        outputs = list(outputs if outputs is not None else self.tracks(organism))
        if splice_positions is None:
            outputs = [o for o in outputs if o is not OutputType.SPLICE_JUNCTIONS]
            turned = None
        else:
            turned = _turn_positions(splice_positions, codes.shape[-1])
        ahead = self._predictor.predict(
            codes, organism, outputs=outputs, splice_positions=splice_positions, **options
        )
        behind = self._predictor.predict(
            reverse_complement(codes), organism, outputs=outputs, splice_positions=turned, **options
        )
        return self._means(ahead, behind, organism, options)

    @torch.inference_mode()
    def predict_with_junctions(
        self, codes: Any, organism: str, *, outputs: Sequence[OutputType], **options: Any
    ) -> tuple[dict[OutputType, dict[str, Tensor]], Reader]:
        """As `predict` (without junctions), and a function that reads junctions of the same sequences."""
        codes = torch.as_tensor(codes)
        turned = reverse_complement(codes)
        ahead, read = predict_with_junctions(self._predictor, codes, organism, outputs, **options)
        behind, read_behind = predict_with_junctions(self._predictor, turned, organism, outputs, **options)

        def junctions(rows: list[int], positions: Tensor) -> Tensor:
            other = read_behind(rows, _turn_positions(positions, codes.shape[-1]))
            return (read(rows, positions) + swap_halves(other)) / 2

        return self._means(ahead, behind, organism, options), junctions

    @torch.inference_mode()
    def predict_with_spread(
        self,
        codes: Any,
        organism: str,
        *,
        outputs: Sequence[OutputType],
        splice_positions: Tensor | None = None,
        **options: Any,
    ) -> tuple[dict[OutputType, dict[str, Tensor]], dict[OutputType, Tensor]]:
        """As `predict`, and the spread by output type: the root of the mean variance of both strands."""
        codes, turned = torch.as_tensor(codes), None
        if splice_positions is not None:
            turned = _turn_positions(splice_positions, codes.shape[-1])
        asked = {"outputs": outputs, **options}
        ahead, spread = self._predictor.predict_with_spread(
            codes, organism, splice_positions=splice_positions, **asked
        )
        behind, other = self._predictor.predict_with_spread(
            reverse_complement(codes), organism, splice_positions=turned, **asked
        )
        variances = [{o: {"spread": v.square()} for o, v in each.items()} for each in (spread, other)]
        mean = self._means(*variances, organism, options)
        return self._means(ahead, behind, organism, options), {
            o: heads["spread"].sqrt() for o, heads in mean.items()
        }

    def differentiable(
        self, sequence: Tensor, organism: str, output: OutputType, channels: Sequence[int]
    ) -> Tensor:
        """As `AlphaGenomePredictor.differentiable`; every channel is read with its strand partner."""
        rows = self.tracks(organism)[output]
        wanted = sorted({*channels, *(rows[c]["strand_partner"] for c in channels)})
        partners = _partners(rows, wanted)
        ahead = self._predictor.differentiable(sequence, organism, output, wanted)
        behind = self._predictor.differentiable(sequence.flip(1, 2), organism, output, wanted)
        both = (ahead + _turn(output, "1bp", behind, partners)) / 2
        return both[..., [wanted.index(c) for c in channels]]

    def windows(self, genome: Any, organism: str, *, window: int, limit: int) -> list[StrandWindows] | None:
        """What reads the means at chosen places of windows; None where the wrapped one cannot be read so."""
        if not hasattr(self._predictor, "windows"):
            return None
        pair = [
            self._predictor.windows(one, organism, window=window, limit=limit // 2)
            for one in (genome, OtherStrand(genome))
        ]
        if not all(pair):
            return None
        tracks = self.tracks(organism)
        partners = {
            o: _partners(rows, None)[0] for o, rows in tracks.items() if OUTPUTS[o].kind is Kind.TRACKS
        }
        return [StrandWindows(*both, partners) for both in zip(*pair, strict=True)]

    def _means(
        self,
        ahead: dict[OutputType, dict[str, Tensor]],
        behind: dict[OutputType, dict[str, Tensor]],
        organism: str,
        options: Mapping[str, Any],
    ) -> dict[OutputType, dict[str, Tensor]]:
        tracks, channels = self.tracks(organism), options.get("channels") or {}
        needed = [o for o in ahead if OUTPUTS[o].kind is Kind.TRACKS or o in channels]
        partners = {o: _partners(tracks[o], channels.get(o)) for o in needed}
        return {o: _mean(o, heads, behind[o], partners.get(o)) for o, heads in ahead.items()}


def _partners(rows: Sequence[Mapping[str, Any]], chosen: Sequence[int] | None) -> Tensor:
    """Place int64 [1, P] of each channel's strand partner among the chosen channels (default: all)."""
    chosen = range(len(rows)) if chosen is None else chosen
    places = {channel: place for place, channel in enumerate(chosen)}
    lonely = [rows[c]["name"] for c in chosen if rows[c]["strand_partner"] not in places]
    if lonely:
        raise ValueError(f"track {lonely[0]} was asked for without the other strand, which its mean needs")
    return torch.tensor([[places[rows[channel]["strand_partner"]] for channel in chosen]])


def _turn_positions(positions: Tensor, length: int) -> Tensor:
    """The same sites on the other strand, each at its old index in the row of its new class."""
    moved = torch.where(positions >= 0, length - 1 - positions, positions)
    return moved[:, list(SiteClass.REVERSE_COMPLEMENT[:4])]


def _mean(
    output: OutputType, ahead: dict[str, Tensor], behind: dict[str, Tensor], partners: Tensor | None
) -> dict[str, Tensor]:
    """Mean of both strands' predictions of one output type, in the frame of the first."""
    found = dict(ahead)
    for key, value in ahead.items():
        if key not in ("positions", "mask"):
            found[key] = (value + _turn(output, key, behind[key], partners)) / 2
    return found


def _turn(output: OutputType, key: str, value: Tensor, partners: Tensor | None) -> Tensor:
    spec = OUTPUTS[output]
    if spec.kind is Kind.TRACKS:
        shift = spec.rc_shift if key == "1bp" else 0
        places = partners.to(value.device).expand(len(value), -1)
        return reverse_tracks(value, places, shift=shift, missing=0.0)
    if spec.kind is Kind.CONTACTS:
        return reverse_contacts(value)
    if spec.kind is Kind.SITES:
        return reverse_sites(value)
    return reverse_usage(value) if spec.kind is Kind.USAGE else swap_halves(value)
