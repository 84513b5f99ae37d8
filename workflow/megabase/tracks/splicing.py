"""Splicing of one organism: which sites there are, how much each is used, and how often they are joined.

Donor is the last exonic base before an intron and acceptor the first one after it, along the strand
(AlphaGenome, Methods, splicing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, write_json, write_table
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.spec import OutputType
from megabase.tracks.junction_filter import kept_junctions
from megabase.tracks.junction_usage import SITE, USAGE_SCHEMA, junction_usage
from megabase.tracks.junctions import INTRON
from megabase.tracks.quality import write_quality
from megabase.tracks.splicing_quality import splicing_quality
from megabase.tracks.splicing_samples import (
    COUNT_SCHEMA,
    Biosample,
    leave_out_empty,
    read_biosamples,
    scratch_beside,
)
from megabase.tracks.table import channel_row, with_strand

READS = 1e6  # filtered junction reads that each sample is scaled to


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
    `files` in the same order; the four files of a GTEx project of recount3 have samples of several tissues
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
    stamp_of = {"config_hash": settings.hash(), "inputs": hash_inputs(files)}
    with scratch_beside(output_dir) as scratch, atomic_path(output_dir) as folder:
        biosamples, introns, failed = read_biosamples(rows, files, genome, settings, scratch)
        kept = _kept(biosamples, str(rows[0]["organism"]), settings)
        failed += leave_out_empty(biosamples, kept, settings)
        sites = find_sites(pl.concat([kept.select(INTRON), *introns]))
        tables = {
            "sites": sites,
            "usage": _named([(b.name, _mean_usage(b, kept, sites)) for b in biosamples], USAGE_SCHEMA),
            "junctions": _junction_table([(b.name, _normal_counts(b, kept, settings)) for b in biosamples]),
        }
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


def _kept(biosamples: list[Biosample], organism: str, settings: TrackSettings) -> pl.DataFrame:
    """INTRON of the junctions that are kept, by the organism's rule and the samples that decide."""
    portal = settings.junction_portals.get(organism)
    deciding = [b.junctions for b in biosamples if portal in (None, b.rows[0]["portal"])]
    if portal is not None and not any(map(len, deciding)):
        raise FileError(
            f"no junctions of portal {portal!r}, whose samples decide which are kept "
            f"(tracks.junction_portals.{organism}); add them to the release or change the setting"
        )
    rule = settings.junction_filters.get(organism, "total")
    return kept_junctions(deciding, rule, settings.junction_min_reads)


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
    samples = biosample.junctions
    if not len(samples):
        return pl.DataFrame(schema=COUNT_SCHEMA)
    factors = READS / samples.totals(kept).sum(0)
    parts = []
    for part in samples.kept_parts(kept):
        scaled = part.with_columns(pl.col("count") * pl.Series(factors[part["sample"].to_numpy()]))
        parts.append(scaled.group_by(INTRON).agg(pl.col("count").sort().sum() / len(samples)))
    total = pl.concat(parts)
    values = total["count"].to_numpy()
    clipped = np.minimum(values, np.percentile(values, settings.junction_clip_percentile))
    return total.with_columns(pl.Series("count", clipped / np.sort(clipped).mean()))


def _junction_table(parts: list[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """junctions.parquet: donor and acceptor positions instead of the intron's ends."""
    table = _named(parts, COUNT_SCHEMA)
    plus = pl.col("strand") == "+"
    left, right = pl.col("start") - 1, pl.col("end")
    donor = pl.when(plus).then(left).otherwise(right).alias("donor")
    acceptor = pl.when(plus).then(right).otherwise(left).alias("acceptor")
    return table.select("chrom", donor, acceptor, "strand", "biosample", "count")


def _mean_usage(biosample: Biosample, kept: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """Usage of one biosample: mean over samples at each known site that has reads."""
    tables = [*biosample.usage, *(reads.usage(sites, kept) for _, reads in biosample.reads)]
    if tables:
        return _mean_at(tables, sites)
    means = [pl.DataFrame(schema=USAGE_SCHEMA)]
    for part in biosample.junctions.kept_parts(kept):
        here = sites.join(part.select("chrom").unique(), on="chrom", how="semi")
        samples = part.partition_by("sample")
        if samples:
            means.append(_mean_at([junction_usage(sample, here) for sample in samples], here))
    return pl.concat(means)


def _mean_at(tables: Sequence[pl.DataFrame], sites: pl.DataFrame) -> pl.DataFrame:
    """Mean usage over tables at each site."""
    known = pl.concat(tables).join(sites, on=SITE, how="semi")
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
        channel_row(rows, strand, output_type=str(output_type), n_replicates=_samples_behind(b, output_type))
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


def _samples_behind(biosample: Biosample, output_type: OutputType) -> int:
    """Samples that a biosample's usage or junctions are means of: a row of GTEx counts has hundreds."""
    if output_type == OutputType.SPLICE_SITE_USAGE and biosample.usage_rows:
        return len(biosample.usage_rows)
    return len(biosample.junctions) or len(biosample.rows)
