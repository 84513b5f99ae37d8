"""The section of the page that tells how good the tracks are, and names every one that fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from megabase.report.blocks import PageSection, Table, Text, count, number, picture, plural
from megabase.report.figures_quality import quality_figure
from megabase.report.style import in_output_order
from megabase.settings.data import QualitySettings
from megabase.style import label_of
from megabase.tracks.quality import read_quality

VERDICTS = ("pass", "flag", "excluded", "failed", "unknown")
LISTED = 200  # tracks that the page names; a table names them all
CAPTION = (
    "A point a track. Left: share of the measured bases that are not zero (of a contact map, of its "
    "pixels; of splicing, of the known sites and junctions). Right: the replicate least like the others of "
    "its track, over means of 2,048 bp (junctions: log counts). Dashed: what is asked of it. Bars: medians."
)


def quality_section(paths: Mapping[str, Path], settings: QualitySettings) -> PageSection | None:
    """Tracks by verdict and output type, a figure, and every track that does not pass with the reason.

    paths: quality tables by organism; no section without them.
    """
    if not paths:
        return None
    table = pl.concat([read_quality(path) for path in paths.values()])
    blocks: list[Any] = [_counts(table)]
    drawn = table.filter(pl.col("verdict") != "failed")
    if drawn.filter(pl.col("covered") > 0).height:
        blocks.append(
            picture("track_quality", quality_figure(drawn, settings.min_replicate_correlation), CAPTION)
        )
    blocks.append(_listed(table, settings))
    return PageSection("quality", "Quality of the tracks", blocks)


def _counts(table: pl.DataFrame) -> Table:
    """Tracks of each organism and output type by verdict, with medians."""
    shown = [v for v in VERDICTS if v in ("pass", "flag") or v in set(table["verdict"])]
    rows = []
    for organism in table["organism"].unique(maintain_order=True):
        own = table.filter(pl.col("organism") == organism)
        for output in in_output_order(own["output_type"]):
            part = own.filter(pl.col("output_type") == output)
            verdicts = [count(part.filter(pl.col("verdict") == v).height) for v in shown]
            covered, alike = (part[c].median() for c in ("covered", "replicate_correlation"))
            share = "–" if covered is None else f"{covered:.3g}"
            rows.append([organism, label_of(output), *verdicts, share, number(alike)])
    columns = ("organism", "output type", *shown, "median share of bases with signal", "median replicate r")
    return Table(columns, rows, numeric=frozenset(range(2, len(columns))))


def _listed(table: pl.DataFrame, settings: QualitySettings) -> Table | Text:
    """Every track that does not pass, with the reason."""
    rows = table.filter(pl.col("verdict") != "pass")
    if not rows.height:
        return Text(["Every track passes: none is flagged, none was left out, none failed."])
    fate = "left out of the training" if settings.exclude else "flagged, and kept"
    caption = f"Tracks that do not pass; those below a threshold are {fate}."
    if rows.height > LISTED:
        caption += f" {plural(rows.height - LISTED, 'more track')} in results/tracks/*/quality.tsv."
    cells = [
        [r["organism"], label_of(r["output_type"]), r["name"], r["verdict"], r["reason"] or ""]
        for r in rows.head(LISTED).iter_rows(named=True)
    ]
    return Table(("organism", "output type", "track", "verdict", "reason"), cells, caption)
