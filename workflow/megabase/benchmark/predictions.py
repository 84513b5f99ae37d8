"""From the scores of a model to one number for each row of a benchmark.

Which tracks speak for a row: those whose `ontology_curie` is the tissue's; else those whose biosample name
is the tissue's name (case and spaces aside); else all of them. The number is the mean over these tracks
(missing values left out: a track of the other strand has no gene score), except for splice sites, whose
tracks are the site classes: the largest counts. A gene scorer's row is found by variant and gene (Ensembl
versions aside), any other scorer's by variant alone. A variant and gene of several rows (junctions) takes
the largest of each track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from megabase.benchmark.qtl import gene_key
from megabase.files import FileError, read_table
from megabase.scoring.keys import raw_matrix
from megabase.scoring.scorers import file_name
from megabase.scoring.store import scorer_parts
from megabase.spec import OutputType

MATCHED = "matched"  # suffix of a scorer's MPRA rows that use the element's own cell line only


@dataclass(frozen=True, slots=True)
class Scores:
    """Raw scores of one scorer: `keys` (variant_id, gene or null), values float32 [N, P], tracks [P] rows."""

    scorer: str
    keys: pl.DataFrame
    values: np.ndarray
    tracks: pl.DataFrame

    @property
    def by_gene(self) -> bool:
        """Whether a row is a variant and a gene."""
        return self.keys["gene"].null_count() < self.keys.height


def read_scores(folder: str | Path, scorer: str, variants: pl.Series | None = None) -> Scores:
    """Scores of `scorer` under `results/scores/{variants}/{model}`, of the given variant_ids if any.

    FileError if the folder lacks the scorer, naming those that it has.
    """
    folder = Path(folder)
    tables = []
    for part in scorer_parts(folder, scorer):
        table = read_table(part, "scores").select("variant_id", "gene_id", "raw")
        tables.append(
            table if variants is None else table.filter(pl.col("variant_id").is_in(variants.implode()))
        )
    table, tracks = pl.concat(tables), scorer_tracks(folder, scorer)
    values = _matrix(table, tracks.height, f"{folder}/{file_name(scorer)}")
    keys, values = _collapse(table.select("variant_id", gene=gene_key("gene_id").cast(pl.String)), values)
    return Scores(scorer, keys, values, tracks)


def _matrix(table: pl.DataFrame, width: int, where: str) -> np.ndarray:
    """float32 [N, P] of the list column `raw`; FileError if a row does not have P = `width` values."""
    try:
        return raw_matrix(table.select(pl.col("raw").cast(pl.Array(pl.Float32, width))))
    except pl.exceptions.PolarsError as error:
        raise FileError(
            f"{where}: has rows of other than the {width} scores that its track table lists; scores and "
            "tracks.parquet are not of one run, merge the scores again"
        ) from error


def scorer_tracks(folder: Path, scorer: str) -> pl.DataFrame:
    """Track rows of a scorer, in the order of its scores, from `tracks.parquet` of the scores' folder.

    The table has the columns of a track table and `scorer`, the name of the scorer a row belongs to.
    """
    tracks = read_table(folder / "tracks.parquet", "scores")
    found = tracks.filter(pl.col("scorer") == scorer)
    if found.is_empty():
        raise FileError(
            f"{folder / 'tracks.parquet'}: has no track of scorer {scorer!r}; merge the scores again"
        )
    return found


def _collapse(keys: pl.DataFrame, values: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
    """One row a variant and gene: the largest of each track over the rows that share them."""
    if not keys.is_duplicated().any():
        return keys, values
    indexed = keys.with_row_index("at").sort("variant_id", "gene", "at", nulls_last=True)
    first = indexed.select(pl.struct("variant_id", "gene").rle_id()).to_series().to_numpy()
    starts = np.flatnonzero(np.r_[True, first[1:] != first[:-1]])
    ordered = values[indexed["at"].to_numpy()]
    return indexed[starts].select(keys.columns), np.fmax.reduceat(ordered, starts, axis=0)


def plain(name: str) -> str:
    """A biosample's name for comparison: lower case, letters and digits only."""
    return "".join(c for c in name.lower() if c.isalnum())


def tissue_tracks(tracks: pl.DataFrame, tissue: str | None, curie: str | None) -> tuple[list[int], bool]:
    """(indices of the tracks that speak for a tissue, whether they are the tissue's own)."""
    for column, wanted in (("ontology_curie", curie), ("biosample_name", tissue)):
        if wanted and column in tracks.columns:
            same = plain if column == "biosample_name" else str
            found = [i for i, value in enumerate(tracks[column]) if value and same(value) == same(wanted)]
            if found:
                return found, True
    return list(range(tracks.height)), False


def reduce_tracks(values: np.ndarray, output_type: str | None) -> np.ndarray:
    """float [N] of scores [N, P]: the largest for splice-site classes, else the mean; NaN left out."""
    if output_type == OutputType.SPLICE_SITES:
        return np.fmax.reduce(values, axis=1, initial=np.nan)
    counts = np.isfinite(values).sum(1)
    total = np.where(np.isfinite(values), values, 0.0).sum(1)
    return np.divide(total, counts, out=np.full(len(values), np.nan), where=counts > 0)


def predict_rows(
    table: pl.DataFrame, scores: Scores, *, own_only: bool = False, agnostic: bool = False
) -> np.ndarray:
    """float [N]: a scorer's number for each benchmark row; NaN where the scores lack it.

    own_only: NaN too where no track is the tissue's own. agnostic: always the mean over all tracks.
    """
    output_type = scores.tracks["output_type"][0] if scores.tracks.height else None
    rows = _positions(table, scores)
    result = np.full(table.height, np.nan)
    tissues = table.select("tissue", "ontology_curie")
    for tissue, curie in tissues.unique(maintain_order=True).iter_rows():
        chosen, own = tissue_tracks(scores.tracks, tissue, curie)
        if agnostic:
            chosen = list(range(scores.tracks.height))
        elif own_only and not own:
            continue
        here = tissues.select(
            pl.col("tissue").eq_missing(tissue) & pl.col("ontology_curie").eq_missing(curie)
        ).to_series()
        at = np.flatnonzero(here.to_numpy() & (rows >= 0))
        result[at] = reduce_tracks(scores.values[rows[at]][:, chosen], output_type)
    return result


def _positions(table: pl.DataFrame, scores: Scores) -> np.ndarray:
    """Row of the scores int [N] of each benchmark row, -1 where there is none."""
    indexed = scores.keys.with_row_index("at")
    wanted = table.select("variant_id", gene=gene_key("gene_id").cast(pl.String))
    on: Sequence[str] = ["variant_id", "gene"] if scores.by_gene else ["variant_id"]
    found = wanted.join(
        indexed.unique(on, keep="first", maintain_order=True), on=on, how="left", maintain_order="left"
    )
    return found["at"].cast(pl.Int64).fill_null(-1).to_numpy()
