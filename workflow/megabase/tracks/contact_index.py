"""Whether a contact file's index is that of its pixels; a wrong index is made anew, wrong pixels are refused.

A .cool stores its pixels sorted by their first bin, and beside them where the pixels of each bin begin.
Readers trust that index. Files that cooler 0.8.3 and earlier coarsened, as those of the 4D Nucleome portal,
may have a wrong one, or a pixel of a coarser resolution twice with parts of its count (open2c/cooler#357).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from megabase.files import FileError
from megabase.logs import LOGGER, progress

BLOCK = 1 << 22  # pixels that are read at a time: 64 MB
REMAKE = "fetch it again, or make it anew from its finest resolution with `cooler zoomify`"


@dataclass(frozen=True)
class Index:
    """What the index of a pixel table must be: where each chromosome's bins and each bin's pixels begin."""

    chromosomes: np.ndarray  # int64 [chromosomes + 1]
    bins: np.ndarray  # int64 [bins + 1]
    pixels: int
    repeated: int  # pixels that do not follow the one before them in their row


def sound_map(path: str | Path, group: str, scratch: Path) -> str:
    """Cooler URI by which the resolution `group` of a .cool or .mcool can be read with the right index.

    It is the file itself, or, where its index is not that of its pixels, a small file in the folder `scratch`
    that links to its tables and holds the index made anew, which is exact: pixels are sorted by their first
    bin, or the file is refused. A pixel that is there twice is left so, since dense readers add the counts of
    both, which is its true count. Memory is that of a block of pixels and the index. Raises FileError.
    """
    with h5py.File(path, "r") as file:
        source = file[group]
        try:
            index = index_of(source, f"{path}::{group}")
        except (OSError, KeyError) as error:
            raise FileError(f"{path}::{group}: tables cannot be read ({error}); {REMAKE}") from error
        faults = _faults(source, index)
        if index.repeated:
            LOGGER.warning(
                "%s::%s: %d pixels are twice or out of order in their row; their counts are added",
                path, group, index.repeated,
            )  # fmt: skip
        if not faults:
            return f"{path}::{group}"
        LOGGER.warning("%s::%s: wrong index (%s), made anew from the pixels", path, group, "; ".join(faults))
        target = scratch / "mended.cool"
        _link(source, index, Path(path).resolve(), group, target)
    return f"{target}::/"


def index_of(source: h5py.Group, name: str) -> Index:
    """The index that the tables of a cooler group have; FileError where none can be right."""
    chrom = source["bins/chrom"][:].astype(np.int64)
    if len(chrom) and (np.any(np.diff(chrom) < 0) or chrom[0] < 0):
        raise FileError(f"{name}: bins are not sorted by chromosome; {REMAKE}")
    pixels = source["pixels"]
    lengths = {column: len(pixels[column]) for column in pixels}
    if len(set(lengths.values())) != 1:
        raise FileError(f"{name}: pixel columns of different lengths {lengths}, it is cut short; {REMAKE}")
    counts, repeated = _rows(source, len(chrom), name)
    chromosomes = np.searchsorted(chrom, np.arange(len(source["chroms/name"]) + 1))
    bins = np.concatenate([[0], np.cumsum(counts)])
    return Index(chromosomes.astype(np.int64), bins.astype(np.int64), int(bins[-1]), repeated)


def _rows(source: h5py.Group, n_bins: int, name: str) -> tuple[np.ndarray, int]:
    """(int64 [bins] pixels of each first bin, pixels that do not follow the one before them)."""
    first, second = source["pixels/bin1_id"], source["pixels/bin2_id"]
    upper = source.attrs.get("storage-mode", "symmetric-upper") == "symmetric-upper"
    counts, repeated = np.zeros(n_bins, dtype=np.int64), 0
    last = (-1, -1)
    with progress(len(first), f"index of {name.rpartition('/')[2]}", "pixels") as done:
        for start in range(0, len(first), BLOCK):
            rows, columns = first[start : start + BLOCK], second[start : start + BLOCK]
            before_rows = np.concatenate([[last[0]], rows[:-1]])
            before_columns = np.concatenate([[last[1]], columns[:-1]])
            wrong = (rows < 0) | (columns < 0) | (rows >= n_bins) | (columns >= n_bins)
            _refuse(wrong, start, rows, columns, name, f"bins are 0 to {n_bins - 1}")
            _refuse(
                rows < before_rows, start, rows, columns, name, "pixels must be sorted by their first bin"
            )
            if upper:
                _refuse(columns < rows, start, rows, columns, name, "it stores the upper triangle alone")
            repeated += int(((rows == before_rows) & (columns <= before_columns)).sum())
            counts += np.bincount(rows, minlength=n_bins)
            last = (int(rows[-1]), int(columns[-1]))
            done.advance(len(rows))
    return counts, repeated


def _refuse(
    wrong: np.ndarray, start: int, rows: np.ndarray, columns: np.ndarray, name: str, wanted: str
) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        raise FileError(
            f"{name}: pixel {start + at} is of bins {rows[at]}, {columns[at]}; {wanted}; {REMAKE}"
        )


def _faults(source: h5py.Group, index: Index) -> list[str]:
    """What of the stored index differs from `index`, in words."""
    found = []
    for key, wanted in (("chrom_offset", index.chromosomes), ("bin1_offset", index.bins)):
        stored = source["indexes"][key][:] if key in source.get("indexes", {}) else np.zeros(0)
        if len(stored) != len(wanted):
            found.append(f"{key} has {len(stored)} numbers, wanted {len(wanted)}")
        elif differ := int((stored != wanted).sum()):
            found.append(f"{differ} of {len(wanted)} numbers of {key} are wrong")
    if (stated := source.attrs.get("nnz", index.pixels)) != index.pixels:
        found.append(f"nnz is {stated}, it has {index.pixels} pixels")
    return found


def _link(source: h5py.Group, index: Index, path: Path, group: str, target: Path) -> None:
    """A cooler file whose tables are those of `path` and whose index is `index`."""
    with h5py.File(target, "w") as new:
        for key, value in source.attrs.items():
            new.attrs[key] = value
        new.attrs["nnz"] = index.pixels
        for table in ("chroms", "bins", "pixels"):
            new[table] = h5py.ExternalLink(str(path), f"{group.rstrip('/')}/{table}")
        new["indexes/chrom_offset"] = index.chromosomes
        new["indexes/bin1_offset"] = index.bins
