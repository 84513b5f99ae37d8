"""Commands that make models and tell how good they are, one a rule.

A stage's module is imported inside its command, so that `megabase --help` starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megabase import logs
from megabase import settings as sections
from megabase.options import (
    Device,
    Folds,
    GenesFolder,
    GenomeFolder,
    GenomesFolder,
    Intervals,
    Nodes,
    Organisms,
    Output,
    Paths,
    Processes,
    Scheme,
    Seed,
    Settings,
    begin,
    folder_of,
    genomes_of,
    optional,
    prepared_device,
)


def train_teacher(
    stores: Paths,
    genomes: GenomesFolder,
    intervals: Intervals,
    scheme: Scheme,
    folds: Folds,
    organisms: Organisms,
    output: Output,
    model: Annotated[str, typer.Option(help="JSON, or a YAML file, of the section `model`")] = "",
    settings: Settings = "",
    seed: Seed = 0,
    device: Device = "",
    processes: Processes = 1,
    nodes: Nodes = 1,
) -> None:
    """Train one teacher on measured tracks; goes on from its last checkpoint."""
    from megabase import train
    from megabase.parallel import launch

    launch.launch(processes, nodes)
    given = begin("train-teacher", sections.TrainSettings, settings, seed)
    names, sequences, genes = genomes_of(genomes, organisms)
    train.train_teacher(
        [folder_of(path) for path in stores], sequences, genes, intervals, output, scheme, seed, given,
        sections.parse_settings(sections.ModelSettings, model),
        sections.parse_settings(sections.FoldSettings, folds), names, device=prepared_device(device),
    )  # fmt: skip


def distill_student(
    teachers: Paths,
    stores: Annotated[Path, typer.Option(help="folder that holds a store for every organism")],
    genomes: GenomesFolder,
    intervals: Intervals,
    folds: Folds,
    organisms: Organisms,
    output: Output,
    settings: Settings = "",
    seed: Seed = 0,
    device: Device = "",
    processes: Processes = 1,
    nodes: Nodes = 1,
) -> None:
    """Distil the student from the all-folds teachers; goes on from its last checkpoint."""
    from megabase import distill
    from megabase.parallel import launch

    launch.launch(processes, nodes)
    given = begin("distill-student", sections.DistillSettings, settings, seed)
    names, sequences, genes = genomes_of(genomes, organisms)
    distill.distill_student(
        [folder_of(path) for path in teachers], [stores / name for name in names], sequences, genes,
        intervals, output, seed, given, sections.parse_settings(sections.FoldSettings, folds), names,
        device=prepared_device(device),
    )  # fmt: skip


def gather_ensemble(members: Paths, output: Output) -> None:
    """Make one model of several alike: the mean of their predictions, and how far they differ."""
    from megabase.predictors import ensemble

    logs.start("gather-ensemble")
    ensemble.gather_ensemble([folder_of(path) for path in members], output)


def fit_baseline(
    stores: Paths,
    genomes: GenomesFolder,
    intervals: Intervals,
    folds: Folds,
    organisms: Organisms,
    output: Output,
    settings: Settings = "",
) -> None:
    """Fit the plain model that the output folder is named after: baseline-mean or baseline-kmer."""
    from megabase.predictors import baselines

    given = begin("fit-baseline", sections.EvaluationSettings, settings)
    names, sequences, _ = genomes_of(genomes, organisms)
    fold_settings = sections.parse_settings(sections.FoldSettings, folds)
    folders = [folder_of(path) for path in stores]
    baselines.fit_baseline(folders, sequences, intervals, output, given, fold_settings, names)


def evaluate_tracks(
    model: Annotated[Path, typer.Argument(help="model folder")],
    store: Annotated[Path, typer.Option(help="training store of the organism")],
    genome: GenomeFolder,
    intervals: Intervals,
    folds: Folds,
    organism: Annotated[str, typer.Option(help="organism to evaluate on")],
    output: Output,
    genes: GenesFolder = "",
    settings: Settings = "",
    seed: Seed = 0,
    device: Device = "",
) -> None:
    """Compare a model's predictions with the measured tracks of held-out windows."""
    from megabase import evaluate

    given = begin("evaluate-tracks", sections.EvaluationSettings, settings, seed)
    evaluate.evaluate_tracks(
        folder_of(model), folder_of(store), folder_of(genome), optional(genes), intervals, output, given,
        sections.parse_settings(sections.FoldSettings, folds), organism,
        seed=seed, device=prepared_device(device),
    )  # fmt: skip


def calibrate_spread(
    model: Annotated[Path, typer.Argument(help="model folder: an ensemble, or a student with a spread")],
    store: Annotated[Path, typer.Option(help="training store of the organism")],
    genome: GenomeFolder,
    intervals: Intervals,
    folds: Folds,
    organism: Annotated[str, typer.Option(help="organism to calibrate on")],
    output: Output,
    settings: Settings = "",
    seed: Seed = 0,
    device: Device = "",
) -> None:
    """Calibrate the spread of a model on held-out windows, and tell how reliable it is."""
    from megabase import uncertainty

    given = begin("calibrate-spread", sections.UncertaintySettings, settings, seed)
    uncertainty.calibrate_spread(
        folder_of(model), folder_of(store), folder_of(genome), intervals, output, given,
        sections.parse_settings(sections.FoldSettings, folds), organism,
        seed=seed, device=prepared_device(device),
    )  # fmt: skip


COMMANDS = (train_teacher, distill_student, gather_ensemble, fit_baseline, evaluate_tracks, calibrate_spread)
