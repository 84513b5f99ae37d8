"""Track evaluation on held-out windows: evaluation tables -> figures."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.report.style import (
    colours,
    family,
    family_legend,
    family_order,
    in_output_order,
    interval_bar,
    metric_label,
    panels,
    spread,
)
from megabase.spec import OUTPUTS, Kind, OutputType
from megabase.style import label_of, new_figure, styled

MEAN = "mean"
HEADLINE = {
    Kind.TRACKS: "pearson",
    Kind.CONTACTS: "pearson",
    Kind.SITES: "auprc",
    Kind.USAGE: "pearson",
    Kind.JUNCTIONS: "psi5_pearson",
}
DISTANCE = "pearson_distance_"


def headline(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of an evaluation table that are the headline of their output type, with `family` of the model.

    Coverage: Pearson at the coarsest resolution evaluated (128 bp); contacts: Pearson; splice sites: auPRC;
    usage: Pearson; junctions: Pearson of PSI5.
    """
    kept = []
    for (output,), rows in table.group_by(["output_type"], maintain_order=True):
        if output not in set(OutputType):
            continue
        metric = HEADLINE[OUTPUTS[OutputType(output)].kind]
        rows = rows.filter((pl.col("metric") == metric) & pl.col("value").is_not_null())
        kept.append(rows.filter(pl.col("resolution").fill_null(0) == pl.col("resolution").fill_null(0).max()))
    found = pl.concat(kept) if kept else table.clear()
    return found.with_columns(family=pl.col("model").map_elements(family, return_dtype=pl.String))


def family_means(rows: pl.DataFrame) -> pl.DataFrame:
    """Mean rows by organism, output type and family: value, low, high averaged over the family's models."""
    return (
        rows.filter(pl.col("track") == MEAN)
        .group_by("organism", "output_type", "metric", "family", maintain_order=True)
        .agg(pl.col("value", "low", "high").mean(), pl.col("n").max(), models=pl.len())
    )


@styled
def modality_figure(table: pl.DataFrame) -> Figure:
    """Headline correlation of every track by output type and family of models, a panel an organism.

    A faint dot is a track (of one model), the solid dot with its bar is the mean over tracks with its
    bootstrap interval over windows. table: EVALUATION_COLUMNS.
    """
    rows = headline(table)
    organisms = rows["organism"].unique(maintain_order=True).to_list()
    outputs = in_output_order(rows["output_type"])
    shown = colours(rows["family"])
    figure = new_figure(max(7.0, 1.15 * len(outputs) + 2), 3.1 * len(organisms) + 0.4)
    grid = figure.subplots(len(organisms), 1, squeeze=False, sharex=True)[:, 0]
    for axes, organism in zip(grid, organisms, strict=True):
        _modality_panel(axes, rows.filter(pl.col("organism") == organism), outputs, shown)
        axes.set_title(organism)
    family_legend(figure, shown)
    return figure


def _modality_panel(axes: Axes, rows: pl.DataFrame, outputs: list[str], shown: dict[str, str]) -> None:
    width = 0.8 / max(len(shown), 1)
    means = family_means(rows)
    for column, output in enumerate(outputs):
        if column % 2:
            axes.axvspan(column - 0.5, column + 0.5, color="#f4f6f8", zorder=0)
        for place, (name, colour) in enumerate(shown.items()):
            at = column + (place - (len(shown) - 1) / 2) * width
            of = (pl.col("output_type") == output) & (pl.col("family") == name)
            values = rows.filter(of & (pl.col("track") != MEAN))["value"].to_numpy().astype(float)
            values = values[np.isfinite(values)]
            axes.scatter(
                at + spread(values, width * 0.8), values, s=9, color=colour, alpha=0.35, linewidths=0
            )
            for row in means.filter(of).iter_rows(named=True):
                interval_bar(axes, at, row["value"], row["low"], row["high"], colour)
    axes.axhline(0, color="#8895a1", linewidth=0.8)
    axes.set_xticks(range(len(outputs)), [_panel_label(o) for o in outputs])
    axes.set_xlim(-0.5, len(outputs) - 0.5)
    axes.set_ylabel("held-out correlation\n(splice sites: auPRC)")
    axes.grid(axis="y")


def _panel_label(output: str) -> str:
    return label_of(output).replace(" ", "\n", 1)


@styled
def metric_figure(table: pl.DataFrame, wanted: list[tuple[str, str]]) -> Figure:
    """Mean of further metrics, a panel each: `wanted` holds (output_type, metric)."""
    rows = table.filter(pl.col("track") == MEAN, pl.col("value").is_not_null())
    rows = rows.with_columns(family=pl.col("model").map_elements(family, return_dtype=pl.String))
    shown = colours(rows["family"])
    figure, grid = panels(len(wanted), 4, 2.9, 2.4)
    for axes, (output, metric) in zip(grid, wanted, strict=True):
        part = rows.filter((pl.col("output_type") == output) & (pl.col("metric") == metric))
        _metric_panel(axes, part, shown)
        axes.set_title(f"{label_of(output)}\n{metric_label(metric)}", fontsize=9)
    family_legend(figure, shown)
    return figure


def _metric_panel(axes: Axes, rows: pl.DataFrame, shown: dict[str, str]) -> None:
    organisms = rows["organism"].unique(maintain_order=True).to_list()
    width = 0.8 / max(len(shown), 1)
    for place, (name, colour) in enumerate(shown.items()):
        for row in family_means(rows.filter(pl.col("family") == name)).iter_rows(named=True):
            at = organisms.index(row["organism"]) + (place - (len(shown) - 1) / 2) * width
            interval_bar(axes, at, row["value"], row["low"], row["high"], colour)
    axes.set_xticks(range(len(organisms)), organisms)
    axes.set_xlim(-0.6, len(organisms) - 0.4)
    axes.axhline(0, color="#8895a1", linewidth=0.8)
    axes.grid(axis="y")


EXTRA = (
    (OutputType.RNA_SEQ, "gene_pearson"),
    (OutputType.RNA_SEQ, "gene_lfc_pearson"),
    (OutputType.SPLICE_JUNCTIONS, "psi3_pearson"),
    (OutputType.SPLICE_JUNCTIONS, "pearson_log1p"),
)


def extra_metrics(table: pl.DataFrame) -> list[tuple[str, str]]:
    """Which of the metrics beyond the headline a table has, as (output_type, metric)."""
    means = table.filter(pl.col("track") == MEAN, pl.col("value").is_not_null())
    have = set(means.select("output_type", "metric").rows())
    return [(o.value, m) for o, m in EXTRA if (o.value, m) in have]


@styled
def distance_figure(table: pl.DataFrame) -> Figure:
    """Contact-map Pearson by genomic distance, a panel an organism, a line a family of models."""
    rows = distance_rows(table)
    organisms = rows["organism"].unique(maintain_order=True).to_list()
    shown = colours(rows["family"])
    figure, grid = panels(len(organisms), 2, 5.2, 3.0)
    for axes, organism in zip(grid, organisms, strict=True):
        for name in family_order(shown):
            part = rows.filter((pl.col("organism") == organism) & (pl.col("family") == name))
            part = part.group_by("distance").agg(pl.col("value", "low", "high").mean()).sort("distance")
            x = part["distance"].to_numpy() / 1e3
            axes.plot(x, part["value"], "o-", color=shown[name], linewidth=1.6, markersize=4)
            if part["low"].null_count() == 0:
                axes.fill_between(x, part["low"], part["high"], color=shown[name], alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(rows["distance"].unique() / 1e3), minor=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
        axes.set_xlabel("distance between bins, from (kb)")
        axes.set_ylabel("Pearson r of contact maps")
        axes.set_title(organism)
        axes.grid(axis="y")
    family_legend(figure, shown)
    return figure


def distance_rows(table: pl.DataFrame) -> pl.DataFrame:
    """Mean rows of the contact Pearson by distance, with `distance` (bp, lower end) and `family`."""
    return (
        table.filter(
            pl.col("metric").str.starts_with(DISTANCE), pl.col("track") == MEAN, pl.col("value").is_not_null()
        )
        .with_columns(
            distance=pl.col("metric").str.extract(r"_(\d+)$").cast(pl.Int64),
            family=pl.col("model").map_elements(family, return_dtype=pl.String),
        )
        .filter(pl.col("distance") > 0)
    )
