"""What the report's figures share: names of metrics, kinds of model and their colours, panels.

What every figure of this project shares is in `megabase.style`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.spec import OutputType
from megabase.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, new_figure

METRIC_LABELS = {
    "auroc": "auROC",
    "auprc": "auPRC",
    "pearson": "Pearson r",
    "spearman": "Spearman ρ",
    "pearson_log1p": "Pearson r of log(1+x)",
    "psi5_pearson": "Pearson r of PSI5",
    "psi3_pearson": "Pearson r of PSI3",
    "gene_pearson": "Pearson r of gene expression",
    "gene_lfc_pearson": "Pearson r of gene log fold change",
}


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Figure of `count` panels, `columns` a row, each width x height inches; unused ones are removed."""
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure = new_figure(columns * width, rows * height)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def metric_label(metric: str) -> str:
    """Name of a metric for people."""
    return METRIC_LABELS.get(metric, metric.replace("_", " "))


def in_output_order(names: Iterable[str]) -> list[str]:
    """Output types in the order in which tables and reports list them."""
    order = {o.value: i for i, o in enumerate(OutputType)}
    return sorted(set(names), key=lambda n: (order.get(n, len(order)), n))


def family(model: str) -> str:
    """Kind of a model by its name: student, ensemble, fold teacher, teacher, mean, k-mer or other."""
    if model.startswith("student"):
        return "student"
    if model.startswith("ensemble"):
        return "ensemble of teachers"
    if model.startswith("teacher-all"):
        return "teacher (all folds)"
    if model.startswith("teacher"):
        return "teacher (fold)"
    return {"baseline-mean": "baseline: mean", "baseline-kmer": "baseline: k-mers"}.get(model, model)


FAMILY_COLOURS = {
    "student": BLUE, "ensemble of teachers": RED, "teacher (all folds)": SKY, "teacher (fold)": GREEN,
    "baseline: k-mers": ORANGE, "baseline: mean": GREY,
}  # fmt: skip
_SPARE = (PURPLE, "#F0E442", "#000000")


def family_order(families: Iterable[str]) -> list[str]:
    """Families in the order of figures: ours first, baselines last."""
    known = list(FAMILY_COLOURS)
    return sorted(set(families), key=lambda f: (known.index(f) if f in known else len(known) - 2.5, f))


def colours(families: Iterable[str]) -> dict[str, str]:
    """Colour of each family; a family unknown to this project takes a spare one."""
    names = family_order(families)
    spare = [n for n in names if n not in FAMILY_COLOURS]
    return {n: FAMILY_COLOURS.get(n) or _SPARE[spare.index(n) % len(_SPARE)] for n in names}


def spread(values: np.ndarray, width: float, bins: int = 24) -> np.ndarray:
    """Sideways offsets [N] that keep points of near-equal values [N] apart, without random numbers."""
    offsets = np.zeros(len(values))
    if len(values) < 2:
        return offsets
    edges = np.linspace(values.min(), values.max() + 1e-9, bins + 1)
    place = np.digitize(values, edges)
    for at in np.unique(place):
        members = np.flatnonzero(place == at)
        members = members[np.argsort(values[members], kind="stable")]
        steps = np.arange(len(members)) - (len(members) - 1) / 2
        offsets[members] = steps * min(width / max(len(members), 6), width / 6)
    return offsets


def interval_bar(
    axes: Axes,
    at: float,
    value: float,
    low: float | None,
    high: float | None,
    colour: str,
    *,
    across: bool = False,
) -> None:
    """A point with its interval, upright, or lying if `across`."""
    known = low is not None and high is not None
    errors = [[max(value - low, 0)], [max(high - value, 0)]] if known else None
    style = {"fmt": "o", "color": colour, "markersize": 6, "elinewidth": 1.6, "capsize": 3, "zorder": 4}
    if across:
        axes.errorbar([value], [at], xerr=errors, **style)
    else:
        axes.errorbar([at], [value], yerr=errors, **style)


def family_legend(figure: Figure, shown: dict[str, str]) -> None:
    """One legend above the panels: a dot for each family."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker="o", linestyle="", color=c, markersize=7, label=f) for f, c in shown.items()
    ]
    figure.legend(
        handles=marks, loc="outside upper left", ncols=len(marks), handletextpad=0.2, columnspacing=1.2
    )
