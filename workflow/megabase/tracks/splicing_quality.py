"""Quality of the splicing of each biosample: reads, share of what is known that was seen, replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import polars as pl

from megabase.spec import OutputType
from megabase.tracks.agreement import Agreement, summarize
from megabase.tracks.junction_samples import JunctionSamples
from megabase.tracks.junctions import INTRON
from megabase.tracks.quality import quality_row
from megabase.tracks.table import with_strand


class Sampled(Protocol):
    """A biosample: its name and its samples' junction counts."""

    name: str
    junctions: JunctionSamples


def splicing_quality(
    channels: Sequence[Mapping[str, Any]],
    biosamples: Sequence[Sampled],
    kept: pl.DataFrame,
    tables: Mapping[str, pl.DataFrame],
) -> list[dict[str, Any]]:
    """Quality rows of the usage and junction channels, in their order.

    kept: INTRON of the junctions that are kept. Junctions: `measured` reads of kept junctions of the strand,
    `covered` the share of kept junctions of the strand that the biosample has, `nonzero_mean` and `largest`
    of the normalized counts, the correlation that of log(1 + reads) between samples over kept junctions of
    both strands. Usage: `covered` the share of the strand's sites that have usage.
    """
    figures = {
        (str(output), with_strand(b.name, strand)): found
        for b in biosamples
        for output, found_of in (
            (OutputType.SPLICE_JUNCTIONS, _junctions),
            (OutputType.SPLICE_SITE_USAGE, _usage),
        )
        for strand in "+-"
        for found in [found_of(b, strand, kept, tables)]
    }
    return [quality_row(c, **figures[c["output_type"], c["name"]]) for c in channels]


def _usage(
    biosample: Sampled, strand: str, kept: pl.DataFrame, tables: Mapping[str, pl.DataFrame]
) -> dict[str, Any]:
    """Figures of a biosample's usage on one strand."""
    sites = tables["sites"].filter(pl.col("strand") == strand).select("chrom", "position").unique().height
    used = tables["usage"].filter((pl.col("strand") == strand) & (pl.col("biosample") == biosample.name))
    positive = used.filter(pl.col("usage") > 0)["usage"]
    return {
        "covered": used.height / sites if sites else 0.0,
        "nonzero_mean": positive.mean(),
        "largest": used["usage"].max(),
    }


def _junctions(
    biosample: Sampled, strand: str, kept: pl.DataFrame, tables: Mapping[str, pl.DataFrame]
) -> dict[str, Any]:
    """Figures of a biosample's junctions on one strand."""
    samples = biosample.junctions
    if not len(samples):
        return {}
    plus, minus = (float(reads) for reads in samples.totals(kept).sum(1))
    found = tables["junctions"].filter((pl.col("strand") == strand) & (pl.col("biosample") == biosample.name))
    known = kept.filter(pl.col("strand") == strand).height
    return {
        "measured": plus if strand == "+" else minus,
        "total": float(found["count"].sum()),
        "covered": found.height / known if known else 0.0,
        "nonzero_mean": found["count"].mean(),
        "largest": found["count"].max(),
        "strand_share": plus / (plus + minus) if plus + minus else None,
        **summarize(_agreement(samples, kept).correlations(), samples.used),
    }


def _agreement(samples: JunctionSamples, kept: pl.DataFrame) -> Agreement:
    """Sums over kept junctions of log(1 + reads) of each sample."""
    agreement, left = Agreement.of(len(samples)), kept.height
    if len(samples) < 2:
        return agreement
    for part in samples.kept_parts(kept):
        numbers = part.select(INTRON).unique().with_row_index("place")
        logs = np.zeros((len(samples), numbers.height))
        place = part.join(numbers, on=INTRON, how="left", maintain_order="left")["place"].to_numpy()
        logs[part["sample"].to_numpy(), place] = np.log1p(part["count"].to_numpy())
        agreement.add(logs)
        left -= numbers.height
    agreement.add(np.zeros((len(samples), left)))  # those that none of the samples has
    return agreement
