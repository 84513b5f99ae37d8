"""Commands that people call and no rule does; `megabase.cli` adds them to those of the rules.

A stage's module is imported inside its command, so that `megabase --help` starts fast.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from megabase import logs
from megabase import settings as sections
from megabase.options import (
    Device,
    GenesFolder,
    GenomeFolder,
    Metadata,
    Model,
    Output,
    Scoring,
    begin,
    folder_of,
    named_paths,
    optional,
    prepared_device,
)


def list_sources(
    tables: Annotated[list[Path] | None, typer.Argument(help="TSVs with the columns of a manifest")] = None,
    portal: Annotated[list[str] | None, typer.Option(help="portal to list, such as encode; repeat")] = None,
    release: Annotated[str, typer.Option(help="name of the release")] = "",
    organism: Annotated[list[str] | None, typer.Option(help="organism; repeat; default: all")] = None,
    assay: Annotated[list[str] | None, typer.Option(help="assay title; repeat; default: all")] = None,
    against: Annotated[str, typer.Option(help="manifest of an earlier release to compare with")] = "",
    base_url: Annotated[str, typer.Option(help="address to ask in place of the portal's own")] = "",
    output: Annotated[
        str, typer.Option("-o", "--output", help="manifest; default: resources/manifests/RELEASE.tsv")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a manifest that is there")] = False,
    data: Annotated[str, typer.Option(help="folder that {data} in a URL stands for")] = "",
    settings: Annotated[str, typer.Option(help="JSON, or a YAML file, of ListingSettings")] = "",
) -> None:
    """Freeze a release: list portals and tables of sources, and write its manifest (docs/listing.md)."""
    from megabase.sources import changes, listing, portals

    given = sections.parse_settings(sections.ListingSettings, settings)
    path = listing.manifest_path(release, output, asks=bool(tables or portal))
    names = (tuple(organism or ()), tuple(assay or ()))
    logs.start("list-sources", config_hash=given.hash())
    listing.list_sources(
        tables or [], path, data=data, portals=portal or [], overwrite=overwrite,
        release=portals.Release(release or path.stem, *names, base_url or None, given),
    )  # fmt: skip
    if against:
        sys.stdout.write(changes.compare_sources(against, path))


def compare_sources(
    old: Annotated[Path, typer.Argument(help="manifest of the earlier release")],
    new: Annotated[Path, typer.Argument(help="manifest of the later release")],
    output: Annotated[str, typer.Option("-o", "--output", help="TSV with a row a file; empty: none")] = "",
) -> None:
    """Print what changed between two releases, and what a run would download, normalize and shard anew."""
    from megabase.sources import changes

    sys.stdout.write(changes.compare_sources(old, new, optional(output)))


def fetch_sources(
    manifest: Annotated[Path, typer.Argument(help="manifest of the release")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder of raw files")] = Path("results/raw"),
    data: Annotated[str, typer.Option(help="folder that {data} in a URL stands for")] = "",
    connections: Annotated[int, typer.Option(help="files side by side; 0: as the settings say")] = 0,
    settings: Annotated[str, typer.Option(help="JSON, or a YAML file, of the section `sources`")] = "",
) -> None:
    """Fetch every file of a manifest to where the workflow looks for it, and tell which could not be."""
    from megabase.sources import fetch_all

    logs.start("fetch-sources")
    given = sections.parse_settings(sections.SourceSettings, settings)
    if connections:
        given = sections.changed(given, {"connections": connections}, "--connections")
    fetch_all.fetch_sources(manifest, output, data=data, settings=given)


def convert_table(
    name: Annotated[
        str, typer.Argument(help="published table, such as gtex_v10_susie_eqtl (docs/portals.md)")
    ],
    files: Annotated[list[Path], typer.Argument(help="its files, as they were fetched")],
    output: Output,
    genome: Annotated[str, typer.Option(help="genome folder to check REF against; empty: no check")] = "",
    genes: GenesFolder = "",
    tissue: Annotated[str, typer.Option(help="tissue, where neither table nor file name tells it")] = "",
    exchange: Annotated[bool, typer.Option(help="turn alleles that are in the other order")] = False,
    min_pip: Annotated[float, typer.Option(help="least posterior of the rows that are kept")] = 0.0,
) -> None:
    """Read a published table of variants with effects, check it, and write it as benchmarks read it."""
    from megabase.sources.tables import convert

    logs.start("convert-table")
    convert.convert_table(
        name, files, output, genome_folder=optional(genome), genes_folder=optional(genes), tissue=tissue,
        exchange=exchange, min_pip=min_pip,
    )  # fmt: skip


def import_aliases(
    source: Annotated[Path, typer.Argument(help="UCSC's chromAlias.txt, or NCBI's assembly report")],
    fasta: Annotated[Path, typer.Argument(help="FASTA, its .fai, or a table of chromosome sizes")],
    output: Output,
) -> None:
    """Write the table of other names of a genome's chromosomes, as `genomes.{name}.aliases` takes it."""
    from megabase.sources import aliases

    logs.start("import-aliases")
    aliases.import_aliases(source, fasta, output)


def fetch_region(
    source: Annotated[str, typer.Argument(help="bgzip VCF with a .tbi: https://..., or a path")],
    output: Output,
    region: Annotated[list[str] | None, typer.Option(help="chrom:start-end, 1-based, closed; repeat")] = None,
    bed: Annotated[str, typer.Option(help="BED of regions; empty: none")] = "",
    index: Annotated[str, typer.Option(help="the .tbi; empty: beside the source")] = "",
    aliases: Annotated[str, typer.Option(help="other names of contigs (import-aliases); empty: none")] = "",
) -> None:
    """Fetch the records of some regions of a large VCF (gnomAD, dbSNP, ...), each block checked."""
    from megabase.sources import region as regions

    logs.start("fetch-region")
    wanted = regions.read_regions(region or [], optional(bed))
    regions.fetch_region(source, wanted, output, index=optional(index), aliases=optional(aliases))


def plan_sources(
    config: Annotated[Path, typer.Argument(help="config file whose release is not listed yet")],
    output: Output,
    metadata: Metadata,
) -> None:
    """Write a manifest of the published size without any real file: for dry runs and the cost of a run."""
    from megabase import planned

    logs.start("plan-sources")
    planned.plan_sources(config, output, metadata=named_paths(metadata))


def estimate_cost(
    config: Annotated[Path, typer.Argument(help="config file")],
) -> None:
    """Print the operations and GPU hours that a run will cost, by stage: an estimate."""
    from megabase import cost

    sys.stdout.write(f"{cost.estimate_cost(config)}\n")


def estimate_scoring(
    config: Annotated[Path, typer.Argument(help="config file, of which `cost` and `chunks` are read")],
) -> None:
    """Print the GPU hours, storage and time that scoring a person, gnomAD or every SNV takes: an estimate."""
    from megabase import scaling

    sys.stdout.write(f"{scaling.estimate_scoring(config)}\n")


def query(
    scores: Annotated[Path, typer.Argument(help="scores of a variant set")],
    place: Annotated[
        str, typer.Argument(help="variant chrom:position:ref:alt, or region chrom:start-end; empty: all")
    ] = "",
    region: Annotated[str, typer.Option(help="chrom:start-end, 1-based and closed")] = "",
    gene: Annotated[str, typer.Option(help="gene name, or id with or without its version")] = "",
    biosample: Annotated[
        str, typer.Option("--biosample", "--tissue", help="biosample name or ontology term")
    ] = "",
    scorer: Annotated[str, typer.Option(help="name of a scorer")] = "",
    min_quantile: Annotated[float, typer.Option(help="least |quantile|; 0: all scores")] = 0.0,
    limit: Annotated[int, typer.Option(help="rows at most; 0: all")] = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="TSV to write; empty: print")] = "",
) -> None:
    """Print the scores that meet all conditions as TSV, a row a variant, gene and track."""
    from megabase.scoring import query

    conditions = dict(region=region, gene=gene, biosample=biosample, scorer=scorer, min_quantile=min_quantile)
    wanted = query.Wanted.at(place, **{key: value for key, value in conditions.items() if value})
    query.query(scores, wanted, optional(output), limit=limit or None)


def explain(
    scores: Annotated[Path, typer.Argument(help="scores of a variant set")],
    variant: Annotated[str, typer.Argument(help="chrom:position:ref:alt, position 1-based")],
    model: Model,
    genome: GenomeFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML page to write")],
    genes: GenesFolder = "",
    store: Annotated[str, typer.Option(help="training store with observed tracks; empty: none")] = "",
    scoring: Annotated[
        str, typer.Option(help="JSON, or a YAML file, of the section `scoring`; empty: as the scores")
    ] = "",
    scorer: Annotated[str, typer.Option(help="scorer to explain base by base; empty: largest effect")] = "",
    gene: Annotated[str, typer.Option(help="gene (id or name) to explain; empty: largest effect")] = "",
    ism_width: Annotated[int, typer.Option(help="bases of the in-silico mutagenesis")] = 128,
    figures: Annotated[str, typer.Option(help="folder for the figures as PNGs; empty: page only")] = "",
    device: Device = "",
) -> None:
    """Write one variant's page: effects by gene and tissue, both alleles' tracks, the bases that matter."""
    from megabase.report import variant_page

    logs.start("explain")
    variant_page.explain(
        scores, variant, folder_of(model), folder_of(genome), output, genes_folder=optional(genes),
        store_folder=optional(store), scoring=_scoring(scoring), scorer=scorer or None, gene=gene or None,
        ism_width=ism_width, figures=optional(figures), device=prepared_device(device),
    )  # fmt: skip


def mutagenize(
    model: Model,
    genome: GenomeFolder,
    scorer: Annotated[str, typer.Option(help="scorer, such as dnase or dnase:center:501:diff_mean")],
    output: Output,
    region: Annotated[str, typer.Option(help="chrom:start-end to mutate, 1-based and closed")] = "",
    variant: Annotated[str, typer.Option(help="or chrom:position:ref:alt: both its alleles")] = "",
    width: Annotated[int, typer.Option(help="bases to mutate about a variant")] = 128,
    track: Annotated[
        list[str] | None, typer.Option(help="name, biosample or term to average; repeat; default: all")
    ] = None,
    gene: Annotated[str, typer.Option(help="gene (id or name) that a scorer of genes reads")] = "",
    genes: GenesFolder = "",
    polya_sites: Annotated[str, typer.Option(help="table of polyadenylation sites; empty: none")] = "",
    scoring: Scoring = "",
    device: Device = "",
) -> None:
    """Mutate every base of a region, or about a variant: what each contributes to a score, and a logo."""
    from megabase.scoring import mutagenize as command

    logs.start("mutagenize")
    command.mutagenize(
        folder_of(model), folder_of(genome), output,
        sections.parse_settings(sections.ScoringSettings, scoring), scorer=scorer, region=region or None,
        variant=variant or None, width=width, tracks=track or (), gene=gene or None,
        genes_folder=optional(genes), polya_sites=optional(polya_sites), device=prepared_device(device),
    )  # fmt: skip


def import_checkpoint(
    source: Annotated[Path, typer.Argument(help="Orbax folder as downloaded, or .npz file (docs/import.md)")],
    metadata: Metadata,
    scheme: Annotated[str, typer.Option(help="fold scheme that it was trained by; distilled model: all")],
    output: Output,
    name: Annotated[str, typer.Option(help="name of the model; empty: that of the output folder")] = "",
    preset: Annotated[str, typer.Option(help="sizes of the network")] = "alphagenome",
    window: Annotated[int, typer.Option(help="bases of a window that the model was made for")] = 1_048_576,
    sha256: Annotated[str, typer.Option(help="SHA-256 that the source must have; empty: not known")] = "",
) -> None:
    """Make a model folder of the published AlphaGenome checkpoint and its track metadata."""
    from megabase.predictors import published

    logs.start("import-checkpoint")
    published.import_checkpoint(
        source, output, metadata=named_paths(metadata), scheme=scheme, name=name or None, preset=preset,
        window=window, sha256=sha256 or None,
    )  # fmt: skip


def predict(
    model: Annotated[Path, typer.Argument(help="model folder")],
    genome: GenomeFolder,
    output: Output,
    region: Annotated[str, typer.Option(help="chrom:start-end, 1-based and closed as in browsers")] = "",
    variant: Annotated[str, typer.Option(help="chrom:position:ref:alt, position 1-based")] = "",
    outputs: Annotated[
        list[str] | None, typer.Option(help="output types, joined by commas; default: all of the model")
    ] = None,
    ontology: Annotated[
        list[str] | None, typer.Option(help="ontology terms, joined by commas; default: all tracks")
    ] = None,
    biosample: Annotated[
        list[str] | None, typer.Option(help="name of a biosample; repeat for more; default: all tracks")
    ] = None,
    strand: Annotated[str, typer.Option(help="strands of tracks, such as + or +. ; default: all")] = "",
    reverse_complement: Annotated[
        bool, typer.Option("--reverse-complement", help="mean over both strands of the sequence")
    ] = False,
    window: Annotated[int, typer.Option(help="bases to read; 0: as many as in training")] = 0,
    genes: GenesFolder = "",
    device: Device = "",
) -> None:
    """Predict a region, or both alleles of a variant: bigWigs, .cool, Parquet and a plot."""
    from megabase.predict import command

    logs.start("predict")
    command.predict(
        model, folder_of(genome), output, region=region or None, variant=variant or None,
        window=window or None, genes=optional(genes), device=prepared_device(device), outputs=_split(outputs),
        ontology_terms=_split(ontology), biosamples=biosample or None, strand=strand or None,
        reverse_complement=reverse_complement,
    )  # fmt: skip


def import_tfrecords(
    folder: Annotated[Path, typer.Argument(help="published records of one organism: FOLD_SPLIT/ORGANISM")],
    table: Annotated[Path, typer.Option(help="track table, or the published metadata (.textproto)")],
    genome: GenomeFolder,
    output: Output,
    settings: Annotated[str, typer.Option(help="JSON, or a YAML file, of the section `shards`")] = "",
) -> None:
    """Write a training store from published training records (TFRecord files)."""
    from megabase import genome as genomes
    from megabase.predictors import metadata
    from megabase.shards import importing

    given = begin("import-tfrecords", sections.ShardSettings, settings)
    where = folder_of(genome)
    published = metadata.is_metadata(table)
    tracks = metadata.track_table(table, genomes.Genome.open(where).organism) if published else table
    importing.import_tfrecords(folder, tracks, where, output, given)


def export_zarr(
    folder: Annotated[Path, typer.Argument(help="training store of an organism")],
    output: Output,
) -> None:
    """Write the signal of a training store as dense Zarr arrays, for other tools; goes on after a kill."""
    from megabase.shards import zarr_export

    logs.start("export-zarr")
    zarr_export.export_zarr(folder, output)


def inspect_shards(
    folder: Annotated[Path, typer.Argument(help="training store of an organism")],
    verify: Annotated[bool, typer.Option("--verify", help="read every block and check its checksum")] = False,
) -> None:
    """Print what a training store holds: tracks, bytes and runs of each output type, and where from."""
    from megabase.shards import inspect

    logs.start("shards inspect")
    typer.echo(inspect.description(inspect.inspect_shards(folder, verify=verify)))


def document_config(
    output: Annotated[Path, typer.Option("-o", "--output", help="folder of the checkout")] = Path("."),
) -> None:
    """Write config/README.md and workflow/schemas/config.schema.json from the settings classes."""
    from megabase import document

    document.document_config(output)


def _scoring(text: str) -> sections.ScoringSettings | None:
    """Scoring settings given, or none."""
    return sections.parse_settings(sections.ScoringSettings, text) if text else None


def _split(values: Iterable[str] | None) -> list[str] | None:
    """Names of options that may be joined by commas; None where there are none."""
    return [name.strip() for value in values or () for name in value.split(",") if name.strip()] or None


FOR_PEOPLE = (
    list_sources,
    compare_sources,
    fetch_sources,
    convert_table,
    fetch_region,
    import_aliases,
    plan_sources,
    estimate_cost,
    estimate_scoring,
    explain,
    mutagenize,
    query,
    import_checkpoint,
    import_tfrecords,
    export_zarr,
    predict,
    document_config,
)

OF_SHARDS = {"inspect": inspect_shards}  # `megabase shards inspect`
