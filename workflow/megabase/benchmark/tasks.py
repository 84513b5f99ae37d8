"""The variant-effect benchmarks: from published tables to one table of rows to predict, and its VCF.

Every row that is not used is in `rejected.tsv` with its reason. Coordinates are 0-based half-open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from megabase.benchmark.distances import add_distances
from megabase.benchmark.matching import match_negatives
from megabase.benchmark.mpra import CELL_LINES, read_mpra
from megabase.benchmark.qtl import (
    REJECTED,
    Source,
    place_variants,
    read_credible_sets,
    rejected_rows,
    strongest,
)
from megabase.files import FileError, Stamp, atomic_path, hash_inputs, write_table, write_tsv
from megabase.logs import LOGGER

if TYPE_CHECKING:
    from megabase.genome import Genome
    from megabase.settings.scoring import BenchmarkSettings

TABLE_SCHEMA = {
    "variant_id": pl.String, "chrom": pl.String, "position": pl.Int64, "ref": pl.String, "alt": pl.String,
    "gene_id": pl.String, "tissue": pl.String, "ontology_curie": pl.String, "label": pl.Int8,
    "effect": pl.Float64, "pip": pl.Float64, "tss_distance": pl.Int64, "splice_distance": pl.Int64,
    "group": pl.String,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """What one benchmark asks: the metric, whether size or sign of a score predicts, how groups average."""

    metric: str
    target: str  # column of the table
    absolute: bool  # the size of a score predicts, not its sign
    matched_on: str = ""  # distance that negatives are matched on
    equal_groups: bool = False  # groups count equally instead of by their rows


TASKS = {
    "eqtl_sign": Task("auroc", "label", absolute=False),
    "eqtl_effect": Task("spearman", "effect", absolute=False),
    "eqtl_causality": Task("auprc", "label", absolute=True, matched_on="tss_distance"),
    "sqtl_causality": Task("auprc", "label", absolute=True, matched_on="splice_distance"),
    "mpra": Task("pearson", "effect", absolute=False, equal_groups=True),
}


def prepare_benchmark(
    tables: Sequence[str],
    genome_folder: str | Path,
    genes_folder: str | Path | None,
    output: str | Path,
    settings: BenchmarkSettings,
    name: str,
    seed: int,
    *,
    chromosomes: Sequence[str] = (),
) -> None:
    """Write `table.parquet`, `variants.vcf.gz` and `rejected.tsv` of one benchmark into `output`.

    tables: `path`, `path=tissue` or `path=tissue=ontology_curie`, one for each measured tissue. QTL tasks
    need `genes_folder`. chromosomes: variants on others are rejected, before negatives are matched; empty:
    all. FileError if a table cannot be read, or if no row is left to predict.
    """
    from megabase.genome import Genes, Genome

    sources = [Source.parse(text) for text in tables]
    genome = Genome.open(genome_folder)
    own = [genome.resolve(chrom) or genome.resolve(f"chr{chrom}") for chrom in chromosomes]
    chosen = [chrom for chrom in own if chrom is not None] if chromosomes else list(genome.lengths)
    if settings.task == "mpra":
        table, rejected = mpra_rows(sources, genome, chosen)
    elif genes_folder is None:
        raise FileError(f"benchmark {name}: task {settings.task} needs gene models; give the genome `genes`")
    else:
        genes = Genes.open(genes_folder)
        table, rejected = qtl_rows(sources, genome, genes.genes, genes.exons, settings, name, seed, chosen)
    if table.is_empty():
        reasons = rejected.group_by("reason").len().sort("reason").rows()
        raise FileError(
            f"benchmark {name}: no row of {', '.join(str(s.path) for s in sources)} can be used "
            f"({', '.join(f'{n} {reason}' for reason, n in reasons) or 'tables are empty'})"
        )
    stamp = Stamp("benchmark", settings.hash(), hash_inputs(s.path for s in sources))
    _write(table, rejected, genome, Path(output), stamp)
    LOGGER.info(
        "benchmark %s: %d rows, %d variants, %d groups; %d rows not used",
        name, table.height, table["variant_id"].n_unique(), table["group"].n_unique(), rejected.height,
    )  # fmt: skip


def _write(table: pl.DataFrame, rejected: pl.DataFrame, genome: Genome, output: Path, stamp: Stamp) -> None:
    output.mkdir(parents=True, exist_ok=True)
    write_vcf(table, genome, output / "variants.vcf.gz")
    write_tsv(rejected, output / "rejected.tsv", Stamp("rejected", stamp.config_hash, stamp.inputs))
    write_table(table, output / "table.parquet", stamp)


def on_chromosomes(rows: pl.DataFrame, chosen: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows on the chosen chromosomes, the others with their reason)."""
    inside = pl.col("chrom").is_in(list(chosen))
    reason = {"reason": pl.lit("chromosome_of_another_split"), "detail": pl.col("chrom")}
    return rows.filter(inside), rows.filter(~inside).with_columns(**reason)


def mpra_rows(
    sources: Sequence[Source], genome: Genome, chosen: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows, rejected rows) of an MPRA: group = element, tissue = cell line, effect = log2 coefficient."""
    read, others = [], []
    for source in sources:
        accepted, rejected = read_mpra(source, genome)
        accepted, other = on_chromosomes(accepted, chosen)
        read.append((accepted, rejected))
        others.append(
            rejected_rows(other.with_columns(variant=pl.col("variant_id")), source.path.name, "element")
        )
    table = pl.concat([accepted for accepted, _ in read])
    table = table.with_columns(
        group=pl.col("element"), tissue=pl.col("element").replace_strict(CELL_LINES, default="")
    )
    return _shaped(table), pl.concat([*(rejected for _, rejected in read), *others])


def qtl_rows(
    sources: Sequence[Source],
    genome: Genome,
    genes: pl.DataFrame,
    exons: pl.DataFrame,
    settings: BenchmarkSettings,
    name: str,
    seed: int,
    chosen: Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows, rejected rows) of a QTL task; one row a variant, gene and tissue, group = tissue."""
    accepted, rejected = [], []
    for source in sources:
        good, bad = place_variants(read_credible_sets(source), genome)
        good, other = on_chromosomes(good, chosen)
        good, unplaced = _on_genes(good, genes, exons, settings.task)
        accepted.append(good.with_columns(table=pl.lit(source.path.name)))
        rejected += [rejected_rows(part, source.path.name) for part in (bad, other, unplaced)]
    rows = strongest(pl.concat(accepted))
    if TASKS[settings.task].matched_on:
        rows, unused = _causality(rows, settings, name, seed)
        rejected.append(unused)
    else:
        rows = rows.filter(pl.col("pip") >= settings.min_pip)
        rows = rows.with_columns(label=(pl.col("effect") > 0).cast(pl.Int8))
    return _shaped(rows.with_columns(group=pl.col("tissue"))), pl.concat(rejected)


def _on_genes(
    rows: pl.DataFrame, genes: pl.DataFrame, exons: pl.DataFrame, task: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows whose gene and distances are known, the others with their reason)."""
    rows = add_distances(rows.rename({"beta": "effect"}), genes, exons)
    known_effect = (pl.col("effect").is_finite() & (pl.col("effect") != 0)).fill_null(False)
    reason = (
        pl.when(pl.col("placed").is_null())
        .then(pl.lit("gene_unknown"))
        .when(~pl.col("placed"))
        .then(pl.lit("gene_on_other_chromosome"))
        .when((pl.lit(task) == "sqtl_causality") & pl.col("splice_distance").is_null())
        .then(pl.lit("gene_without_introns"))
        .when((pl.lit(task).is_in(["eqtl_sign", "eqtl_effect"])) & ~known_effect)
        .then(pl.lit("no_effect"))
        .otherwise(pl.lit(""))
    )
    rows = rows.with_columns(reason=reason, detail=pl.col("gene_id"))
    return rows.filter(pl.col("reason") == "").drop("reason", "detail", "placed"), rows.filter(
        pl.col("reason") != ""
    )


def _causality(
    rows: pl.DataFrame, settings: BenchmarkSettings, name: str, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(causal rows and their matched negatives, rejected causal rows).

    A negative has PIP below `max_pip`, in the same tissue, and its variant is causal for no gene anywhere.
    """
    column = TASKS[settings.task].matched_on
    rows = rows.with_columns(highest=pl.col("pip").max().over("variant_id"))
    positives = rows.filter(pl.col("pip") >= settings.min_pip)
    negatives = rows.filter((pl.col("pip") < settings.max_pip) & (pl.col("highest") < settings.min_pip))
    kept, drawn, left = match_negatives(
        positives, negatives, column, settings.negatives_per_positive, seed, name
    )
    labelled = [
        part.with_columns(label=pl.lit(label, pl.Int8))
        for part, label in ((kept, 1), (drawn, 0))
        if part.height
    ]
    unused = left.select(
        "table", "row", "variant", group="tissue", reason=pl.lit("no_matched_negative"),
        detail=pl.format(f"{column} {{}}", column),
    )  # fmt: skip
    return (pl.concat(labelled) if labelled else rows.clear()), unused.cast(REJECTED)


def _shaped(rows: pl.DataFrame) -> pl.DataFrame:
    """The benchmark table's columns and types, in one fixed order of rows."""
    absent = [pl.lit(None, dtype).alias(c) for c, dtype in TABLE_SCHEMA.items() if c not in rows.columns]
    table = rows.with_columns(absent).select(list(TABLE_SCHEMA)).cast(TABLE_SCHEMA)
    return table.sort("group", "chrom", "position", "ref", "alt", "gene_id", nulls_last=True)


def write_vcf(table: pl.DataFrame, genome: Genome, path: Path) -> None:
    """Distinct variants of a table as a bgzip VCF 4.3, in the genome's order; the header has every contig."""
    import pysam

    order = {chrom: i for i, chrom in enumerate(genome.lengths)}
    variants = table.select("variant_id", "chrom", "position", "ref", "alt").unique("variant_id")
    variants = variants.with_columns(order=pl.col("chrom").replace_strict(order, return_dtype=pl.Int64))
    variants = variants.sort("order", "position", "ref", "alt")
    lines = ["##fileformat=VCFv4.3", f"##reference={genome.name}", '##FILTER=<ID=PASS,Description="All">']
    lines += [f"##contig=<ID={chrom},length={length}>" for chrom, length in genome.lengths.items()]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    lines += [
        f"{chrom}\t{position + 1}\t{identifier}\t{ref}\t{alt}\t.\tPASS\t."
        for identifier, chrom, position, ref, alt, _ in variants.iter_rows()
    ]
    with atomic_path(path) as temporary, pysam.BGZFile(str(temporary), "w") as handle:
        handle.write(("\n".join(lines) + "\n").encode())
