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
    tables: Annotated[list[Path], typer.Argument(help="TSVs with the columns of a manifest")],
    output: Output,
    data: Annotated[str, typer.Option(help="folder that {data} in a URL stands for")] = "",
) -> None:
    """Freeze a release: check tables of sources, fill in sizes and MD5 sums, and write its manifest."""
    from megabase.sources import listing

    logs.start("list-sources")
    listing.list_sources(tables, output, data=data)


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
    table: Annotated[Path, typer.Option(help="track table: the channels of the records, in order")],
    genome: GenomeFolder,
    output: Output,
    settings: Annotated[str, typer.Option(help="JSON, or a YAML file, of the section `shards`")] = "",
) -> None:
    """Write a training store from published training records (TFRecord files)."""
    from megabase.shards import importing

    given = begin("import-tfrecords", sections.ShardSettings, settings)
    importing.import_tfrecords(folder, table, folder_of(genome), output, given)


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
