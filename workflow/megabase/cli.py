"""The command line: one subcommand a rule. Parse, load, call; the work is in the function of the same name.

A stage's module is imported inside its command, so that `megabase --help` and light commands start fast. A
path of a model, genome or store may be its folder or the JSON file in it that describes it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from megabase import config, logs

app = typer.Typer(
    name="megabase",
    help="Portals -> tracks -> shards -> teachers -> student -> scores -> benchmarks -> report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Paths = Annotated[list[Path], typer.Argument(help="input files or folders")]
Output = Annotated[Path, typer.Option("-o", "--output", help="file or folder to write")]
Settings = Annotated[str, typer.Option(help="JSON, or a YAML file, of this command's section of the config")]
Seed = Annotated[int, typer.Option(help="seed of every random draw")]
GenomeFolder = Annotated[Path, typer.Option("--genome", help="genome folder made by prepare-genome")]
GenesFolder = Annotated[
    str, typer.Option("--genes", help="folder made by prepare-genes; empty: no gene models")
]
GenomesFolder = Annotated[Path, typer.Option(help="folder that holds a genome folder for every organism")]
Manifest = Annotated[Path, typer.Option(help="manifest of the release; tells what each file is")]
Model = Annotated[Path, typer.Option(help="model folder")]
Intervals = Annotated[Path, typer.Option(help="windows by fold, made by assign-folds")]
Folds = Annotated[str, typer.Option(help="JSON, or a YAML file, of the section `folds`")]
Scheme = Annotated[str, typer.Option(help="fold scheme: which windows are held out")]
Organisms = Annotated[str, typer.Option(help="organisms in model index order, joined by commas")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; default: cuda where there is one")]


def main() -> None:
    """Run the command line; a bad input ends in one line `error: ...` and exit code 1."""
    try:
        app()
    except (ValueError, OSError) as error:  # FileError is a ValueError; settings and files are the user's
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(1)


def _folder(path: Path) -> Path:
    """The folder that a path names itself, or through the file in it that describes it."""
    return path if path.is_dir() else path.parent


def _optional(path: str) -> Path | None:
    return Path(path) if path else None


def _device(name: str) -> str:
    import torch

    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def _rows(paths: list[Path], manifest: Path) -> list[dict]:
    """Manifest rows of raw files, in the order of the files."""
    from megabase.sources.groups import Sheet
    from megabase.sources.manifest import read_manifest

    sheet = Sheet(read_manifest(manifest).to_dicts(), str(manifest))
    return [sheet.row_at(path) for path in paths]


def _genomes(folder: Path, organisms: str) -> tuple[list[str], list[Path], list[Path | None]]:
    """Names of organisms, their genome folders, and their gene folders (none where a genome has none)."""
    names = organisms.split(",")
    genomes = [folder / name for name in names]
    return names, genomes, [genome / "genes" if (genome / "genes").is_dir() else None for genome in genomes]


@app.command()
def simulate_demo(output: Output, seed: Seed = 0) -> None:
    """Write the files of the demo portal: two synthetic species with known truth."""
    from megabase.simulate import portal

    logs.start("simulate-demo", seed=seed)
    portal.simulate_demo(output, seed)


@app.command()
def list_sources(
    portals: Annotated[list[str], typer.Argument(help="portals or files to list")], output: Output
) -> None:
    """Write the manifest of a release, to be reviewed and committed."""
    from megabase.sources import listing

    logs.start("list-sources")
    listing.list_sources(portals, output)


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

    given = config.parse_settings(config.GenomeSettings, settings)
    logs.start("prepare-genome", config_hash=given.hash())
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
    genes.prepare_genes(gtf, _folder(genome), output)


@app.command()
def normalize_track(
    inputs: Paths,
    manifest: Manifest,
    genome: GenomeFolder,
    output: Output,
    regions: Annotated[str, typer.Option(help="BED of measured regions; empty: all")] = "",
    blacklist: Annotated[str, typer.Option(help="BED of regions to mask; empty: none")] = "",
    settings: Settings = "",
) -> None:
    """Normalize the replicates and strands of one group of signal files into bigWigs."""
    from megabase.tracks import coverage

    given = config.parse_settings(config.TrackSettings, settings)
    logs.start("normalize-track", config_hash=given.hash())
    coverage.normalize_track(
        _rows(inputs, manifest),
        inputs,
        _folder(genome),
        output,
        given,
        _optional(regions),
        _optional(blacklist),
    )


@app.command()
def normalize_contacts(
    inputs: Paths, manifest: Manifest, genome: GenomeFolder, output: Output, settings: Settings = ""
) -> None:
    """Normalize a contact map into log(observed / expected)."""
    from megabase.tracks import contacts

    given = config.parse_settings(config.TrackSettings, settings)
    logs.start("normalize-contacts", config_hash=given.hash())
    contacts.normalize_contacts(_rows(inputs, manifest), inputs, _folder(genome), output, given)


@app.command()
def normalize_splicing(
    inputs: Paths, manifest: Manifest, genome: GenomeFolder, output: Output, settings: Settings = ""
) -> None:
    """Turn an organism's splice tables into sites, usage and junction counts."""
    from megabase.tracks import splicing

    given = config.parse_settings(config.TrackSettings, settings)
    logs.start("normalize-splicing", config_hash=given.hash())
    splicing.normalize_splicing(_rows(inputs, manifest), inputs, _folder(genome), output, given)


@app.command()
def list_tracks(
    tracks: Paths, organism: Annotated[str, typer.Option(help="organism of the tracks")], output: Output
) -> None:
    """Write the track table of an organism: every channel, in channel order."""
    from megabase.tracks import table

    logs.start("list-tracks")
    table.list_tracks([path / "track.json" if path.is_dir() else path for path in tracks], organism, output)


@app.command()
def assign_folds(
    genomes: Paths,
    output: Output,
    settings: Settings,
    splits: Annotated[str, typer.Option(help="BEDs of published folds, joined by spaces; empty: none")] = "",
    seed: Seed = 0,
) -> None:
    """Deal the windows of every organism to folds."""
    from megabase import folds

    given = config.parse_settings(config.FoldSettings, settings)
    logs.start("assign-folds", seed=seed, config_hash=given.hash())
    folders = [_folder(path) for path in genomes]
    folds.assign_folds(folders, output, given, splits=[Path(path) for path in splits.split()], seed=seed)


@app.command()
def write_shards(
    tracks: Paths,
    table: Annotated[Path, typer.Option(help="track table made by list-tracks")],
    genome: GenomeFolder,
    output: Output,
    settings: Settings = "",
) -> None:
    """Write the training store of an organism."""
    from megabase import shards

    given = config.parse_settings(config.ShardSettings, settings)
    logs.start("write-shards", config_hash=given.hash())
    shards.write_shards(tracks, table, _folder(genome), output, given)


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
) -> None:
    """Train one teacher on measured tracks; goes on from its last checkpoint."""
    from megabase import train

    given = config.parse_settings(config.TrainSettings, settings)
    logs.start("train-teacher", seed=seed, config_hash=given.hash())
    names, sequences, genes = _genomes(genomes, organisms)
    train.train_teacher(
        stores, sequences, genes, intervals, output, scheme, seed, given,
        config.parse_settings(config.ModelSettings, model), config.parse_settings(config.FoldSettings, folds),
        names, device=_device(device),
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
) -> None:
    """Distil the student from the all-folds teachers; goes on from its last checkpoint."""
    from megabase import distill

    given = config.parse_settings(config.DistillSettings, settings)
    logs.start("distill-student", seed=seed, config_hash=given.hash())
    names, sequences, genes = _genomes(genomes, organisms)
    distill.distill_student(
        [_folder(path) for path in teachers], [stores / name for name in names], sequences, genes, intervals,
        output, seed, given, config.parse_settings(config.FoldSettings, folds), names, device=_device(device),
    )  # fmt: skip


@app.command()
def split_variants(
    vcf: Annotated[Path, typer.Argument(help="VCF, plain or bgzip")],
    chunks: Annotated[list[Path], typer.Argument(help="chunks to write, over which variants are dealt")],
    genome: GenomeFolder,
    rejected: Annotated[Path, typer.Option(help="table to write of the records that are left out, and why")],
    settings: Settings,
    max_allele: Annotated[int, typer.Option(help="longer alleles are rejected")] = 1000,
    seed: Seed = 0,
) -> None:
    """Check the variants of a VCF against the genome and deal them to chunks."""
    from megabase import variants

    given = config.parse_settings(config.VariantSetSettings, settings)
    logs.start("split-variants", seed=seed, config_hash=given.hash())
    variants.split_variants(vcf, chunks, rejected, _folder(genome), given, max_allele=max_allele, seed=seed)


@app.command()
def score_variants(
    variants: Annotated[Path, typer.Argument(help="chunk made by split-variants")],
    model: Model,
    genome: GenomeFolder,
    output: Output,
    genes: GenesFolder = "",
    polya_sites: Annotated[str, typer.Option(help="table of polyadenylation sites; empty: none")] = "",
    settings: Settings = "",
    device: Device = "",
) -> None:
    """Score a chunk of variants with every scorer; goes on after its last finished batch."""
    from megabase.scoring import chunks

    given = config.parse_settings(config.ScoringSettings, settings)
    logs.start("score-variants", config_hash=given.hash())
    chunks.score_variants(
        variants, _folder(model), _folder(genome), _optional(genes), output, given,
        polya_sites=_optional(polya_sites), device=_device(device),
    )  # fmt: skip


@app.command()
def calibrate_scores(chunks: Paths, output: Output, settings: Settings = "", seed: Seed = 0) -> None:
    """Make the quantiles of every scorer and track from scored background variants."""
    from megabase.scoring import calibration

    given = config.parse_settings(config.ScoringSettings, settings)
    logs.start("calibrate-scores", seed=seed, config_hash=given.hash())
    calibration.calibrate_scores(chunks, output, given, seed=seed)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
