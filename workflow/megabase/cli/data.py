"""Commands from raw data to training shards, one a rule.

A stage's module is imported inside its command, so that `megabase --help` starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megabase import logs
from megabase import settings as sections
from megabase.options import (
    Blacklist,
    GenomeFolder,
    Manifest,
    Output,
    Paths,
    Regions,
    Seed,
    Settings,
    Threads,
    TracksManifest,
    Unmappable,
    begin,
    folder_of,
    optional,
    rows_of,
    tracks_of,
)


def simulate_demo(output: Output, seed: Seed = 0, threads: Threads = 1) -> None:
    """Write the files of the demo portal: two synthetic species with known truth."""
    from megabase.simulate import demo

    logs.start("simulate-demo", seed=seed)
    demo.simulate_demo(output, seed, processes=threads)


def fetch_source(
    url: Annotated[str, typer.Argument(help="http(s)://..., file:... or a path")],
    output: Output,
    md5: Annotated[str, typer.Option(help="MD5 that the file must have; empty: not known")] = "",
    size: Annotated[str, typer.Option(help="bytes that the file must have; empty: not known")] = "",
    crc32c: Annotated[str, typer.Option(help="CRC-32C that it must have, in base64; empty: not known")] = "",
    turns: Annotated[str, typer.Option(help="folder where jobs share the rate; empty: this job alone")] = "",
    settings: Settings = "",
) -> None:
    """Fetch one file of the release, resume where a transfer broke off, and verify it."""
    from megabase.sources import download
    from megabase.sources import turns as rates

    given = begin("fetch-source", sections.SourceSettings, settings)
    download.fetch_source(
        url, output, md5=md5 or None, size=int(size) if size else None, crc32c=crc32c or None,
        attempts=given.attempts, turns=rates.Turns(optional(turns), given.requests_per_second),
    )  # fmt: skip


def prepare_genome(
    fasta: Annotated[Path, typer.Argument(help="FASTA, plain or gzip")],
    output: Output,
    name: Annotated[str, typer.Option(help="name of the genome")],
    settings: Settings,
) -> None:
    """Write the sequence store of a genome."""
    from megabase import genome

    given = begin("prepare-genome", sections.GenomeSettings, settings)
    genome.prepare_genome(
        fasta, output, organism=given.organism, name=name, aliases=given.aliases, config_hash=given.hash()
    )


def prepare_genes(
    gtf: Annotated[Path, typer.Argument(help="GTF of Ensembl or GENCODE, plain or gzip")],
    genome: GenomeFolder,
    output: Output,
) -> None:
    """Write the gene, transcript and exon tables of a genome."""
    from megabase import genes

    logs.start("prepare-genes")
    genes.prepare_genes(gtf, folder_of(genome), output)


def normalize_track(
    inputs: Paths,
    manifest: Manifest,
    genome: GenomeFolder,
    output: Output,
    regions: Regions = "",
    blacklist: Blacklist = "",
    unmappable: Unmappable = "",
    settings: Settings = "",
    threads: Threads = 1,
) -> None:
    """Normalize the replicates and strands of one group of signal files into bigWigs."""
    from megabase.tracks import coverage

    given = begin("normalize-track", sections.TrackSettings, settings)
    coverage.normalize_track(
        rows_of(inputs, manifest), inputs, folder_of(genome), output, given, optional(regions),
        optional(blacklist), optional(unmappable), threads,
    )  # fmt: skip


def normalize_contacts(
    inputs: Paths, manifest: Manifest, genome: GenomeFolder, output: Output, settings: Settings = ""
) -> None:
    """Normalize a contact map into log(observed / expected)."""
    from megabase.tracks import contacts

    given = begin("normalize-contacts", sections.TrackSettings, settings)
    contacts.normalize_contacts(rows_of(inputs, manifest), inputs, folder_of(genome), output, given)


def normalize_splicing(
    inputs: Paths, manifest: Manifest, genome: GenomeFolder, output: Output, settings: Settings = ""
) -> None:
    """Turn an organism's splice tables into sites, usage and junction counts."""
    from megabase.tracks import splicing

    given = begin("normalize-splicing", sections.TrackSettings, settings)
    splicing.normalize_splicing(rows_of(inputs, manifest), inputs, folder_of(genome), output, given)


def list_tracks(
    tracks: Paths,
    organism: Annotated[str, typer.Option(help="organism of the tracks")],
    output: Output,
    manifest: TracksManifest = "",
    quality: Annotated[
        str, typer.Option(help="table of check-tracks: tracks that it excludes go; empty: none")
    ] = "",
) -> None:
    """Write the track table of an organism: every channel, in channel order."""
    from megabase.tracks import table

    logs.start("list-tracks")
    found = tracks_of(tracks, manifest)
    table.list_tracks(found, organism, output, optional(quality))


def check_tracks(
    tracks: Paths,
    organism: Annotated[str, typer.Option(help="organism of the tracks")],
    output: Output,
    manifest: TracksManifest = "",
    settings: Settings = "",
) -> None:
    """Write the quality table of an organism's tracks, and tell which fail and why."""
    from megabase.tracks import quality

    given = begin("check-tracks", sections.QualitySettings, settings)
    quality.check_tracks(tracks_of(tracks, manifest), organism, output, given)


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

    given = begin("assign-folds", sections.FoldSettings, settings, seed)
    folders = [folder_of(path) for path in genomes]
    folds.assign_folds(folders, output, given, splits=splits or [], seed=seed)


def write_shards(
    tracks: Paths,
    table: Annotated[Path, typer.Option(help="track table made by list-tracks")],
    genome: GenomeFolder,
    output: Output,
    manifest: TracksManifest = "",
    settings: Settings = "",
    workers: Annotated[int, typer.Option(help="processes that encode; the bytes do not depend on it")] = 1,
) -> None:
    """Write the training store of an organism, or what of it has changed."""
    from megabase.shards import writer

    given = begin("write-shards", sections.ShardSettings, settings)
    folders = tracks_of(tracks, manifest)
    writer.write_shards(table, folders, folder_of(genome), output, given, workers=workers)


COMMANDS = (
    simulate_demo,
    fetch_source,
    prepare_genome,
    prepare_genes,
    normalize_track,
    normalize_contacts,
    normalize_splicing,
    list_tracks,
    check_tracks,
    assign_folds,
    write_shards,
)
