"""One variant over tissues: how unusual its effects are, and how large where it is explained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.locus import track_label
from megabase.report.variant_effects import Effects
from megabase.report.variant_words import MOST_RARE, rarity, scorer_label, size_text
from megabase.spec import OutputType
from megabase.style import ALT_COLOUR, BLUE, FAINT, INK, QUIET, new_figure, styled

COLUMNS = 18  # biosamples of the map
GENES = 6  # genes of a scorer
TARGETS = 4  # targets of a ChIP scorer
TRACKS = 16  # tracks of the explained scorer
NO_TISSUE = "any"  # of tracks without a biosample
WRITTEN = 12  # columns up to which sizes are written into the cells


def effect_rows(effects: Effects) -> pl.DataFrame:
    """Rows of the map: scorer, label, biosample, value (rarity with the direction's sign, or raw), in order.

    Scorers of genes have a row for each of the most affected genes, ChIP scorers for each of the most
    affected targets; every cell is the largest effect among its tracks.
    """
    table = effects.table.with_columns(
        biosample=pl.col("biosample_name").fill_null(NO_TISSUE),
        part=pl.coalesce("gene_name", "gene_id", "target").fill_null(""),
        size=pl.col("quantile").abs().fill_null(0.0),
        r=pl.col("raw").abs(),
    ).sort("size", "r", descending=True, maintain_order=True)
    kept = []
    for rows in table.partition_by("scorer", maintain_order=True):
        names = rows["part"].unique(maintain_order=True)
        most = TARGETS if rows["gene_id"].is_null().all() else GENES
        kept.append(rows.filter(pl.col("part").is_in(names.head(most).to_list())))
    best = pl.concat(kept).unique(["scorer", "part", "biosample"], keep="first", maintain_order=True)
    order = {o.value: i for i, o in enumerate(OutputType)}
    return best.with_columns(
        place=pl.col("output_type").replace_strict(order, return_dtype=pl.Int64, default=99)
    ).sort("place", "scorer", "part", maintain_order=True)


def _cell(row: dict, effects: Effects) -> float:
    if row["quantile"] is None:
        return float(row["raw"])
    size = rarity(row["quantile"], row["signed"], effects.background)
    return math.copysign(size, row["raw"]) if row["signed"] else size


@dataclass(frozen=True)
class _Map:
    """Row labels, values [R, C] (NaN: no such track) and texts of the cells."""

    labels: list[str]
    values: np.ndarray
    texts: list[list[str]]


def _matrix(rows: pl.DataFrame, effects: Effects, biosamples: Sequence[str]) -> _Map:
    cells = {(_label(r), r["biosample"]): r for r in rows.iter_rows(named=True)}
    labels = list(dict.fromkeys(label for label, _ in cells))
    found = [[cells.get((a, b)) for b in biosamples] for a in labels]
    values = [[np.nan if r is None else _cell(r, effects) for r in line] for line in found]
    texts = [["" if r is None else size_text(r["change"], r["raw"]) for r in line] for line in found]
    return _Map(labels, np.array(values), texts)


def _most_affected(rows: pl.DataFrame, effects: Effects) -> list[str]:
    """Biosamples of the columns, the most affected first, what belongs to none last."""
    size: dict[str, float] = {}
    for row in rows.iter_rows(named=True):
        size[row["biosample"]] = max(size.get(row["biosample"], 0.0), abs(_cell(row, effects)))
    order = sorted(size, key=lambda b: (b == NO_TISSUE, -size[b], b))
    named = [b for b in order if b != NO_TISSUE][:COLUMNS]
    return named + [NO_TISSUE] * (NO_TISSUE in size)


def _label(row: dict) -> str:
    return f"{scorer_label(row['scorer'], row['output_type'])} {row['part']}".strip()


@styled
def tissue_figure(effects: Effects) -> Figure:
    """Effects by modality and biosample: scores with a direction above, those without below."""
    rows = effect_rows(effects)
    biosamples = _most_affected(rows, effects)
    parts = [(s, rows.filter(pl.col("signed") == s)) for s in (True, False)]
    maps = [(signed, _matrix(part, effects, biosamples)) for signed, part in parts if part.height]
    heights = [len(found.labels) for _, found in maps]
    figure = new_figure(min(3.8 + 0.8 * len(biosamples), 13.0), 0.27 * sum(heights) + 1.0 * len(maps) + 0.3)
    grid = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (signed, found) in zip(grid, maps, strict=True):
        _draw_map(figure, axes, found, biosamples, effects, signed)
    return figure


def _draw_map(
    figure: Figure, axes: Axes, found: _Map, biosamples: Sequence[str], effects: Effects, signed: bool
) -> None:
    limit = float(np.nanmax(np.abs(found.values))) or 1.0
    if effects.calibrated:
        limit = max(2.0, min(MOST_RARE, math.ceil(limit)))
    axes.set_facecolor(FAINT)
    image = axes.imshow(
        np.ma.masked_invalid(found.values), aspect="auto", interpolation="nearest",
        cmap="RdBu_r" if signed else "Purples", vmin=-limit if signed else 0, vmax=limit,
    )  # fmt: skip
    axes.set_yticks(range(len(found.labels)), found.labels, fontsize=8)
    long = max(map(len, biosamples)) > 9
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(range(len(biosamples)), biosamples, fontsize=8, **turned)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(biosamples) <= WRITTEN:
        _write_cells(axes, found, limit)
    axes.set_title("raised (red) or lowered (blue)" if signed else "changed")
    bar = figure.colorbar(image, ax=axes, pad=0.012, fraction=0.04, aspect=12)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)
    if effects.calibrated:
        ticks = [t for t in range(-int(limit), int(limit) + 1) if signed or t >= 0]
        bar.set_ticks(ticks, labels=[f"1 in {10 ** abs(t):,}" if t else "usual" for t in ticks])
        bar.set_label("common variants\nas extreme", fontsize=7.5)
    else:
        bar.set_label("raw score", fontsize=8)


def _write_cells(axes: Axes, found: _Map, limit: float) -> None:
    for i, line in enumerate(found.texts):
        for j, text in enumerate(line):
            if text:
                dark = abs(found.values[i, j]) > 0.62 * limit
                colour = "white" if dark else INK
                axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)


@styled
def forest_figure(effects: Effects, scorer: str, gene_id: str | None, title: str) -> Figure:
    """The explained scorer's effect on its most changed tracks, with the spread over models where known."""
    table = effects.table.filter(pl.col("scorer") == scorer)
    if gene_id is not None:
        table = table.filter(pl.col("gene_id") == gene_id)
    rows = table.sort(pl.col("raw").abs(), descending=True, maintain_order=True).head(TRACKS).to_dicts()
    rows.reverse()
    figure = new_figure(8.4, 0.27 * len(rows) + 1.2)
    axes = figure.subplots()
    folds = all(row["change"] is not None for row in rows)
    factor = (
        math.log2(math.e) * math.log(rows[0]["change"]) / rows[0]["raw"] if folds and rows[0]["raw"] else 1.0
    )
    for i, row in enumerate(rows):
        value, spread = row["raw"] * factor, row["spread"]
        colour = ALT_COLOUR if row["raw"] > 0 else BLUE
        axes.plot([0, value], [i, i], color=colour, linewidth=1.4, alpha=0.5, zorder=2)
        errors = None if spread is None else [[2 * spread * factor]]
        axes.errorbar([value], [i], xerr=errors, fmt="o", color=colour, markersize=5, capsize=2.5, zorder=3)
    axes.axvline(0, color=QUIET, linewidth=0.9)
    labels = [track_label({"target": r["target"], "biosample_name": r["biosample_name"] or r["track_name"],
                           "strand": r["track_strand"]}) + _assay(r) for r in rows]  # fmt: skip
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.margins(x=0.08)
    axes.set_xlabel("log2 (ALT / REF)" if folds else "score")
    axes.set_title(title)
    return figure


def _assay(row: dict) -> str:
    return f" ({row['assay']})" if row["assay"] else ""
