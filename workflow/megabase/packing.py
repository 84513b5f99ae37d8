"""How variants are dealt to jobs: contiguous chunks of equal estimated cost, of which no window is parted.

Costs are told in variants: predicting an alternate allele is 1. A window adds the prediction of its
reference, once for all variants that share it; a gene within reach of a variant adds what is read and written
for it. So a chunk of a dense stretch holds more variants than one of a sparse stretch, and both take as long.
Variants that share a window stay together, because a window parted over two jobs is computed twice.
"""

from __future__ import annotations

import math
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


def chunk_bounds(variants: pl.DataFrame, jobs: int, packing: Packing) -> list[int]:
    """Rows at which chunks begin and end: [jobs + 1], from 0 to the number of variants.

    variants: sorted by chromosome and `position`. Chunks that are not needed are empty, and come last.
    """
    if not variants.height:
        return [0] * (jobs + 1)
    first = window_starts(variants, packing.shared)
    costs = variant_costs(first, reachable_genes(variants, packing), packing.chunks)
    used = chunks_needed(variants.height, jobs, packing.chunks)
    ends = np.append(np.flatnonzero(first)[1:], variants.height)  # where a window ends, a chunk may
    spent = np.cumsum(costs)[ends - 1]
    inner = np.unique(ends[nearest_ends(spent, used)])
    inner = inner[inner < variants.height].tolist()
    return [0, *inner, *[variants.height] * (jobs - len(inner))]


def nearest_ends(spent: np.ndarray, used: int) -> np.ndarray:
    """int64 [used - 1]: windows that chunks of equal cost end with. spent [W]: cost up to its end."""
    wanted = spent[-1] * np.arange(1, used) / used
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
