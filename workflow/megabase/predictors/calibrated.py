"""The spread of a model as errors that were measured: applies what `calibrate_spread` wrote.

Spreads, deviations and intervals are in the even space (`model/even.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megabase.files import FileError, hash_path, read_tsv, tsv_stamp
from megabase.spec import OutputType

UNCERTAINTY = "uncertainty"  # kind of the file, and the folder of results that holds one a model and organism


@dataclass(frozen=True)
class OutputCalibration:
    """Of one output type. variance: noise + scale * spread**2. factors: deviations either side, by level."""

    noise: float
    scale: float
    factors: Mapping[float, float]

    def deviation(self, spread: Any) -> Any:
        """Calibrated standard deviation of a spread, a number, an array or a tensor."""
        return (self.noise + self.scale * spread * spread) ** 0.5

    def half_width(self, deviation: Any, level: float) -> Any:
        """Half of the central interval that holds a share `level` of the measured values."""
        known = next((f for at, f in self.factors.items() if math.isclose(at, level)), None)
        if known is None:
            raise ValueError(f"level {level} is not calibrated; known: {', '.join(map(str, self.factors))}")
        return known * deviation


Calibration = Mapping[OutputType, OutputCalibration]


def read_calibration(path: str | Path, model_dir: str | Path | None = None) -> Calibration:
    """Calibration by output type from a table of `calibrate_spread`.

    FileError where the table was made for another model than the one in `model_dir`, or for an older one.
    """
    table = read_tsv(path, UNCERTAINTY)
    if model_dir is not None:
        made_for = tsv_stamp(path, UNCERTAINTY).inputs.get("model")
        if made_for != hash_path(Path(model_dir) / "model.json"):
            raise FileError(f"{path}: made for another model than {model_dir}; run calibrate-spread again")
    found: dict[OutputType, dict[str, Any]] = {}
    for row in table.iter_rows(named=True):
        one = found.setdefault(OutputType(row["output_type"]), {"factors": {}})
        if row["quantity"] in ("noise", "scale"):
            one[row["quantity"]] = float(row["value"])
        elif row["quantity"] == "factor":
            one["factors"][float(row["level"])] = float(row["value"])
    return {output: OutputCalibration(**values) for output, values in found.items()}


def table_of(model_dir: str | Path, organism: str) -> Path:
    """Where the workflow writes the calibration of a model: results/uncertainty/{model}/{organism}.tsv."""
    folder = Path(model_dir).resolve()
    return folder.parents[1] / UNCERTAINTY / folder.name / f"{organism}.tsv"


def calibrated(spread: Mapping[OutputType, Any], table: Calibration) -> dict[OutputType, Any]:
    """Calibrated standard deviations of the spreads of the output types that the table has."""
    return {output: table[output].deviation(value) for output, value in spread.items() if output in table}
