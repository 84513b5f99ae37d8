"""Contact maps: balanced contacts to log(observed / expected), with sparse pixels coarse-grained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cooler
import h5py
import numpy as np
import pandas as pd

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, write_json
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.spec import OutputType
from megabase.tracks.bigwig import match_names
from megabase.tracks.contact_index import sound_map
from megabase.tracks.quality import listed_failure, quality_row, write_quality
from megabase.tracks.table import channel_row

LEVELS = 8  # halvings of resolution that coarse-graining may fall back to (256 bins)
TILE = 1 << 10  # rows of the map that are held in memory together; a multiple of 2**LEVELS


@dataclass(frozen=True)
class Map:
    """A contact matrix of one resolution: raw counts and a weight a bin (NaN: the bin is missing)."""

    path: Path
    matrix: cooler.Cooler
    names: dict[str, str]  # chromosome of the genome -> name in the file
    weights: np.ndarray  # float64 [bins of the file]
    span: int  # bins between the ends of the farthest pixel kept


def normalize_contacts(
    rows: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    files: Sequence[str | Path] | str | Path,
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: TrackSettings,
) -> Path:
    """Normalize one contact map (`.mcool`, read at `settings.contact_resolution`, or `.cool`, at its own).

    Counts are balanced by the weights stored in the file (computed by iterative correction where there are
    none) and coarse-grained where sparse. With x the result and m(d) its mean over the non-zero pixels at
    distance d over all chromosomes, a pixel is log((x + eps) / (m(d) + eps)), eps the smallest m(d). Pixels
    of bins lost in balancing, and those farther apart than `settings.contact_span`, are absent.

    Writes `contacts.cool` (pixel column `value`, float64), `quality.json` and `track.json` (`track`); returns
    the latter's path. One file is one channel, as published: replicates of a map are not averaged. An index
    that is not that of the pixels is made anew (`sound_map`). Raises FileError.
    """
    row, path = _only(rows, files)
    genome = Genome.open(genome_folder)
    stamp = Stamp("track", settings.hash(), hash_inputs([path]))
    with listed_failure([row], output_dir, stamp, settings), TemporaryDirectory() as scratch:
        source = _open_map(path, genome, settings, Path(scratch))
        tiles = [(chrom, first) for chrom in source.names for first in range(0, _n_bins(source, chrom), TILE)]
        expected, covered = _expected(source, tiles, settings)
        with atomic_path(output_dir) as folder:
            folder.mkdir()
            _write_cool(folder / "contacts.cool", source, genome, tiles, expected, settings)
            channel = channel_row([row], ".", n_replicates=1) | {"file": "contacts.cool"}
            resolution = int(source.matrix.binsize)
            write_quality([quality_row(channel, **_quality(source, covered))], folder, stamp)
            write_json({"channels": [channel], "resolution": resolution}, folder / "track.json", stamp)
    return Path(output_dir) / "track.json"


def _quality(source: Map, covered: float) -> dict[str, float | None]:
    """Contacts of the file, share of the pixels with one, and share of bins that balancing left out."""
    total = source.matrix.info.get("sum")
    lost = [np.isnan(source.weights[slice(*source.matrix.extent(n))]) for n in source.names.values()]
    missing = float(np.concatenate(lost).mean())
    return {"measured": None if total is None else float(total), "covered": covered, "missing": missing}


def _only(
    rows: Sequence[Mapping[str, Any]] | Mapping[str, Any], files: Sequence[str | Path] | str | Path
) -> tuple[Mapping[str, Any], Path]:
    """The one row and file of a contact map; ValueError for several."""
    rows = [rows] if isinstance(rows, Mapping) else list(rows)
    files = [files] if isinstance(files, str | Path) else list(files)
    if len(rows) != 1 or len(files) != 1:
        raise ValueError(
            f"{len(rows)} rows and {len(files)} files of contact maps "
            f"({[row['accession'] for row in rows]}); one file is one track: give each its own assay name"
        )
    if rows[0]["output_type"] != OutputType.CONTACT_MAPS:
        raise ValueError(f"{files[0]}: output_type {rows[0]['output_type']}, wanted contact_maps")
    return rows[0], Path(files[0])


def _open_map(path: Path, genome: Genome, settings: TrackSettings, scratch: Path) -> Map:
    """The matrix of a file with its weights; FileError if it is no cooler or lacks the resolution.

    `scratch` is a folder for an index that is made anew; it must last as long as the map is read.
    """
    try:
        groups = cooler.fileops.list_coolers(str(path))
    except (OSError, KeyError) as error:
        raise FileError(f"{path}: cannot be read as .cool or .mcool ({error}); fetch it again") from error
    wanted = "/" if groups == ["/"] else f"/resolutions/{settings.contact_resolution}"
    if wanted not in groups:
        raise FileError(
            f"{path}: holds {groups}, wanted resolution {settings.contact_resolution} "
            "(tracks.contact_resolution)"
        )
    matrix = cooler.Cooler(sound_map(path, wanted, scratch))
    if matrix.binsize is None:
        raise FileError(f"{path}: bins of varying size; wanted one bin size")
    weights = _weights(matrix)
    names = match_names({name: int(n) for name, n in matrix.chromsizes.items()}, genome, path)
    ordered = {chrom: names[chrom] for chrom in genome.lengths if chrom in names}
    return Map(path, matrix, ordered, weights, settings.contact_span // int(matrix.binsize))


def _weights(matrix: cooler.Cooler) -> np.ndarray:
    """float64 balancing weight of each bin of the file, NaN where it was left out."""
    if "weight" in matrix.bins().columns:
        return matrix.bins()["weight"][:].to_numpy(dtype=np.float64)
    weights, _ = cooler.balance_cooler(matrix, store=False)
    return np.asarray(weights, dtype=np.float64)


def _n_bins(source: Map, chrom: str) -> int:
    first, last = source.matrix.extent(source.names[chrom])
    return last - first


def coarse_grain(balanced: np.ndarray, counts: np.ndarray, cutoff: float) -> np.ndarray:
    """Replace sparse pixels of a contact matrix by the mean of the smallest block that has enough counts.

    balanced, counts: float64 [n, m], n and m multiples of 2**LEVELS, missing pixels NaN in `balanced`. A
    pixel whose raw count is below `cutoff` takes the mean of the non-missing pixels of the aligned block of
    2, 4, ... 2**LEVELS bins around it that is the first with `cutoff` counts; if none is, that of the
    largest. Missing pixels stay missing. (The adaptive coarse-graining of the Orca protocol.)
    """
    valid = ~np.isnan(balanced)
    total, count, area = (
        np.where(valid, balanced, 0.0),
        np.where(valid, counts, 0.0),
        valid.astype(np.float64),
    )
    result = total.copy()
    open_pixels = valid & (count < cutoff)
    for level in range(1, LEVELS + 1):
        if not open_pixels.any():
            break
        total, count, area = _halve(total), _halve(count), _halve(area)
        with np.errstate(invalid="ignore"):
            mean = total / area
        enough = count >= cutoff if level < LEVELS else np.ones_like(count, dtype=bool)
        rows, columns = np.nonzero(open_pixels)
        chosen = enough[rows >> level, columns >> level]
        rows, columns = rows[chosen], columns[chosen]
        result[rows, columns] = mean[rows >> level, columns >> level]
        open_pixels[rows, columns] = False
    return np.where(valid, result, np.nan)


def _halve(matrix: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2 blocks."""
    n, m = matrix.shape
    return matrix.reshape(n // 2, 2, m // 2, 2).sum((1, 3))


def _tile(source: Map, chrom: str, first: int, settings: TrackSettings) -> np.ndarray:
    """Balanced values float64 [rows, columns] of bins first.. on both sides; NaN missing.

    TILE rows and the columns that the span reaches from them, at most those of the chromosome, both rounded
    up to whole blocks of the coarsest level.
    """
    low, high = source.matrix.extent(source.names[chrom])
    left = high - low - first
    height, width = (_whole_blocks(min(n, left)) for n in (TILE, TILE + source.span + 1))
    row_end, column_end = min(low + first + height, high), min(low + first + width, high)
    counts = np.zeros((height, width))
    weights = np.full(width, np.nan)
    start = low + first
    found = source.matrix.matrix(balance=False)[start:row_end, start:column_end]
    counts[: row_end - start, : column_end - start] = found
    weights[: column_end - start] = source.weights[start:column_end]
    balanced = counts * weights[:height, None] * weights[None, :]
    if settings.contact_coarse_grain:
        return coarse_grain(balanced, counts, settings.contact_cutoff)
    return balanced


def _whole_blocks(bins: int) -> int:
    """`bins` rounded up to a multiple of 2**LEVELS."""
    return -(-bins // (1 << LEVELS)) * (1 << LEVELS)


def _distances(shape: tuple[int, int]) -> np.ndarray:
    """int64 column minus row of each pixel of a tile."""
    return np.arange(shape[1])[None, :] - np.arange(shape[0])[:, None]


def _expected(source: Map, tiles: list[tuple[str, int]], settings: TrackSettings) -> tuple[np.ndarray, float]:
    """float64 [span + 1]: mean over non-zero pixels at each distance in bins; NaN where there is none.

    And the share of pixels that are not zero, of those within the span that are not missing.
    """
    sums, counts = np.zeros(source.span + 1), np.zeros(source.span + 1)
    known = 0
    for chrom, first in tiles:
        tile = _tile(source, chrom, first, settings)
        distance = _distances(tile.shape)
        near = (distance >= 0) & (distance <= source.span)
        known += int(np.count_nonzero(near & ~np.isnan(tile)))
        kept = near & (np.nan_to_num(tile) > 0)
        sums += np.bincount(distance[kept], weights=tile[kept], minlength=source.span + 1)
        counts += np.bincount(distance[kept], minlength=source.span + 1)
    if not counts.any():
        raise FileError(f"{source.path}: no contact between bins that balancing kept")
    mean = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return mean, float(counts.sum() / known)


def _pixels(
    source: Map,
    tiles: list[tuple[str, int]],
    expected: np.ndarray,
    offsets: dict[str, int],
    settings: TrackSettings,
) -> Iterator[pd.DataFrame]:
    """Tables of bin1_id, bin2_id, value in order, a tile at a time; bins numbered in the genome's order."""
    eps = np.nanmin(expected)
    for chrom, first in tiles:
        tile = _tile(source, chrom, first, settings)
        distance = _distances(tile.shape)
        kept = (distance >= 0) & (distance <= source.span) & ~np.isnan(tile)
        kept[kept] &= ~np.isnan(expected[distance[kept]])
        rows, columns = np.nonzero(kept)
        value = np.log((tile[kept] + eps) / (expected[distance[kept]] + eps))
        base = offsets[chrom] + first
        yield pd.DataFrame({"bin1_id": rows + base, "bin2_id": columns + base, "value": value})


def _write_cool(
    path: Path,
    source: Map,
    genome: Genome,
    tiles: list[tuple[str, int]],
    expected: np.ndarray,
    settings: TrackSettings,
) -> None:
    """Write the pixels as a .cool of the genome's chromosome names, without the time of writing."""
    sizes = pd.Series({chrom: genome.lengths[chrom] for chrom in source.names})
    bins = cooler.util.binnify(sizes, int(source.matrix.binsize))
    counts = [_n_bins(source, chrom) for chrom in source.names]
    offsets = dict(zip(source.names, np.cumsum([0, *counts[:-1]]).tolist(), strict=True))
    pixels = _pixels(source, tiles, expected, offsets, settings)
    options: dict[str, Any] = {"columns": ["value"], "dtypes": {"value": np.float64}, "ordered": True}
    dated = path.with_name("dated.cool")
    cooler.create_cooler(str(dated), bins, pixels, symmetric_upper=True, **options)
    copy_undated(dated, path)
    dated.unlink()


def copy_undated(source: Path, target: Path) -> None:
    """Copy a .cool without its date, so that the same contacts give the same bytes."""
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        for name in old:
            old.copy(name, new)
        for name, value in old.attrs.items():
            new.attrs[name] = "1970-01-01T00:00:00" if name == "creation-date" else value
