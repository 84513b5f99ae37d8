"""Our own models, teachers and students, behind the predictor protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megabase.channels import Channels, TrackRows
from megabase.model import AlphaGenome, Embeddings, load_model
from megabase.predictors.base import Predictions, check_request
from megabase.predictors.windows import Windows
from megabase.sequence import one_hot
from megabase.spec import TOKEN, OutputType

_SCALED = ("scaled_1bp", "scaled_128bp", "logits")  # of use to losses only
_UNPADDED = ("positions",)  # have no channel axis
RECOMPUTED_WINDOW = 65_536  # bases from which gradients are worth another forward pass for their memory
Asked = Mapping[OutputType, Sequence[int]]  # channels of an organism by output type, ascending


class AlphaGenomePredictor:
    """A trained network in evaluation mode; predictions are in track units, without padded channels.

    info: the model's `model.json`. Splice junctions are predicted at `splice_positions`, or else at the
    network's own likeliest sites: at most `max_sites` of a class, above the probability `site_threshold`.
    """

    selects_channels = True

    @property
    def gives_spread(self) -> bool:
        """Whether the network has a variance output."""
        return self.model.sizes.spread

    def __init__(self, model: AlphaGenome, info: dict[str, Any], device: str | torch.device = "cpu") -> None:
        self.model, self.info, self.device = model.eval().requires_grad_(False), info, torch.device(device)
        self.name: str = info["name"]
        self.window: int = info["window"]
        self.organisms: list[str] = list(info["organisms"])
        self.dtype = torch.float32  # of activations
        self.max_sites, self.site_threshold = model.sizes.max_sites, model.sizes.site_threshold
        tracks = {
            organism: {OutputType(o): rows for o, rows in info["tracks"][organism].items()}
            for organism in self.organisms
        }
        self.channels = Channels(tuple(self.organisms), tracks, model.sizes.channels)

    @classmethod
    def open(cls, folder: str | Path, device: str | torch.device = "cpu") -> AlphaGenomePredictor:
        """Load a folder that `train_teacher` or `distill_student` wrote."""
        model, info = load_model(folder, device=device)
        model.keep_constants()
        return cls(model, info, device)

    def set_precision(self, precision: str) -> None:
        """Compute activations in `float32` or `bfloat16` from now on; weights stay float32."""
        self.dtype = getattr(torch, precision)

    def sequence(self, codes: Tensor) -> Tensor:
        """One-hot bases [..., S, 4] of codes uint8 [..., S], in the precision of the activations."""
        return one_hot(codes.to(self.device)).to(self.dtype)

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
        channels: Asked | None = None,
    ) -> Predictions:
        """Predictions as in `megabase.predictors.base.Predictor.predict`, on the model's device.

        channels: of these output types only these channels are computed and returned (not of splice sites).
        """
        codes, index, wanted = self._request(codes, organism, outputs)
        chosen = self.chosen(channels, organism)
        if splice_positions is not None:
            splice_positions = splice_positions.to(self.device)
        raw = self.model(
            self.sequence(codes), index, outputs=wanted, splice_positions=splice_positions, channels=chosen
        )
        return self._in_track_units(raw, index, organism, chosen)

    def differentiable(
        self, sequence: Tensor, organism: str, output: OutputType, channels: Sequence[int]
    ) -> Tensor:
        """1-bp predictions [B, S, P] in the units of the tracks of a float one-hot sequence [B, S, 4].

        Gradients flow back to the sequence. channels: those of the output type to predict. Long windows
        forget their activations and compute them again.
        """
        check_request(organism, self.organisms, sequence.shape[1])
        index = torch.full((len(sequence),), self.organisms.index(organism), device=self.device)
        chosen = self.chosen({output: channels}, organism)
        self.model.recompute(TOKEN if sequence.shape[1] >= RECOMPUTED_WINDOW else 0)
        raw = self.model(sequence.to(self.device), index, outputs=[output], channels=chosen)
        return self._in_track_units(raw, index, organism, chosen)[output]["1bp"]

    @torch.inference_mode()
    def predict_with_junctions(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        *,
        outputs: Sequence[OutputType],
        channels: Asked | None = None,
    ) -> tuple[Predictions, Callable[[list[int], Tensor], Tensor]]:
        """As `predict` (without junctions), and a function that reads junctions of the same sequences.

        The function takes rows of the batch [N] and splice positions int64 [N, 4, K] and gives `values`
        [N, K, K, P] from the embeddings that are kept, so that sites chosen from the predictions cost no
        second pass.
        """
        codes, index, wanted = self._request(codes, organism, outputs)
        chosen = self.chosen(channels, organism)
        model, sequence = self.model, self.sequence(codes)
        tokens, skips = model.encode(sequence)
        tokens, pair = model.transform(tokens, index)
        kept = model.embed_outputs(tokens, pair, skips, index, [*wanted, OutputType.SPLICE_JUNCTIONS])

        def junctions(rows: list[int], positions: Tensor) -> Tensor:
            part = Embeddings(kept.bp1[rows], None, None)
            output = [OutputType.SPLICE_JUNCTIONS]
            raw = model.predict_heads(part, index[rows], output, positions.to(self.device), chosen)
            found = self._in_track_units(raw, index[rows], organism, chosen)
            return found[OutputType.SPLICE_JUNCTIONS]["values"]

        raw = model.predict_heads(kept, index, wanted, channels=chosen)
        return self._in_track_units(raw, index, organism, chosen), junctions

    @torch.inference_mode()
    def predict_with_spread(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
        channels: Asked | None = None,
    ) -> tuple[Predictions, dict[OutputType, Tensor]]:
        """As `predict`, and by output type the standard deviation of the variance output, in the even space.

        Tracks [B, T, P], contact maps [B, Q, Q, P], sites and usage [B, S, P], junctions [B, K, K, P].
        ValueError where the network has no variance output.
        """
        if not self.gives_spread:
            raise ValueError(
                f"{self.name} has no variance output; distil with student.distill.spread: variance"
            )
        codes, index, wanted = self._request(codes, organism, outputs)
        chosen = self.chosen(channels, organism)
        kept = self.model.embeddings(self.sequence(codes), index, wanted)
        if splice_positions is not None:
            splice_positions = splice_positions.to(self.device)
        elif OutputType.SPLICE_JUNCTIONS in wanted:
            splice_positions = self.model.splice_sites(kept.bp1, index)
        raw = self.model.predict_heads(kept, index, wanted, splice_positions, chosen)
        logs = self.model.spread(kept, raw, index, splice_positions, chosen)
        found = {
            o: self._own_channels(o, {"deviation": torch.exp(log / 2)}, organism, o in chosen)["deviation"]
            for o, log in logs.items()
        }
        return self._in_track_units(raw, index, organism, chosen), found

    def windows(self, genome: Any, organism: str, *, window: int, limit: int) -> list[Windows]:
        """What reads predictions at chosen places of windows; limit: bytes of activations that are kept."""
        check_request(organism, self.organisms, window)
        return [Windows(self, genome, organism, window=window, limit=limit)]

    def _request(
        self, codes: np.ndarray | Tensor, organism: str, outputs: Sequence[OutputType] | None
    ) -> tuple[Tensor, Tensor, list[OutputType]]:
        """Checked codes [B, S] and organism index [B] on the device, and the output types to compute."""
        codes = torch.as_tensor(codes).to(self.device)
        check_request(organism, self.organisms, codes.shape[-1])
        wanted = [o for o in self.tracks(organism) if outputs is None or o in outputs]
        index = torch.full((len(codes),), self.organisms.index(organism), device=self.device)
        return codes, index, wanted

    def chosen(self, channels: Asked | None, organism: str) -> dict[OutputType, Tensor]:
        """The model's channels int64 [P], on the device, of the organism's own."""
        return {
            output: torch.from_numpy(self.channels.index(output, organism)[list(own)]).to(self.device)
            for output, own in (channels or {}).items()
        }

    def _in_track_units(
        self, raw: Predictions, index: Tensor, organism: str, chosen: Mapping[OutputType, Tensor]
    ) -> Predictions:
        unscaled = self.model.unscale(raw, index, chosen)
        return {o: self._own_channels(o, unscaled[o], organism, o in chosen) for o in raw}

    def _own_channels(
        self, output: OutputType, found: dict[str, Tensor], organism: str, chosen: bool
    ) -> dict[str, Tensor]:
        """Drop the losses' own values and, unless chosen ones were computed, padded channels."""
        channels = self.channels.index(output, organism)
        whole = len(channels) == self.channels.widths[output]
        index = torch.from_numpy(channels).to(self.device)
        kept = {name: value for name, value in found.items() if name not in _SCALED}
        if whole or chosen:
            return kept
        return {n: v if n in _UNPADDED else v.index_select(-1, index) for n, v in kept.items()}
