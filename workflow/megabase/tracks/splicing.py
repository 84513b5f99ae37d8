"""Splicing of one organism: which sites there are, how much each is used, and how often they are joined.

Donor is the last exonic base before an intron and acceptor the first one after it, along the strand
(AlphaGenome, Methods, splicing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, write_json, write_table
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.spec import OutputType
from megabase.tracks.junctions import INTRON, read_introns, read_junctions, read_usage
from megabase.tracks.quality import write_quality
from megabase.tracks.splicing_quality import splicing_quality
from megabase.tracks.table import channel_row, group_name, with_strand

READS = 1e6  # filtered junction reads that each sample is scaled to
SITE = ("chrom", "position", "strand")
_USAGE_SCHEMA = {"chrom": pl.String, "position": pl.Int64, "strand": pl.String, "usage": pl.Float64}
_COUNT_SCHEMA = {
    "chrom": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "strand": pl.String,
    "count": pl.Float64,
}


@dataclass
class Biosample:
    """Samples of one ontology term and assay: junction counts, and usage tables where there are any."""

    name: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    junctions: list[pl.DataFrame] = field(default_factory=list)
    usage: list[pl.DataFrame] = field(default_factory=list)


def normalize_splicing(
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[str | Path],
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: TrackSettings,
) -> Path:
    """Normalize all splicing files of an organism together into `output_dir`.

    rows: manifest rows of output_type `splice_junctions` (STAR SJ.out.tab), `splice_site_usage` (site usage
    table) or `splice_sites` (BED of annotated introns, sites without usage), and their `files` in the same
    order. A junction is kept when all samples together have `settings.junction_min_reads` reads of it. A
    sample's kept counts are scaled to 1e6, averaged over the samples of a biosample (ontology term x assay),
    clipped at the `junction_clip_percentile` of the non-zero ones and divided by their mean. Usage comes
    from usage tables where the biosample has any, else from its junctions (`junction_usage`), a sample at a
    time, then averaged over the samples that have reads at the site; a site without reads has no row.

    Writes sites, usage and junctions.parquet, `quality.json` and `track.json` (`track`); returns the latter's
    path.
    """
    if not rows or len(rows) != len(files):
        raise ValueError(
            f"{len(rows)} manifest rows and {len(files)} files; wanted one file a row, at least one"
        )
    genome = Genome.open(genome_folder)
    biosamples, introns = _read(rows, files, genome)
    kept = _kept_junctions([j for b in biosamples for j in b.junctions], settings.junction_min_reads)
    sites = find_sites(pl.concat([kept.select(INTRON), *introns]))
    tables = {
        "sites": sites,
        "usage": _named([(b.name, _mean_usage(b, kept, sites)) for b in biosamples], {**_USAGE_SCHEMA}),
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
        write_json({"channels": channels}, folder / "track.json", stamp)
    return Path(output_dir) / "track.json"


def _read(
    rows: Sequence[Mapping[str, Any]], files: Sequence[str | Path], genome: Genome
) -> tuple[list[Biosample], list[pl.DataFrame]]:
    """Biosamples in the order of their names, and tables of annotated introns."""
    found: dict[str, Biosample] = {}
    introns = []
    names = _biosample_names(rows)
    for row, path, name in zip(rows, files, names, strict=True):
        if row["output_type"] == OutputType.SPLICE_SITES:
            introns.append(read_introns(path, genome))
            continue
        biosample = found.setdefault(name, Biosample(name))
        biosample.rows.append(row)
        if row["output_type"] == OutputType.SPLICE_JUNCTIONS:
            biosample.junctions.append(read_junctions(path, genome))
        elif row["output_type"] == OutputType.SPLICE_SITE_USAGE:
            biosample.usage.append(read_usage(path, genome))
        else:
            raise ValueError(f"{path}: output_type {row['output_type']} is not a file of splicing")
    return [found[name] for name in sorted(found)], introns


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


def _kept_junctions(samples: list[pl.DataFrame], min_reads: int) -> pl.DataFrame:
    """INTRON and `reads` of the junctions that have enough reads over all samples."""
    if not samples:
        return pl.DataFrame(schema=_COUNT_SCHEMA).rename({"count": "reads"})
    total = pl.concat(samples).group_by(INTRON).agg(pl.col("count").sum().alias("reads"))
    return total.filter(pl.col("reads") >= max(min_reads, 1))


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
    samples = biosample.usage
    if not samples:
        samples = [junction_usage(j.join(kept, on=INTRON, how="semi"), sites) for j in biosample.junctions]
    if not samples:
        return pl.DataFrame(schema=_USAGE_SCHEMA)
    known = pl.concat(samples).join(sites, on=SITE, how="semi")
    return known.group_by(SITE).agg(pl.col("usage").sort().mean()).select(*_USAGE_SCHEMA)


def junction_usage(junctions: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """Usage of each site by the junctions of one sample: reads that use it / reads that use or skip it.

    A junction uses the sites at its ends and skips those inside its intron, on its strand. Sites that no
    junction uses or skips are left out.
    """
    parts = [pl.DataFrame(schema=_USAGE_SCHEMA)]
    groups = junctions.partition_by("chrom", "strand", as_dict=True)
    for (chrom, strand), here in (
        sites.select(SITE).unique().partition_by("chrom", "strand", as_dict=True).items()
    ):
        reads = groups.get((chrom, strand))
        if reads is not None:
            positions = np.sort(here["position"].to_numpy())
            using, skipping = _using_and_skipping(positions, reads)
            some = using + skipping > 0
            usage = using[some] / (using + skipping)[some]
            part = {"chrom": chrom, "position": positions[some], "strand": strand, "usage": usage}
            parts.append(pl.DataFrame(part, schema=_USAGE_SCHEMA))
    return pl.concat(parts)


def _using_and_skipping(positions: np.ndarray, reads: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Reads that use, and reads that skip, each of sorted positions [n] of one chromosome and strand."""
    start, end = reads["start"].to_numpy(), reads["end"].to_numpy()
    count = reads["count"].to_numpy().astype(np.float64)

    def up_to(edges: np.ndarray, side: str) -> np.ndarray:
        order = np.argsort(edges, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(count[order])])
        return sums[np.searchsorted(edges[order], positions, side=side)]

    using = sum(up_to(e, "right") - up_to(e, "left") for e in (start - 1, end))
    return using, up_to(start, "right") - up_to(end, "right")


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
    own = [row for row in biosample.rows if row["output_type"] == output_type]
    return own or biosample.rows
