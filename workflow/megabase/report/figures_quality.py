"""Quality of the normalized tracks: quality tables -> figure."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from megabase.report.style import in_output_order, spread
from megabase.style import BLUE, GREY, ORANGE, QUIET, RED, label_of, new_figure, styled

VERDICT_COLOURS = {"pass": BLUE, "flag": ORANGE, "excluded": RED, "unknown": GREY}
WIDTH = 0.7  # of the column of an output type


@styled
def quality_figure(table: pl.DataFrame, min_correlation: float) -> Figure:
    """Share of bases with signal and agreement of replicates, a point a track, by output type.

    table: QUALITY_COLUMNS of all organisms. min_correlation: the threshold, drawn as a line.
    """
    figure = new_figure(10.0, 3.4)
    left, right = figure.subplots(1, 2)
    _strips(left, table.filter(pl.col("covered") > 0), "covered")
    left.set_yscale("log")
    left.set_ylabel("share of bases with signal")
    left.set_title("Coverage")
    _strips(right, table.filter(pl.col("worst_correlation").is_not_null()), "worst_correlation")
    right.axhline(min_correlation, color=RED, linewidth=0.9, linestyle="--")
    right.set_ylim(top=1.02)
    right.set_ylabel("Pearson r with the other replicates")
    right.set_title("Replicates (the least alike of each track)")
    shown = [v for v in VERDICT_COLOURS if v in set(table["verdict"])]
    marks = [
        Line2D([], [], marker="o", linestyle="", color=VERDICT_COLOURS[v], markersize=6, label=v)
        for v in shown
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=len(marks), handletextpad=0.2)
    return figure


def _strips(axes: Axes, table: pl.DataFrame, column: str) -> None:
    """One column of points an output type, those that do not pass on top, with the median of all."""
    outputs = in_output_order(table["output_type"])
    for at, output in enumerate(outputs):
        if at % 2:
            axes.axvspan(at - 0.5, at + 0.5, color="#f4f6f8", zorder=0)
        rows = table.filter(pl.col("output_type") == output).sort(pl.col("verdict") != "pass", column)
        values = rows[column].to_numpy().astype(float)
        places = at + spread(np.log10(values) if column == "covered" else values, WIDTH)
        colours = [VERDICT_COLOURS[v] for v in rows["verdict"]]
        axes.scatter(places, values, s=14, c=colours, alpha=0.75, linewidths=0, zorder=3)
        middle = float(np.median(values))
        axes.plot([at - WIDTH / 2, at + WIDTH / 2], [middle, middle], color=QUIET, linewidth=1.2, zorder=2)
    axes.set_xticks(range(len(outputs)), [label_of(o).replace(" ", "\n", 1) for o in outputs], fontsize=8)
    axes.set_xlim(-0.5, max(len(outputs), 1) - 0.5)
    axes.grid(axis="y")
