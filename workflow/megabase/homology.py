"""Which stretches of genomes are homologous: shared k-mers, on either strand, within and between species.

A model that has seen one copy of a duplicated stretch knows the other, so copies belong in one fold. Each
stretch is sketched by the k-mers whose hash falls below a bound (the same bound everywhere, so that sketches
can be compared), canonical between strands. Two stretches that share more than a threshold of the smaller
sketch are joined. K-mers found in more than MAX_COPIES stretches are interspersed repeats: they say nothing
about a common origin of whole stretches and are passed over, though they count in a sketch's size.

What it finds, measured on copies of 131,072 bp with substitutions at random (test_folds.py), with k = 15 and
a threshold of 0.1: those that have diverged by 10% (21% of k-mers are left), none by 20% (3.5%) or 30%
(0.5%). Shorter k-mers would find older copies and chance alike. For genomes as far apart as human and mouse,
give a table of aligned intervals (`folds.homology_pairs`, `synteny`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from megabase.spec import UNKNOWN_BASE

SKETCH = 1024  # hashes that a stretch is meant to keep
MAX_COPIES = 64
MIN_SHARED = 8  # fewer shared hashes are chance, whatever their share of a short sketch
_ROWS = 512  # stretches compared with all others at a time


def canonical_kmers(codes: np.ndarray, k: int) -> np.ndarray:
    """uint64 codes of the k-mers of codes uint8 [S], the smaller of both strands; k-mers with N left out.

    ValueError for k above 31, which two bits a base could not hold.
    """
    if not 1 <= k <= 31:
        raise ValueError(f"k-mers of {k} bases: wanted 1 to 31")
    n = len(codes) - k + 1
    if n <= 0:
        return np.zeros(0, dtype=np.uint64)
    unknown = np.concatenate([[0], np.cumsum(codes == UNKNOWN_BASE)])
    wide = codes.astype(np.uint64) & np.uint64(3)
    forward, reverse = np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.uint64)
    for j in range(k):
        base = wide[j : j + n]
        forward = (forward << np.uint64(2)) | base
        reverse |= (np.uint64(3) - base) << np.uint64(2 * j)
    return np.minimum(forward, reverse)[unknown[k:] == unknown[:-k]]


def _mix(values: np.ndarray) -> np.ndarray:
    """A bijective scramble of uint64 (the splitmix64 finalizer), so that a bound picks k-mers evenly."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def sketch(codes: np.ndarray, k: int, scale: int) -> np.ndarray:
    """Sorted distinct hashes uint64 of about one in `scale` of the k-mers of codes uint8 [S]."""
    hashes = _mix(canonical_kmers(codes, k) + np.uint64(1))
    return np.unique(hashes[hashes <= np.uint64((2**64 - 1) // scale)])


def sketch_scale(lengths: Sequence[int]) -> int:
    """The `scale` at which a stretch of median length keeps about SKETCH hashes."""
    return max(1, int(np.median(lengths)) // SKETCH) if len(lengths) else 1


def similar_pairs(sketches: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """Pairs int64 [N, 2] of stretches that share more than `threshold` of the smaller sketch."""
    sizes = np.array([len(s) for s in sketches], dtype=np.int64)
    hashes, column = np.unique(np.concatenate([*sketches, np.zeros(0, np.uint64)]), return_inverse=True)
    row = np.repeat(np.arange(len(sketches)), sizes)
    copies = np.bincount(column, minlength=len(hashes))
    telling = (copies[column] > 1) & (copies[column] <= MAX_COPIES)
    shape = (len(sketches), max(len(hashes), 1))
    ones = np.ones(int(telling.sum()), dtype=np.int32)
    table = csr_matrix((ones, (row[telling], column[telling])), shape=shape)
    parts = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(sketches), _ROWS):
        shared = (table[start : start + _ROWS] @ table.T).tocoo()
        left, right = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        smaller = np.minimum(sizes[left], sizes[right])
        joined = (left < right) & (shared.data >= MIN_SHARED) & (shared.data > threshold * smaller)
        parts.append(np.stack([left[joined], right[joined]], axis=1))
    return np.concatenate(parts)


def clusters(count: int, pairs: np.ndarray) -> np.ndarray:
    """Cluster number int64 [count] of each stretch, numbered by first member; pairs are joined whole."""
    links = csr_matrix((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    _, first, dense = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[dense].astype(np.int64)
