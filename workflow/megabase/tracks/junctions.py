"""Files of splicing: STAR junction tables, site usage tables, BED files of annotated introns."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from megabase.files import FileError
from megabase.genome import Genome
from megabase.tracks.measured import read_interval, read_rows

LOGGER = logging.getLogger("megabase")
INTRON = ("chrom", "start", "end", "strand")  # start and end of an intron, 0-based half-open
_STAR = {"name": pl.String, "first": pl.Int64, "last": pl.Int64, "strand": pl.Int64, "motif": pl.Int64,
         "annotated": pl.Int64, "count": pl.Int64, "multiple": pl.Int64, "overhang": pl.Int64}  # fmt: skip
_USAGE_COLUMNS = ("chrom", "position", "strand", "using", "skipping")
NOT_SPLICEOSOMAL = "tRNA"  # introns that an endonuclease cuts have no donor or acceptor


def read_junctions(path: str | Path, genome: Genome) -> pl.DataFrame:
    """Junctions of a STAR `SJ.out.tab`: INTRON and `count` (reads that map to one place).

    Rows of unknown strand, and on chromosomes that the genome does not have, are left out.
    """
    try:
        table = pl.read_csv(path, separator="\t", has_header=False, schema=_STAR)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"{path}: not a STAR SJ.out.tab of nine integer columns ({error})") from error
    wrong = table.with_row_index("row", offset=1).filter(
        (pl.col("first") < 1) | (pl.col("last") < pl.col("first")) | (pl.col("count") < 0)
        | ~pl.col("strand").is_in([0, 1, 2])
    )  # fmt: skip
    if len(wrong):
        row = wrong.row(0, named=True)
        raise FileError(
            f"{path}, row {row['row']}: intron {row['first']}-{row['last']}, strand {row['strand']}, reads "
            f"{row['count']}; wanted 1 <= first <= last, strand 0, 1 or 2, reads of 0 or more"
        )
    named = _rename_chromosomes(table, genome, path).filter(pl.col("strand") != 0)
    return named.select(
        "chrom",
        (pl.col("first") - 1).alias("start"),
        pl.col("last").alias("end"),
        pl.when(pl.col("strand") == 1).then(pl.lit("+")).otherwise(pl.lit("-")).alias("strand"),
        "count",
    )


def read_usage(path: str | Path, genome: Genome) -> pl.DataFrame:
    """Usage of a site usage table: chrom, position (0-based), strand, `usage` = using / (using + skipping).

    The file is a TSV with the header `chrom position strand using skipping` (more columns are ignored);
    `position` is 1-based, of the last (donor) or first (acceptor) exonic base. Sites without reads are left
    out.
    """
    try:
        table = pl.read_csv(path, separator="\t", schema_overrides={"chrom": pl.String})
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"{path}: not a tab-separated table ({error})") from error
    missing = [column for column in _USAGE_COLUMNS if column not in table.columns]
    if missing:
        raise FileError(f"{path}: columns {table.columns}, wanted {list(_USAGE_COLUMNS)} (lacks {missing})")
    wrong = table.with_row_index("row", offset=2).filter(
        (pl.col("position") < 1) | (pl.col("using") < 0) | (pl.col("skipping") < 0)
        | ~pl.col("strand").is_in(["+", "-"])
    )  # fmt: skip
    if len(wrong):
        row = wrong.row(0, named=True)
        raise FileError(
            f"{path}, row {row.pop('row')}: {row}; wanted a 1-based position, strand + or -, counts"
        )
    reads = pl.col("using") + pl.col("skipping")
    named = _rename_chromosomes(table.rename({"chrom": "name"}), genome, path).filter(reads > 0)
    usage = (pl.col("using") / reads).cast(pl.Float64).alias("usage")
    return named.select("chrom", pl.col("position").cast(pl.Int64) - 1, "strand", usage)


def read_introns(path: str | Path, genome: Genome) -> pl.DataFrame:
    """INTRON of a BED of annotated introns, each once.

    A name of the form `gene|kind|motif` with the kind tRNA marks an intron that no spliceosome removes:
    such rows are left out.
    """
    rows = []
    for number, fields in read_rows(path, 6):
        start, end = read_interval(fields, path, number)
        if fields[5] not in ("+", "-"):
            raise FileError(f"{path}, row {number}: strand {fields[5]!r}, wanted + or -")
        if NOT_SPLICEOSOMAL not in fields[3].split("|")[1:2]:
            rows.append((fields[0], start, end, fields[5]))
    schema = {"name": pl.String, "start": pl.Int64, "end": pl.Int64, "strand": pl.String}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return _rename_chromosomes(table, genome, path).select(INTRON).unique()


def _rename_chromosomes(table: pl.DataFrame, genome: Genome, path: str | Path) -> pl.DataFrame:
    """`table` with `chrom` in the genome's names, from `name`; unknown ones left out, all unknown refused."""
    names = {name: genome.resolve(name) for name in table["name"].unique().to_list()}
    known = {name: chrom for name, chrom in names.items() if chrom is not None}
    if names and not known:
        raise FileError(f"{path}: chromosomes {sorted(names)[:3]}..., none of them is in the genome")
    if len(known) < len(names):
        LOGGER.warning("%s: %d chromosomes are not in the genome, left out", path, len(names) - len(known))
    kept = table.filter(pl.col("name").is_in(list(known)))
    return kept.with_columns(pl.col("name").replace_strict(known, return_dtype=pl.String).alias("chrom"))
