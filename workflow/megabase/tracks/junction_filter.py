"""Which junctions count: the rules of the publication, and our own for small data.

Source: AlphaGenome (bioRxiv 2025.06.25.661532), Methods, splicing, after SpliceMap. Rules work on a biosample
at a time, and a junction that one of them keeps is kept for all, as the published sites are a union over
tissues.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import polars as pl

from megabase.tracks.junction_samples import JunctionSamples
from megabase.tracks.junctions import INTRON

Rule = Literal["total", "gtex", "median"]
GTEX_PERCENTILE, GTEX_COUNT, GTEX_EVENT_READS = 90, 1, 1  # count above, reads of an event at least
MEDIAN_COUNT = 3  # median over samples above
COUNTED = {"chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "strand": pl.String, "reads": pl.Float64}
_SHARED = (
    ("chrom", "strand", "start"),
    ("chrom", "strand", "end"),
)  # one is the donor, the other the acceptor


def kept_junctions(biosamples: Iterable[JunctionSamples], rule: Rule, min_reads: int) -> pl.DataFrame:
    """INTRON of the junctions that are kept, with `reads` over all samples.

    `total`: `min_reads` over all samples of all biosamples. `gtex`: in a biosample, the 90th percentile of
    the counts over samples (a sample without the junction has 0) is above 1, and the reads of all junctions
    that share its donor, or of those that share its acceptor, have a median over samples of 1 or more.
    `median`: in a biosample, the median count over samples is above 3.
    """
    total, kept = pl.DataFrame(schema=COUNTED), [pl.DataFrame(schema=COUNTED).select(INTRON)]
    passes = {"gtex": _passes_gtex, "median": _passes_median}.get(rule)
    for samples in biosamples:
        for part in samples.parts():
            reads = part.group_by(INTRON).agg(pl.col("count").sum().cast(pl.Float64).alias("reads"))
            total = pl.concat([total, reads]).group_by(INTRON).agg(pl.col("reads").sum())
            if passes is not None:
                kept.append(passes(part, len(samples)))
    if passes is None:
        return total.filter(pl.col("reads") >= max(min_reads, 1))
    return total.join(pl.concat(kept).unique(), on=INTRON, how="semi")


def _quantile(keys: Sequence[str], counts: pl.DataFrame, percentile: float, samples: int) -> pl.DataFrame:
    """`keys` and `value`: percentile of `count` over all samples, those without a row counted as zeros.

    Linear between order statistics, as numpy's.
    """
    place = percentile / 100 * (samples - 1)
    low = int(np.floor(place))
    ranked = pl.col("count").sort(descending=True)

    def order_statistic(rank: int) -> pl.Expr:
        return ranked.get(samples - 1 - rank, null_on_oob=True).fill_null(0)

    lower, upper = order_statistic(low), order_statistic(min(low + 1, samples - 1))
    return counts.group_by(keys).agg((lower + (upper - lower) * (place - low)).alias("value"))


def _passes_gtex(counts: pl.DataFrame, samples: int) -> pl.DataFrame:
    """INTRON of the junctions of one biosample that the rule `gtex` keeps."""
    often = _quantile(INTRON, counts, GTEX_PERCENTILE, samples).filter(pl.col("value") > GTEX_COUNT)
    shared = []
    for keys in _SHARED:
        events = counts.group_by(*keys, "sample").agg(pl.col("count").sum())
        read = _quantile(keys, events, 50, samples).filter(pl.col("value") >= GTEX_EVENT_READS)
        shared.append(often.join(read, on=keys, how="semi"))
    return pl.concat(shared).select(INTRON).unique()


def _passes_median(counts: pl.DataFrame, samples: int) -> pl.DataFrame:
    """INTRON of the junctions of one biosample that the rule `median` keeps."""
    return _quantile(INTRON, counts, 50, samples).filter(pl.col("value") > MEDIAN_COUNT).select(INTRON)
