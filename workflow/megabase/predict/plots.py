"""The picture of a prediction: tracks of a region with REF and ALT, junctions, contact maps and genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from megabase.genome import Genes, Interval
from megabase.locus import (
    Lane,
    draw_contacts,
    draw_genes,
    draw_junctions,
    draw_lane,
    mark_variant,
    position_axis,
    rows_of_genes,
    track_label,
)
from megabase.predict.arrays import Prediction
from megabase.spec import Kind, OutputType, SiteClass
from megabase.style import ALT_COLOUR, QUIET, REF_COLOUR, new_figure, styled
from megabase.variants import Variant

LANES = 12  # tracks drawn; each output type has its share of them
ARCS = 40  # junctions drawn
LEAST_SHARE = 0.1  # of the strongest track: changes of much weaker ones count little
Map = tuple[str, np.ndarray, tuple[int, int], float]
Alleles = Mapping[str, Mapping[OutputType, Prediction]]


@styled
def region_figure(
    alleles: Alleles,
    region: Interval,
    *,
    model: str,
    variant: Variant | None = None,
    genes: Genes | None = None,
) -> Figure:
    """Figure of predictions by allele (one, or `ref` and `alt`) in a region of the window.

    Of each output type the tracks of the strongest signal are drawn, of a variant those that it changes
    most; positions on the axis are 1-based.
    """
    cut = [{o: p.crop(region.start, region.end) for o, p in found.items()} for found in alleles.values()]
    lanes, left_out = choose_lanes(cut)
    arcs, maps = _arcs(cut), _maps(cut)
    models = gene_models(genes, region) if genes else None
    heights = _heights(len(lanes), bool(arcs), models, region)
    if heights:
        figure = new_figure(13.0 if maps else 10.5, max(0.82 * sum(heights) + 1.3, 2.6 * len(maps) + 0.7))
        main, side = figure.subfigures(1, 2, width_ratios=[3.0, 1.0]) if maps else (figure, figure)
        panels = main.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        _stack(panels, lanes, arcs, models, region, variant)
        rows, columns = max(len(maps), int(figure.get_figheight() / 3.6)), 1
    else:
        figure = side = new_figure(4.0 * max(len(maps), 2), 3.8)
        rows, columns = 1, max(len(maps), 2)
    for i, (title, values, span, limit) in enumerate(maps):
        axes = side.add_subplot(rows, columns, i + 1)
        at, scale = variant.position if variant else None, "change" if "−" in title else "log obs/exp"
        draw_contacts(side, axes, values, span, region.chrom, title, limit, at=at, scale=scale)
    _titles(figure, model, region, variant, left_out, legend=bool(lanes or arcs))
    return figure


def choose_lanes(cut: Sequence[Mapping[OutputType, Prediction]]) -> tuple[list[tuple[Lane, int]], int]:
    """(lane, first base of its values) of the tracks drawn, in channel order, and how many are not drawn.

    cut: predictions of one allele, or of REF and ALT.
    """
    lined = {o: [found[o] for found in cut] for o in cut[0] if _has_lanes(cut[0][o])}
    share, lanes, total = max(1, LANES // max(1, len(lined))), [], 0
    for output, sides in lined.items():
        first, offset = sides[0], sides[0].interval.start
        if first.kind is Kind.SITES:
            keep = [i for i, c in enumerate(first.tracks["channel"]) if c != SiteClass.NONE]
            values = [side.values[:, keep].max(1) for side in sides]
            lanes.append((_lane(output, "any class", first.resolution, values), offset))
            total += 1
            continue
        rows = first.tracks.to_dicts()
        total += len(rows)
        for channel in most_telling([side.values for side in sides], share):
            values = [side.values[:, channel] for side in sides]
            lanes.append((_lane(output, track_label(rows[channel]), first.resolution, values), offset))
    return lanes, total - len(lanes)


def _has_lanes(prediction: Prediction) -> bool:
    """Whether a prediction is drawn as lanes: values along the interval, of more than the class `none`."""
    if prediction.kind is Kind.SITES:
        return any(channel != SiteClass.NONE for channel in prediction.tracks["channel"])
    return prediction.kind in (Kind.TRACKS, Kind.USAGE)


def _lane(output: OutputType, label: str, bases: int, sides: Sequence[np.ndarray]) -> Lane:
    return Lane(str(output), label, bases, sides[0], sides[1] if len(sides) > 1 else None)


def most_telling(sides: Sequence[np.ndarray], count: int) -> list[int]:
    """Channels of values [N, P] whose alleles differ most, or of one allele the strongest, ascending.

    A change counts in shares of the track's largest value, so that weak tracks can be chosen too, but not
    those that are far below the strongest.
    """
    top = np.max([np.nanmax(side, axis=0, initial=0) for side in sides], axis=0)
    if len(sides) > 1:
        change = np.abs(sides[1] - sides[0]).max(0, initial=0)
        top = change / (top + LEAST_SHARE * (top.max(initial=0) or 1.0))
    return sorted(np.argsort(-top, kind="stable")[:count].tolist())


def _arcs(cut: Sequence[Mapping[OutputType, Prediction]]) -> list[dict[str, Any]]:
    """Junctions of the region, the most used (of a variant the most changed) first, in their best track."""
    output = OutputType.SPLICE_JUNCTIONS
    if output not in cut[0] or not len(cut[0][output].values):
        return []
    first = cut[0][output]
    values = [np.nan_to_num(found[output].values, nan=0.0) for found in cut]
    weight = np.abs(values[1] - values[0]) if len(values) > 1 else values[0]
    best = weight.argmax(1)
    order = np.argsort(-weight.max(1), kind="stable")[:ARCS]
    names, rows = first.tracks["biosample_name"].to_list(), first.junctions.to_dicts()
    return [
        rows[i]
        | {"biosample": names[best[i]]}
        | {key: float(v[i, best[i]]) for key, v in zip(("ref", "alt"), values, strict=False)}
        for i in order.tolist()
    ]


def _maps(
    cut: Sequence[Mapping[OutputType, Prediction]],
) -> list[Map]:
    """(title, map [Q, Q], first and last base, colour limit) of the contact maps drawn: one track's."""
    output = OutputType.CONTACT_MAPS
    if output not in cut[0] or len(cut[0][output].values) < 2:
        return []
    sides = [found[output].values for found in cut]
    flat = [side.reshape(-1, side.shape[-1]) for side in sides]
    (channel,) = most_telling([np.abs(f) for f in flat] if len(flat) == 1 else flat, 1)
    span = (cut[0][output].interval.start, cut[0][output].interval.end)
    label = track_label(cut[0][output].tracks.row(channel, named=True))
    limit = float(max(np.abs(side[..., channel]).max() for side in sides)) or 1.0
    titles = ["contacts"] if len(sides) == 1 else ["contacts, REF", "contacts, ALT"]
    maps = [(t, s[..., channel], span, limit) for t, s in zip(titles, sides, strict=True)]
    if len(sides) > 1:
        change = sides[1][..., channel] - sides[0][..., channel]
        maps.append(("ALT − REF", change, span, float(np.abs(change).max()) or 1.0))
    return [(f"{maps[0][0]}\n{label}" if label else maps[0][0], *maps[0][1:]), *maps[1:]]


def gene_models(genes: Genes, region: Interval) -> list[dict[str, Any]]:
    """Genes of the region as `draw_genes` takes them: with the union of their exons."""
    found = genes.overlapping(region).to_dicts()
    exons = genes.exons_of([gene["gene_id"] for gene in found])
    spans: dict[str, list[tuple[int, int]]] = {}
    for gene_id, start, end in exons.select("gene_id", "start", "end").iter_rows():
        spans.setdefault(gene_id, []).append((start, end))
    return [gene | {"exons": spans.get(gene["gene_id"], [])} for gene in found]


def _heights(
    lanes: int, arcs: bool, models: Sequence[Mapping[str, Any]] | None, region: Interval
) -> list[float]:
    """Heights of the panels along the sequence: lanes, arcs, genes."""
    heights = [1.0] * lanes + [1.1] * arcs
    if models is not None:
        rows = rows_of_genes(models, region.length // 12)
        heights.append(0.6 + 0.5 * (max(rows, default=0) + 1))
    return heights


def _stack(
    panels: Sequence[Axes],
    lanes: Sequence[tuple[Lane, int]],
    arcs: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]] | None,
    region: Interval,
    variant: Variant | None,
) -> None:
    """Draw lanes, arcs and genes into panels that share the axis of positions."""
    for (lane, offset), panel in zip(lanes, panels, strict=False):
        draw_lane(panel, lane, offset, region.start, region.end)
    if arcs:
        draw_junctions(panels[len(lanes)], arcs)
    if models is not None:
        draw_genes(panels[-1], models, region.start, region.end, None)
    if variant is not None:
        mark_variant(panels, region.start, region.end, variant.position, len(variant.ref))
    panels[-1].set_xlim(region.start, region.end)
    panels[-1].tick_params(labelbottom=True, bottom=True)
    position_axis(panels[-1], region.chrom)


def _titles(
    figure: Figure, model: str, region: Interval, variant: Variant | None, left_out: int, *, legend: bool
) -> None:
    """What is shown, above; what is not shown, below."""
    what = f"{region.chrom}:{region.start + 1:,}–{region.end:,}"
    if variant is not None:
        what = f"{_short(variant)}   {what}"
    if variant is not None and legend:
        marks = [Line2D([], [], color=REF_COLOUR, label="REF"), Line2D([], [], color=ALT_COLOUR, label="ALT")]
        figure.legend(handles=marks, loc="outside upper right", ncols=2)
    figure.suptitle(f"{what}   predicted by {model}", x=0.01, ha="left", fontsize=11, fontweight="bold")
    if left_out:
        chosen = "most changed" if variant is not None else "strongest"
        note = f"the {chosen} tracks of each output type; {left_out:,} more in the files"
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=QUIET)


def _short(variant: Variant) -> str:
    """A variant in a few letters: long alleles by their length."""
    ref, alt = (a if len(a) <= 10 else f"{len(a)} bp" for a in (variant.ref, variant.alt))
    return f"{variant.chrom}:{variant.position + 1:,} {ref}>{alt}"
