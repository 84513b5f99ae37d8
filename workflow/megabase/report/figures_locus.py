"""One variant: tracks with REF and ALT, genes, contact maps, and its in-silico mutagenesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.report.explanation import Explanation, Lane
from megabase.report.style import (
    ALT_COLOUR,
    BASE_COLOURS,
    FAINT,
    GREEN,
    INK,
    OBSERVED_COLOUR,
    QUIET,
    REF_COLOUR,
    label_of,
    new_figure,
    styled,
)  # fmt: skip
from megabase.spec import ALPHABET, OutputType

POINTS = 1500  # values drawn across a panel; more bases are averaged together
ZOOM = 1024  # bases of the zoomed view


def thin(values: np.ndarray, points: int = POINTS) -> np.ndarray:
    """Values [N] averaged over runs so that at most `points` are left; a run of missing values is missing."""
    run = -(-len(values) // points)
    if run <= 1:
        return values.astype(float)
    padded = np.full(-(-len(values) // run) * run, np.nan)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, run)
    counts = np.isfinite(blocks).sum(1)
    total = np.where(np.isfinite(blocks), blocks, 0).sum(1)
    return np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)


def _draw_lane(axes: Axes, lane: Lane, offset: int, first: int, last: int) -> None:
    """One track from base `first` to `last` of a window that starts at `offset` (all on the chromosome)."""
    i, j = (first - offset) // lane.bases, -(-(last - offset) // lane.bases)
    ref, alt = thin(lane.ref[i:j]), thin(lane.alt[i:j])
    x = offset + lane.bases * (i + (np.arange(len(ref)) + 0.5) * (j - i) / len(ref))
    if lane.observed is not None:
        axes.fill_between(x, thin(lane.observed[i:j]), color=OBSERVED_COLOUR, linewidth=0, step="mid")
    axes.plot(x, ref, color=REF_COLOUR, linewidth=1.0, drawstyle="steps-mid")
    axes.plot(x, alt, color=ALT_COLOUR, linewidth=1.0, drawstyle="steps-mid", alpha=0.9)
    top = np.nanmax(np.concatenate([ref, alt, [1e-6]]))
    seen = thin(lane.observed[i:j]) if lane.observed is not None else np.array([np.nan])
    if np.isfinite(seen).any():
        top = max(top, min(np.nanmax(seen), 2.5 * top))  # a spike of one base must not flatten the rest
    axes.set_ylim(0, 1.12 * top)
    axes.set_yticks([0, top], ["0", f"{top:.2g}"], fontsize=7)
    title = f"{label_of(lane.output_type)}\n{lane.label}" if lane.label else label_of(lane.output_type)
    axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8, labelpad=22)
    axes.tick_params(labelbottom=False, bottom=False)


def rows_of_genes(genes: Sequence[Mapping[str, Any]], gap: int) -> list[int]:
    """Row of each gene so that no two of a row come closer than `gap` bases."""
    ends: list[int] = []
    rows = []
    for gene in sorted(genes, key=lambda g: (g["start"], g["end"])):
        row = next((r for r, end in enumerate(ends) if gene["start"] >= end + gap), len(ends))
        ends[row : row + 1] = [gene["end"]]
        rows.append(row)
    return rows


def _draw_genes(
    axes: Axes, genes: Sequence[Mapping[str, Any]], first: int, last: int, explained: str | None
) -> None:
    """Gene models between two bases: introns as lines, exons as boxes, the explained gene in green."""
    shown = sorted(
        (g for g in genes if g["end"] > first and g["start"] < last), key=lambda g: (g["start"], g["end"])
    )
    rows = rows_of_genes(shown, (last - first) // 12)
    for gene, row in zip(shown, rows, strict=True):
        colour = GREEN if gene["gene_id"] == explained else INK
        left, right = max(gene["start"], first), min(gene["end"], last)
        axes.plot([left, right], [-row, -row], color=colour, linewidth=1)
        for start, end in gene.get("exons", []):
            a, b = max(start, first), min(end, last)
            if b > a:
                axes.broken_barh([(a, max(b - a, (last - first) / 900))], (-row - 0.17, 0.34), color=colour)
        arrow = "→" if gene["strand"] == "+" else "←" if gene["strand"] == "-" else ""
        name = gene.get("gene_name") or gene["gene_id"]
        axes.text(
            (left + right) / 2,
            -row + 0.24,
            f"{name} {arrow}",
            ha="center",
            va="bottom",
            fontsize=8,
            color=colour,
        )
    if not shown:
        axes.text(0.5, 0.5, "no genes here", transform=axes.transAxes, ha="center", va="center", color=QUIET)
    axes.set_ylim(-max(rows, default=0) - 0.5, 0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylabel("genes", rotation=0, ha="right", va="center", fontsize=8, labelpad=22)


def _mark_variant(grid: Sequence[Axes], first: int, last: int, position: int, length: int) -> None:
    for axes in grid:
        axes.axvspan(position, position + length, color=ALT_COLOUR, alpha=0.5, linewidth=0.8, zorder=0)
        axes.set_xlim(first, last)


def _position_axis(axes: Axes, chrom: str) -> None:
    axes.set_xlabel(f"position on {chrom} (bp, 1-based)")
    axes.xaxis.set_major_locator(_few_ticks())
    axes.xaxis.set_major_formatter(lambda value, _: f"{int(value) + 1:,}")


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6, integer=True)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Patch(color=OBSERVED_COLOUR, label="observed (reference genome)"),
        Line2D([], [], color=REF_COLOUR, label="predicted, REF"),
        Line2D([], [], color=ALT_COLOUR, label="predicted, ALT"),
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3)


def _stack(
    explanation: Explanation, lanes: Sequence[Lane], axes: Sequence[Axes], first: int, last: int
) -> None:
    """Lanes, then genes, in panels that share the axis of positions."""
    for lane, panel in zip(lanes, axes, strict=False):
        _draw_lane(panel, lane, explanation.start, first, last)
    _draw_genes(axes[-1], explanation.info.get("genes", []), first, last, explanation.info.get("gene_id"))
    variant = explanation.variant
    _mark_variant(axes, first, last, variant["position"], len(variant["ref"]))
    _position_axis(axes[-1], variant["chrom"])


@styled
def locus_figure(explanation: Explanation) -> Figure:
    """The whole window: every modality stacked above the genes, contact maps beside them."""
    lanes = explanation.lanes()
    maps = contact_panels(explanation)
    figure = new_figure(14.0 if maps else 10.5, 0.82 * len(lanes) + 1.9)
    left, right = (
        figure.subfigures(1, 2, width_ratios=[3.0, 1.0]) if maps else (figure.subfigures(1, 1), None)
    )
    axes = left.subplots(
        len(lanes) + 1, 1, sharex=True, squeeze=False, height_ratios=[1] * len(lanes) + [1.2]
    )[:, 0]
    _stack(explanation, lanes, axes, explanation.start, explanation.end)
    if right is not None:
        for panel, (title, values, limit) in zip(
            right.subplots(len(maps), 1, squeeze=False)[:, 0], maps, strict=True
        ):
            _draw_contacts(right, panel, explanation, title, values, limit)
    _legend(figure)
    return figure


@styled
def zoom_figure(explanation: Explanation) -> Figure:
    """`ZOOM` bases around the variant at the finest resolution of each modality that has one below 128 bp."""
    lanes = [lane for lane in explanation.lanes() if lane.bases == 1]
    centre = explanation.variant["position"]
    first = max(explanation.start, centre - ZOOM // 2)
    last = min(explanation.end, first + ZOOM)
    figure = new_figure(10.5, 0.82 * len(lanes) + 1.9)
    axes = figure.subplots(
        len(lanes) + 1, 1, sharex=True, squeeze=False, height_ratios=[1] * len(lanes) + [1.0]
    )[:, 0]
    _stack(explanation, lanes, axes, first, last)
    _legend(figure)
    return figure


def contact_panels(explanation: Explanation) -> list[tuple[str, np.ndarray, float]]:
    """(title, map [Q, Q], colour limit) of the observed, predicted and changed contacts, those that exist."""
    output = OutputType.CONTACT_MAPS.value
    if output not in explanation.outputs():
        return []
    ref, alt = explanation.arrays[f"ref/{output}"], explanation.arrays[f"alt/{output}"]
    channel = explanation.channel(output, ref.reshape(-1, ref.shape[-1]), alt.reshape(-1, alt.shape[-1]))
    named = {
        "observed": explanation.arrays.get(f"observed/{output}"),
        "predicted, REF": ref,
        "predicted, ALT": alt,
    }
    found = {title: values[..., channel] for title, values in named.items() if values is not None}
    limit = float(max(np.nanmax(np.abs(v)) if np.isfinite(v).any() else 0 for v in found.values())) or 1.0
    maps = [(title, values, limit) for title, values in found.items()]
    change = alt[..., channel] - ref[..., channel]
    return [*maps, ("ALT − REF", change, float(np.nanmax(np.abs(change))) or 1.0)]


def _draw_contacts(
    figure: Any, axes: Axes, explanation: Explanation, title: str, values: np.ndarray, limit: float
) -> None:
    """One contact map as log(observed/expected), white at zero, missing bins grey."""
    first, last = explanation.start / 1e3, explanation.end / 1e3
    axes.set_facecolor(FAINT)
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(first, last, last, first),
        interpolation="nearest",
    )  # fmt: skip
    at = explanation.variant["position"] / 1e3
    axes.plot([at], [at], marker="x", color=INK, markersize=5)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(_few_ticks())
    axes.yaxis.set_major_locator(_few_ticks())
    axes.locator_params(nbins=3)
    axes.set_xlabel(f"{explanation.variant['chrom']} (kb)", fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label("log obs/exp" if "−" not in title else "change", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def logo_heights(ism: np.ndarray, sequence: str) -> np.ndarray:
    """Letter heights [W, 4]: at the reference base what the sequence gains by it, zero elsewhere."""
    chosen = np.array([[base == letter for letter in ALPHABET] for base in sequence.upper()], dtype=bool)
    return np.where(chosen, ism, 0.0)


@styled
def mutagenesis_figure(explanation: Explanation) -> Figure:
    """The logo of the in-silico mutagenesis above the matrix of every substitution's effect."""
    import logomaker
    import pandas as pd

    ism = explanation.arrays["ism"].astype(float)
    window = explanation.info["ism"]
    heights = logo_heights(ism, window["sequence"])
    figure = new_figure(max(9.0, 0.085 * len(ism) + 2.2), 3.6)
    logo, matrix = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1.1])
    positions = range(window["start"], window["start"] + len(ism))
    table = pd.DataFrame(heights, columns=list(ALPHABET), index=positions)
    logomaker.Logo(table, ax=logo, color_scheme=BASE_COLOURS, show_spines=False, baseline_width=0.6)
    logo.set_ylabel("contribution\nof the base")
    logo.tick_params(labelbottom=False, bottom=False)
    _draw_matrix(figure, matrix, ism, heights != 0, window["start"])
    at, length = explanation.variant["position"], len(explanation.variant["ref"])
    for axes in (logo, matrix):
        axes.axvspan(
            at - 0.5, at + length - 0.5, facecolor="none", edgecolor=ALT_COLOUR, linewidth=1.4, zorder=5
        )
    matrix.set_xlim(window["start"] - 0.5, window["start"] + len(ism) - 0.5)
    _position_axis(matrix, explanation.variant["chrom"])
    return figure


def _draw_matrix(figure: Figure, axes: Axes, ism: np.ndarray, reference: np.ndarray, start: int) -> None:
    """Substitutions as a heat map, the reference base of each position left blank."""
    shown = np.ma.masked_array(ism, mask=reference)
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
