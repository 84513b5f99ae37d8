"""Our own models, teachers and students, behind the predictor protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megabase.channels import Channels, TrackRows
from megabase.model import AlphaGenome, Embeddings, load_model
from megabase.predictors.base import Predictions, check_request
from megabase.sequence import one_hot
from megabase.spec import OutputType

_SCALED = ("scaled_1bp", "scaled_128bp", "logits")  # of use to losses only
_UNPADDED = ("positions",)  # have no channel axis


class AlphaGenomePredictor:
    """A trained network in evaluation mode; predictions are in track units, without padded channels.

    info: the model's `model.json`. Splice junctions are predicted at `splice_positions`, or else at the
    network's own likeliest sites.
    """

    def __init__(self, model: AlphaGenome, info: dict[str, Any], device: str | torch.device = "cpu") -> None:
        self.model, self.info, self.device = model.eval().requires_grad_(False), info, torch.device(device)
        self.name: str = info["name"]
        self.window: int = info["window"]
        self.organisms: list[str] = list(info["organisms"])
        tracks = {
            organism: {OutputType(o): rows for o, rows in info["tracks"][organism].items()}
            for organism in self.organisms
        }
        self.channels = Channels(tuple(self.organisms), tracks, model.sizes.channels)

    @classmethod
    def open(cls, folder: str | Path, device: str | torch.device = "cpu") -> AlphaGenomePredictor:
        """Load a folder that `train_teacher` or `distill_student` wrote."""
        model, info = load_model(folder, device=device)
        return cls(model, info, device)

    def tracks(self, organism: str) -> TrackRows:
        """Rows of TRACK_COLUMNS by output type, in channel order."""
        check_request(organism, self.organisms, 2048)
        return dict(self.channels.tracks[organism])

    @torch.inference_mode()
    def predict(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
    ) -> Predictions:
        """Predictions as in `megabase.predictors.base.Predictor.predict`, on the model's device."""
        codes, index, wanted = self._request(codes, organism, outputs)
        if splice_positions is not None:
            splice_positions = splice_positions.to(self.device)
        raw = self.model(one_hot(codes), index, outputs=wanted, splice_positions=splice_positions)
        return self._in_track_units(raw, index, organism)

    @torch.inference_mode()
    def predict_with_junctions(
        self, codes: np.ndarray | Tensor, organism: str, *, outputs: Sequence[OutputType]
    ) -> tuple[Predictions, Callable[[list[int], Tensor], Tensor]]:
        """As `predict` (without junctions), and a function that reads junctions of the same sequences.

        The function takes rows of the batch [N] and splice positions int64 [N, 4, K] and gives `values`
        [N, K, K, P] from the embeddings that are kept, so that sites chosen from the predictions cost no
        second pass.
        """
        codes, index, wanted = self._request(codes, organism, outputs)
        model, sequence = self.model, one_hot(codes)
        tokens, skips = model.encode(sequence)
        tokens, pair = model.transform(tokens, index)
        kept = model.embed_outputs(tokens, pair, skips, index, [*wanted, OutputType.SPLICE_JUNCTIONS])

        def junctions(rows: list[int], positions: Tensor) -> Tensor:
            part = Embeddings(kept.bp1[rows], None, None)
            output = [OutputType.SPLICE_JUNCTIONS]
            raw = model.predict_heads(part, index[rows], output, positions.to(self.device))
            found = self._in_track_units(raw, index[rows], organism)
            return found[OutputType.SPLICE_JUNCTIONS]["values"]

        return self._in_track_units(model.predict_heads(kept, index, wanted), index, organism), junctions

    def _request(
        self, codes: np.ndarray | Tensor, organism: str, outputs: Sequence[OutputType] | None
    ) -> tuple[Tensor, Tensor, list[OutputType]]:
        """Checked codes [B, S] and organism index [B] on the device, and the output types to compute."""
        codes = torch.as_tensor(codes).to(self.device)
        check_request(organism, self.organisms, codes.shape[-1])
        wanted = [o for o in self.tracks(organism) if outputs is None or o in outputs]
        index = torch.full((len(codes),), self.organisms.index(organism), device=self.device)
        return codes, index, wanted

    def _in_track_units(self, raw: Predictions, index: Tensor, organism: str) -> Predictions:
        unscaled = self.model.unscale(raw, index)
        return {output: self._own_channels(output, unscaled[output], organism) for output in raw}

    def _own_channels(self, output: OutputType, found: dict[str, Tensor], organism: str) -> dict[str, Tensor]:
        """Drop the losses' own values and the channels that the organism does not have."""
        channels = self.channels.index(output, organism)
        whole = len(channels) == self.channels.widths[output]
        index = torch.from_numpy(channels).to(self.device)
        kept = {name: value for name, value in found.items() if name not in _SCALED}
        if whole:
            return kept
        return {n: v if n in _UNPADDED else v.index_select(-1, index) for n, v in kept.items()}
