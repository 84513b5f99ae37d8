"""The section of the page that tells how far a prediction may be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from megabase.channels import rows_by_output
from megabase.files import read_table
from megabase.report.blocks import PageSection, Table, Text, count, number, picture, with_interval
from megabase.report.figures_trust import reliability_figure
from megabase.report.style import in_output_order
from megabase.representation import biosample_of, represent
from megabase.style import label_of

LEVEL = 0.9  # of the intervals in the table
QUANTITIES = ("spearman", "coverage_raw", "coverage", "width", "error")
SHOWN = 4  # biosamples at either end


def trust_section(uncertainty: pl.DataFrame, tracks: Mapping[str, Path]) -> PageSection:
    """Reliability of intervals, what the spread knows of the errors, and how biosamples were represented.

    uncertainty: UNCERTAINTY_COLUMNS of all models and organisms. tracks: track tables by organism.
    """
    blocks: list[Any] = []
    if uncertainty.height:
        first = uncertainty["organism"][0]
        caption = (
            f"Held-out windows of {first} that calibrated nothing: how many measured values lie inside a "
            "central interval of a level. On the diagonal an interval is as wide as it says; below it, too "
            "narrow. Dashed: the spread over models alone, read as a normal deviation; it lacks the noise of "
            "the measurement and what all models get wrong alike. Solid: calibrated on the other half."
        )
        shown = uncertainty.filter(pl.col("organism") == first)
        blocks += [
            picture("reliability", reliability_figure(shown), caption),
            _uncertainty_table(uncertainty),
        ]
    else:
        line = "No spread was calibrated in this run (config: uncertainty.ensembles, student.distill.spread)."
        blocks.append(Text([line]))
    table = _representation_table(tracks)
    if table is not None:
        blocks.append(table)
    return PageSection("trust", "How far to trust a prediction", blocks)


def _uncertainty_table(uncertainty: pl.DataFrame) -> Table:
    """A row a model, organism and output type."""
    found = {
        (r["model"], r["organism"], r["output_type"], r["quantity"]): r
        for r in uncertainty.filter(
            pl.col("level").is_null() | ((pl.col("level") - LEVEL).abs() < 1e-6)
        ).iter_rows(named=True)
    }
    order = in_output_order(uncertainty["output_type"])
    keys = uncertainty.select("model", "organism", "output_type").unique(maintain_order=True).rows()
    rows = []
    for key in sorted(keys, key=lambda k: (k[1], order.index(k[2]), k[0])):
        one = {
            q: found.get((*key, q), {}) for q in ("spearman", "coverage_raw", "coverage", "width", "error")
        }
        agreement, inside = one["spearman"], one["coverage"]
        rows.append(
            [key[1], label_of(key[2]), key[0],
             with_interval(agreement.get("value"), agreement.get("low"), agreement.get("high"), 2),
             _percent(one["coverage_raw"].get("value")), _percent(inside.get("value")),
             number(one["width"].get("value"), 2), number(one["error"].get("value"), 2),
             count(inside.get("n"))]
        )  # fmt: skip
    caption = (
        "Does it know where it is wrong? Spearman of the spread and the size of the error, 0 if it does not; "
        "share of measured values inside the 90% interval before and after calibration; median width of the "
        "calibrated one and root mean squared error, in the space where errors are even (docs/predict.md)."
    )
    columns = ("organism", "output type", "model", "Spearman ρ of spread and error", "inside 90%, before",
               "inside 90%", "width", "error", "values")  # fmt: skip
    return Table(columns, rows, caption, frozenset(range(3, 9)))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"


def _representation_table(tracks: Mapping[str, Path]) -> Table | None:
    """The best and the least represented biosamples of every organism; None without a track table."""
    rows = []
    for organism, path in tracks.items():
        found = _biosamples(read_table(path, "tracks").to_dicts())
        middle = len(found) - 2 * SHOWN
        kept = found if middle <= 0 else [*found[:SHOWN], None, *found[-SHOWN:]]
        for one in kept:
            cells = [f"{middle} more between them", "", "", ""] if one is None else one
            rows.append([organism, *cells])
    if not rows:
        return None
    caption = (
        "How well biosamples were represented in training, best and least: the mean of n / (n + 1) over the "
        "organism's output types, n being the biosample's replicates. A prediction for a biosample near 0 "
        "leans on what the model learned from others."
    )
    columns = ("organism", "biosample", "representation", "output types", "measurements")
    return Table(columns, rows, caption, frozenset({2, 3, 4}))


def _biosamples(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Name, representation, output types and measurements of every biosample, the best first."""
    tracks = rows_by_output(rows, sites=False)
    known: dict[str, tuple[float, list[str]]] = {}
    for output, found in represent(tracks).items():
        for row, one in zip(tracks[output], found, strict=True):
            name = biosample_of(row)
            if name is not None and name not in known:
                cells = [row.get("biosample_name") or name, number(one["representation"], 2)]
                cells += [count(one["biosample_outputs"]), count(one["biosample_tracks"])]
                known[name] = (one["representation"], cells)
    return [cells for _, (_, cells) in sorted(known.items(), key=lambda item: (-item[1][0], item[0]))]
