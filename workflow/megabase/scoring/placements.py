"""How much a score depends on where the window lies: the same variants in windows placed three ways.

Windows of one variant differ in where their 128-bp grid begins and in how far the variant lies from the
middle. A trained network should not mind and minds a little: how much is measured on a sample of variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy.stats import pearsonr, spearmanr

from megabase.files import Stamp, write_tsv
from megabase.logs import LOGGER
from megabase.scoring.chunks import as_variants, input_hashes, open_scoring, read_variant_table
from megabase.scoring.engine import Rows
from megabase.scoring.personal_engine import make_engine
from megabase.scoring.placement import PLACEMENTS

if TYPE_CHECKING:
    from megabase.settings.scoring import ScoringSettings

KIND = "placements"
TILES = 8  # of a window at least: a variant then has 7/16 of it on either side
SCHEMA = {
    "scorer": pl.String, "first": pl.String, "second": pl.String, "variants": pl.Int64, "scores": pl.Int64,
    "pearson": pl.Float64, "spearman": pl.Float64, "difference": pl.Float64, "size": pl.Float64,
}  # fmt: skip


def compare_placements(
    chunks: Sequence[str | Path],
    model_dir: str | Path,
    genome_folder: str | Path,
    genes_folder: str | Path | None,
    output: str | Path,
    settings: ScoringSettings,
    *,
    polya_sites: str | Path | None = None,
    haplotypes: str | Path | None = None,
    device: str = "cpu",
) -> None:
    """Write a TSV that compares the scores of `settings.compare` variants between placements.

    chunks: tables of `split_variants`, of which variants are taken evenly. A row a scorer and pair of
    placements: how many variants and scores (rows times tracks) were compared, the correlation of the two,
    the median absolute difference and the median absolute score. Correlations that are not defined are null.
    Tiles are those of the settings, in a short window an eighth of it.
    """
    table = pl.concat([read_variant_table(chunk) for chunk in chunks])
    places = np.unique(np.linspace(0, table.height - 1, settings.compare).round().astype(int))
    table = table[places] if table.height else table
    found: dict[str, list[dict[str, Rows]]] = {}
    if table.height:
        opened = open_scoring(
            chunks[0], table, model_dir, genome_folder, genes_folder, settings, None, polya_sites, device
        )
        tile = min(settings.tile, settings.window // TILES)
        for placement in PLACEMENTS:
            LOGGER.info("score %d variants in windows that are %s", table.height, placement)
            placed = settings.model_copy(update={"placement": placement, "tile": tile})
            found[placement] = make_engine(*opened, placed, haplotypes).score(as_variants(table))
    rows = [row for pair in combinations(found, 2) for row in compared(found, *pair)]
    inputs = input_hashes(chunks[0], model_dir, genome_folder, genes_folder, polya_sites, haplotypes)
    write_tsv(pl.DataFrame(rows, schema=SCHEMA, orient="row"), output, Stamp(KIND, settings.hash(), inputs))


def compared(scored: dict[str, list[dict[str, Rows]]], first: str, second: str) -> Iterator[tuple[Any, ...]]:
    """Rows of `SCHEMA` of two placements, by scorer; rows of genes or junctions of one alone are left out."""
    for name in scored[first][0]:
        pairs, variants = [], 0
        for one, other in zip(scored[first], scored[second], strict=True):
            both = matched(one[name], other[name])
            variants += both.shape[1] > 0
            pairs.append(both)
        a, b = np.concatenate(pairs, 1)
        size = float(np.median(np.abs(np.concatenate([a, b])))) if len(a) else None
        apart = float(np.median(np.abs(a - b))) if len(a) else None
        yield (name, first, second, variants, len(a), _correlation(pearsonr, a, b),
               _correlation(spearmanr, a, b), apart, size)  # fmt: skip


def matched(one: Rows, other: Rows) -> np.ndarray:
    """float64 [2, n]: scores of the rows that both have, where neither is NaN."""
    places = {key: i for i, key in enumerate(_keys(other))}
    rows = [(i, places[key]) for i, key in enumerate(_keys(one)) if key in places]
    a, b = (x.raw.numpy()[[r[side] for r in rows]].ravel() for side, x in enumerate((one, other)))
    known = np.isfinite(a) & np.isfinite(b)
    return np.stack([a[known], b[known]]).astype(np.float64)


def _keys(rows: Rows) -> list[tuple[Any, ...]]:
    junctions = rows.junctions.tolist() if rows.junctions is not None else [()] * len(rows.genes)
    return [(g.gene_id if g else None, *j) for g, j in zip(rows.genes, junctions, strict=True)]


def _correlation(function: Any, a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return None
    return float(function(a, b).statistic)
