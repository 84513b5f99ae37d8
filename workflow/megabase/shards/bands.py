"""Contact maps in the store: a band along the diagonal in compressed rows, re-binned at any offset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import zstandard

from megabase.shards.encoding import PACKED, pack, unpack
from megabase.spec import PAIR

ROWS = 64  # bins of the source that are compressed together


@dataclass(frozen=True)
class Band:
    """Format of one channel: bins of `bin_size` bases, `width` values a row (distances 0..width-1)."""

    bin_size: int
    width: int
    dtype: str


def encode_rows(rows: np.ndarray, band: Band, compressor: zstandard.ZstdCompressor) -> bytes:
    """Compressed block of rows float32 [n, width], NaN = missing; empty if nothing is there."""
    if np.isnan(rows).all():
        return b""
    return compressor.compress(pack(rows.ravel(), band.dtype).tobytes())


def decode_rows(data: bytes, band: Band, n_rows: int) -> np.ndarray:
    """float32 [n_rows, width] of a block of `encode_rows`."""
    if not data:
        return np.full((n_rows, band.width), np.nan, np.float32)
    raw = np.frombuffer(zstandard.ZstdDecompressor().decompress(data), PACKED[band.dtype])
    return unpack(raw, band.dtype).reshape(n_rows, band.width)


def square(rows: np.ndarray) -> np.ndarray:
    """Symmetric float32 [n, n] of band rows [n, width]; pixels beyond the band are NaN."""
    n, width = rows.shape
    wide = np.full((n, n + width), np.nan, np.float32)
    step = wide.strides[1]
    diagonal = np.lib.stride_tricks.as_strided(wide, (n, width), (wide.strides[0] + step, step))
    diagonal[...] = rows  # element (i, d) of the view is (i, i + d) of the matrix
    upper = wide[:, :n]
    lower = np.tri(n, k=-1, dtype=bool)
    return np.where(lower, upper.T, upper)


def rebin(values: np.ndarray, first: int, bin_size: int, end: int, start: int, bins: int) -> np.ndarray:
    """Mean by area of a contact matrix in the 2,048-bp bins of a window.

    values: [n, n] of bins of `bin_size` from base `first` on, the last one cut at base `end` (that of the
    chromosome); NaN = missing. start: first base of the window of `bins` bins. Returns float32 [bins, bins]:
    the mean of the source pixels weighted by the area they share with the bin; missing area is left out,
    and a bin without any area is NaN.
    """
    index, weights = _overlaps(len(values), first, bin_size, end, start, bins)
    known = ~np.isnan(values)
    total = _sum_rows(_sum_rows(np.where(known, values, 0.0), index, weights).T, index, weights).T
    area = _sum_rows(_sum_rows(known.astype(np.float64), index, weights).T, index, weights).T
    mean = np.divide(total, area, out=np.full_like(total, np.nan), where=area > 0)
    return mean.astype(np.float32)


def _overlaps(
    n: int, first: int, bin_size: int, end: int, start: int, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Source bins that each window bin touches, int64 [bins, k], and the bases they share, float64."""
    edges = start + PAIR * np.arange(bins)
    nearest = (edges - first) // bin_size
    index = nearest[:, None] + np.arange(PAIR // bin_size + 2)[None, :]
    low = first + index * bin_size
    high = np.minimum(low + bin_size, end)
    shared = np.minimum(high, edges[:, None] + PAIR) - np.maximum(low, edges[:, None])
    inside = (index >= 0) & (index < n)
    return np.clip(index, 0, n - 1), np.where(inside, np.maximum(shared, 0), 0).astype(np.float64)


def _sum_rows(matrix: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 [bins, m]: weighted sums of rows of [n, m]."""
    total = np.zeros((len(index), matrix.shape[1]))
    for column in range(index.shape[1]):
        total += weights[:, column, None] * matrix[index[:, column]]
    return total
