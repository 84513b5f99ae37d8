"""Sections of the page that show results: headline numbers, tracks, the explained variant, benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from megabase.benchmark.results import ALL, BASELINE
from megabase.config import Config
from megabase.report.blocks import (
    Card,
    Cards,
    PageSection,
    Table,
    Text,
    count,
    number,
    picture,
    with_interval,
)
from megabase.report.explanation import Explanation
from megabase.report.figures_benchmark import (
    benchmark_figure,
    benchmark_label,
    best_rows,
    chance,
    metric_rows,
    overview_figure,
    row_label,
)
from megabase.report.figures_locus import locus_figure, mutagenesis_figure, zoom_figure
from megabase.report.figures_tracks import (
    distance_figure,
    distance_rows,
    extra_metrics,
    family_means,
    headline,
    metric_figure,
    modality_figure,
)
from megabase.report.style import family_order, in_output_order, metric_label
from megabase.style import label_of

STUDENT = "student"
TASK_TEXT = {
    "eqtl_sign": "Does a fine-mapped expression variant raise or lower its gene? (sign of the score, auROC)",
    "eqtl_effect": "How strong is its effect? (Spearman of score and measured effect)",
    "eqtl_causality": "Which of two variants at one distance from the gene is causal? (|score|, auPRC)",
    "sqtl_causality": "Which of two variants at one distance from a splice site is causal? (|score|, auPRC)",
    "mpra": "How does a base change reporter activity? (Pearson of score and log2 effect, per element)",
}


def headline_section(
    evaluation: pl.DataFrame, results: Mapping[str, pl.DataFrame], config: Config
) -> PageSection:
    """Cards: the student against the better baseline in each modality, and each benchmark's headline."""
    blocks: list[Any] = []
    for organism in evaluation["organism"].unique(maintain_order=True):
        cards = _modality_cards(evaluation.filter(pl.col("organism") == organism))
        if cards:
            blocks.append(
                Cards(cards, f"Held-out tracks of {organism}: student against the better plain baseline")
            )
    cards = [c for name, table in results.items() if (c := _benchmark_card(name, table, config)) is not None]
    if cards:
        blocks.append(Cards(cards, "Variant effects: headline scorer against the best baseline"))
    if not blocks:
        blocks.append(Text(["No evaluation and no benchmark was found for this run."]))
    return PageSection("glance", "At a glance", blocks)


def _modality_cards(evaluation: pl.DataFrame) -> list[Card]:
    means = family_means(headline(evaluation))
    cards = []
    for output in in_output_order(means["output_type"]):
        rows = {r["family"]: r for r in means.filter(pl.col("output_type") == output).iter_rows(named=True)}
        if STUDENT not in rows:
            continue
        plain = [r["value"] for f, r in rows.items() if f.startswith("baseline")]
        note = f"{metric_label(rows[STUDENT]['metric'])}, baseline {number(max(plain), 2)}" if plain else ""
        value = rows[STUDENT]["value"]
        cards.append(Card(label_of(output), number(value, 2), note, bool(plain) and value <= max(plain)))
    return cards


def _benchmark_card(name: str, table: pl.DataFrame, config: Config) -> Card | None:
    ours, plain = best_rows(table, config.benchmarks[name].scorers[0])
    if ours is None:
        return None
    span = "" if ours["low"] is None else f"[{ours['low']:.2f}, {ours['high']:.2f}], "
    against = f"baseline {number(plain['value'], 2)}" if plain else "no baseline"
    value = f"{ours['value']:.2f}"
    behind = plain is not None and ours["value"] <= plain["value"]
    return Card(f"{benchmark_label(name)}: {metric_label(ours['metric'])}", value, span + against, behind)


def evaluation_section(evaluation: pl.DataFrame) -> PageSection:
    """Track evaluation: every modality, further metrics, contacts by distance, and the table."""
    rows = headline(evaluation)
    if rows.is_empty():
        lines = ["No track evaluation was found for this run."]
        return PageSection("tracks", "Held-out tracks", [Text(lines)])
    caption = (
        "Correlation of predicted and measured signal on held-out windows (coverage at 128 bp; splice sites: "
        "auPRC). A faint dot is a track, a solid dot the mean over tracks with its 95% interval over windows."
    )
    blocks: list[Any] = [picture("tracks", modality_figure(evaluation), caption), _evaluation_table(rows)]
    wanted = extra_metrics(evaluation)
    if wanted:
        caption = "Beyond coverage: expression of genes, its change between samples, and splice-site choice."
        blocks.append(picture("genes_and_splicing", metric_figure(evaluation, wanted), caption))
    if distance_rows(evaluation).height:
        caption = (
            "Contact maps by genomic distance: Pearson over the pairs of bins in each range of distance."
        )
        blocks.append(picture("contacts_by_distance", distance_figure(evaluation), caption))
    return PageSection("tracks", "Held-out tracks", blocks)


def _evaluation_table(rows: pl.DataFrame) -> Table:
    """Mean of each output type and organism by family, the best in bold."""
    means = family_means(rows)
    families = family_order(means["family"])
    cells, strong = [], set()
    keys = means.select("organism", "output_type", "metric").unique(maintain_order=True)
    order = {o: i for i, o in enumerate(in_output_order(means["output_type"]))}
    for organism, output, metric in sorted(keys.rows(), key=lambda k: (k[0], order[k[1]])):
        part = means.filter((pl.col("organism") == organism) & (pl.col("output_type") == output))
        found = {r["family"]: r for r in part.iter_rows(named=True)}
        best = max(found, key=lambda f: found[f]["value"])
        strong.add((len(cells), 3 + families.index(best)))
        cells.append(
            [
                organism,
                label_of(output),
                metric_label(metric),
                *(_family_cell(found.get(f)) for f in families),
            ]
        )
    caption = (
        "Means over tracks with 95% intervals over windows; families of several models show their average."
    )
    numeric = frozenset(range(3, 3 + len(families)))
    return Table(("organism", "output type", "metric", *families), cells, caption, numeric, frozenset(strong))


def _family_cell(row: dict[str, Any] | None) -> str:
    return "–" if row is None else with_interval(row["value"], row["low"], row["high"], 2)


def explanation_section(explanation: Explanation | None) -> PageSection:
    """The variant of largest effect: its locus, a closer look, its mutagenesis, and words."""
    title = "One variant"
    if explanation is None:
        return PageSection(
            "variant", title, [Text(["No variant was explained in this run (config: report.explain)."])]
        )
    variant = explanation.variant["variant_id"]
    gene = f" and gene {explanation.gene_label}" if explanation.gene_label else ""
    intro = f"Variant {variant}{gene}: the largest effect of scorer {explanation.info.get('scorer', '')}."
    blocks: list[Any] = [Text([intro]), Text(explanation.info.get("words", []), listed=True)]
    caption = (
        "The whole window: measured signal (grey) and predictions for the reference (dark) and alternative "
        "allele (orange). The orange line marks the variant. Of each modality one track is shown: the scored "
        "one, or the one of the same biosample that changes most. Units are those of the normalized tracks."
    )
    blocks.append(picture("locus", locus_figure(explanation), caption))
    if any(lane.bases == 1 for lane in explanation.lanes()):
        caption = "The same tracks around the variant, base by base."
        blocks.append(picture("locus_zoom", zoom_figure(explanation), caption))
    if explanation.logos():
        caption = (
            "In-silico mutagenesis of both alleles: a letter's height is what the sequence gains by this "
            "base rather than the other three; below, the effect of each substitution. The box: the variant."
        )
        blocks.append(picture("mutagenesis", mutagenesis_figure(explanation), caption))
    return PageSection("variant", title, blocks)


def benchmark_section(
    results: Mapping[str, pl.DataFrame], rejected: Mapping[str, pl.DataFrame], config: Config
) -> PageSection:
    """Variant-effect benchmarks against baselines, one after the other."""
    title = "Variant effects"
    usable = {name: table for name, table in results.items() if metric_rows(table).height}
    if not usable:
        return PageSection("benchmarks", title, [Text(["No benchmark was found for this run."])])
    headlines = {name: config.benchmarks[name].scorers[0] for name in usable}
    blocks: list[Any] = []
    if len(usable) > 1:
        caption = "All benchmarks: headline scorer and best baseline with 95% intervals; dashed: chance."
        blocks.append(picture("benchmarks", overview_figure(usable, headlines), caption))
    for name, table in usable.items():
        blocks += _benchmark_blocks(name, table, headlines[name], config, rejected.get(name))
    return PageSection("benchmarks", title, blocks)


def _benchmark_blocks(
    name: str, table: pl.DataFrame, first: str, config: Config, rejected: pl.DataFrame | None
) -> list[Any]:
    question = TASK_TEXT[config.benchmarks[name].task]
    caption = f"{benchmark_label(name)}. {question} Bars are 95% bootstrap intervals; dashed: chance."
    blocks = [picture(f"benchmark_{name}", benchmark_figure(table, first), caption), _benchmark_table(table)]
    if rejected is not None and rejected.height:
        counts = rejected.group_by("reason").len().sort("len", "reason", descending=[True, False])
        listed = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in counts.iter_rows())
        blocks.append(Text([f"Rows of the published tables that were not used: {listed}."]))
    return blocks


def _benchmark_table(table: pl.DataFrame) -> Table:
    overall = metric_rows(table).filter(pl.col("group") == ALL)
    covered = {
        (m, s): v
        for m, s, v in table.filter(pl.col("metric") == "coverage")
        .select("model", "scorer", "value")
        .iter_rows()
    }
    rows = []
    for row in overall.iter_rows(named=True):
        share = covered.get((row["model"], row["scorer"]))
        rows.append(
            [row_label(row["model"], row["scorer"]), metric_label(row["metric"]),
             with_interval(row["value"], row["low"], row["high"]), count(row["n"]), count(row["n_positive"]),
             "–" if share is None else f"{100 * share:.1f}%"]
        )  # fmt: skip
    ours = [i for i, m in enumerate(overall["model"]) if m != BASELINE]
    strong = frozenset((i, 2) for i in ours)
    random = chance(metric_rows(table))
    caption = f"Weighted mean over groups; chance is {number(random, 2)}." if random is not None else ""
    columns = ("method", "metric", "value [95% interval]", "rows", "positives", "rows scored")
    return Table(columns, rows, caption, frozenset({2, 3, 4, 5}), strong)
