"""How every figure looks: one palette that colour-blind readers can tell apart, one font, units on axes.

Figures are matplotlib objects made without pyplot, so that nothing global is left behind, and are saved
without dates, so that the same input gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from megabase.spec import OutputType

P = ParamSpec("P")
DPI = 160

INK, QUIET, FAINT = "#22303c", "#6b7a88", "#d9e0e6"
BLUE, SKY, ORANGE, RED, GREEN, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#9aa5b1",
)  # fmt: skip
REF_COLOUR, ALT_COLOUR, OBSERVED_COLOUR = INK, RED, "#b9c4ce"
BASE_COLOURS = {"A": GREEN, "C": BLUE, "G": ORANGE, "T": RED}

LABELS = {
    OutputType.RNA_SEQ: "RNA-seq",
    OutputType.CAGE: "CAGE",
    OutputType.PROCAP: "PRO-cap",
    OutputType.DNASE: "DNase",
    OutputType.ATAC: "ATAC",
    OutputType.CHIP_HISTONE: "ChIP histone",
    OutputType.CHIP_TF: "ChIP TF",
    OutputType.CONTACT_MAPS: "contact maps",
    OutputType.SPLICE_SITES: "splice sites",
    OutputType.SPLICE_SITE_USAGE: "site usage",
    OutputType.SPLICE_JUNCTIONS: "junctions",
}
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
_RULES = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.edgecolor": QUIET, "axes.labelcolor": INK, "text.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "xtick.color": QUIET,
    "ytick.color": QUIET, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": FAINT,
    "grid.linewidth": 0.7, "axes.axisbelow": True, "legend.frameon": False, "figure.facecolor": "white",
    "svg.hashsalt": "megabase",
}  # fmt: skip


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a function that draws a figure under this project's settings, whatever the reader's own are."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_RULES)
            return draw(*args, **kwargs)

    return inside


def png(figure: Figure) -> bytes:
    """The figure as PNG, without a date or the name of the program: equal figures give equal bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    with mpl.rc_context(_RULES):
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
    return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Empty figure of a size in inches, laid out so that labels do not overlap."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Figure of `count` panels, `columns` a row, each width x height inches; unused ones are removed."""
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure = new_figure(columns * width, rows * height)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def label_of(output_type: str) -> str:
    """Name of an output type for people."""
    return LABELS.get(output_type, output_type.replace("_", " "))


def metric_label(metric: str) -> str:
    """Name of a metric for people."""
    return METRIC_LABELS.get(metric, metric.replace("_", " "))


def in_output_order(names: Iterable[str]) -> list[str]:
    """Output types in the order in which tables and reports list them."""
    order = {o.value: i for i, o in enumerate(OutputType)}
    return sorted(set(names), key=lambda n: (order.get(n, len(order)), n))


def family(model: str) -> str:
    """Kind of a model by its name: student, fold teacher, teacher, mean, k-mer or other."""
    if model.startswith("student"):
        return "student"
    if model.startswith("teacher-all"):
        return "teacher (all folds)"
    if model.startswith("teacher"):
        return "teacher (fold)"
    return {"baseline-mean": "baseline: mean", "baseline-kmer": "baseline: k-mers"}.get(model, model)


FAMILY_COLOURS = {
    "student": BLUE, "teacher (all folds)": SKY, "teacher (fold)": GREEN,
    "baseline: k-mers": ORANGE, "baseline: mean": GREY,
}  # fmt: skip
_SPARE = (PURPLE, RED, "#F0E442", "#000000")


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
