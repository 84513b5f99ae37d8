"""How reliable a model's intervals are: uncertainty tables -> figure."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from megabase.report.style import colours, family, in_output_order, panels
from megabase.style import FAINT, INK, QUIET, label_of, styled

AFTER, BEFORE = "coverage", "coverage_raw"


@styled
def reliability_figure(table: pl.DataFrame) -> Figure:
    """Share of measured values inside central intervals by their level, a panel an output type.

    table: UNCERTAINTY_COLUMNS of one organism. Solid after calibration, with its interval over windows,
    dashed before; the diagonal is what the intervals say of themselves. A colour is a kind of model.
    """
    outputs = in_output_order(table["output_type"])
    shown = colours(family(model) for model in table["model"].unique())
    figure, grid = panels(len(outputs), 4, 2.1, 2.2)
    for axes, output in zip(grid, outputs, strict=True):
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, zorder=1)
        part = table.filter(pl.col("output_type") == output)
        for model in part["model"].unique(maintain_order=True):
            _curves(axes, part.filter(pl.col("model") == model), shown[family(model)])
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.grid(color=FAINT)
        axes.set_title(label_of(output), fontsize=9)
    for place, axes in enumerate(grid):
        if place % 4 == 0:
            axes.set_ylabel("share inside")
        if place + 4 >= len(grid):
            axes.set_xlabel("level of the interval")
    _legend(figure, shown)
    return figure


def _curves(axes: Axes, rows: pl.DataFrame, colour: str) -> None:
    """Both curves of one model and output type."""
    for quantity, style in ((BEFORE, "--"), (AFTER, "-")):
        own = rows.filter(pl.col("quantity") == quantity).sort("level")
        level, value = own["level"].to_numpy(), own["value"].to_numpy()
        axes.plot(np.r_[0, level], np.r_[0, value], style, color=colour, linewidth=1.4, zorder=3)
        low, high = (own[c].to_numpy().astype(float) for c in ("low", "high"))
        if quantity == AFTER:
            axes.fill_between(level, low, high, color=colour, alpha=0.2, linewidth=0, zorder=2)


def _legend(figure: Figure, shown: dict[str, str]) -> None:
    marks = [Line2D([], [], color=colour, linewidth=1.6, label=name) for name, colour in shown.items()]
    marks += [
        Line2D([], [], color=INK, linewidth=1.4, linestyle="--", label="spread over models alone"),
        Line2D([], [], color=INK, linewidth=1.4, label="calibrated"),
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=len(marks), columnspacing=1.2)
