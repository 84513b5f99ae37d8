"""How every figure looks: one palette that colour-blind readers can tell apart, one font, units on axes.

Figures are matplotlib objects made without pyplot, so that nothing global is left behind, and are saved
without dates, so that the same input gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib as mpl
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


def label_of(output_type: str) -> str:
    """Name of an output type for people."""
    return LABELS.get(output_type, output_type.replace("_", " "))
