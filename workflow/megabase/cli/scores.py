"""Commands from variants to scores, one a rule.

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
    GenesFolder,
    GenomeFolder,
    Model,
    Output,
    Paths,
    Scoring,
    Seed,
    Settings,
    begin,
    folder_of,
    optional,
    prepared_device,
)


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
    from megabase import packing, split

    given = begin("split-variants", sections.VariantSetSettings, settings, seed)
    asked = sections.parse_settings(sections.ScoringSettings, scoring)
    split.split_variants(
        source, folder_of(genome), chunks, rejected, max_allele=max_allele, max_variants=given.max_variants,
        window=asked.window if scoring else None, sample=given.sample, haplotypes=given.haplotypes,
        unphased=given.unphased, regions=given.regions, saturate=given.saturate, seed=seed,
        config_hash=given.hash(), packing=packing.Packing.of(
            sections.parse_settings(sections.ChunkSettings, chunks_settings), asked, optional(genes)
        ),
    )  # fmt: skip


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

    given = begin("list-haplotypes", sections.VariantSetSettings, settings)
    if given.sample is None:
        raise ValueError("settings: no sample; wanted the name of one of the VCF")
    haplotypes.list_haplotypes(
        vcf, folder_of(genome), output, sample=given.sample, unphased=given.unphased, max_allele=max_allele,
        window=window or None, config_hash=given.hash(),
    )  # fmt: skip


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

    given = begin("score-variants", sections.ScoringSettings, settings)
    chunks.score_variants(
        variants, folder_of(model), folder_of(genome), optional(genes), output, given,
        polya_sites=optional(polya_sites), haplotypes=optional(haplotypes), device=prepared_device(device),
    )  # fmt: skip


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

    given = begin("compare-placements", sections.ScoringSettings, settings)
    placements.compare_placements(
        variants, folder_of(model), folder_of(genome), optional(genes), output, given,
        polya_sites=optional(polya_sites), haplotypes=optional(haplotypes), device=prepared_device(device),
    )  # fmt: skip


def calibrate_scores(chunks: Paths, output: Output, settings: Settings = "", seed: Seed = 0) -> None:
    """Make the quantiles of every scorer and track from scored background variants."""
    from megabase.scoring import calibration

    given = begin("calibrate-scores", sections.ScoringSettings, settings, seed)
    calibration.calibrate_scores([folder_of(chunk) for chunk in chunks], output, given, seed=seed)


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


def write_saturation(
    scores: Annotated[Path, typer.Argument(help="merged scores of a set of every SNV")],
    split: Annotated[Path, typer.Option(help="split.json of split-variants, beside its chunks")],
    output: Output,
) -> None:
    """Write the scores of every SNV as bigWigs and Zarr arrays; goes on after its last finished scorer."""
    from megabase.scoring import saturated

    logs.start("write-saturation")
    saturated.write_saturation(scores, split, output)


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

    given = begin("explain-variant", sections.ReportSettings, settings)
    shards = folder_of(Path(store)) if store else None
    explain.explain_variant(
        scores, folder_of(model), folder_of(genome), optional(genes), shards, output,
        sections.parse_settings(sections.ScoringSettings, scoring), given, variant=variant or None,
        device=prepared_device(device),
    )  # fmt: skip


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

    given = begin("score-intervals", sections.IntervalScoring, settings)
    intervals.score_intervals(
        optional(regions), folder_of(model), folder_of(genome), genes, output, given,
        sections.parse_settings(sections.ScoringSettings, scoring), device=prepared_device(device),
    )  # fmt: skip


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

    given = begin("score-enhancers", sections.EnhancerScoring, settings)
    enhancers.score_enhancers(
        pairs, folder_of(model), folder_of(genome), genes, output, given,
        sections.parse_settings(sections.ScoringSettings, scoring), device=prepared_device(device),
    )  # fmt: skip


COMMANDS = (
    split_variants,
    list_haplotypes,
    score_variants,
    compare_placements,
    calibrate_scores,
    merge_scores,
    write_saturation,
    explain_variant,
    score_intervals,
    score_enhancers,
)
