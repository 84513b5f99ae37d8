"""Splicing of one organism: which sites there are, how much each is used, and how often they are joined.

Donor is the last exonic base before an intron and acceptor the first one after it, along the strand
(AlphaGenome, Methods, splicing).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, write_json, write_table
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.spec import SPLICE_OUTPUTS, OutputType
from megabase.tracks.junction_filter import kept_junctions
from megabase.tracks.junction_usage import SITE, USAGE_SCHEMA, junction_usage
from megabase.tracks.junctions import INTRON, read_introns, read_junctions, read_usage
from megabase.tracks.quality import failed_row, write_quality
from megabase.tracks.recount3 import project_file, read_projects
from megabase.tracks.spliced_reads import SplicedReads
from megabase.tracks.splicing_quality import splicing_quality
from megabase.tracks.table import channel_row, group_name, with_strand

SITES = OutputType.SPLICE_SITES
READS = 1e6  # filtered junction reads that each sample is scaled to
_COUNT_SCHEMA = {
    "chrom": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "strand": pl.String,
    "count": pl.Float64,
}


@dataclass
class Biosample:
    """Samples of one ontology term and assay: junction counts, and usage tables or reads if there are any."""

    name: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    junctions: list[pl.DataFrame] = field(default_factory=list)
    usage: list[pl.DataFrame] = field(default_factory=list)
    reads: list[SplicedReads] = field(default_factory=list)  # BAMs that usage is read from
    usage_rows: list[Mapping[str, Any]] = field(default_factory=list)  # of usage tables and BAMs


def normalize_splicing(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: TrackSettings,
) -> Path:
    """Normalize all splicing files of an organism together into `output_dir`.

    rows: manifest rows of output_type `splice_junctions` (STAR SJ.out.tab, or a BAM), `splice_site_usage`
    (site usage table, or a BAM) or `splice_sites` (BED of annotated introns, sites without usage), and their
    `files` in the same order; the four files of a GTEx project of recount3 are a sample a tissue
    (`read_projects`). Which junctions are kept is the rule of `settings.junction_filters`
    (`kept_junctions`), by the samples of the portal in `settings.junction_portals` where it names one. A
    sample's kept counts are scaled to 1e6, averaged over the samples of a biosample (ontology term x assay),
    clipped at the `junction_clip_percentile` of the non-zero ones and divided by their mean. Usage comes
    from usage tables and BAMs (`SplicedReads.usage`) where the biosample has any, else from its junctions
    (`junction_usage`), a sample at a time, then averaged over the samples that have reads at the site; a site
    without reads has no row. With `settings.keep_going`, a file that cannot be used is listed under `failed`
    in `track.json` and left out.

    Writes sites, usage and junctions.parquet, `quality.json` and `track.json` (`track`); returns the latter's
    path.
    """
    if not rows or len(rows) != len(files):
        raise ValueError(
            f"{len(rows)} manifest rows and {len(files)} files; wanted one file a row, at least one"
        )
    genome = Genome.open(genome_folder)
    with tempfile.TemporaryDirectory() as scratch:
        biosamples, introns, failed = _read(rows, files, genome, settings, Path(scratch))
        kept = _kept(biosamples, str(rows[0]["organism"]), settings)
        sites = find_sites(pl.concat([kept.select(INTRON), *introns]))
        tables = {
            "sites": sites,
            "usage": _named([(b.name, _mean_usage(b, kept, sites)) for b in biosamples], USAGE_SCHEMA),
            "junctions": _junction_table([(b.name, _normal_counts(b, kept, settings)) for b in biosamples]),
        }
    stamp_of = {"config_hash": settings.hash(), "inputs": hash_inputs(files)}
    with atomic_path(output_dir) as folder:
        folder.mkdir()
        for kind, table in tables.items():
            ordered = _in_genome_order(table, genome)
            _check_positions(ordered, kind, genome)
            write_table(ordered, folder / f"{kind}.parquet", Stamp(kind, **stamp_of))
        channels = _channels(biosamples, tables)
        stamp = Stamp("track", **stamp_of)
        write_quality(splicing_quality(channels, biosamples, kept, tables), folder, stamp)
        told = {"channels": channels} | ({"failed": failed} if failed else {})
        write_json(told, folder / "track.json", stamp)
    return Path(output_dir) / "track.json"


def _read(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    genome: Genome,
    settings: TrackSettings,
    scratch: Path,
) -> tuple[list[Biosample], list[pl.DataFrame], list[dict[str, Any]]]:
    """Biosamples in the order of their names, tables of annotated introns, and what is listed as failed."""
    for row, path in zip(rows, files, strict=True):
        if row["output_type"] not in SPLICE_OUTPUTS:
            raise ValueError(f"{path}: output_type {row['output_type']} is not a file of splicing")
    tissues = read_projects(rows, files, genome)
    single = [(row, path) for row, path in zip(rows, files, strict=True) if not project_file(path)]
    names = _biosample_names([*(row for row, _ in single), *(row for row, _ in tissues)])
    introns = [read_introns(path, genome) for row, path in single if row["output_type"] == SITES]
    annotated = pl.concat([pl.DataFrame(schema=_COUNT_SCHEMA).select(INTRON), *introns])
    found: dict[str, Biosample] = {}
    for (row, table), name in zip(tissues, names[len(single) :], strict=True):
        biosample = found.setdefault(name, Biosample(name))
        biosample.rows.append(row)
        biosample.junctions.append(table)
    failed = []
    for (row, path), name in zip(single, names[: len(single)], strict=True):
        if row["output_type"] == SITES:
            continue
        biosample = found.get(name, Biosample(name))
        try:
            _add_sample(biosample, row, path, genome, settings, scratch, annotated)
        except FileError as error:
            if not settings.keep_going:
                raise
            failed.append(failed_row([row], error))
            continue
        biosample.rows.append(row)
        found[name] = biosample
    return [found[name] for name in sorted(found)], introns, failed


def _add_sample(
    biosample: Biosample,
    row: Mapping[str, Any],
    path: str | Path,
    genome: Genome,
    settings: TrackSettings,
    scratch: Path,
    annotated: pl.DataFrame,
) -> None:
    """Read one file into its biosample."""
    counts = row["output_type"] == OutputType.SPLICE_JUNCTIONS
    if Path(path).name.lower().endswith(".bam"):
        reads = SplicedReads(path, genome, settings, scratch)
        if counts:
            biosample.junctions.append(reads.junctions(annotated))
        biosample.reads.append(reads)
        biosample.usage_rows.append(row)
    elif counts:
        biosample.junctions.append(read_junctions(path, genome))
    else:
        biosample.usage.append(read_usage(path, genome))
        biosample.usage_rows.append(row)


def _kept(biosamples: list[Biosample], organism: str, settings: TrackSettings) -> pl.DataFrame:
    """INTRON of the junctions that are kept, by the organism's rule and the samples that decide."""
    portal = settings.junction_portals.get(organism)
    deciding = [b.junctions for b in biosamples if portal in (None, b.rows[0]["portal"])]
    if portal is not None and not any(deciding):
        raise FileError(
            f"no junctions of portal {portal!r}, whose samples decide which are kept "
            f"(tracks.junction_portals.{organism}); add them to the release or change the setting"
        )
    rule = settings.junction_filters.get(organism, "total")
    return kept_junctions(deciding, rule, settings.junction_min_reads)


def _biosample_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name of each row's biosample: term and assay, and the source where several sources share these."""
    measured = [row for row in rows if row["output_type"] != OutputType.SPLICE_SITES]
    sources: dict[str, set[str]] = {}
    for row in measured:
        sources.setdefault(group_name(row), set()).add(row["portal"])
    names = [group_name(row) for row in rows]
    return [
        f"{name} {row['portal']}" if len(sources.get(name, ())) > 1 else name
        for name, row in zip(names, rows, strict=True)
    ]


def find_sites(introns: pl.DataFrame) -> pl.DataFrame:
    """Sites (chrom, position, strand, kind) of introns (0-based half-open), each once."""
    plus = pl.col("strand") == "+"
    left, right = pl.col("start") - 1, pl.col("end")
    donor = introns.select("chrom", pl.when(plus).then(left).otherwise(right).alias("position"), "strand")
    acceptor = introns.select("chrom", pl.when(plus).then(right).otherwise(left).alias("position"), "strand")
    kinds = [donor.with_columns(kind=pl.lit("donor")), acceptor.with_columns(kind=pl.lit("acceptor"))]
    return pl.concat(kinds).unique()


def _normal_counts(biosample: Biosample, kept: pl.DataFrame, settings: TrackSettings) -> pl.DataFrame:
    """INTRON and normalized `count` float64 > 0 of one biosample."""
    scaled = []
    rows = [row for row in biosample.rows if row["output_type"] == OutputType.SPLICE_JUNCTIONS]
    for sample, row in zip(biosample.junctions, rows, strict=True):
        counts = sample.join(kept, on=INTRON, how="semi").filter(pl.col("count") > 0)
        if len(counts) == 0:
            raise FileError(f"{row['accession']}: no read on any kept junction; leave the file out")
        scaled.append(counts.with_columns(pl.col("count") * (READS / counts["count"].sum())))
    if not scaled:
        return pl.DataFrame(schema=_COUNT_SCHEMA)
    total = pl.concat(scaled).group_by(INTRON).agg(pl.col("count").sort().sum() / len(scaled))
    values = total["count"].to_numpy()
    clipped = np.minimum(values, np.percentile(values, settings.junction_clip_percentile))
    return total.with_columns(pl.Series("count", clipped / np.sort(clipped).mean()))


def _junction_table(parts: list[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """junctions.parquet: donor and acceptor positions instead of the intron's ends."""
    table = _named(parts, _COUNT_SCHEMA)
    plus = pl.col("strand") == "+"
    left, right = pl.col("start") - 1, pl.col("end")
    donor = pl.when(plus).then(left).otherwise(right).alias("donor")
    acceptor = pl.when(plus).then(right).otherwise(left).alias("acceptor")
    return table.select("chrom", donor, acceptor, "strand", "biosample", "count")


def _mean_usage(biosample: Biosample, kept: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """Usage of one biosample: mean over samples at each known site that has reads."""
    samples = [*biosample.usage, *(reads.usage(sites, kept) for reads in biosample.reads)]
    if not samples:
        samples = [junction_usage(j.join(kept, on=INTRON, how="semi"), sites) for j in biosample.junctions]
    if not samples:
        return pl.DataFrame(schema=USAGE_SCHEMA)
    known = pl.concat(samples).join(sites, on=SITE, how="semi")
    return known.group_by(SITE).agg(pl.col("usage").sort().mean()).select(*USAGE_SCHEMA)


def _named(parts: list[tuple[str, pl.DataFrame]], schema: Mapping[str, Any]) -> pl.DataFrame:
    """One table with a `biosample` column before the last one."""
    tables = [table.with_columns(biosample=pl.lit(name)) for name, table in parts]
    empty = pl.DataFrame(schema={**schema, "biosample": pl.String})
    *keys, value = schema
    return pl.concat([empty, *(t.select(empty.columns) for t in tables)]).select(*keys, "biosample", value)


def _in_genome_order(table: pl.DataFrame, genome: Genome) -> pl.DataFrame:
    """Rows by chromosome of the genome, then by every other column."""
    order = {chrom: number for number, chrom in enumerate(genome.lengths)}
    rank = pl.col("chrom").replace_strict(order, return_dtype=pl.Int64)
    rest = [column for column in table.columns if column != "chrom"]
    return table.sort(rank, *rest)


def _check_positions(table: pl.DataFrame, kind: str, genome: Genome) -> None:
    """FileError for a site off its chromosome: the files belong to another assembly."""
    lengths = pl.col("chrom").replace_strict(genome.lengths, return_dtype=pl.Int64)
    for column in {"position", "donor", "acceptor"} & set(table.columns):
        wrong = table.filter((pl.col(column) < 0) | (pl.col(column) >= lengths))
        if len(wrong):
            row = wrong.row(0, named=True)
            raise FileError(f"{kind}: {row} is off its chromosome of {genome.lengths[row['chrom']]} bp")


def _channels(biosamples: list[Biosample], tables: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Channel rows: usage, then junctions; of each all + biosamples, then all - in the same order."""
    kinds = ((OutputType.SPLICE_SITE_USAGE, "usage"), (OutputType.SPLICE_JUNCTIONS, "junctions"))
    return [
        channel_row(rows, strand, output_type=str(output_type), n_replicates=len(rows))
        | {"name": with_strand(b.name, strand), "file": f"{kind}.parquet"}
        for output_type, kind in kinds
        for strand in "+-"
        for b in biosamples
        if len(tables[kind].filter(pl.col("biosample") == b.name)) and (rows := _rows_behind(b, output_type))
    ]


def _rows_behind(biosample: Biosample, output_type: OutputType) -> list[Mapping[str, Any]]:
    """Manifest rows that a biosample's usage or junctions were made from."""
    if output_type == OutputType.SPLICE_SITE_USAGE:
        return biosample.usage_rows or biosample.rows
    return [row for row in biosample.rows if row["output_type"] == output_type] or biosample.rows
