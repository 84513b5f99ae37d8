"""From raw scores to quantiles: where a score stands among those of common background variants.

Per scorer and track, the background's quantiles at 1,000 sigmoid-spaced probabilities are kept. A score
between two bins gets the linear interpolation of their probabilities, one beyond the ends that of the end
bin; one that equals several bins (a tie, such as many zeros) gets a seeded random probability between the
first and the last of them. Signed scorers map p to 2p - 1. So the quantile never falls as the score rises,
and stays within +-0.99999. Source: AlphaGenome Methods (variant scoring, quantile calibration).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_path, read_json, read_table, write_json
from megabase.logs import progress
from megabase.scoring.composite import COMPOSITE, composite_table, has_composite
from megabase.scoring.keys import raw_matrix
from megabase.scoring.parts import CHUNK
from megabase.seeds import draws
from megabase.spec import file_name

if TYPE_CHECKING:
    from megabase.settings.scoring import ScoringSettings

FLOOR = 1e-5  # smallest probability that a quantile states
LARGEST = 0.99999  # no quantile is larger in absolute value
TOGETHER = 1 << 18  # scores whose quantiles are looked up together: they stay in the cache
BLOCK_VALUES = 250_000_000  # scores held in memory at a time: 1 GB


def bin_probabilities(bins: int) -> np.ndarray:
    """float64 [bins]: a sigmoid of evenly spaced numbers, from 1e-5 to 1 - 1e-5, dense at both ends."""
    edge = math.log((1 - FLOOR) / FLOOR)
    p = 1 / (1 + np.exp(-np.linspace(-edge, edge, bins)))
    return np.clip(p, FLOOR, 1 - FLOOR)


def background_quantiles(scores: np.ndarray, bins: int) -> np.ndarray:
    """Quantiles float32 [tracks, bins] of scores [variants, tracks]; NaN scores are ignored.

    A track with fewer than two scores has NaN quantiles: it is not calibrated.
    """
    probabilities = bin_probabilities(bins)
    found = np.full((scores.shape[1], bins), np.nan, np.float32)
    for track, column in enumerate(scores.T):
        column = column[~np.isnan(column)]
        if len(column) >= 2:
            found[track] = np.quantile(column.astype(np.float64), probabilities).astype(np.float32)
    return np.maximum.accumulate(found, axis=1)


def apply_quantiles(
    raw: np.ndarray, quantiles: np.ndarray, *, signed: bool, scorer: str, keys: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Quantile float32 [N, tracks] of raw scores [N, tracks]; NaN where a score or its track's bins are NaN.

    keys: uint64 [N], one a row (variant, gene, junction: `keys.row_keys`). The draws for ties depend on them,
    the track, the scorer and the seed alone, so that neither neighbours nor chunks matter.
    """
    p = bin_probabilities(quantiles.shape[1])
    found = np.full(raw.shape, np.nan, np.float32)
    known = np.flatnonzero(~np.isnan(quantiles).any(1))
    step = max(1, TOGETHER // max(len(raw), 1))
    for tracks in (known[first : first + step] for first in range(0, len(known), step)):
        x, bins = np.ascontiguousarray(raw[:, tracks].T), quantiles[tracks]
        values, equal = _probabilities(x, bins, p)
        track, row, high = _ties(x, bins, p, equal)
        if len(track):
            drawn = draws(seed, "ties", scorer, keys=keys[row], columns=tracks[track])
            values[track, row] += (high - values[track, row]) * drawn
        values = np.clip(2 * values - 1 if signed else values, -LARGEST, LARGEST)
        values[np.isnan(x)] = np.nan
        found[:, tracks] = values.T
    return found


def _probabilities(x: np.ndarray, bins: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability float64 [T, N] of each value x [T, N], the least where it ties; where it equals a bin."""
    last = bins.shape[1] - 1
    left = np.stack([np.searchsorted(*track) for track in zip(bins, x, strict=True)])
    after, before = np.minimum(left, last), np.maximum(left - 1, 0)
    start, end = np.take_along_axis(bins, before, 1), np.take_along_axis(bins, after, 1)
    gap = end.astype(np.float64) - start
    part = np.divide(x.astype(np.float64) - start, gap, out=np.zeros(x.shape), where=gap > 0)
    found = p[before] + np.clip(part, 0, 1) * (p[after] - p[before])
    equal = (end == x) & (left <= last)
    found[equal] = p[after[equal]]
    return found, equal


def _ties(
    x: np.ndarray, bins: np.ndarray, p: np.ndarray, equal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Track, row and largest probability of the values that equal several bins, of those that equal one."""
    track, row = np.nonzero(equal)
    first, last = np.zeros(len(track), np.int64), np.zeros(len(track), np.int64)
    for one in np.unique(track):
        here = track == one
        first[here] = np.searchsorted(bins[one], x[one, row[here]], "left")
        last[here] = np.searchsorted(bins[one], x[one, row[here]], "right") - 1
    several = last > first
    return track[several], row[several], p[last[several]]


@dataclass(frozen=True)
class Calibration:
    """Quantiles [tracks, bins] by scorer name, and which scorers are signed."""

    quantiles: dict[str, np.ndarray]
    signed: dict[str, bool]
    seed: int
    model: str
    variants: int  # of the background

    @classmethod
    def open(cls, path: str | Path) -> Calibration:
        """Read `calibration.json` (or the folder or `.safetensors` beside it) and its tensors."""
        from safetensors.numpy import load_file

        path = Path(path)
        path = (path / "calibration.json") if path.is_dir() else path.with_suffix(".json")
        info = read_json(path, "calibration")
        tensors = load_file(path.with_suffix(".safetensors"))
        signed = {name: entry["signed"] for name, entry in info["scorers"].items()}
        quantiles = {name: tensors[f"{name}/quantiles"] for name in signed}
        return cls(quantiles, signed, info["seed"], info["model"], info["variants"])

    def apply(self, scorer: str, raw: np.ndarray, keys: np.ndarray) -> np.ndarray | None:
        """Quantiles of raw scores; None for a scorer without calibration; ValueError for other tracks."""
        if scorer not in self.quantiles:
            return None
        bins = self.quantiles[scorer]
        if bins.shape[0] != raw.shape[1]:
            raise ValueError(
                f"calibration of {scorer} has {bins.shape[0]} tracks, the scores have {raw.shape[1]}; "
                "calibrate the model that made the scores"
            )
        return apply_quantiles(
            raw, bins, signed=self.signed[scorer], scorer=scorer, keys=keys, seed=self.seed
        )


def calibrate_scores(
    chunks: Sequence[str | Path], output: str | Path, settings: ScoringSettings, *, seed: int = 0
) -> None:
    """Write `calibration.safetensors` and `calibration.json` into the folder `output` from scored chunks.

    chunks: chunk folders of the background variants, all of one model. Only the scorers found there are
    calibrated. FileError if there are none, or if they are of different models or scorers.
    """
    from safetensors.numpy import save_file

    folders = [Path(c) for c in chunks]
    infos = read_chunk_infos(folders)
    scorers = {s["name"]: s for s in infos[0]["scorers"]}
    if all(has_composite(f) for f in folders):
        scorers[COMPOSITE] = {"signed": False}
    tensors, entries = {}, {}
    with progress(len(scorers), "calibrate", "scorers") as bar:
        for name, scorer in scorers.items():
            bins, n = _scorer_quantiles(folders, name, settings.bins)
            tensors[f"{name}/quantiles"] = bins
            entries[name] = {"signed": scorer["signed"], "rows": n, "tracks": len(bins)}
            bar.advance()
    inputs = {folder.name: hash_path(folder / "chunk.json") for folder in folders}
    stamp = Stamp("calibration", settings.hash(), inputs)
    with atomic_path(Path(output) / "calibration.safetensors") as temporary:
        save_file(tensors, temporary)
    value = {"model": infos[0]["model"], "seed": seed, "bins": settings.bins, "scorers": entries,
             "variants": sum(i["variants"] for i in infos)}  # fmt: skip
    write_json(value, Path(output) / "calibration.json", stamp)


def read_chunk_infos(folders: Sequence[Path]) -> list[dict]:
    """`chunk.json` of chunk folders; FileError if there are none or they do not belong together."""
    if not folders:
        raise FileError("no chunks of scores given; score the variants first")
    infos = [read_json(folder / "chunk.json", CHUNK) for folder in folders]
    for folder, info in zip(folders, infos, strict=True):
        for key in ("model", "organism", "scorers", "window"):
            if info[key] != infos[0][key]:
                raise FileError(
                    f"{folder}: its {key} differs from that of {folders[0]}; score all chunks alike"
                )
    return infos


def read_scores(folder: Path, scorer: str) -> pl.DataFrame:
    """Rows of one scorer in a chunk folder; the composite splicing score is derived."""
    if scorer == COMPOSITE:
        return composite_table(folder)
    return read_table(folder / f"{file_name(scorer)}.parquet", CHUNK)


def _scorer_quantiles(folders: Sequence[Path], scorer: str, bins: int) -> tuple[np.ndarray, int]:
    """Quantiles of all tracks of a scorer, read in blocks of tracks that fit in memory, and the rows."""
    sizes = [(t.height, t.schema["raw"].size) for t in (read_scores(f, scorer) for f in folders)]
    rows, tracks = sum(n for n, _ in sizes), sizes[0][1]
    step = max(1, BLOCK_VALUES // max(rows, 1))
    found = []
    for first in range(0, tracks, step):
        block = np.empty((min(step, tracks - first), rows), np.float32)  # a track's scores side by side
        end = 0
        for folder, (n, _) in zip(folders, sizes, strict=True):
            block[:, end : end + n] = raw_matrix(read_scores(folder, scorer))[:, first : first + step].T
            end += n
        found.append(background_quantiles(block.T, bins))
    return np.concatenate(found), rows
