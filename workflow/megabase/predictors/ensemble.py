"""The mean of several models as a model: what the kept teachers say together, and how far they differ.

An ensemble is a model folder without weights of its own: its `model.json` names the folders of its members,
relative to itself, each with the hash of its card. Members are asked one after the other; all are loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from megabase.channels import TrackRows
from megabase.files import FileError, Stamp, atomic_path, hash_json, hash_path, write_json
from megabase.model.even import even_predictions
from megabase.predictors.base import (
    Predictions,
    Predictor,
    check_request,
    load_predictor,
    max_shift_of,
    model_info,
)
from megabase.predictors.junctions import Reader, likeliest_sites, predict_with_junctions
from megabase.spec import OutputType

MOST_KEPT = 4  # members whose 1-bp embeddings are kept until junctions are read; more are asked again
_NOT_AVERAGED = ("positions", "mask")
_ALIKE = ("organisms", "tracks", "window", "scheme")  # what members must share
JUNCTIONS, SITES = OutputType.SPLICE_JUNCTIONS, OutputType.SPLICE_SITES


class Moments:
    """Running mean of predictions in the units of the tracks and, in the even space, their variance.

    rows: of the channels of the predictions, by output type, where the variance is wanted.
    """

    def __init__(self, rows: TrackRows | None = None) -> None:
        self.count, self.rows = 0, rows
        self.mean: Predictions = {}
        self._even: dict[OutputType, tuple[Tensor, Tensor]] = {}  # mean, sum of squared differences

    def add(self, found: Predictions) -> None:
        """Count the predictions of one more member; its tensors may be overwritten."""
        self.count += 1
        for output, heads in found.items():
            if self.rows is not None:
                self._add_even(output, even_predictions(output, heads, self.rows[output]))
            kept = self.mean.setdefault(output, {})
            for key, value in heads.items():
                if key not in kept:
                    kept[key] = value if key in _NOT_AVERAGED else value.float().clone()
                elif key not in _NOT_AVERAGED:
                    kept[key].lerp_(value.float(), 1 / self.count)

    def _add_even(self, output: OutputType, value: Tensor) -> None:
        if output not in self._even:
            self._even[output] = (value.clone(), torch.zeros_like(value))
            return
        mean, squares = self._even[output]
        before = value - mean
        mean.add_(before, alpha=1 / self.count)
        squares.add_(before * (value - mean))

    def deviations(self) -> dict[OutputType, Tensor]:
        """Standard deviation over members (n - 1) by output type; ValueError of a single member."""
        if self.count < 2:
            raise ValueError("the spread over one member is not known; gather an ensemble of two or more")
        return {o: (squares / (self.count - 1)).sqrt() for o, (_, squares) in self._even.items()}


class EnsemblePredictor:
    """The mean over members, in the units of the tracks; probabilities stay probabilities.

    Junctions are predicted at `splice_positions`, or else at the likeliest sites of the members' mean.
    """

    def __init__(
        self, name: str, members: Sequence[Predictor], info: Mapping[str, Any] | None = None
    ) -> None:
        if not members:
            raise ValueError(f"{name}: an ensemble without members")
        self.name, self.members, self.info = name, list(members), info or {}
        self.window, self.organisms = members[0].window, list(members[0].organisms)
        self.gives_spread = len(members) > 1
        self.selects_channels = all(getattr(m, "selects_channels", False) for m in members)
        for limit in ("max_sites", "site_threshold"):
            if hasattr(members[0], limit):
                setattr(self, limit, getattr(members[0], limit))

    @classmethod
    def open(cls, folder: str | Path, device: str | torch.device = "cpu") -> EnsemblePredictor:
        """Load a folder that `gather_ensemble` wrote; FileError where a member is gone or was made anew."""
        folder, info = Path(folder), model_info(folder)
        members = []
        for member in info["members"]:
            path = folder / member["folder"]
            if not (path / "model.json").is_file():
                raise FileError(f"{folder}: its member {path} is not there; gather the ensemble again")
            if hash_path(path / "model.json") != member["hash"]:
                raise FileError(f"{folder}: its member {path} was made anew; gather the ensemble again")
            members.append(load_predictor(path, str(device)))
        return cls(info["name"], members, info)

    def tracks(self, organism: str) -> TrackRows:
        """Rows of TRACK_COLUMNS by output type, in channel order."""
        return self.members[0].tracks(organism)

    def set_precision(self, precision: str) -> None:
        """That of every member's activations, where it can be chosen."""
        for member in self.members:
            if hasattr(member, "set_precision"):
                member.set_precision(precision)

    def windows(self, genome: Any, organism: str, *, window: int, limit: int) -> list[Any] | None:
        """What reads every member's predictions at chosen places; None where a member cannot be read so."""
        if not all(hasattr(member, "windows") for member in self.members):
            return None
        share = limit // len(self.members)
        found = [m.windows(genome, organism, window=window, limit=share) for m in self.members]
        return [w for some in found for w in some] if all(found) else None

    def predict(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
        **options: Any,
    ) -> Predictions:
        """As `megabase.predictors.base.Predictor.predict`; `channels` where all members select them."""
        return self._moments(codes, organism, outputs, splice_positions, options).mean

    def predict_with_spread(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
        **options: Any,
    ) -> tuple[Predictions, dict[OutputType, Tensor]]:
        """As `predict`, and the standard deviation over members by output type, in the even space."""
        found = self._moments(codes, organism, outputs, splice_positions, options, spread=True)
        return found.mean, found.deviations()

    @torch.inference_mode()
    def predict_with_junctions(
        self, codes: np.ndarray | Tensor, organism: str, *, outputs: Sequence[OutputType], **options: Any
    ) -> tuple[Predictions, Reader]:
        """As `predict` (without junctions), and a function that reads junctions of the same sequences.

        Up to `MOST_KEPT` members keep what they read junctions from; more members predict once more.
        """
        codes = torch.as_tensor(codes)
        check_request(organism, self.organisms, codes.shape[-1])
        keeps = len(self.members) <= MOST_KEPT
        found, readers = Moments(), []
        for member in self.members:
            if keeps:
                one, read = predict_with_junctions(member, codes, organism, outputs, **options)
            else:
                one, read = member.predict(codes, organism, outputs=outputs, **options), None
            found.add(one)
            readers.append(read or _asked_again(member, codes, organism, options))

        def junctions(rows: list[int], positions: Tensor) -> Tensor:
            mean = Moments()
            for read in readers:
                mean.add({JUNCTIONS: {"values": read(rows, positions)}})
            return mean.mean[JUNCTIONS]["values"]

        return found.mean, junctions

    @torch.inference_mode()
    def _moments(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        outputs: Sequence[OutputType] | None,
        positions: Tensor | None,
        options: Mapping[str, Any],
        *,
        spread: bool = False,
    ) -> Moments:
        codes = torch.as_tensor(codes)
        check_request(organism, self.organisms, codes.shape[-1])
        known = self.tracks(organism)
        wanted = [o for o in known if outputs is None or o in outputs]
        if JUNCTIONS in wanted and positions is None:
            positions = self._sites(codes, organism)
        found = Moments(chosen_rows(known, options.get("channels")) if spread else None)
        for member in self.members:
            found.add(member.predict(codes, organism, outputs=wanted, splice_positions=positions, **options))
        return found

    def _sites(self, codes: Tensor, organism: str) -> Tensor:
        """Likeliest sites int64 [B, 4, K] of the members' mean."""
        if SITES not in self.tracks(organism):
            raise ValueError("splice_junctions: the ensemble predicts no splice sites; pass splice_positions")
        found = self.predict(codes, organism, outputs=[SITES])[SITES]["probabilities"]
        return likeliest_sites(self, found)


def chosen_rows(tracks: TrackRows, channels: Mapping[OutputType, Sequence[int]] | None) -> TrackRows:
    """Rows of the channels that were asked for, by output type; all where none are named."""
    chosen = channels or {}
    return {o: [rows[c] for c in chosen[o]] if o in chosen else rows for o, rows in tracks.items()}


def _asked_again(member: Predictor, codes: Tensor, organism: str, options: Mapping[str, Any]) -> Reader:
    def read(rows: list[int], positions: Tensor) -> Tensor:
        asked = member.predict(
            codes[rows], organism, outputs=[JUNCTIONS], splice_positions=positions, **options
        )
        return asked[JUNCTIONS]["values"]

    return read


def check_alike(folders: Sequence[Path], infos: Sequence[Mapping[str, Any]]) -> None:
    """FileError unless all members have the same organisms, tracks, window and fold scheme."""
    for folder, info in zip(folders, infos, strict=True):
        for key in _ALIKE:
            if info.get(key) != infos[0].get(key):
                raise FileError(
                    f"{folder}: its {key} differ from those of {folders[0]}; members of an ensemble must be "
                    "models of the same tracks, window and folds"
                )


def gather_ensemble(members: Sequence[str | Path], output_dir: str | Path) -> Path:
    """Write the folder of an ensemble, named after `output_dir`: `model.json` and weights without a tensor.

    members: model folders of any kind, alike in organisms, tracks, window and fold scheme; FileError where
    they are not, where there is none, and where one is named twice. The members must stay where they are.
    """
    output, folders = Path(output_dir), [Path(m) for m in members]
    if not folders:
        raise FileError(f"{output}: no member given; wanted the folders of one or more models")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise FileError(f"{output}: a member is named twice: {', '.join(map(str, folders))}")
    infos = [model_info(folder) for folder in folders]
    check_alike(folders, infos)
    places = [Path(os.path.relpath(folder, output)).as_posix() for folder in folders]
    hashes = {place: hash_path(f / "model.json") for place, f in zip(places, folders, strict=True)}
    settings = {"ensemble": {"members": len(folders), "max_shift": max(map(max_shift_of, infos))}}
    info = {
        "name": output.name, "predictor": "ensemble", "seed": infos[0].get("seed"),
        **{key: infos[0].get(key) for key in _ALIKE}, "settings": settings,
        "members": [{"folder": place, "hash": value} for place, value in hashes.items()],
    }  # fmt: skip
    with atomic_path(output / "model.safetensors") as temporary:
        save_file({}, temporary)
    stamp = Stamp("model", hash_json(settings), {f"member/{place}": value for place, value in hashes.items()})
    card = {"weights": hash_path(output / "model.safetensors"), "info": info}
    write_json(card, output / "model.json", stamp)
    return output
