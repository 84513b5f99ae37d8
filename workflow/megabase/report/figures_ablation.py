"""Ablations: a table of what models reach -> small multiples, one for every output type and benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from megabase.report.figures_benchmark import benchmark_label
from megabase.report.figures_tracks import HEADLINE
from megabase.report.style import in_output_order, metric_label, panels
from megabase.spec import OUTPUTS, OutputType
from megabase.style import BLUE, FAINT, GREY, INK, ORANGE, QUIET, label_of, styled

ROOM = 24  # letters below a panel that lie beside each other; more are turned
LEAST_SPAN = 0.12  # of a y-axis, so that noise does not fill a panel
ALL_OUTPUTS = "all"
EXTRA = ((OutputType.RNA_SEQ, "gene_lfc_pearson"),)
X_LABELS = {
    "resolution": "finest level of the decoder (bp)",
    "length": "inference window",
    "teachers": "number of teachers, n",
    "modality": "group of outputs",
}
SERIES_LABELS = {
    "distilled": "student of the first n",
    "ensemble": "mean of n",
    "only": "this group alone shapes the trunk",
    "without": "all but this group",
    ALL_OUTPUTS: "all outputs",
}


@dataclass(frozen=True)
class Panel:
    """One measure: its title and its rows, of one metric."""

    title: str
    metric: str
    rows: pl.DataFrame
    output: str | None = None


def length_label(bases: int) -> str:
    """A window as people say it: 16384 -> 16 kb, 1048576 -> 1 Mb."""
    for unit, name in ((1 << 20, "Mb"), (1 << 10, "kb")):
        if bases % unit == 0:
            return f"{bases // unit} {name}"
    return f"{bases:,} bp"


def panels_of(table: pl.DataFrame, organism: str | None) -> list[Panel]:
    """Headlines of an organism at their finest resolution, and every benchmark by its first scorer."""
    rows = table.filter(pl.col("value").is_not_null())
    own = rows.filter(pl.col("organism") == organism) if organism else rows.clear()
    found = []
    for output in in_output_order(own["output_type"].drop_nulls()):
        headline = HEADLINE[OUTPUTS[OutputType(output)].kind]
        for metric in (headline, *(m for o, m in EXTRA if o == output)):
            part = own.filter((pl.col("output_type") == output) & (pl.col("metric") == metric))
            part = part.filter(pl.col("resolution") == pl.col("resolution").min())
            if part.height:
                at = f" at {part['resolution'][0]:,} bp" if metric == "pearson" else ""
                if output == OutputType.CONTACT_MAPS and part["kind"][0] == "length":
                    at = ", pairs that one input joins"
                found.append(Panel(label_of(output), metric_label(metric) + at, part, output))
    scored = rows.filter(pl.col("benchmark").is_not_null())
    for (name,), part in scored.group_by(["benchmark"], maintain_order=True):
        part = part.filter(pl.col("scorer") == part["scorer"][0])
        found.append(Panel(benchmark_label(name), metric_label(part["metric"][0]), part))
    return found


def over_seeds(rows: pl.DataFrame) -> pl.DataFrame:
    """level, series, value (mean over seeds), low, high: range over seeds, or the only interval."""
    several = pl.len() > 1
    return rows.group_by("level", "series", maintain_order=True).agg(
        pl.col("value").mean(),
        low=pl.when(several).then(pl.col("value").min()).otherwise(pl.col("low").first()),
        high=pl.when(several).then(pl.col("value").max()).otherwise(pl.col("high").first()),
    )


def levels_of(table: pl.DataFrame) -> list[str]:
    """Levels in the order of the x-axis: numbers ascending, names as they come, without `all`."""
    names = [n for n in table["level"].unique(maintain_order=True) if n != ALL_OUTPUTS]
    return sorted(names, key=int) if all(n.isdecimal() for n in names) else names


def series_colours(kind: str, series: Sequence[str]) -> dict[str, str]:
    """Colour of each line of a figure."""
    if kind != "length":
        known = {"": BLUE, "distilled": BLUE, "ensemble": ORANGE, "only": BLUE, "without": ORANGE}
        return {name: known.get(name, GREY) for name in series}
    ordered = sorted(series, key=int)
    shades = colormaps["Blues"](np.linspace(1, 0.35, len(ordered))[::-1])  # short to long: light to dark
    return {name: to_hex(shade) for name, shade in zip(ordered, shades, strict=True)}


@styled
def ablation_figure(
    table: pl.DataFrame, organism: str | None, groups: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """What each value of an ablation reaches, a panel a measure: means over seeds with their range.

    table: ABLATION_COLUMNS of one ablation. groups: output types by modality group, to shade a panel's own.
    """
    kind = table["kind"][0]
    found, levels = panels_of(table, organism), levels_of(table)
    series = [s for s in table["series"].unique(maintain_order=True) if s != ALL_OUTPUTS]
    colours = series_colours(kind, series)
    width = 2.5 if kind != "modality" else 2.9
    figure, grid = panels(max(len(found), 1), 4, width, 2.25 if kind != "modality" else 2.7)
    for axes, panel in zip(grid, found, strict=False):
        means = over_seeds(panel.rows)
        if kind == "modality":
            _groups(
                axes, means, levels, colours, [g for g, own in (groups or {}).items() if panel.output in own]
            )
        else:
            _lines(axes, means, levels, colours)
        axes.set_xticks(range(len(levels)), [_level_label(kind, level) for level in levels])
        if sum(len(label.get_text()) for label in axes.get_xticklabels()) > ROOM:
            for label in axes.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.set_title(panel.title, pad=17)
        axes.text(0, 1.03, panel.metric, transform=axes.transAxes, fontsize=8.5, color=QUIET, va="bottom")
        axes.grid(axis="y", color=FAINT)
        _widen(axes)
    told = [X_LABELS[kind], f"held-out windows of {organism}" if organism else ""]
    figure.supxlabel(" \N{MIDDLE DOT} ".join(filter(None, told)), fontsize=9.5, color=INK)
    _legend(figure, kind, colours)
    return figure


def _level_label(kind: str, level: str) -> str:
    return length_label(int(level)) if kind == "length" else level


def _lines(axes: Axes, means: pl.DataFrame, levels: list[str], colours: Mapping[str, str]) -> None:
    """A line a series over the levels, with bars."""
    for number, (name, colour) in enumerate(colours.items()):
        rows = {r["level"]: r for r in means.filter(pl.col("series") == name).iter_rows(named=True)}
        known = [level for level in levels if level in rows]
        side = 0.08 * (
            number - (len(colours) - 1) / 2
        )  # so that bars of several lines do not cover each other
        x = [levels.index(level) + side for level in known]
        axes.plot(
            x, [rows[level]["value"] for level in known], "o-", color=colour, linewidth=1.8, markersize=5
        )
        for at, level in zip(x, known, strict=True):
            _bar(axes, at, rows[level], colour)


def _groups(
    axes: Axes, means: pl.DataFrame, levels: list[str], colours: Mapping[str, str], own: Sequence[str]
) -> None:
    """Points of the groups beside each other, and a line where all outputs together are."""
    for group in own:
        if group in levels:
            axes.axvspan(levels.index(group) - 0.5, levels.index(group) + 0.5, color="#eef1f4", zorder=0)
    for row in means.filter(pl.col("series") == ALL_OUTPUTS).iter_rows(named=True):
        axes.axhline(row["value"], color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    for number, (name, colour) in enumerate(colours.items()):
        for row in means.filter(pl.col("series") == name).iter_rows(named=True):
            at = levels.index(row["level"]) + 0.26 * (number - (len(colours) - 1) / 2)
            axes.plot([at], [row["value"]], "o", color=colour, markersize=5.5, zorder=4)
            _bar(axes, at, row, colour)


def _bar(axes: Axes, at: float, row: Mapping[str, float | None], colour: str) -> None:
    if row["low"] is not None and row["high"] is not None:
        axes.plot([at, at], [row["low"], row["high"]], color=colour, linewidth=1.1, alpha=0.75, zorder=3)


def _widen(axes: Axes) -> None:
    """A y-axis that spans at least LEAST_SPAN."""
    low, high = axes.get_ylim()
    if (missing := LEAST_SPAN - (high - low)) > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def _series_label(kind: str, name: str) -> str:
    return f"trained at {length_label(int(name))}" if kind == "length" else SERIES_LABELS.get(name, name)


def _legend(figure: Figure, kind: str, colours: Mapping[str, str]) -> None:
    """What the colours are, above the panels."""
    line = "" if kind == "modality" else "-"
    marks: list[Line2D | Patch] = [
        Line2D(
            [], [], marker="o", color=colour, markersize=6, linestyle=line, label=_series_label(kind, name)
        )
        for name, colour in colours.items()
        if name
    ]
    if kind == "modality":
        marks.append(Line2D([], [], color=QUIET, linestyle=(0, (4, 3)), label=SERIES_LABELS[ALL_OUTPUTS]))
        marks.append(Patch(color="#eef1f4", label="the panel's own group"))
    if marks:
        figure.legend(handles=marks, loc="outside upper left", ncols=min(len(marks), 5), columnspacing=1.4)
