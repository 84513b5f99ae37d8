"""Distances from variants to their genes: transcription start and nearest splice site."""

from __future__ import annotations

import numpy as np
import polars as pl

from megabase.benchmark.qtl import gene_key


def span_distance(start: np.ndarray, end: np.ndarray, site: np.ndarray) -> np.ndarray:
    """Bases from the span [start, end) to the base `site` (all int [N]); 0 where the site lies inside."""
    return np.maximum(0, np.maximum(start - site, site - (end - 1)))


def splice_sites(exons: pl.DataFrame) -> pl.DataFrame:
    """Distinct splice sites of the exons table: `gene_id, position`.

    A donor is the last base of an exon, an acceptor the first. Ends of a transcript are no splice sites, so
    a transcript of one exon has none.
    """
    inner = exons.sort("transcript_id", "start").with_columns(
        first=pl.col("start") == pl.col("start").min().over("transcript_id"),
        last=pl.col("end") == pl.col("end").max().over("transcript_id"),
    )
    left = inner.filter(~pl.col("first")).select("gene_id", position=pl.col("start").cast(pl.Int64))
    right = inner.filter(~pl.col("last")).select("gene_id", position=pl.col("end").cast(pl.Int64) - 1)
    return pl.concat([left, right]).unique().sort("gene_id", "position")


def nearest(sites: np.ndarray, start: int, end: int) -> int | None:
    """Bases from [start, end) to the nearest of sorted `sites` [N]; none if there are none."""
    if len(sites) == 0:
        return None
    at = int(np.searchsorted(sites, start))
    near = sites[max(at - 1, 0) : at + 1]
    return int(span_distance(np.full(len(near), start), np.full(len(near), end), near).min())


def add_distances(table: pl.DataFrame, genes: pl.DataFrame, exons: pl.DataFrame) -> pl.DataFrame:
    """`table` (position, ref, chrom, gene_id) with `tss_distance`, `splice_distance` (bases) and `placed`.

    `placed` is null where the gene tables lack the gene, false where the gene is on another chromosome.
    The gene_id becomes the gene tables' own, so that scores join by it.
    """
    keyed = genes.select(
        gene_key("gene_id").alias("key"), own=pl.col("gene_id"), gene_chrom=pl.col("chrom"), tss=pl.col("tss")
    ).unique("key", keep="first", maintain_order=True)
    joined = table.with_columns(gene_key("gene_id").alias("key")).join(
        keyed, on="key", how="left", maintain_order="left"
    )
    joined = joined.with_columns(
        gene_id=pl.coalesce("own", "gene_id"),
        placed=pl.when(pl.col("own").is_not_null()).then(pl.col("gene_chrom") == pl.col("chrom")),
    )
    end = pl.col("position") + pl.col("ref").str.len_bytes().cast(pl.Int64)
    gap = pl.max_horizontal(
        pl.lit(0, pl.Int64), pl.col("position") - pl.col("tss"), pl.col("tss").cast(pl.Int64) - (end - 1)
    )
    joined = joined.with_columns(tss_distance=pl.when(pl.col("placed")).then(gap))
    return joined.with_columns(splice_distance=_splice_distances(joined, exons)).drop(
        "key", "own", "gene_chrom", "tss"
    )


def _splice_distances(table: pl.DataFrame, exons: pl.DataFrame) -> pl.Series:
    sites = splice_sites(exons)
    by_gene = {
        key[0]: part["position"].to_numpy()
        for key, part in sites.partition_by("gene_id", as_dict=True).items()
    }
    none = np.empty(0, dtype=np.int64)
    values = [
        nearest(by_gene.get(gene, none), position, position + len(ref)) if placed else None
        for gene, position, ref, placed in table.select("gene_id", "position", "ref", "placed").iter_rows()
    ]
    return pl.Series("splice_distance", values, dtype=pl.Int64)
