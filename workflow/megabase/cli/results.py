"""Commands of benchmarks, ablations and the report, one a rule.

A stage's module is imported inside its command, so that `megabase --help` starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megabase import settings as sections
from megabase.options import (
    BenchmarkName,
    BenchmarkTable,
    GenesFolder,
    GenomeFolder,
    Manifest,
    Output,
    Seed,
    Settings,
    begin,
    folder_of,
    optional,
)


def prepare_benchmark(
    tables: Annotated[list[str], typer.Argument(help="path, path=tissue or path=tissue=ontology term")],
    name: BenchmarkName,
    genome: GenomeFolder,
    settings: Settings,
    output: Output,
    genes: GenesFolder = "",
    seed: Seed = 0,
    chromosomes: Annotated[str, typer.Option(help="use variants on these alone, a,b,...; empty: all")] = "",
) -> None:
    """Turn measured effects into a benchmark's table and the VCF of its variants."""
    from megabase.benchmark import tasks

    given = begin("prepare-benchmark", sections.BenchmarkSettings, settings, seed)
    chosen = [chrom for chrom in chromosomes.split(",") if chrom]
    tasks.prepare_benchmark(
        tables, folder_of(genome), optional(genes), output, given, name, seed, chromosomes=chosen
    )


def evaluate_benchmark(
    table: BenchmarkTable,
    scores: Annotated[Path, typer.Argument(help="scores of the benchmark's variants")],
    name: BenchmarkName,
    model: Annotated[str, typer.Option(help="name of the model that made the scores")],
    settings: Settings,
    output: Output,
    seed: Seed = 0,
) -> None:
    """Measure a model's scores against a benchmark."""
    from megabase.benchmark import results

    given = begin("evaluate-benchmark", sections.BenchmarkSettings, settings, seed)
    results.evaluate_benchmark(table, scores, model, output, given, name, seed)


def evaluate_baselines(
    table: BenchmarkTable,
    name: BenchmarkName,
    genome: GenomeFolder,
    settings: Settings,
    output: Output,
    seed: Seed = 0,
) -> None:
    """Measure distances, GC change and k-mer change against a benchmark."""
    from megabase.benchmark import results

    given = begin("evaluate-baselines", sections.BenchmarkSettings, settings, seed)
    results.evaluate_baselines(table, folder_of(genome), output, given, name, seed)


def tabulate_ablation(
    results: Annotated[
        list[str], typer.Argument(help="path=level=series=seed of evaluations and benchmarks")
    ],
    name: Annotated[str, typer.Option(help="name of the ablation")],
    settings: Settings,
    output: Output,
) -> None:
    """Write the table of an ablation and, beside it, its figure."""
    from megabase.report import ablations

    given = begin("tabulate-ablation", sections.AblationSettings, settings)
    ablations.tabulate_ablation(results, name, given, output)


def plot_report(
    results: Annotated[Path, typer.Argument(help="folder of results")],
    manifest: Manifest,
    settings: Annotated[str, typer.Option(help="the whole config, as JSON or a YAML file")],
    output: Output,
) -> None:
    """Write the page that a person reads, and its figures."""
    from megabase import config
    from megabase.report import page

    given = begin("plot-report", config.Config, settings)
    page.plot_report(results, manifest, given, output)


COMMANDS = (prepare_benchmark, evaluate_benchmark, evaluate_baselines, tabulate_ablation, plot_report)
