"""Quality of normalized tracks: figures that are written with each of them, then one table with a verdict.

The figures are summed up while a track is made, so that nobody reads it again. A track below a threshold is
told with the reason; it is left out only if the settings say so, and a file that cannot be normalized can be
listed as such rather than stop the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import (
    FileError,
    Stamp,
    atomic_path,
    hash_inputs,
    read_json,
    read_tsv,
    write_json,
    write_tsv,
)
from megabase.logs import LOGGER
from megabase.settings.data import QualitySettings, TrackSettings
from megabase.spec import QUALITY_COLUMNS, SPLICE_OUTPUTS, OutputType
from megabase.tracks.table import base_name, group_name, track_json

DIGITS = 8  # significant digits that are kept of a figure
MAD, MEAN_DEVIATION = 0.67448975, 0.79788456  # of a normal distribution with standard deviation 1
COMPARED = ("measured", "covered", "nonzero_mean")  # where a track may lie apart from others of its kind
_SCHEMA: dict[str, Any] = dict.fromkeys(QUALITY_COLUMNS, pl.Float64) | dict.fromkeys(
    ("organism", "output_type", "name", "strand", "assay", "accessions", "worst_replicate", "outlier_in",
     "verdict", "reason"), pl.String
) | {"n_replicates": pl.Int64}  # fmt: skip


def quality_row(channel: Mapping[str, Any], **figures: Any) -> dict[str, Any]:
    """QUALITY_COLUMNS of a channel (a row of TRACK_COLUMNS); those that `figures` do not tell are null."""
    named = {key: channel[key] for key in QUALITY_COLUMNS if key in channel}
    rounded = {k: _rounded(v) if isinstance(v, float) else v for k, v in (named | figures).items()}
    return dict.fromkeys(QUALITY_COLUMNS) | rounded


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def write_quality(rows: Sequence[Mapping[str, Any]], folder: Path, stamp: Stamp) -> None:
    """Write the figures of the channels of one `track.json` beside it (`quality.json`, `quality`)."""
    provenance = Stamp("quality", stamp.config_hash, stamp.inputs)
    write_json({"channels": [dict(row) for row in rows]}, folder / "quality.json", provenance)


@contextmanager
def listed_failure(
    rows: Sequence[Mapping[str, Any]], output_dir: str | Path, stamp: Stamp, settings: TrackSettings
) -> Iterator[None]:
    """Turn a FileError into a `track.json` that has no channels and tells why, if `settings.keep_going`."""
    try:
        yield
    except FileError as error:
        if not settings.keep_going:
            raise
        with atomic_path(output_dir) as folder:
            folder.mkdir()
            failed = [failed_row(rows, error)]
            write_json({"channels": [], "failed": failed}, folder / "track.json", stamp)


def failed_row(rows: Sequence[Mapping[str, Any]], error: FileError) -> dict[str, Any]:
    """What `track.json` lists under `failed`, of the manifest rows whose files cannot be used."""
    first = rows[0]
    LOGGER.error("%s: not normalized, listed as failed: %s", group_name(first), error)
    return {
        "organism": first["organism"], "output_type": first["output_type"], "name": group_name(first),
        "strand": ".", "assay": first["assay"] or None, "reason": str(error),
        "accessions": ",".join(dict.fromkeys(str(row["accession"]) for row in rows)),
    }  # fmt: skip


def check_tracks(
    track_jsons: Iterable[str | Path], organism: str, output: str | Path, settings: QualitySettings
) -> pl.DataFrame:
    """Write the quality table of an organism's tracks (`quality`, QUALITY_COLUMNS) and return it.

    track_jsons: `track.json` files with `quality.json` beside them, or their folders. A row a channel, and
    one a group that could not be normalized. verdict: `pass`; `flag` below a threshold of the settings;
    `excluded` if such tracks are left out, with the partner on the other strand; `failed` not normalized;
    `unknown` without figures. `reason` names every threshold. outlier: the robust z-score (distance from
    the median in units of the median absolute deviation, scaled to a normal distribution) among the
    organism's tracks of the output type that is largest over the logarithms of COMPARED. FileError for files
    of another organism.
    """
    paths = sorted(track_json(Path(path)) for path in track_jsons)
    rows = [row for path in paths for row in _figures(path, organism)]
    _mark_outliers(rows, settings)
    for row in rows:
        if row["verdict"] is None:
            row["reason"] = "; ".join(_reasons(row, settings))
            row["verdict"] = "flag" if row["reason"] else "pass"
    if settings.exclude:
        _exclude(rows)
    rows.sort(key=lambda row: (row["output_type"], row["name"], row["accessions"]))
    table = pl.DataFrame([{c: row[c] for c in QUALITY_COLUMNS} for row in rows], schema=_SCHEMA)
    inputs = {f"{p.parent.parent.name}/{p.parent.name}": h for p in paths for h in hash_inputs([p]).values()}
    write_tsv(table, output, Stamp("quality", settings.hash(), inputs))
    for row in table.filter(pl.col("verdict") != "pass").iter_rows(named=True):
        LOGGER.warning("%s %s: %s (%s)", row["output_type"], row["name"], row["verdict"], row["reason"])
    counts = sorted(table["verdict"].value_counts().rows())
    LOGGER.info("%s: %s", organism, ", ".join(f"{n} {verdict}" for verdict, n in counts))
    return table


def read_quality(path: str | Path) -> pl.DataFrame:
    """A quality table, its columns as text and numbers whatever a file of nulls was read as."""
    table = read_tsv(path, "quality")
    return table.select(pl.col(c).cast(kind, strict=False) for c, kind in _SCHEMA.items())


def _figures(path: Path, organism: str) -> list[dict[str, Any]]:
    """Quality rows of one `track.json`, verdict null where it is for the thresholds to say."""
    found = read_json(path, "track")
    rows = [quality_row({}, **failed) | {"verdict": "failed"} for failed in found.get("failed", ())]
    if (beside := path.with_name("quality.json")).exists():
        rows += [quality_row({}, **row) for row in read_json(beside, "quality")["channels"]]
    else:
        reason = "no figures: normalized by an earlier version; delete its track.json to have it made again"
        rows += [quality_row(c) | {"verdict": "unknown", "reason": reason} for c in found["channels"]]
    if wrong := [row for row in rows if row["organism"] != organism]:
        raise FileError(f"{path}: track {wrong[0]['name']} is of {wrong[0]['organism']}, wanted {organism}")
    return rows


def _reasons(row: Mapping[str, Any], settings: QualitySettings) -> list[str]:
    """A sentence for every threshold that a track does not meet; a figure that is not known meets it."""

    def beyond(key: str, limit: float, text: str, *, above: bool = False) -> list[str]:
        value = row[key]
        if value is None or (value <= limit if above else value >= limit):
            return []
        return [f"{text} {value:.3g}, {'at most' if above else 'at least'} {limit:g} wanted"]

    reasons = beyond("measured", settings.min_measured, "measured signal")
    reasons += beyond("covered", settings.min_covered, "share of bases with signal")
    if row["output_type"] == OutputType.CONTACT_MAPS:
        lost, text = settings.max_lost_bins, "share of bins that balancing left out"
    else:
        lost, text = settings.max_missing, "share of bases missing at the source"
    reasons += beyond("missing", lost, text, above=True)
    worst = row["worst_replicate"]
    reasons += beyond(
        "worst_correlation", settings.min_replicate_correlation, f"correlation of {worst} with its replicates"
    )
    share = row["strand_share"]
    if share is not None and not settings.min_strand_share <= share <= 1 - settings.min_strand_share:
        reasons.append(
            f"+ strand holds {share:.3g} of the pair, each at least {settings.min_strand_share:g} wanted"
        )
    if row["outlier"] is not None and abs(row["outlier"]) > settings.max_outlier:
        reasons.append(
            f"{row['outlier_in']} lies {row['outlier']:+.1f} deviations from the median of its output type, "
            f"at most {settings.max_outlier:g} wanted"
        )
    return reasons


def _mark_outliers(rows: Sequence[dict[str, Any]], settings: QualitySettings) -> None:
    """Set `outlier` and `outlier_in` of the tracks of output types that have enough of them."""
    for output_type in {row["output_type"] for row in rows}:
        for key in COMPARED:
            members = [r for r in rows if r["output_type"] == output_type and (r[key] or 0) > 0]
            if len(members) < settings.min_tracks:
                continue
            scores = robust_scores(np.log10([row[key] for row in members]))
            for row, score in zip(members, scores.tolist(), strict=True):
                if row["outlier"] is None or abs(score) > abs(row["outlier"]):
                    row["outlier"], row["outlier_in"] = _rounded(score), key


def robust_scores(values: np.ndarray) -> np.ndarray:
    """Distance of values [n] from their median over their median absolute deviation, scaled to a normal's.

    Where more than half of them are equal, the mean absolute deviation takes its place; all equal: zeros.
    """
    apart = values - np.median(values)
    deviation = float(np.median(np.abs(apart))) / MAD
    if deviation == 0:
        deviation = float(np.abs(apart).mean()) / MEAN_DEVIATION
    return apart / deviation if deviation > 0 else np.zeros_like(apart)


def _exclude(rows: Sequence[dict[str, Any]]) -> None:
    """Turn `flag` into `excluded`, for the strand partner of such a track as well.

    Not of splicing: its tables are made and read together, so a biosample goes by leaving its files out.
    """
    pairs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["verdict"] != "failed" and row["output_type"] not in SPLICE_OUTPUTS:
            pairs.setdefault((row["output_type"], base_name(row), row["assay"]), []).append(row)
    for pair in pairs.values():
        if reasons := [row["reason"] for row in pair if row["verdict"] == "flag"]:
            for row in pair:
                row["reason"] = row["reason"] or f"its strand partner: {reasons[0]}"
                row["verdict"] = "excluded"
