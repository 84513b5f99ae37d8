"""Usage of splice sites told by junction counts alone, where there are no reads to ask."""

from __future__ import annotations

import numpy as np
import polars as pl

SITE = ("chrom", "position", "strand")
USAGE_SCHEMA = {"chrom": pl.String, "position": pl.Int64, "strand": pl.String, "usage": pl.Float64}


def junction_usage(junctions: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """Usage of each site by the junctions of one sample: reads that use it / reads that use or skip it.

    A junction uses the sites at its ends and skips those inside its intron, on its strand. Sites that no
    junction uses or skips are left out.
    """
    parts = [pl.DataFrame(schema=USAGE_SCHEMA)]
    groups = junctions.partition_by("chrom", "strand", as_dict=True)
    for (chrom, strand), here in (
        sites.select(SITE).unique().partition_by("chrom", "strand", as_dict=True).items()
    ):
        reads = groups.get((chrom, strand))
        if reads is not None:
            positions = np.sort(here["position"].to_numpy())
            using, skipping = _using_and_skipping(positions, reads)
            some = using + skipping > 0
            usage = using[some] / (using + skipping)[some]
            part = {"chrom": chrom, "position": positions[some], "strand": strand, "usage": usage}
            parts.append(pl.DataFrame(part, schema=USAGE_SCHEMA))
    return pl.concat(parts)


def _using_and_skipping(positions: np.ndarray, reads: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Reads that use, and reads that skip, each of sorted positions [n] of one chromosome and strand."""
    start, end = reads["start"].to_numpy(), reads["end"].to_numpy()
    count = reads["count"].to_numpy().astype(np.float64)

    def up_to(edges: np.ndarray, side: str) -> np.ndarray:
        order = np.argsort(edges, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(count[order])])
        return sums[np.searchsorted(edges[order], positions, side=side)]

    using = sum(up_to(e, "right") - up_to(e, "left") for e in (start - 1, end))
    return using, up_to(start, "right") - up_to(end, "right")
