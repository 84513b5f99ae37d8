"""What a model folder tells of its model without loading it: enough where there is nothing to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from megabase.channels import TrackRows
from megabase.predictors.base import check_request, load_predictor, model_info
from megabase.spec import OutputType

CARDED = ("alphagenome", "ensemble")  # kinds whose card lists exactly the tracks that they predict


class ModelCard:
    """Name, window, organisms and tracks of a model, from its `model.json`; it predicts nothing."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.name: str = info["name"]
        self.window: int = info["window"]
        self.organisms: list[str] = list(info["organisms"])
        self._tracks = info["tracks"]

    def tracks(self, organism: str) -> TrackRows:
        """Rows of TRACK_COLUMNS by output type, as the loaded model gives them."""
        check_request(organism, self.organisms, 2048)
        return {OutputType(output): rows for output, rows in self._tracks[organism].items()}


def open_card(folder: str | Path) -> Any:
    """The card of a model folder; the model itself where the card does not tell its tracks."""
    info = model_info(folder)
    complete = info.get("predictor") in CARDED and "tracks" in info
    return ModelCard(info) if complete else load_predictor(folder)
