"""The section of the page that tells what matters: every ablation that the config's report names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from megabase.config import Config
from megabase.report.ablations import organisms_of
from megabase.report.blocks import PageSection, Table, Text, number, picture
from megabase.report.figures_ablation import (
    SERIES_LABELS,
    Panel,
    ablation_figure,
    length_label,
    over_seeds,
    panels_of,
)
from megabase.settings.run import AblationSettings

TITLES = {
    "resolution": "Resolution of training",
    "length": "Length of training and inference windows",
    "teachers": "Number of teachers",
    "modality": "Groups of outputs",
}
TEXTS = {
    "resolution": "The decoder stops at so many bases: finer levels are not built, and predictions are "
    "constant in bins of them. Everything is measured at its finest resolution all the same.",
    "length": "Models trained on shorter pieces of the windows, each asked with shorter and longer inputs at "
    "the same positions. Pairs of contact-map bins that no input joins are left out; junctions that none "
    "joins count as predicted without a read.",
    "teachers": "Students of the first n teachers, and the mean of n teachers without distillation.",
    "modality": "Only the losses of one group, or of all but one, reach what comes before the heads; the "
    "other heads learn from embeddings that they do not shape.",
}


def ablation_section(tables: Mapping[str, pl.DataFrame], config: Config) -> PageSection | None:
    """Figures and means of every ablation that was run for the report; None where none was asked for."""
    if not config.report.ablations:
        return None
    blocks: list[Any] = []
    for name in config.report.ablations:
        if name in tables:
            blocks += _blocks(name, tables[name], config.ablations[name])
        else:
            blocks.append(Text([f"No table of the ablation {name} was found for this run."]))
    return PageSection("ablations", "What matters: ablations", blocks)


def _blocks(name: str, table: pl.DataFrame, settings: AblationSettings) -> list[Any]:
    seeds = table["seed"].n_unique()
    bars = (
        f"range over {seeds} seeds" if seeds > 1 else "95% interval over windows (or variants), of one seed"
    )
    blocks: list[Any] = []
    for number_, organism in enumerate(organisms_of(table) or [None]):
        rows = table if number_ == 0 else table.filter(pl.col("benchmark").is_null())
        where = f" Held-out windows of {organism}." if organism else ""
        told = f"{TITLES[settings.kind]}. {TEXTS[settings.kind]}{where}"
        caption = f"{told} Points are means over seeds; bars: {bars}."
        label = f"ablation_{name}_{organism}" if organism else f"ablation_{name}"
        figure = ablation_figure(rows, organism, settings.groups)
        blocks += [picture(label, figure, caption), _table(rows, organism, settings.kind)]
    return blocks


def _table(table: pl.DataFrame, organism: str | None, kind: str) -> Table:
    """Means over seeds, a row a value, a column a measure; the best of each in bold."""
    measures: list[Panel] = panels_of(table, organism)
    keys = table.select("level", "series").unique(maintain_order=True).rows()
    found = [
        {(r["level"], r["series"]): r["value"] for r in over_seeds(m.rows).iter_rows(named=True)}
        for m in measures
    ]
    cells = [[_label(kind, *key), *(number(values.get(key), 3) for values in found)] for key in keys]
    strong = frozenset(
        (keys.index(max(values, key=values.get)), column) for column, values in enumerate(found, 1) if values
    )
    columns = ("", *(f"{m.title}: {m.metric}" for m in measures))
    return Table(columns, cells, "Means over seeds; the best of each column is bold.",
                 frozenset(range(1, len(columns))), strong)  # fmt: skip


def _label(kind: str, level: str, series: str) -> str:
    """A value in words."""
    if kind == "resolution":
        return f"{level} bp"
    if kind == "length":
        return f"trained at {length_label(int(series))}, asked with {length_label(int(level))}"
    if kind == "teachers":
        return f"{SERIES_LABELS[series]}, n = {level}"
    return {"only": f"{level} only", "without": f"without {level}"}.get(series, "all outputs")
