"""Variant-effect benchmarks: result tables -> figures with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabase.benchmark.predictions import MATCHED
from megabase.benchmark.results import ALL, BASELINE
from megabase.report.style import interval_bar, metric_label
from megabase.style import BLUE, FAINT, GREY, INK, QUIET, SKY, new_figure, styled

BASELINE_LABELS = {
    "tss_distance": "distance to TSS",
    "splice_distance": "distance to splice site",
    "gc_change": "GC change",
    "kmer_change": "k-mer change",
}
CHANCE = {"auroc": 0.5, "pearson": 0.0, "spearman": 0.0}


def row_label(model: str, scorer: str) -> str:
    """Name of a compared method."""
    if model == BASELINE:
        return BASELINE_LABELS.get(scorer, scorer)
    if scorer.endswith(f":{MATCHED}"):
        scorer = scorer.removesuffix(f":{MATCHED}") + ", own cell line"
    return f"{model}: {scorer}"


def benchmark_label(name: str) -> str:
    """Name of a benchmark as people write it: `eqtl_sign` -> `eQTL sign`."""
    written = {"eqtl": "eQTL", "sqtl": "sQTL", "mpra": "MPRA"}
    return " ".join(written.get(word, word) for word in name.split("_"))


def chance(rows: pl.DataFrame) -> float | None:
    """What a random score reaches: the share of positives for auPRC."""
    metric = rows["metric"][0]
    if metric in CHANCE:
        return CHANCE[metric]
    top = rows.filter(pl.col("group") == ALL)
    return float(top["n_positive"][0] / top["n"][0]) if top.height and top["n"][0] else None


def metric_rows(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a result table that are metrics, not coverage, and have a value."""
    return table.filter((pl.col("metric") != "coverage") & pl.col("value").is_not_null())


@styled
def benchmark_figure(table: pl.DataFrame, headline: str) -> Figure:
    """One benchmark: every scorer and baseline with its interval, and the headline scorer by group.

    table: BENCHMARK_COLUMNS of one benchmark, models and baselines together; `headline` a scorer's name.
    """
    rows = metric_rows(table)
    overall = rows.filter(pl.col("group") == ALL)
    groups = rows.filter(
        (pl.col("group") != ALL) & (pl.col("scorer") == headline) & (pl.col("model") != BASELINE)
    ).sort("value")
    tall = max(overall.height, groups.height)
    figure = new_figure(10.5, 0.24 * tall + 1.5)
    left, right = figure.subplots(1, 2, sharex=True)
    labels = [row_label(m, s) for m, s in overall.select("model", "scorer").iter_rows()]
    tints = [GREY if m == BASELINE else BLUE if s == headline else SKY
             for m, s in overall.select("model", "scorer").iter_rows()]  # fmt: skip
    _lying(left, overall, labels, tints, chance(rows))
    left.set_title("mean over groups")
    named = [f"{g}  (n = {n:,})" for g, n in groups.select("group", "n").iter_rows()]
    _lying(right, groups, named, [BLUE] * groups.height, chance(rows))
    right.set_title(f"by group: {headline}")
    for axes in (left, right):
        axes.set_xlabel(metric_label(rows["metric"][0]))
    return figure


def _lying(
    axes: Axes, rows: pl.DataFrame, labels: Sequence[str], tints: Sequence[str], random: float | None
) -> None:
    """Horizontal points with interval bars, first row on top, and a line where chance is."""
    places = np.arange(rows.height)[::-1]
    for at, row, tint in zip(places, rows.iter_rows(named=True), tints, strict=True):
        interval_bar(axes, at, row["value"], row["low"], row["high"], tint, across=True)
    if random is not None:
        axes.axvline(random, color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_yticks(places, labels)
    axes.set_ylim(-0.7, rows.height - 0.3)
    axes.grid(axis="x", color=FAINT)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


@styled
def overview_figure(tables: Mapping[str, pl.DataFrame], headlines: Mapping[str, str]) -> Figure:
    """All benchmarks at a glance: headline scorer, best baseline and chance, one column a benchmark."""
    figure = new_figure(1.5 * len(tables) + 2.2, 3.3)
    axes = figure.subplots()
    for at, (name, table) in enumerate(tables.items()):
        best = best_rows(table, headlines[name])
        for row, colour, side in zip(best, (BLUE, GREY), (-0.13, 0.13), strict=True):
            if row is None:
                continue
            interval_bar(axes, at + side, row["value"], row["low"], row["high"], colour)
            text = f"{row['value']:.2f}"
            axes.annotate(text, (at + side, row["value"]), (9 * np.sign(side), 0), textcoords="offset points",
                          ha="right" if side < 0 else "left", va="center", fontsize=8, color=INK, zorder=5,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
        random = chance(metric_rows(table)) if metric_rows(table).height else None
        if random is not None:
            axes.plot([at - 0.35, at + 0.35], [random] * 2, color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
    labels = [f"{benchmark_label(name)}\n{_metric_of(table)}" for name, table in tables.items()]
    axes.set_xticks(range(len(tables)), labels)
    axes.set_xlim(-0.6, len(tables) - 0.4)
    axes.grid(axis="y", color=FAINT)
    axes.set_ylabel("metric, with 95% interval")
    _overview_legend(figure)
    return figure


def best_rows(table: pl.DataFrame, headline: str) -> tuple[dict | None, dict | None]:
    """(overall row of the headline scorer, overall row of the best baseline); none where absent."""
    overall = metric_rows(table).filter(pl.col("group") == ALL)
    ours = overall.filter((pl.col("scorer") == headline) & (pl.col("model") != BASELINE))
    plain = overall.filter(pl.col("model") == BASELINE).sort("value", descending=True)
    return (
        ours.row(0, named=True) if ours.height else None,
        plain.row(0, named=True) if plain.height else None,
    )


def _metric_of(table: pl.DataFrame) -> str:
    rows = metric_rows(table)
    return metric_label(rows["metric"][0]) if rows.height else "no value"


def _overview_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker="o", linestyle="", color=BLUE, label="headline scorer"),
        Line2D([], [], marker="o", linestyle="", color=GREY, label="best baseline"),
        Line2D([], [], color=QUIET, linestyle=(0, (4, 3)), label="chance"),
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3)
