"""What evaluation and scoring ask of any model, and the one way to open a model folder.

A new system is a module here with a class that meets `Predictor`, and one line in `KINDS`: the value of
`predictor` in the folder's `model.json` chooses the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from megabase.channels import TrackRows
from megabase.files import FileError, read_json
from megabase.spec import OutputType

if TYPE_CHECKING:
    from torch import Tensor

Predictions: TypeAlias = "dict[OutputType, dict[str, Tensor]]"
KINDS = {
    "alphagenome": ("megabase.predictors.alphagenome", "AlphaGenomePredictor"),
    "ensemble": ("megabase.predictors.ensemble", "EnsemblePredictor"),
    "baseline-mean": ("megabase.predictors.baselines", "MeanPredictor"),
    "baseline-kmer": ("megabase.predictors.kmer", "KmerPredictor"),
}


@runtime_checkable
class Predictor(Protocol):
    """A model of sequence. window: bases it was made for. organisms: those it knows."""

    name: str
    window: int
    organisms: list[str]

    def tracks(self, organism: str) -> TrackRows:
        """Rows of TRACK_COLUMNS by output type, in the channel order of the predictions."""
        ...

    def predict(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
    ) -> Predictions:
        """Predictions in the units of the tracks for codes uint8 [B, S], S a multiple of 2,048.

        Track outputs: `1bp` [B, S, P] and `128bp` [B, S/128, P] (sums of 128 bases; ChIP has only these);
        contact_maps `values` [B, Q, Q, P]; splice_sites `probabilities` [B, S, 5]; splice_site_usage
        `probabilities` [B, S, P]; splice_junctions `values` [B, K, K, P] with `positions` int [B, 4, K] and
        `mask`. P are the organism's own channels, without padding. outputs: only these (default all).
        splice_positions int64 [B, 4, K], -1 padded: sites of the junction matrix; default: the model's own.
        """
        ...


def model_info(folder: str | Path) -> dict:
    """The `info` of a model folder's `model.json`; FileError when it is missing or of another kind."""
    path = Path(folder) / "model.json"
    if not path.is_file():
        raise FileError(f"{path}: not found; wanted a model folder written by train-teacher or fit-baseline")
    return read_json(path, "model")["info"]


def gives_spread(predictor: Any) -> bool:
    """Whether a predictor can be asked `predict_with_spread`."""
    return bool(getattr(predictor, "gives_spread", False))


def max_shift_of(info: Mapping[str, Any]) -> int:
    """Bases by which the model's training windows were moved, from the settings in its `model.json`."""
    return max(
        (int(part.get("max_shift", 0)) for part in info["settings"].values() if isinstance(part, Mapping)),
        default=0,
    )


def load_predictor(folder: str | Path, device: str = "cpu") -> Predictor:
    """Open a model folder with the class that its `model.json` names under `predictor`."""
    kind = model_info(folder).get("predictor")
    if kind not in KINDS:
        raise FileError(
            f"{Path(folder) / 'model.json'}: predictor {kind!r} is not known; known: {', '.join(KINDS)}"
        )
    module, name = KINDS[kind]
    return getattr(import_module(module), name).open(folder, device)


def check_request(organism: str, organisms: Sequence[str], length: int) -> None:
    """ValueError when a predictor is asked for an organism that it lacks or a length it cannot take."""
    if organism not in organisms:
        raise ValueError(f"organism {organism!r} is not one of the model's: {', '.join(organisms)}")
    if length % 2048 or not length:
        raise ValueError(f"sequence length {length} is not a multiple of 2048; pad the window")
