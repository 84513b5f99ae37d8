"""One variant: tracks with REF and ALT, genes, contact maps, and its in-silico mutagenesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.locus import (
    Lane,
    draw_contacts,
    draw_genes,
    draw_junctions,
    draw_lane,
    mark_variant,
    position_axis,
)
from megabase.logos import logo_figure
from megabase.report.explanation import Explanation
from megabase.spec import OutputType
from megabase.style import (
    ALT_COLOUR,
    OBSERVED_COLOUR,
    REF_COLOUR,
    new_figure,
    styled,
)

ZOOM = 1024  # bases of the zoomed view


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Patch(color=OBSERVED_COLOUR, label="observed (reference genome)"),
        Line2D([], [], color=REF_COLOUR, label="predicted, REF"),
        Line2D([], [], color=ALT_COLOUR, label="predicted, ALT"),
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3)


def _stack(figure: Any, explanation: Explanation, lanes: Sequence[Lane], first: int, last: int) -> None:
    """Lanes, then junctions where there are any, then genes, in panels that share the axis of positions."""
    arcs = [j for j in explanation.info.get("junctions", []) if _inside(j, first, last)]
    heights = [1.0] * len(lanes) + [1.1] * bool(arcs) + [1.1]
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for lane, panel in zip(lanes, axes, strict=False):
        draw_lane(panel, lane, explanation.start, first, last)
    if arcs:
        draw_junctions(axes[-2], arcs)
    draw_genes(axes[-1], explanation.info.get("genes", []), first, last, explanation.info.get("gene_id"))
    variant = explanation.variant
    mark_variant(axes, first, last, variant["position"], len(variant["ref"]))
    position_axis(axes[-1], variant["chrom"])


def _inside(junction: Mapping[str, Any], first: int, last: int) -> bool:
    return all(first <= junction[end] < last for end in ("donor", "acceptor"))


@styled
def locus_figure(explanation: Explanation) -> Figure:
    """The whole window: every modality stacked above the genes, contact maps beside them."""
    lanes = explanation.lanes()
    maps = contact_panels(explanation)
    figure = new_figure(12.6 if maps else 10.5, 0.82 * len(lanes) + 2.6)
    left, right = (
        figure.subfigures(1, 2, width_ratios=[3.0, 1.0]) if maps else (figure.subfigures(1, 1), None)
    )
    _stack(left, explanation, lanes, explanation.start, explanation.end)
    if right is not None:
        for panel, (title, values, limit) in zip(
            right.subplots(len(maps), 1, squeeze=False)[:, 0], maps, strict=True
        ):
            _draw_map(right, panel, explanation, title, values, limit)
    _legend(figure)
    return figure


def _draw_map(
    figure: Any, axes: Axes, explanation: Explanation, title: str, values: np.ndarray, limit: float
) -> None:
    span, chrom = (explanation.start, explanation.end), explanation.variant["chrom"]
    at, scale = explanation.variant["position"], "change" if "−" in title else "log obs/exp"
    draw_contacts(figure, axes, values, span, chrom, title, limit, at=at, scale=scale)


@styled
def zoom_figure(explanation: Explanation) -> Figure:
    """`ZOOM` bases around the variant at the finest resolution of each modality that has one below 128 bp."""
    lanes = [lane for lane in explanation.lanes() if lane.bases == 1]
    centre = explanation.variant["position"]
    first = max(explanation.start, centre - ZOOM // 2)
    last = min(explanation.end, first + ZOOM)
    figure = new_figure(10.5, 0.82 * len(lanes) + 1.9)
    _stack(figure, explanation, lanes, first, last)
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


def mutagenesis_figure(explanation: Explanation) -> Figure:
    """Logos of the in-silico mutagenesis of REF and of ALT, above the matrix of REF's substitutions."""
    variant = explanation.variant
    mark = (variant["position"], variant["position"] + len(variant["ref"]))
    return logo_figure(explanation.logos(), explanation.info["ism"]["start"], variant["chrom"], mark)
