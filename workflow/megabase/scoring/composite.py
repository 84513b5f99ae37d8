"""The composite splicing score of a variant and a gene, derived from the three splicing scorers.

max |change of splice site| + max |change of usage| + max junction score / 5, maxima over tracks (and
junctions); a part without a row for the gene counts as zero. Source: AlphaGenome Methods.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from megabase.files import read_table
from megabase.scoring.keys import GENE_KEYS, SPREAD, VARIANT_KEYS, raw_matrix
from megabase.scoring.parts import CHUNK, read_blocks

COMPOSITE = "composite_splicing"  # derived in the merge from the three splicing scorers
JUNCTION_WEIGHT = 1 / 5  # of the junction score
PARTS = {"splice_sites": 1.0, "splice_site_usage": 1.0, "splice_junctions": JUNCTION_WEIGHT}


def has_composite(folder: str | Path) -> bool:
    """Whether a chunk folder holds the three scorers that the composite needs."""
    return all((Path(folder) / f"{name}.parquet").is_file() for name in PARTS)


def composite_table(folder: str | Path) -> pl.DataFrame:
    """Rows (variant x gene) of the composite splicing score of a chunk folder; `raw` has one channel.

    So has `spread`, in the chunks of an ensemble.
    """
    keys = [*VARIANT_KEYS, *GENE_KEYS]
    parts = [_largest(Path(folder) / f"{name}.parquet", weight) for name, weight in PARTS.items()]
    total = (
        pl.concat(parts)
        .group_by(keys, maintain_order=True)
        .agg(pl.col("value").sum().cast(pl.Float32).alias("raw"))
    )
    found = total.with_columns(pl.concat_list("raw").list.to_array(1).alias("raw"))
    own = Path(folder) / f"{COMPOSITE}.parquet"  # an ensemble's, who alone knows the spread
    if not own.is_file():
        return found
    known = read_table(own, CHUNK)
    return (
        found.join(known.select(*keys, SPREAD), on=keys, how="left", nulls_equal=True, maintain_order="left")
        if SPREAD in known.columns
        else found
    )


def _largest(path: Path, weight: float) -> pl.DataFrame:
    """Weighted largest score a variant and gene, read in blocks: keys and `value` (NaN counts as none)."""
    keys = [*VARIANT_KEYS, *GENE_KEYS]
    found = []
    for table in read_blocks(path, CHUNK):
        largest = np.nan_to_num(raw_matrix(table), nan=0.0).max(1, initial=0.0)
        found.append(table.select(keys).with_columns(pl.Series("value", largest.astype(np.float64))))
    return pl.concat(found).group_by(keys, maintain_order=True).agg(pl.col("value").max() * weight)
