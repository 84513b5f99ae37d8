"""The command line: one subcommand a rule. Parse, load, call; the work is in the function of the same name.

Commands that people call, and no rule, are in `megabase.commands`.

A stage's module is imported inside its command, so that `megabase --help` and light commands start fast. A
path of a model, genome or store may be its folder or the JSON file in it that describes it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from megabase import commands, config, logs
from megabase.options import (
    BenchmarkName,
    BenchmarkTable,
    Blacklist,
    Device,
    Folds,
    GenesFolder,
    GenomeFolder,
    GenomesFolder,
    Intervals,
    Manifest,
    Model,
    Nodes,
    Organisms,
    Output,
    Paths,
    Processes,
    Regions,
    Scheme,
    Scoring,
    Seed,
    Settings,
    TracksManifest,
    begin,
    folder_of,
    genomes_of,
    optional,
    prepared_device,
    rows_of,
    tracks_of,
)
from megabase.settings.data import FoldSettings, GenomeSettings, ShardSettings, TrackSettings
from megabase.settings.run import AblationSettings, ReportSettings
from megabase.settings.scoring import (
    BenchmarkSettings,
    ChunkSettings,
    EnhancerScoring,
    IntervalScoring,
    ScoringSettings,
    VariantSetSettings,
)
from megabase.settings.section import parse_settings
from megabase.settings.training import (
    DistillSettings,
    EvaluationSettings,
    ModelSettings,
    TrainSettings,
    UncertaintySettings,
)

app = typer.Typer(
    name="megabase",
    help="Portals -> tracks -> shards -> teachers -> student -> scores -> benchmarks -> report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a bad input ends in one line `error: ...` and exit code 1."""
    try:
        app()
    except (ValueError, OSError) as error:  # FileError is a ValueError; settings and files are the user's
        who = f" of rank {logs.rank()}" if logs.rank() else ""
        sys.stderr.write(f"error{who}: {' '.join(str(error).split())}\n")
        sys.exit(1)


@app.command()
def simulate_demo(output: Output, seed: Seed = 0) -> None:
    """Write the files of the demo portal: two synthetic species with known truth."""
    from megabase.simulate import demo

    logs.start("simulate-demo", seed=seed)
    demo.simulate_demo(output, seed)


@app.command()
def fetch_source(
    url: Annotated[str, typer.Argument(help="http(s)://..., file:... or a path")],
    output: Output,
    md5: Annotated[str, typer.Option(help="MD5 that the file must have; empty: not known")] = "",
    size: Annotated[str, typer.Option(help="bytes that the file must have; empty: not known")] = "",
) -> None:
    """Fetch one file of the release, resume where a transfer broke off, and verify it."""
    from megabase.sources import download

    logs.start("fetch-source")
    download.fetch_source(url, output, md5=md5 or None, size=int(size) if size else None)


@app.command()
def prepare_genome(
    fasta: Annotated[Path, typer.Argument(help="FASTA, plain or gzip")],
    output: Output,
    name: Annotated[str, typer.Option(help="name of the genome")],
    settings: Settings,
) -> None:
    """Write the sequence store of a genome."""
    from megabase import genome

    given = begin("prepare-genome", GenomeSettings, settings)
    genome.prepare_genome(
        fasta, output, organism=given.organism, name=name, aliases=given.aliases, config_hash=given.hash()
    )


@app.command()
def prepare_genes(
    gtf: Annotated[Path, typer.Argument(help="GTF of Ensembl or GENCODE, plain or gzip")],
    genome: GenomeFolder,
    output: Output,
) -> None:
    """Write the gene, transcript and exon tables of a genome."""
    from megabase import genes

    logs.start("prepare-genes")
    genes.prepare_genes(gtf, folder_of(genome), output)


@app.command()
def normalize_track(
    inputs: Paths,
    manifest: Manifest,
    genome: GenomeFolder,
    output: Output,
    regions: Regions = "",
    blacklist: Blacklist = "",
    settings: Settings = "",
) -> None:
    """Normalize the replicates and strands of one group of signal files into bigWigs."""
    from megabase.tracks import coverage

    given = begin("normalize-track", TrackSettings, settings)
    coverage.normalize_track(
        rows_of(inputs, manifest), inputs, folder_of(genome), output, given, optional(regions),
        optional(blacklist),
    )  # fmt: skip


@app.command()
def normalize_contacts(
    inputs: Paths, manifest: Manifest, genome: GenomeFolder, output: Output, settings: Settings = ""
) -> None:
    """Normalize a contact map into log(observed / expected)."""
    from megabase.tracks import contacts

    given = begin("normalize-contacts", TrackSettings, settings)
    contacts.normalize_contacts(rows_of(inputs, manifest), inputs, folder_of(genome), output, given)


@app.command()
def normalize_splicing(
    inputs: Paths, manifest: Manifest, genome: GenomeFolder, output: Output, settings: Settings = ""
) -> None:
    """Turn an organism's splice tables into sites, usage and junction counts."""
    from megabase.tracks import splicing

    given = begin("normalize-splicing", TrackSettings, settings)
    splicing.normalize_splicing(rows_of(inputs, manifest), inputs, folder_of(genome), output, given)


@app.command()
def list_tracks(
    tracks: Paths,
    organism: Annotated[str, typer.Option(help="organism of the tracks")],
    output: Output,
    manifest: TracksManifest = "",
) -> None:
    """Write the track table of an organism: every channel, in channel order."""
    from megabase.tracks import table

    logs.start("list-tracks")
    found = tracks_of(tracks, manifest)
    table.list_tracks([path / "track.json" if path.is_dir() else path for path in found], organism, output)


@app.command()
def assign_folds(
    genomes: Paths,
    output: Output,
    settings: Settings,
    splits: Annotated[
        list[Path] | None, typer.Option(help="BED of published folds, repeated: one a genome, in their order")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Deal the windows of every organism to folds."""
    from megabase import folds

    given = begin("assign-folds", FoldSettings, settings, seed)
    folders = [folder_of(path) for path in genomes]
    folds.assign_folds(folders, output, given, splits=splits or [], seed=seed)


@app.command()
def write_shards(
    tracks: Paths,
    table: Annotated[Path, typer.Option(help="track table made by list-tracks")],
    genome: GenomeFolder,
    output: Output,
    manifest: TracksManifest = "",
    settings: Settings = "",
) -> None:
    """Write the training store of an organism."""
    from megabase.shards import writer

    given = begin("write-shards", ShardSettings, settings)
    writer.write_shards(table, tracks_of(tracks, manifest), folder_of(genome), output, given)


@app.command()
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
    given = begin("train-teacher", TrainSettings, settings, seed)
    names, sequences, genes = genomes_of(genomes, organisms)
    train.train_teacher(
        stores, sequences, genes, intervals, output, scheme, seed, given,
        parse_settings(ModelSettings, model), parse_settings(FoldSettings, folds),
        names, device=prepared_device(device),
    )  # fmt: skip


@app.command()
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
    given = begin("distill-student", DistillSettings, settings, seed)
    names, sequences, genes = genomes_of(genomes, organisms)
    distill.distill_student(
        [folder_of(path) for path in teachers], [stores / name for name in names], sequences, genes,
        intervals, output, seed, given, parse_settings(FoldSettings, folds), names,
        device=prepared_device(device),
    )  # fmt: skip


@app.command()
def gather_ensemble(members: Paths, output: Output) -> None:
    """Make one model of several alike: the mean of their predictions, and how far they differ."""
    from megabase.predictors import ensemble

    logs.start("gather-ensemble")
    ensemble.gather_ensemble([folder_of(path) for path in members], output)


@app.command()
def split_variants(
    source: Annotated[
        Path, typer.Argument(help="VCF, plain or bgzip; BED of a set that saturates; else sequence.json")
    ],
    chunks: Annotated[list[Path], typer.Argument(help="chunks to write, over which variants are dealt")],
    genome: GenomeFolder,
    rejected: Annotated[Path, typer.Option(help="table to write of the records that are left out, and why")],
    settings: Settings,
    max_allele: Annotated[int, typer.Option(help="longer alleles are rejected")] = 1000,
    genes: GenesFolder = "",
    scoring: Annotated[str, typer.Option(help="section `scoring`: the window that alleles must fit")] = "",
    chunks_settings: Annotated[str, typer.Option("--chunks", help="section `chunks`: what costs time")] = "",
    seed: Seed = 0,
) -> None:
    """Deal the checked variants of a VCF, or every SNV of a BED or genome, to chunks of equal cost."""
    from megabase import packing, variants

    given = begin("split-variants", VariantSetSettings, settings, seed)
    asked = parse_settings(ScoringSettings, scoring)
    variants.split_variants(
        source, folder_of(genome), chunks, rejected, max_allele=max_allele, max_variants=given.max_variants,
        window=asked.window if scoring else None, sample=given.sample, haplotypes=given.haplotypes,
        unphased=given.unphased, regions=given.regions, saturate=given.saturate, seed=seed,
        config_hash=given.hash(), packing=packing.Packing.of(
            parse_settings(ChunkSettings, chunks_settings), asked, optional(genes)
        ),
    )  # fmt: skip


@app.command()
def list_haplotypes(
    vcf: Annotated[Path, typer.Argument(help="VCF with the sample's genotypes")],
    genome: GenomeFolder,
    output: Output,
    settings: Settings,
    max_allele: Annotated[int, typer.Option(help="longer alleles are left out")] = 1000,
    window: Annotated[int, typer.Option(help="longer deletions are left out; 0: max-allele")] = 0,
) -> None:
    """List the alleles that make a sample's two haplotypes."""
    from megabase import haplotypes

    given = begin("list-haplotypes", VariantSetSettings, settings)
    if given.sample is None:
        raise ValueError("settings: no sample; wanted the name of one of the VCF")
    haplotypes.list_haplotypes(
        vcf, folder_of(genome), output, sample=given.sample, unphased=given.unphased, max_allele=max_allele,
        window=window or None, config_hash=given.hash(),
    )  # fmt: skip


@app.command()
def score_variants(
    variants: Annotated[Path, typer.Argument(help="chunk made by split-variants")],
    model: Model,
    genome: GenomeFolder,
    output: Output,
    genes: GenesFolder = "",
    polya_sites: Annotated[str, typer.Option(help="table of polyadenylation sites; empty: none")] = "",
    haplotypes: Annotated[str, typer.Option(help="table made by list-haplotypes; empty: none")] = "",
    settings: Settings = "",
    device: Device = "",
) -> None:
    """Score a chunk of variants with every scorer; goes on after its last finished batch."""
    from megabase.scoring import chunks

    given = begin("score-variants", ScoringSettings, settings)
    chunks.score_variants(
        variants, folder_of(model), folder_of(genome), optional(genes), output, given,
        polya_sites=optional(polya_sites), haplotypes=optional(haplotypes), device=prepared_device(device),
    )  # fmt: skip


@app.command()
def compare_placements(
    variants: Paths,
    model: Model,
    genome: GenomeFolder,
    output: Output,
    genes: GenesFolder = "",
    polya_sites: Annotated[str, typer.Option(help="table of polyadenylation sites; empty: none")] = "",
    haplotypes: Annotated[str, typer.Option(help="table of list-haplotypes; empty: none")] = "",
    settings: Settings = "",
    device: Device = "",
) -> None:
    """Score some variants in windows placed three ways, and tell how much their scores differ."""
    from megabase.scoring import placements

    given = begin("compare-placements", ScoringSettings, settings)
    placements.compare_placements(
        variants, folder_of(model), folder_of(genome), optional(genes), output, given,
        polya_sites=optional(polya_sites), haplotypes=optional(haplotypes), device=prepared_device(device),
    )  # fmt: skip


@app.command()
def calibrate_scores(chunks: Paths, output: Output, settings: Settings = "", seed: Seed = 0) -> None:
    """Make the quantiles of every scorer and track from scored background variants."""
    from megabase.scoring import calibration

    given = begin("calibrate-scores", ScoringSettings, settings, seed)
    calibration.calibrate_scores(chunks, output, given, seed=seed)


@app.command()
def merge_scores(
    chunks: Annotated[list[Path], typer.Argument(help="chunks in order or, with --split, their folder")],
    rejected: Annotated[Path, typer.Option(help="rejected.parquet of split-variants")],
    model: Model,
    output: Output,
    calibration: Annotated[str, typer.Option(help="calibration.json of the model; empty: no quantiles")] = "",
    split: Annotated[str, typer.Option(help="split.json of split-variants; empty: not compared")] = "",
    uncertainty: Annotated[
        str, typer.Option(help="folder of the chunks of an ensemble, whose spread is joined; empty: none")
    ] = "",
) -> None:
    """Join the chunks of a variant set into its scores, with quantiles."""
    from megabase.scoring import store

    logs.start("merge-scores")
    store.merge_scores(
        chunks, rejected, optional(calibration), folder_of(model), output,
        split=optional(split), uncertainty=optional(uncertainty),
    )  # fmt: skip


@app.command()
def write_saturation(
    scores: Annotated[Path, typer.Argument(help="merged scores of a set of every SNV")],
    split: Annotated[Path, typer.Option(help="split.json of split-variants, beside its chunks")],
    output: Output,
) -> None:
    """Write the scores of every SNV as bigWigs and Zarr arrays; goes on after its last finished scorer."""
    from megabase.scoring import saturated

    logs.start("write-saturation")
    saturated.write_saturation(scores, split, output)


@app.command()
def explain_variant(
    scores: Annotated[Path, typer.Argument(help="scores of a variant set")],
    model: Model,
    genome: GenomeFolder,
    output: Output,
    genes: GenesFolder = "",
    store: Annotated[str, typer.Option(help="training store with observed tracks; empty: none")] = "",
    scoring: Scoring = "",
    settings: Settings = "",
    variant: Annotated[str, typer.Option(help="variant to explain; empty: that of the largest effect")] = "",
    device: Device = "",
) -> None:
    """Write the predictions and the in-silico mutagenesis about one variant."""
    from megabase.scoring import explain

    given = begin("explain-variant", ReportSettings, settings)
    explain.explain_variant(
        scores, folder_of(model), folder_of(genome), optional(genes), optional(store), output,
        parse_settings(ScoringSettings, scoring), given, variant=variant or None,
        device=prepared_device(device),
    )  # fmt: skip


@app.command()
def score_intervals(
    model: Model,
    genome: GenomeFolder,
    genes: Annotated[Path, typer.Option(help="folder made by prepare-genes")],
    output: Output,
    regions: Annotated[
        str, typer.Option(help="BED, or list of gene ids or names, one a line; empty: every gene")
    ] = "",
    settings: Settings = "",
    scoring: Scoring = "",
    device: Device = "",
) -> None:
    """Score genes in windows around intervals: mean or sum of a track over exons, without a variant."""
    from megabase.scoring import intervals

    given = begin("score-intervals", IntervalScoring, settings)
    intervals.score_intervals(
        optional(regions), folder_of(model), folder_of(genome), genes, output, given,
        parse_settings(ScoringSettings, scoring), device=prepared_device(device),
    )  # fmt: skip


@app.command()
def score_enhancers(
    pairs: Annotated[Path, typer.Argument(help="table with chrom, start, end, gene, biosample")],
    model: Model,
    genome: GenomeFolder,
    genes: Annotated[Path, typer.Option(help="folder made by prepare-genes")],
    output: Output,
    settings: Settings = "",
    scoring: Scoring = "",
    device: Device = "",
) -> None:
    """Score element-gene pairs: how much of the gradient of a gene's expression lies at the element."""
    from megabase.scoring import enhancers

    given = begin("score-enhancers", EnhancerScoring, settings)
    enhancers.score_enhancers(
        pairs, folder_of(model), folder_of(genome), genes, output, given,
        parse_settings(ScoringSettings, scoring), device=prepared_device(device),
    )  # fmt: skip


@app.command()
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

    given = begin("fit-baseline", EvaluationSettings, settings)
    names, sequences, _ = genomes_of(genomes, organisms)
    fold_settings = parse_settings(FoldSettings, folds)
    baselines.fit_baseline(stores, sequences, intervals, output, given, fold_settings, names)


@app.command()
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

    given = begin("evaluate-tracks", EvaluationSettings, settings, seed)
    evaluate.evaluate_tracks(
        folder_of(model), store, folder_of(genome), optional(genes), intervals, output, given,
        parse_settings(FoldSettings, folds), organism,
        seed=seed, device=prepared_device(device),
    )  # fmt: skip


@app.command()
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

    given = begin("calibrate-spread", UncertaintySettings, settings, seed)
    uncertainty.calibrate_spread(
        folder_of(model), store, folder_of(genome), intervals, output, given,
        parse_settings(FoldSettings, folds), organism,
        seed=seed, device=prepared_device(device),
    )  # fmt: skip


@app.command()
def prepare_benchmark(
    tables: Annotated[list[str], typer.Argument(help="path, path=tissue or path=tissue=ontology term")],
    name: BenchmarkName,
    genome: GenomeFolder,
    settings: Settings,
    output: Output,
    genes: GenesFolder = "",
    seed: Seed = 0,
) -> None:
    """Turn measured effects into a benchmark's table and the VCF of its variants."""
    from megabase.benchmark import tasks

    given = begin("prepare-benchmark", BenchmarkSettings, settings, seed)
    tasks.prepare_benchmark(tables, folder_of(genome), optional(genes), output, given, name, seed)


@app.command()
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

    given = begin("evaluate-benchmark", BenchmarkSettings, settings, seed)
    results.evaluate_benchmark(table, scores, model, output, given, name, seed)


@app.command()
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

    given = begin("evaluate-baselines", BenchmarkSettings, settings, seed)
    results.evaluate_baselines(table, folder_of(genome), output, given, name, seed)


@app.command()
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

    given = begin("tabulate-ablation", AblationSettings, settings)
    ablations.tabulate_ablation(results, name, given, output)


@app.command()
def plot_report(
    results: Annotated[Path, typer.Argument(help="folder of results")],
    manifest: Manifest,
    settings: Annotated[str, typer.Option(help="the whole config, as JSON or a YAML file")],
    output: Output,
) -> None:
    """Write the page that a person reads, and its figures."""
    from megabase.report import page

    given = begin("plot-report", config.Config, settings)
    page.plot_report(results, manifest, given, output)


for command in commands.FOR_PEOPLE:
    app.command()(command)


if __name__ == "__main__":
    main()
