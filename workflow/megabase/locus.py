"""Parts of a figure of a stretch of a chromosome: tracks, genes, contact maps, an axis of positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from megabase.spec import SPLICE_OUTPUTS
from megabase.style import ALT_COLOUR, FAINT, GREEN, INK, OBSERVED_COLOUR, QUIET, REF_COLOUR, label_of

POINTS = 1500  # values drawn across a panel; more bases are averaged together
LEAST_USE = 0.01  # junctions used less than this share of the most used one are not drawn


@dataclass(frozen=True)
class Lane:
    """One track of a figure: values float [N] of the window, `bases` a value; ALT and observed may lack."""

    output_type: str
    label: str
    bases: int
    ref: np.ndarray
    alt: np.ndarray | None
    observed: np.ndarray | None = None


def track_label(row: Mapping[str, Any]) -> str:
    """Biosample, target and strand of a track (a row of TRACK_COLUMNS), as much of it as is known."""
    strand = {"+": "+ strand", "-": "− strand"}.get(row.get("strand") or "")
    return ", ".join(p for p in (row.get("target"), row.get("biosample_name"), strand) if p)


def thin(values: np.ndarray, points: int = POINTS, *, peaks: bool = False) -> np.ndarray:
    """Values [N] in runs, so that at most `points` are left: the mean of each run, or its largest if `peaks`.

    Missing values are left out; a run of nothing else is missing.
    """
    run = -(-len(values) // points)
    if run <= 1:
        return values.astype(float)
    padded = np.full(-(-len(values) // run) * run, np.nan)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, run)
    if peaks:
        return np.fmax.reduce(blocks, axis=1)
    counts = np.isfinite(blocks).sum(1)
    total = np.where(np.isfinite(blocks), blocks, 0).sum(1)
    return np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)


def draw_lane(axes: Axes, lane: Lane, offset: int, first: int, last: int) -> None:
    """One track from base `first` to `last` of a window that starts at `offset` (all on the chromosome).

    REF and ALT are lines over what was observed; a track without ALT is an area.
    """
    i, j = (first - offset) // lane.bases, -(-(last - offset) // lane.bases)
    peaks = lane.output_type in SPLICE_OUTPUTS  # a site is one base: a mean over its neighbours would hide it
    sides = [lane.ref[i:j]] if lane.alt is None else [lane.ref[i:j], lane.alt[i:j]]
    ref, *alt = (thin(side, peaks=peaks) for side in sides)
    x = offset + lane.bases * (i + (np.arange(len(ref)) + 0.5) * (j - i) / len(ref))
    top = np.nanmax(np.concatenate([ref, *alt, [1e-6]]))
    if lane.observed is not None:
        seen = thin(lane.observed[i:j], peaks=peaks)
        axes.fill_between(x, seen, color=OBSERVED_COLOUR, linewidth=0, step="mid")
        if np.isfinite(seen).any():
            top = max(top, min(np.nanmax(seen), 2.5 * top))  # one spike must not flatten the rest
    axes.plot(x, ref, color=REF_COLOUR, linewidth=1.0, drawstyle="steps-mid")
    for side in alt:
        axes.plot(x, side, color=ALT_COLOUR, linewidth=1.0, drawstyle="steps-mid", alpha=0.9)
    if not alt and lane.observed is None:
        axes.fill_between(x, ref, color=REF_COLOUR, linewidth=0, step="mid", alpha=0.25)
    axes.set_ylim(0, 1.12 * top)
    axes.set_yticks([0, top], ["0", f"{top:,.0f}" if top >= 10 else f"{top:.2g}"], fontsize=7)
    title = f"{label_of(lane.output_type)}\n{lane.label}" if lane.label else label_of(lane.output_type)
    lane_label(axes, title)
    axes.tick_params(labelbottom=False, bottom=False)


def lane_label(axes: Axes, text: str) -> None:
    """Name of a lane, right aligned at one place in every lane whatever the width of its numbers."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8)
    axes.yaxis.set_label_coords(-0.055, 0.5)


def rows_of_genes(genes: Sequence[Mapping[str, Any]], gap: int) -> list[int]:
    """Row of each gene so that no two of a row come closer than `gap` bases."""
    ends: list[int] = []
    rows = []
    for gene in sorted(genes, key=lambda g: (g["start"], g["end"])):
        row = next((r for r, end in enumerate(ends) if gene["start"] >= end + gap), len(ends))
        ends[row : row + 1] = [gene["end"]]
        rows.append(row)
    return rows


def draw_genes(
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
    lane_label(axes, "genes")


def mark_variant(grid: Sequence[Axes], first: int, last: int, position: int, length: int) -> None:
    for axes in grid:
        axes.axvspan(position, position + length, color=ALT_COLOUR, alpha=0.5, linewidth=0.8, zorder=0)
        axes.set_xlim(first, last)


def position_axis(axes: Axes, chrom: str) -> None:
    """Axis of positions with round 1-based numbers, as browsers and VCFs count."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_xlim()
    ticks = [at for at in MaxNLocator(6, integer=True).tick_values(low + 1, high + 1) if low < at - 1 < high]
    axes.set_xticks([at - 1 for at in ticks], [f"{int(at):,}" for at in ticks])
    axes.set_xlabel(f"position on {chrom} (bp, 1-based)")


def draw_contacts(
    figure: Any,
    axes: Axes,
    values: np.ndarray,
    span: tuple[int, int],
    chrom: str,
    title: str,
    limit: float,
    *,
    at: int | None = None,
    scale: str = "log obs/exp",
) -> None:
    """One contact map [Q, Q] of bases span[0]..span[1], white at zero, missing bins grey; `at` is marked."""
    first, last = (base / 1e3 for base in span)
    axes.set_facecolor(FAINT)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        extent=(first, last, last, first),
        interpolation="nearest",
    )
    if at is not None:
        axes.plot([at / 1e3], [at / 1e3], marker="x", color=INK, markersize=5)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=4)
    axes.set_xlabel(f"{chrom} (kb)", fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label(scale, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def draw_junctions(axes: Axes, junctions: Sequence[Mapping[str, Any]]) -> None:
    """Introns as arcs, REF above and ALT (where there is one) below the line; width is the predicted use."""
    sides = [("ref", 1, REF_COLOUR)]
    if any(j.get("alt") is not None for j in junctions):
        sides.append(("alt", -1, ALT_COLOUR))
    top = max(j[key] for j in junctions for key, _, _ in sides) or 1.0
    along = (1 - np.cos(np.linspace(0, np.pi, 60))) / 2  # dense where the arcs are steep
    for junction in junctions:
        left, right = sorted((junction["donor"], junction["acceptor"]))
        arc = np.sqrt(along * (1 - along)) * 2
        for key, side, colour in sides:
            use = max(junction[key], 0) / top
            if use >= LEAST_USE:
                axes.plot(
                    left + along * (right - left),
                    side * arc,
                    color=colour,
                    linewidth=0.3 + 3 * use,
                    alpha=0.75,
                )
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set_ylim(-1.15 if len(sides) > 1 else -0.1, 1.15)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(labelbottom=False, bottom=False)
    samples = {junction.get("biosample") or "" for junction in junctions}
    several = "most changed" if len(sides) > 1 else "strongest"
    lane_label(axes, f"junctions\n{samples.pop() if len(samples) == 1 else several}".strip())
