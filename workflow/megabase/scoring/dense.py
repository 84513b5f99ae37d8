"""Scores of every SNV as dense arrays: the largest effect of each base, and Zarr arrays [bases, 4, tracks].

Rows come in the order of their variants, so an array is written shard by shard and one shard of each is in
memory. What nobody writes is its fill value: NaN, or -1 for a gene.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import FileError
from megabase.scoring.keys import raw_matrix
from megabase.scoring.summary import largest_tracks
from megabase.spec import ALPHABET

CHUNK_VALUES = 1 << 18  # numbers that are read together: 1 MB
SHARD_CHUNKS = 64  # chunks of a file at most: 64 MB before compression
_CODES = {base: code for code, base in enumerate(ALPHABET)}


def zarr_package(path: Path) -> Any:
    """The package zarr, of the optional extra; FileError naming it where it is missing or too old."""
    try:
        import zarr
    except ImportError:
        found = "is not installed"
    else:
        if int(zarr.__version__.split(".")[0]) >= 3:
            return zarr
        found = f"is {zarr.__version__}"
    raise FileError(f"{path}: zarr {found}, wanted 3 or newer; run `pip install 'megabase[zarr]'` and again")


@dataclass(frozen=True)
class Positions:
    """Bases of one part of a saturated set, in genome order; three variants each."""

    chrom: np.ndarray  # int32 [N], rank of the chromosome
    position: np.ndarray  # int64 [N], 0-based
    reference: np.ndarray  # uint8 [N], 0..3 = ACGT
    first: int  # bases of the parts before this one

    @classmethod
    def of(cls, variants: pl.DataFrame, order: Mapping[str, int], first: int, path: Path) -> Positions:
        """Of a `variants` table; FileError unless it has the three alternates of each base, in order."""
        rank = variants["chrom"].replace_strict(order, return_dtype=pl.Int32).to_numpy()
        ref, alt = (_codes_of(variants[column]) for column in ("ref", "alt"))
        position = variants["position"].to_numpy()
        bases = len(ref) // 3
        wanted = np.array([[b for b in range(4) if b != code] for code in range(4)], np.uint8)
        whole = len(ref) == 3 * bases and (alt < 4).all() and (ref < 4).all()
        if whole:
            same = all((x.reshape(-1, 3) == x[::3, None]).all() for x in (rank, position, ref))
            whole = same and np.array_equal(alt.reshape(-1, 3), wanted[ref[::3]])
        if not whole:
            raise FileError(f"{path}: not the three SNVs of each base, in order; split the variants again")
        return cls(rank[::3], position[::3], ref[::3], first)

    @property
    def keys(self) -> np.ndarray:
        """int64 [N]: one ascending number a base."""
        return (self.chrom.astype(np.int64) << 40) + self.position

    def rows_at(
        self, rows: pl.DataFrame, order: Mapping[str, int], path: Path
    ) -> tuple[np.ndarray, np.ndarray]:
        """(base within the part, code of ALT) of each row; FileError for one that is of another variant."""
        rank = rows["chrom"].replace_strict(order, return_dtype=pl.Int64, default=len(order)).to_numpy()
        wanted, keys = (rank << 40) + rows["position"].to_numpy(), self.keys
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        ref, alt = (_codes_of(rows[column]) for column in ("ref", "alt"))
        known = np.zeros(len(at), bool) if not len(keys) else keys[at] == wanted
        known &= (alt < 4) & (ref == self.reference[at] if len(keys) else False) & (ref != alt)
        if not known.all():
            odd = rows["variant_id"][int(np.argmin(known))]
            raise FileError(
                f"{path}: variant {odd} is none of the split; merge the scores of this split again"
            )
        return at, alt


def _codes_of(bases: pl.Series) -> np.ndarray:
    """uint8 codes of a column of single bases; 4 for anything else."""
    return bases.replace_strict(_CODES, default=4, return_dtype=pl.UInt8).to_numpy()


class Largest:
    """The largest effect of each base and alternate of a part: size, then raw score."""

    def __init__(self, bases: int) -> None:
        self._first = np.full((bases, 4), -1.0, np.float32)
        self._second = np.full((bases, 4), -1.0, np.float32)
        self._raw = np.full((bases, 4), np.nan, np.float32)

    def add(self, rows: pl.DataFrame, at: np.ndarray, alt: np.ndarray) -> np.ndarray:
        """See rows of these bases and alternates; the numbers of those that are the largest of theirs so far.

        The first one of equals stays. Rows without any score are never among them.
        """
        if not rows.height:
            return np.zeros(0, np.int64)
        channel, first, second = largest_tracks(rows)
        raw = raw_matrix(rows)[np.arange(len(channel)), channel]
        place = at * 4 + alt
        order = np.lexsort((np.arange(len(place)), -second, -first, place))
        order = order[np.diff(place[order], prepend=-1) != 0]  # the largest row of each variant
        order = order[~np.isnan(raw[order])]
        here = (at[order], alt[order])
        before, size = (self._first[here], self._second[here]), (first[order], second[order])
        better = (size[0] > before[0]) | ((size[0] == before[0]) & (size[1] > before[1]))
        order, here = order[better], (here[0][better], here[1][better])
        self._first[here], self._second[here], self._raw[here] = first[order], second[order], raw[order]
        return order

    def by_base(self) -> np.ndarray:
        """float32 [N] raw score of the largest of the alternates; NaN where there is none."""
        among = np.where(self._first == self._first.max(1, keepdims=True), self._second, -2.0)
        return np.take_along_axis(self._raw, among.argmax(1)[:, None], 1)[:, 0]


class ShardedArray:
    """One Zarr array, filled in ascending order of its first axis; a shard is in memory at a time."""

    def __init__(
        self, group: Any, name: str, shape: tuple[int, ...], dtype: str, fill: float, axes: tuple[str, ...]
    ) -> None:
        """axes: a name for each axis, of which the first is filled in order."""
        rest = int(np.prod(shape[1:]))
        rows = max(1, min(shape[0], CHUNK_VALUES // max(rest, 1)))
        count = max(1, min(SHARD_CHUNKS, -(-shape[0] // rows)))
        self._rows, self._fill, self._start = rows * count, fill, 0
        self._array = group.create_array(
            name, shape=shape, chunks=(rows, *shape[1:]), shards=(self._rows, *shape[1:]), dtype=dtype,
            fill_value=fill, dimension_names=axes,
        )  # fmt: skip
        self._held: np.ndarray | None = None

    def put(self, at: np.ndarray, values: np.ndarray, *inner: np.ndarray) -> None:
        """Set array[at, *inner] = values, `at` ascending and never before a shard that was left."""
        edges = np.flatnonzero(np.diff(at // self._rows, prepend=-1))
        for begin, end in pairwise([*edges.tolist(), len(at)]):
            start = int(at[begin]) // self._rows * self._rows
            if start != self._start:
                self.flush()
                self._start = start
            if self._held is None:
                rows = min(self._rows, self._array.shape[0] - start)
                self._held = np.full((rows, *self._array.shape[1:]), self._fill, self._array.dtype)
            here = slice(begin, end)
            self._held[(at[here] - start, *(index[here] for index in inner))] = values[here]

    def flush(self) -> None:
        """Write the shard that is in memory; it is not filled further."""
        if self._held is not None:
            self._array[self._start : self._start + len(self._held)] = self._held
            self._held = None
