"""How variants are dealt to jobs: contiguous chunks of equal estimated cost, of which no window is parted.

Costs are told in variants: predicting an alternate allele is 1. A window adds the prediction of its
reference, once for all variants that share it; a gene within reach of a variant adds what is read and written
for it. So a chunk of a dense stretch holds more variants than one of a sparse stretch, and both take as long.
Variants that share a window stay together, because a window parted over two jobs is computed twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from megabase.genome import Genes
from megabase.settings.scoring import ChunkSettings, ScoringSettings
from megabase.spec import TOKEN

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Packing:
    """What the cost of a chunk follows from. genes: `GENE_COLUMNS`, or None where there are none."""

    chunks: ChunkSettings = field(default_factory=ChunkSettings)
    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    genes: pl.DataFrame | None = None

    @classmethod
    def of(cls, chunks: ChunkSettings, scoring: ScoringSettings, genes_folder: str | Path | None) -> Packing:
        """With the genes of a folder made by `prepare_genes`, if one is given."""
        genes = Genes.open(genes_folder).genes if genes_folder else None
        return cls(chunks, scoring, genes)

    @property
    def shared(self) -> int:
        """Bases of a stretch whose variants share a window: of one base, one 128-bp bin, or one tile."""
        return {"centered": 1, "binned": TOKEN, "tiled": self.scoring.tile}[self.scoring.placement]


def chunk_bounds(blocks: Callable[[], Iterable[pl.DataFrame]], jobs: int, packing: Packing) -> list[int]:
    """Rows at which chunks begin and end: [jobs + 1], from 0 to the number of variants.

    blocks: gives the variants, sorted by chromosome and `position`, block by block; it is called twice.
    Chunks that are not needed are empty, and come last.
    """
    height, total = 0, 0.0
    for ends, spent in window_ends(blocks(), packing):
        if len(ends):
            height, total = int(ends[-1]), float(spent[-1])
    if not height:
        return [0] * (jobs + 1)
    used = chunks_needed(height, jobs, packing.chunks)
    wanted = total * np.arange(1, used) / used
    inner: set[int] = set()
    last: tuple[np.ndarray, np.ndarray] = (np.zeros(0, np.int64), np.zeros(0))
    for found in window_ends(blocks(), packing):
        ends, spent = (np.append(a, b) for a, b in zip(last, found, strict=True))
        if not len(ends):
            continue
        here, wanted = wanted[wanted <= spent[-1]], wanted[wanted > spent[-1]]
        inner.update(ends[nearest(spent, here)].tolist())
        last = ends[-1:], spent[-1:]
    inner -= {height}
    return [0, *sorted(inner), *[height] * (jobs - len(inner))]


def window_ends(blocks: Iterable[pl.DataFrame], packing: Packing) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, cost up to there) at which windows end, and so a chunk may, block by block and last of all."""
    height, spent, last = 0, 0.0, None
    for table in blocks:
        if not table.height:
            continue
        first = window_starts(table, packing.shared)
        begin, end = (
            (table["chrom"][i], table["position"][i] // packing.shared) for i in (0, table.height - 1)
        )
        first[0] = begin != last  # a window may go on from the block before
        costs = variant_costs(first, reachable_genes(table, packing), packing.chunks)
        sums = np.cumsum(np.append(spent, costs))
        rows = np.flatnonzero(first)
        rows = rows if height else rows[1:]
        yield height + rows, sums[rows]
        height, spent, last = height + table.height, float(sums[-1]), end
    yield np.array([height] if height else [], np.int64), np.array([spent] if height else [])


def nearest_ends(spent: np.ndarray, used: int) -> np.ndarray:
    """int64 [used - 1]: windows that chunks of equal cost end with. spent [W]: cost up to its end."""
    return nearest(spent, spent[-1] * np.arange(1, used) / used)


def nearest(spent: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64 [K]: which of the rising costs [W] is nearest to each wanted one, none of which is larger."""
    after = np.searchsorted(spent, wanted)
    before = np.maximum(after - 1, 0)
    return np.where(wanted - spent[before] < spent[after] - wanted, before, after)


def window_starts(variants: pl.DataFrame, shared: int) -> np.ndarray:
    """bool [N]: the variant is the first of its window."""
    stretch = variants["position"].to_numpy() // shared
    chrom = variants["chrom"].rle_id().to_numpy()
    first = np.ones(variants.height, dtype=bool)
    first[1:] = (stretch[1:] != stretch[:-1]) | (chrom[1:] != chrom[:-1])
    return first


def reachable_genes(variants: pl.DataFrame, packing: Packing) -> np.ndarray:
    """int64 [N]: genes that overlap the window around each variant."""
    found = np.zeros(variants.height, dtype=np.int64)
    if packing.genes is None:
        return found
    chroms, positions = variants["chrom"].to_numpy(), variants["position"].to_numpy()
    reach = packing.scoring.window // 2
    for (chrom,), genes in packing.genes.group_by("chrom"):
        rows = chroms == chrom
        places = positions[rows]
        begun = np.searchsorted(np.sort(genes["start"].to_numpy()), places + reach, side="left")
        ended = np.searchsorted(np.sort(genes["end"].to_numpy()), places - reach, side="right")
        found[rows] = begun - ended
    return found


def variant_costs(first: np.ndarray, genes: np.ndarray, settings: ChunkSettings) -> np.ndarray:
    """float64 [N] of what each variant adds to its chunk; a window's cost is at its first variant."""
    return 1.0 + settings.window_cost * first + settings.gene_cost * genes


def chunks_needed(variants: int, jobs: int, settings: ChunkSettings) -> int:
    """Chunks, at most `jobs`, in which loading the model takes `load_share` of the time at most."""
    work = settings.load_seconds * (1 / settings.load_share - 1)
    smallest = max(1.0, work * settings.variants_per_second)
    return max(1, min(jobs, math.floor(variants / smallest)))
