"""The rows of scores: their keys, and their numbers as arrays. Light, so that a query starts fast."""

from __future__ import annotations

import numpy as np
import polars as pl

from megabase.seeds import mix, text_keys

VARIANT_KEYS = ("variant_id", "chrom", "position", "ref", "alt")
GENE_KEYS = ("gene_id", "gene_name", "strand")
JUNCTION_KEYS = ("junction_start", "junction_end")
SPREAD = "spread"  # column of the standard deviation of a score over an ensemble's members, where it is known


def raw_matrix(table: pl.DataFrame, column: str = "raw") -> np.ndarray:
    """float32 [rows, tracks] of a fixed-size list column; null lists are NaN."""
    width = table.schema[column].size
    if not table.height:
        return np.zeros((0, width), np.float32)
    return table[column].to_numpy().reshape(table.height, width).astype(np.float32, copy=False)


def matrix_column(name: str, values: np.ndarray | None, width: int) -> pl.Series | pl.Expr:
    """Fixed-size list column of float32 [rows, tracks]; without values a column of nulls."""
    kind = pl.Array(pl.Float32, width)
    if values is None:
        return pl.lit(None, dtype=kind).alias(name)
    if not len(values):
        return pl.Series(name, [], dtype=kind)
    return pl.Series(name, np.ascontiguousarray(values, np.float32), dtype=kind)


def row_keys(table: pl.DataFrame, variants: np.ndarray | None = None) -> np.ndarray:
    """uint64 [rows] that stand for the rows: for variant, gene and junction, and nothing else.

    variants: `text_keys_of` the rows' variant_id, where they are known.
    """
    keys = text_keys_of(table["variant_id"]) if variants is None else variants
    if "gene_id" in table.columns:
        keys = mix(keys ^ mix(text_keys_of(table["gene_id"])))
    for column in JUNCTION_KEYS:
        if column in table.columns:
            keys = mix(keys + table[column].fill_null(-1).to_numpy().astype(np.uint64))
    return keys


def text_keys_of(texts: pl.Series) -> np.ndarray:
    """uint64 [N] that stand for texts; null is the empty text."""
    if texts.null_count() == len(texts):
        return np.zeros(len(texts), np.uint64)
    array = texts.fill_null("").to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    found = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return text_keys(np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), found)
