"""Figures of in-silico mutagenesis: letters as high as what each base contributes, and every substitution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.locus import position_axis
from megabase.spec import ALPHABET
from megabase.style import ALT_COLOUR, BASE_COLOURS, FAINT, new_figure, styled

ROW = 180  # bases of a row, beyond which a figure has several
LONGEST = 2_000  # bases of a figure

Logo = tuple[str, np.ndarray, str]  # name, matrix [W, 4], sequence


def logo_heights(ism: np.ndarray, sequence: str) -> np.ndarray:
    """Letter heights [W, 4]: at the reference base what the sequence gains by it, zero elsewhere."""
    chosen = np.array([[base == letter for letter in ALPHABET] for base in sequence.upper()], dtype=bool)
    return np.where(chosen, ism, 0.0)


def substitution_effects(ism: np.ndarray, reference: np.ndarray) -> np.ma.MaskedArray:
    """Effect [W, 4] of every substitution, the reference bases masked.

    ism [W, 4] holds each base's score less the mean effect of the position's three substitutions, so that the
    reference base holds minus that mean: its distance from the reference base is the effect itself.
    """
    baseline = np.where(reference, ism, 0.0).sum(axis=1, keepdims=True)
    return np.ma.masked_array(ism - baseline, mask=reference)


@styled
def logo_figure(
    logos: Sequence[Logo], start: int, chrom: str, mark: tuple[int, int] | None, title: str = ""
) -> Figure:
    """Logos [W, 4] of alleles from base `start` on, above the matrix of the first one's substitutions.

    mark: a span of the chromosome that is boxed, the variant. More than `ROW` bases are drawn in rows of
    logos, all to one scale.
    """
    if len(logos[0][1]) > ROW:
        return _rows(logos, start, chrom, mark, title)
    width = len(logos[0][1])
    figure = new_figure(max(9.0, 0.085 * width + 2.2), 1.5 * len(logos) + 1.7)
    *panels, matrix = figure.subplots(len(logos) + 1, 1, sharex=True, height_ratios=[1.3] * len(logos) + [1])
    _stack(panels, logos, start, _limits(logos))
    _, ism, sequence = logos[0]
    _draw_matrix(figure, matrix, ism, logo_heights(np.ones((width, 4)), sequence) > 0, start)
    _mark([*panels, matrix], mark)
    panels[0].set_title(title)
    matrix.set_xlim(start - 0.5, start + width - 0.5)
    position_axis(matrix, chrom)
    return figure


def _rows(logos: Sequence[Logo], start: int, chrom: str, mark: tuple[int, int] | None, title: str) -> Figure:
    """Rows of `ROW` bases, each with the logos of all alleles."""
    width = len(logos[0][1])
    firsts, limits = range(0, width, ROW), _limits(logos)
    figure = new_figure(0.085 * ROW + 2.2, (1.2 * len(logos) + 0.5) * len(firsts))
    grid = figure.subplots(len(firsts) * len(logos), 1, squeeze=False)[:, 0]
    for i, first in enumerate(firsts):
        panels = grid[i * len(logos) : (i + 1) * len(logos)]
        part = [(name, ism[first : first + ROW], seq[first : first + ROW]) for name, ism, seq in logos]
        _stack(panels, part, start + first, limits)
        _mark(panels, mark)
        for axes in panels:
            axes.set_xlim(start + first - 0.5, start + first + ROW - 0.5)
        panels[-1].tick_params(labelbottom=True, bottom=True)
        position_axis(panels[-1], chrom)
    grid[0].set_title(title)
    return figure


def _limits(logos: Sequence[Logo]) -> tuple[float, float]:
    heights = [logo_heights(ism, sequence) for _, ism, sequence in logos]
    low, high = min(h.min() for h in heights), max(h.max() for h in heights)
    return low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-9


def _stack(panels: Sequence[Axes], logos: Sequence[Logo], start: int, limits: tuple[float, float]) -> None:
    for axes, (name, ism, sequence) in zip(panels, logos, strict=True):
        draw_logo(axes, logo_heights(ism, sequence), start)
        axes.set_ylabel(f"{name}\ncontribution")
        axes.set_ylim(*limits)


def _mark(panels: Sequence[Axes], mark: tuple[int, int] | None) -> None:
    for axes in panels if mark else ():
        axes.axvspan(
            mark[0] - 0.5, mark[1] - 0.5, facecolor="none", edgecolor=ALT_COLOUR, linewidth=1.2, zorder=5
        )


def draw_logo(axes: Axes, heights: np.ndarray, start: int) -> None:
    """Letters of heights [W, 4] from position `start`."""
    import logomaker
    import pandas as pd

    table = pd.DataFrame(heights, columns=list(ALPHABET), index=range(start, start + len(heights)))
    logomaker.Logo(table, ax=axes, color_scheme=BASE_COLOURS, show_spines=False, baseline_width=0.6)
    axes.tick_params(labelbottom=False, bottom=False)


def _draw_matrix(figure: Any, axes: Axes, ism: np.ndarray, reference: np.ndarray, start: int) -> None:
    """Substitutions as a heat map, the reference base of each position left blank."""
    shown = substitution_effects(ism, reference)
    limit = float(np.abs(shown).max()) if shown.count() else 1.0
    axes.set_facecolor(FAINT)
    image = axes.imshow(
        shown.T, aspect="auto", cmap="PuOr_r", vmin=-limit or -1, vmax=limit or 1, interpolation="nearest",
        extent=(start - 0.5, start + len(ism) - 0.5, 3.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(4), list(ALPHABET))
    axes.set_ylabel("substitution")
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("effect", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
