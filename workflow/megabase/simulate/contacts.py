"""Hi-C of the demo organism: distance decay, compartments, CTCF boundaries, loops of convergent pairs, and
an .mcool file.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import cooler
import h5py
import numpy as np
import pandas as pd
import polars as pl
from scipy.ndimage import gaussian_filter1d

from megabase.files import atomic_path
from megabase.simulate.motifs import NUMBER, Sites
from megabase.simulate.state import State
from megabase.spec import UNKNOWN_BASE

BIN = 1_000
RESOLUTIONS = (1_000, 2_000, 4_000)
REACH = 80  # bins over which contacts are simulated
CONTACTS = 400.0  # expected reads of a pixel on the diagonal without structure
INSULATION, MAX_INSULATION = 0.2, 2.2  # log contacts lost at a boundary of strength 1, and at most
LOOP_GAIN, LOOP_SPREAD, LOOP_REACH = 1.3, 1.2, 40_000  # log gain, bins, longest loop (bp)
# log gain between two open or two closed neighbourhoods, log loss between unlike ones
COMPARTMENTS = 1.6
NEIGHBOURHOOD, CONTRAST = 0.7, 1.0  # bins (standard deviation); steepness of the two states
_ATTRIBUTES = {"creation-date": "2026-01-01T00:00:00", "generated-by": "megabase simulate-demo"}


def loops(sites: Sites) -> list[tuple[int, int, float]]:
    """(left, right, strength) of convergent neighbours: a + strand CTCF site whose next - strand site is
    near.
    """
    ctcf = sites.motif == NUMBER["CTCF"]
    position, strand, strength = sites.position[ctcf], sites.strand[ctcf], sites.strength[ctcf]
    found, left = [], -1
    for index in range(len(position)):
        if strand[index] > 0:
            left = index
        elif left >= 0:
            if position[index] - position[left] <= LOOP_REACH:
                pair = int(position[left]), int(position[index]), float(strength[left] * strength[index])
                found.append(pair)
            left = -1
    return found


def expected_contacts(state: State, chrom: str, cell: int) -> np.ndarray:
    """Expected reads float64 [REACH + 1, bins]: row d holds the pixels (i, i + d)."""
    size = -(-len(state.genome.chromosomes[chrom]) // BIN)
    sites = state.sites[chrom]
    ctcf = sites.motif == NUMBER["CTCF"]
    boundary = np.zeros(size + 1)
    np.add.at(boundary, sites.position[ctcf] // BIN, INSULATION / 2 * sites.strength[ctcf])
    before = np.cumsum(boundary) - boundary / 2  # a boundary inside a bin counts by half
    state_of = compartments(_bin_means(state.openness[chrom][cell], size))
    log = np.full((REACH + 1, size), -np.inf)
    for distance in range(min(REACH, size - 1) + 1):
        first, second = np.arange(size - distance), np.arange(distance, size)
        walls = np.minimum(before[second] - before[first], MAX_INSULATION)
        alike = COMPARTMENTS * state_of[first] * state_of[second]
        log[distance, : size - distance] = np.log(CONTACTS / (distance + 1)) - walls + alike
    for left, right, strength in loops(sites):
        _add_loop(log, left / BIN, right / BIN, strength)
    return np.exp(log)


def compartments(openness: np.ndarray) -> np.ndarray:
    """Compartment of each bin, from -1 (closed) to 1 (open), by the mean openness around it.

    openness: mean openness of the bins, float [bins]; the median neighbourhood is 0.
    """
    around = gaussian_filter1d(openness, NEIGHBOURHOOD, mode="constant")
    spread = around.std()
    return np.tanh(CONTRAST * (around - np.median(around)) / spread) if spread > 0 else np.zeros(len(around))


def _bin_means(track: np.ndarray, size: int) -> np.ndarray:
    padded = np.zeros(size * BIN)
    padded[: len(track)] = track
    return padded.reshape(size, BIN).mean(axis=1)


def _add_loop(log: np.ndarray, left: float, right: float, strength: float) -> None:
    for i in range(int(left) - 3, int(left) + 4):
        for j in range(int(right) - 3, int(right) + 4):
            if 0 <= i <= j < log.shape[1] and j - i <= REACH:
                squared = (i + 0.5 - left) ** 2 + (j + 0.5 - right) ** 2
                log[j - i, i] += LOOP_GAIN * strength * np.exp(-squared / (2 * LOOP_SPREAD**2))


def count_contacts(state: State, cell: int, depth: float, rng: np.random.Generator) -> pl.DataFrame:
    """Poisson counts: bin1_id, bin2_id, count, sorted; bins that are mostly N have none."""
    parts, offset = [], 0
    for chrom, codes in state.genome.chromosomes.items():
        expected = expected_contacts(state, chrom, cell)
        size = expected.shape[1]
        known = _bin_means((codes < UNKNOWN_BASE).astype(np.float64), size) > 0.5
        counts = rng.poisson(expected * depth)
        distance, first = np.nonzero(counts)
        keep = known[first] & known[first + distance]
        distance, first = distance[keep], first[keep]
        parts.append(np.stack([first + offset, first + distance + offset, counts[distance, first]], axis=1))
        offset += size
    columns = {"bin1_id": pl.Int64, "bin2_id": pl.Int64, "count": pl.Int32}
    table = pl.DataFrame(np.concatenate(parts), schema=list(columns), orient="row").cast(columns)
    return table.sort("bin1_id", "bin2_id")


def write_mcool(path: Path, state: State, pixels: pl.DataFrame) -> None:
    """Write pixels at 1 kb, coarsen and balance them, and copy all into a file without time stamps."""
    chromosomes = {chrom: len(codes) for chrom, codes in state.genome.chromosomes.items()}
    bins = cooler.binnify(_series(chromosomes), BIN)
    with atomic_path(path) as temporary:
        base, multiple = temporary.with_suffix(".base.cool"), temporary.with_suffix(".multi.mcool")
        try:
            cooler.create_cooler(
                str(base), bins, pixels.to_pandas(), ordered=True, assembly=state.genome.organism
            )
            cooler.zoomify_cooler(str(base), str(multiple), list(RESOLUTIONS), chunksize=10_000_000)
            for resolution in RESOLUTIONS:
                _balance(f"{multiple}::resolutions/{resolution}")
            _copy_plain(multiple, temporary)
        finally:
            base.unlink(missing_ok=True)
            multiple.unlink(missing_ok=True)


def _series(lengths: dict[str, int]) -> pd.Series:
    return pd.Series(lengths)


def _balance(uri: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few bins at test sizes: convergence and empty-slice warnings
        cooler.balance_cooler(cooler.Cooler(uri), store=True, min_nnz=3, tol=1e-3, max_iters=20)


def _copy_plain(source: Path, target: Path) -> None:
    """Rebuild an HDF5 file object by object, without times: the same contacts give the same bytes."""
    with h5py.File(source, "r") as old, h5py.File(target, "w", track_order=False) as new:
        _copy_group(old, new)


def _copy_group(old: h5py.Group, new: h5py.Group) -> None:
    for key in sorted(old.attrs):
        new.attrs[key] = _ATTRIBUTES.get(key, old.attrs[key])
    for key in sorted(old):
        item = old[key]
        if isinstance(item, h5py.Group):
            _copy_group(item, new.create_group(key))
            continue
        options = {"chunks": item.chunks, "compression": item.compression, "shuffle": item.shuffle}
        made = new.create_dataset(key, data=item[()], dtype=item.dtype, track_times=False, **options)
        for name in sorted(item.attrs):
            made.attrs[name] = item.attrs[name]
