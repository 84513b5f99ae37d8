"""Quality of the splicing of each biosample: reads, share of what is known that was seen, replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import polars as pl

from megabase.spec import OutputType
from megabase.tracks.agreement import Agreement, summarize
from megabase.tracks.junctions import INTRON
from megabase.tracks.quality import quality_row
from megabase.tracks.table import with_strand


class Sampled(Protocol):
    """A biosample: its name, its rows and its samples' junction counts."""

    name: str
    rows: list[Mapping[str, Any]]
    junctions: list[pl.DataFrame]


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
    if not biosample.junctions:
        return {}
    samples = [sample.join(kept, on=INTRON, how="semi") for sample in biosample.junctions]
    reads = [float(s.filter(pl.col("strand") == strand)["count"].sum()) for s in samples]
    whole = sum(float(s["count"].sum()) for s in samples)
    found = tables["junctions"].filter((pl.col("strand") == strand) & (pl.col("biosample") == biosample.name))
    known = kept.filter(pl.col("strand") == strand).height
    plus = sum(float(s.filter(pl.col("strand") == "+")["count"].sum()) for s in samples)
    accessions = [r["accession"] for r in biosample.rows if r["output_type"] == OutputType.SPLICE_JUNCTIONS]
    return {
        "measured": sum(reads),
        "total": float(found["count"].sum()),
        "covered": found.height / known if known else 0.0,
        "nonzero_mean": found["count"].mean(),
        "largest": found["count"].max(),
        "strand_share": plus / whole if whole else None,
        **summarize(_agreement(samples, kept).correlations(), accessions),
    }


def _agreement(samples: Sequence[pl.DataFrame], kept: pl.DataFrame) -> Agreement:
    """Sums over kept junctions of log(1 + reads) of each sample."""
    table = kept.select(INTRON).sort(INTRON)
    agreement = Agreement.of(len(samples))
    if len(samples) > 1:
        counts = [table.join(s, on=INTRON, how="left", maintain_order="left")["count"] for s in samples]
        agreement.add(np.log1p(np.array([c.fill_null(0).to_numpy() for c in counts], dtype=np.float64)))
    return agreement
