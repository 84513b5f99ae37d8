"""A prediction as an array with its tracks and its place, and as xarray or AnnData where installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from megabase.genome import Interval
from megabase.spec import OUTPUTS, REPRESENTATION_COLUMNS, TRACK_COLUMNS, Kind, OutputType

if TYPE_CHECKING:
    import anndata
    import xarray

    from megabase.predictors.calibrated import OutputCalibration

TRACK_SCHEMA: dict[str, Any] = dict.fromkeys(("channel", *TRACK_COLUMNS), pl.String) | {
    "channel": pl.Int64, "strand_partner": pl.Int64, "nonzero_mean": pl.Float64, "total": pl.Float64,
    "n_replicates": pl.Int64, **dict.fromkeys(REPRESENTATION_COLUMNS, pl.Int64), "representation": pl.Float64,
}  # fmt: skip
JUNCTION_SCHEMA = {
    "chrom": pl.String, "donor": pl.Int64, "acceptor": pl.Int64, "strand": pl.String,
}  # fmt: skip
UNITS = {
    Kind.TRACKS: "of the tracks, a sum over the bases of a value",
    Kind.CONTACTS: "log(observed/expected)",
    Kind.SITES: "probability",
    Kind.USAGE: "fraction",
    Kind.JUNCTIONS: "normalized counts",
}


@dataclass(frozen=True)
class Spread:
    """How far a prediction may be off: the standard deviation of every value, in the even space.

    That space is told by `megabase.model.even`: the logarithm of 128-bp sums of tracks in units of their
    mean, log(1 + x) of junctions, else x. values: float32, N = bases of the interval / resolution: tracks
    [N, P] (resolution 128), contact maps [N, N, P], splice sites and usage [N, P], junctions [J, P].
    calibration: what made the spread over models into errors to expect; None where the values are the plain
    spread over models, which are no such errors.
    """

    values: np.ndarray
    resolution: int
    interval: Interval
    calibration: OutputCalibration | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the values are errors to expect."""
        return self.calibration is not None

    def half_width(self, level: float = 0.9) -> np.ndarray:
        """Half of the central interval that holds a share `level` of measured values; shaped as `values`.

        ValueError where the spread is not calibrated.
        """
        if self.calibration is None:
            raise ValueError("this spread is not calibrated; run megabase calibrate-spread for its model")
        return self.calibration.half_width(self.values, level)

    def crop(self, start: int, end: int, *, pairs: bool) -> Spread:
        """The part that shares a base with [start, end), whole values; pairs: of contact maps."""
        i, j, part = _part(self.interval, self.resolution, start, end)
        return replace(self, values=self.values[i:j, i:j] if pairs else self.values[i:j], interval=part)


def _part(interval: Interval, size: int, start: int, end: int) -> tuple[int, int, Interval]:
    """First and last value (half-open) that share a base with [start, end), and the bases of these values."""
    first = interval.start
    i = max(start - first, 0) // size
    j = max(i, -(-(min(end, interval.end) - first) // size))
    return i, j, Interval(interval.chrom, first + i * size, first + j * size)


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one output type along one interval of the + strand.

    values: float32; N = bases of the interval / resolution. Tracks, splice sites (probabilities of donor+,
    acceptor+, donor-, acceptor-, none) and splice-site usage [N, P]; contact maps [N, N, P]; splice junctions
    [J, P], NaN on tracks of the other strand. A track's value is in the units of the measured track: at 128
    bp the sum of 128 bases. tracks: `channel` (of the model), TRACK_COLUMNS, and how well the
    biosample was represented in training (`representation.py`), a row a track [P].
    resolution: bases that a value stands for. interval: 0-based half-open, strand `.`: values run along the
    + strand; a track's own strand is in `tracks`. junctions: chrom, donor (last exonic base), acceptor
    (first), 0-based, and strand, a row a junction [J]; None of other output types. spread: how far the
    values may be off; None where it was not asked for.
    """

    output_type: OutputType
    values: np.ndarray
    tracks: pl.DataFrame
    resolution: int
    interval: Interval
    junctions: pl.DataFrame | None = None
    spread: Spread | None = None

    @property
    def kind(self) -> Kind:
        """Shape of the output type's data."""
        return OUTPUTS[self.output_type].kind

    @property
    def starts(self) -> np.ndarray:
        """int64 [N]: the first base (0-based) of every value along the interval."""
        return np.arange(self.interval.start, self.interval.end, self.resolution)

    def crop(self, start: int, end: int) -> Prediction:
        """The part that shares a base with [start, end), whole values; junctions with both sites in it."""
        if self.junctions is not None:
            sites = pl.col("donor", "acceptor")
            inside = self.junctions.select(
                pl.all_horizontal((sites >= start) & (sites < end)).alias("inside")
            )["inside"]
            part = Interval(self.interval.chrom, max(start, self.interval.start), min(end, self.interval.end))
            kept, spread = inside.to_numpy(), self.spread
            if spread is not None:
                spread = replace(spread, values=spread.values[kept], interval=part)
            table = self.junctions.filter(inside)
            return replace(self, values=self.values[kept], junctions=table, interval=part, spread=spread)
        pairs, spread = self.kind is Kind.CONTACTS, self.spread
        i, j, part = _part(self.interval, self.resolution, start, end)
        cut = self.values[i:j, i:j] if pairs else self.values[i:j]
        if spread is not None:
            spread = spread.crop(start, end, pairs=pairs)
        return replace(self, values=cut, interval=part, spread=spread)

    def to_xarray(self) -> xarray.DataArray:
        """`position` x `track`, `row` x `column` x `track` (contact maps) or `junction` x `track`.

        Coordinates are the 0-based first bases of values (or donor, acceptor and strand of junctions) and
        the columns of `tracks`. Needs xarray: install `megabase[arrays]`.
        """
        package = _package("xarray")
        tracks = {name: ("track", column.to_list()) for name, column in _columns(self.tracks).items()}
        if self.junctions is not None:
            places = {c: ("junction", self.junctions[c].to_numpy()) for c in JUNCTION_SCHEMA if c != "chrom"}
            axes = ("junction", "track")
            places["strand"] = ("junction", self.junctions["strand"].to_list())
            tracks["track_strand"] = tracks.pop("strand")
        elif self.kind is Kind.CONTACTS:
            axes = ("row", "column", "track")
            places = {axis: (axis, self.starts) for axis in axes[:2]}
        else:
            axes = ("position", "track")
            places = {"position": ("position", self.starts)}
        names = {"track": _distinct(self.tracks["name"].to_list())}
        return package.DataArray(
            self.values, dims=axes, coords=names | places | tracks, name=str(self.output_type),
            attrs=self._description(),
        )  # fmt: skip

    def to_anndata(self) -> anndata.AnnData:
        """Observations x tracks: positions, pairs of bins (contact maps, upper triangle) or junctions.

        `obs` has chrom, start and end (0-based half-open) of each, `start_2` and `end_2` of pairs, and donor,
        acceptor and strand of junctions; `var` has the columns of `tracks`. Needs anndata: install
        `megabase[arrays]`.
        """
        package = _package("anndata")
        values, places = self._observations()
        names = [":".join(map(str, row)) for row in zip(*places.values(), strict=True)]
        return package.AnnData(
            np.ascontiguousarray(values),
            obs=_frame(places, names),
            var=_frame(_columns(self.tracks), _distinct(self.tracks["name"].to_list())),
            uns=self._description(),
        )

    def _description(self) -> dict[str, Any]:
        return {
            "output_type": str(self.output_type), "resolution": self.resolution, "units": UNITS[self.kind],
            "chrom": self.interval.chrom, "start": self.interval.start, "end": self.interval.end,
        }  # fmt: skip

    def _observations(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Values [observations, P] and where each is."""
        chrom = self.interval.chrom
        if self.junctions is not None:
            columns = {name: self.junctions[name].to_list() for name in JUNCTION_SCHEMA}
            spans = self.junctions.select(
                start=pl.min_horizontal("donor", "acceptor") + 1, end=pl.max_horizontal("donor", "acceptor")
            )
            where = {"start": spans["start"].to_list(), "end": spans["end"].to_list()}
            return self.values, {"chrom": columns.pop("chrom")} | where | columns
        if self.kind is Kind.CONTACTS:
            i, j = np.triu_indices(len(self.values))
            places = {"chrom": [chrom] * len(i)} | _span(self.starts[i], self.resolution)
            places |= {f"{k}_2": v for k, v in _span(self.starts[j], self.resolution).items()}
            return self.values[i, j], places
        return self.values, {"chrom": [chrom] * len(self.starts)} | _span(self.starts, self.resolution)


def _span(starts: np.ndarray, size: int) -> dict[str, np.ndarray]:
    return {"start": starts, "end": starts + size}


def _columns(tracks: pl.DataFrame) -> dict[str, pl.Series]:
    """Columns of a track table that hold something, but for its names."""
    return {c: tracks[c] for c in tracks.columns if c != "name" and tracks[c].null_count() < tracks.height}


def _distinct(names: list[str]) -> list[str]:
    """Names with a number behind those that were there before."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _frame(columns: Mapping[str, Any], names: list[str]) -> Any:
    """pandas table with texts as plain objects, which every version of AnnData can write."""
    import pandas as pd

    table = pd.DataFrame(index=pd.Index(names, dtype=object))
    for name, values in columns.items():
        values = list(values)
        text = any(isinstance(v, str) for v in values)
        table[name] = pd.Series(values, index=table.index, dtype=object if text else None)
    return table


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed; run: pip install 'megabase[arrays]'") from error


def track_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """`channel`, TRACK_COLUMNS and REPRESENTATION_COLUMNS of rows, with the types of a track table."""
    return pl.DataFrame([{c: row.get(c) for c in TRACK_SCHEMA} for row in rows], schema=TRACK_SCHEMA)
