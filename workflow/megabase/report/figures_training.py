"""Loss curves: table of training.tsv rows -> figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.report.style import panels
from megabase.style import BLUE, FAINT, ORANGE, label_of, styled

LOSS, HEAD, SPREAD = "loss", "loss/", "loss/spread/"


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Centred running mean [N] over up to `width` points, shorter at the ends."""
    if width <= 1 or len(values) <= 2:
        return values
    half = min(width, len(values)) // 2
    total = np.r_[0.0, np.cumsum(values)]
    at = np.arange(len(values))
    first, last = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (total[last] - total[first]) / (last - first)


def _curve(axes: Axes, table: pl.DataFrame, quantity: str) -> None:
    """Training loss (thin as logged, thick smoothed) and validation loss of one quantity."""
    rows = table.filter(pl.col("quantity") == quantity).sort("step")
    train, valid = (rows.filter(pl.col("split") == s) for s in ("train", "valid"))
    if train.height:
        steps, values = train["step"].to_numpy(), train["value"].to_numpy().astype(float)
        axes.plot(steps, values, color=BLUE, alpha=0.25, linewidth=0.8)
        axes.plot(
            steps, smooth(values, max(1, len(values) // 12)), color=BLUE, linewidth=1.8, label="training"
        )
    if valid.height:
        axes.plot(
            valid["step"], valid["value"], "o-", color=ORANGE, markersize=4, linewidth=1.4, label="validation"
        )
    axes.grid(axis="y", color=FAINT)
    axes.set_xlabel("optimizer step")
    axes.margins(x=0.02)
    _focus(axes, rows["value"].to_numpy().astype(float))


def _focus(axes: Axes, values: np.ndarray) -> None:
    """Y limits that show the course of the curve: the first few values may lie far above the rest."""
    values = values[np.isfinite(values)]
    if len(values) > 5:
        low, high = values.min(), np.percentile(values, 97)
        if high > low:
            axes.set_ylim(low - 0.06 * (high - low), high + 0.12 * (high - low))


@styled
def loss_curves(tables: Mapping[str, pl.DataFrame]) -> Figure:
    """Total loss of each model {name: training table (step, split, quantity, value)}, a panel a model."""
    figure, grid = panels(len(tables), 3, 3.7, 2.6)
    for axes, (name, table) in zip(grid, tables.items(), strict=True):
        _curve(axes, table, LOSS)
        axes.set_title(name)
        axes.set_ylabel("loss")
    if grid:
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8)
    return figure


@styled
def head_curves(table: pl.DataFrame) -> Figure:
    """Loss of each head of one model, a panel a head; those of a variance output are left out."""
    found = table["quantity"].unique().to_list()
    heads = sorted(q for q in found if q.startswith(HEAD) and not q.startswith(SPREAD))
    figure, grid = panels(len(heads), 4, 2.9, 2.1)
    for axes, quantity in zip(grid, heads, strict=True):
        _curve(axes, table, quantity)
        axes.set_title(_head_title(quantity.removeprefix(HEAD)), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7.5)
    if grid:
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8)
    return figure


def _head_title(name: str) -> str:
    """`rna_seq/128bp` and the like as people write it."""
    head, _, rest = name.partition("/")
    return f"{label_of(head)} {rest.replace('_', ' ')}".strip()
