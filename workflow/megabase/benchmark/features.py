"""What the baselines know of a variant: its distance to the gene, its change in GC and in common k-mers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from megabase.sequence import encode, reverse_complement
from megabase.spec import UNKNOWN_BASE

if TYPE_CHECKING:
    from megabase.genome import Genome

K = 5
SAMPLED_BASES = 100_000_000  # enough for the frequencies of 1,024 k-mers to four digits
BLOCK = 1_000_000
FEATURES = ("tss_distance", "splice_distance", "gc_change", "kmer_change")


def kmer_codes(codes: np.ndarray, k: int = K) -> np.ndarray:
    """Number int64 [S - k + 1], base 4, of each k-mer of codes uint8 [S]; -1 if a base is unknown."""
    if len(codes) < k:
        return np.empty(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int64), k)
    numbers = windows @ (4 ** np.arange(k - 1, -1, -1))
    return np.where((windows == UNKNOWN_BASE).any(axis=1), -1, numbers)


def kmer_log_frequencies(genome: Genome, k: int = K) -> np.ndarray:
    """Natural log frequency float64 [4**k] of each k-mer on both strands, with one pseudocount each.

    A genome beyond 100 Mb is sampled in evenly spaced blocks.
    """
    total = sum(genome.lengths.values())
    every = max(1, round(total / SAMPLED_BASES))
    counts = np.ones(4**k)
    block = 0
    for chrom, length in genome.lengths.items():
        for start in range(0, length, BLOCK):
            if block % every == 0:
                codes = genome.codes(chrom, start, min(start + BLOCK + k - 1, length))
                for strand in (codes, reverse_complement(codes)):
                    numbers = kmer_codes(strand, k)
                    counts += np.bincount(numbers[numbers >= 0], minlength=4**k)
            block += 1
    return np.log(counts / counts.sum())


def gc_change(ref: str, alt: str) -> int:
    """G and C bases of ALT less those of REF."""
    return sum(b in "GC" for b in alt) - sum(b in "GC" for b in ref)


def kmer_change(
    genome: Genome, log_frequency: np.ndarray, chrom: str, position: int, ref: str, alt: str, k: int = K
) -> float:
    """Mean log frequency of the k-mers that overlap ALT less that of those that overlap REF; 0 if none do.

    The mean, not the sum: an insertion has more k-mers than its reference and would be rare for that alone.
    """
    left = genome.codes(chrom, position - k + 1, position)
    right = genome.codes(chrom, position + len(ref), position + len(ref) + k - 1)
    means = []
    for allele in (ref, alt):
        numbers = kmer_codes(np.concatenate([left, encode(allele), right]), k)
        numbers = numbers[numbers >= 0]
        means.append(log_frequency[numbers].mean() if len(numbers) else np.nan)
    change = means[1] - means[0]
    return float(change) if np.isfinite(change) else 0.0


def baseline_features(table: pl.DataFrame, genome: Genome) -> pl.DataFrame:
    """A benchmark table's rows as features `FEATURES` (float, larger = more likely to matter, or signed).

    Distances become nearness, 1 / (1 + distance): it ranks as -log distance does, and is positive, so that
    a task may take its size. Null where the row has none (no gene, or a gene without introns).
    """
    frequencies = kmer_log_frequencies(genome)
    distinct = table.select("variant_id", "chrom", "position", "ref", "alt").unique(
        "variant_id", maintain_order=True
    )
    changes = [
        (identifier, float(gc_change(ref, alt)), kmer_change(genome, frequencies, chrom, position, ref, alt))
        for identifier, chrom, position, ref, alt in distinct.iter_rows()
    ]
    known = pl.DataFrame(
        changes,
        schema={"variant_id": pl.String, "gc_change": pl.Float64, "kmer_change": pl.Float64},
        orient="row",
    )
    distances = [(1 / (pl.col(c).cast(pl.Float64) + 1)).alias(c) for c in ("tss_distance", "splice_distance")]
    joined = table.with_columns(distances).join(known, on="variant_id", how="left", maintain_order="left")
    return joined.select(FEATURES)
