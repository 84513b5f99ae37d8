"""Reading scores back: rows of a variant, region, gene or biosample, in long (tidy) form.

A tidy row is one variant (x gene, x junction) and one track. Files are scanned lazily, so a query of a few
variants reads little of a large dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_path, read_json, read_table
from megabase.genome import parse_region
from megabase.scoring.chunks import JUNCTION_KEYS, VARIANT_KEYS, raw_matrix
from megabase.scoring.store import SCORES, scorer_parts

TRACK_KEYS = ("name", "strand", "ontology_curie", "biosample_name", "assay", "target")


def query_scores(
    scores_dir: str | Path,
    *,
    variant: str | None = None,
    region: str | None = None,
    gene: str | None = None,
    biosample: str | None = None,
    scorer: str | None = None,
) -> pl.DataFrame:
    """Tidy rows that meet all conditions given, in the order of the scorers and variants.

    variant: `chrom:position:ref:alt`, 1-based. region: `chrom:start-end`, 1-based and closed, as people and
    browsers write it. gene: id or name. biosample: its name or ontology term, whatever the case. scorer: its
    name. ValueError for a region that is not one, FileError for a scorer that the scores lack.
    """
    found = list(_tidy_parts(Path(scores_dir), variant, region, gene, biosample, scorer))
    return pl.concat(found, how="vertical") if found else empty_tidy()


def tidy_scores(
    scores_dir: str | Path,
    output: str | Path,
    *,
    variant: str | None = None,
    region: str | None = None,
    gene: str | None = None,
    biosample: str | None = None,
    scorer: str | None = None,
) -> None:
    """Write what `query_scores` gives as a TSV (kind `tidy`), part by part."""
    inputs = {"scores": hash_path(Path(scores_dir) / "scores.json")}
    with atomic_path(output) as temporary, temporary.open("wb") as handle:
        handle.write(f"#megabase {json.dumps(Stamp('tidy', inputs=inputs).as_dict())}\n".encode())
        empty_tidy().write_csv(handle, separator="\t")
        for part in _tidy_parts(Path(scores_dir), variant, region, gene, biosample, scorer):
            part.write_csv(handle, separator="\t", include_header=False)


def empty_tidy() -> pl.DataFrame:
    """A tidy table without rows: its columns and types."""
    text = dict.fromkeys(("scorer", "variant_id", "chrom"), pl.String)
    schema = text | {"position": pl.Int64, "ref": pl.String, "alt": pl.String}
    schema |= dict.fromkeys(("gene_id", "gene_name", "gene_strand"), pl.String)
    schema |= dict.fromkeys(JUNCTION_KEYS, pl.Int64) | {"output_type": pl.String}
    schema |= dict.fromkeys([f"track_{k}" if k in ("name", "strand") else k for k in TRACK_KEYS], pl.String)
    return pl.DataFrame(schema=schema | {"raw": pl.Float32, "quantile": pl.Float32})


def _tidy_parts(
    folder: Path,
    variant: str | None,
    region: str | None,
    gene: str | None,
    biosample: str | None,
    scorer: str | None,
) -> Iterator[pl.DataFrame]:
    info = read_json(folder / "scores.json", SCORES)
    tracks = read_table(folder / "tracks.parquet", SCORES)
    names = [scorer] if scorer else [s["name"] for s in info["scorers"]]
    condition = _condition(variant, region, gene)
    for name in names:
        rows = _tracks_of(tracks, name, biosample)
        for part in scorer_parts(folder, name):
            table = pl.scan_parquet(part).filter(condition).collect()
            if table.height and rows.height:
                yield _tidy(table, rows, name)


def _condition(variant: str | None, region: str | None, gene: str | None) -> pl.Expr:
    condition = pl.lit(True)
    if variant:
        condition &= pl.col("variant_id") == variant
    if region:
        place = parse_region(region)
        condition &= pl.col("chrom") == place.chrom
        condition &= pl.col("position") < place.end
        condition &= pl.col("position") + pl.col("ref").str.len_bytes() > place.start
    if gene:
        condition &= (pl.col("gene_id") == gene) | (pl.col("gene_name") == gene)
    return condition


def _tracks_of(tracks: pl.DataFrame, scorer: str, biosample: str | None) -> pl.DataFrame:
    rows = tracks.filter(pl.col("scorer") == scorer).sort("channel")
    if biosample is None:
        return rows
    wanted = biosample.lower()
    columns = ("biosample_name", "ontology_curie")
    return rows.filter(
        pl.any_horizontal(pl.col(c).cast(pl.String).str.to_lowercase() == wanted for c in columns)
    )


def _tidy(table: pl.DataFrame, tracks: pl.DataFrame, scorer: str) -> pl.DataFrame:
    """Long form of the rows of a scorer for the channels of `tracks`."""
    width = table.schema["raw"].size
    channels = tracks["channel"].to_numpy()
    if len(channels) and channels.max() >= width:
        raise FileError(f"scorer {scorer} has {width} tracks, the track table lists more; merge again")
    n, k = table.height, len(channels)
    keys = table.select(
        pl.lit(scorer).alias("scorer"), *VARIANT_KEYS, "gene_id", "gene_name",
        pl.col("strand").alias("gene_strand"),
        *(pl.col(c) if c in table.columns else pl.lit(None, dtype=pl.Int64).alias(c) for c in JUNCTION_KEYS),
    )[np.repeat(np.arange(n), k)]  # fmt: skip
    named = tracks.select(
        "output_type", pl.col("name").alias("track_name"), pl.col("strand").alias("track_strand"),
        *(pl.col(c).cast(pl.String) for c in TRACK_KEYS[2:]),
    )[np.tile(np.arange(k), n)]  # fmt: skip
    values = [
        pl.Series(c, raw_matrix(table, c)[:, channels].reshape(-1), nan_to_null=True)
        for c in ("raw", "quantile")
    ]
    return pl.concat([keys, named], how="horizontal").with_columns(values)
