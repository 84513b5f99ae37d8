"""Splice tables of a store from the published training records.

Sites, usage and junctions of the windows become the tables that a store has (`sites`, `usage`, `junctions`).
Every site, and every junction of two listed sites, is taken once; windows that overlap must say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from megabase.files import FORMAT_VERSIONS, FileError, Stamp, hash_json, table_stamp, write_table
from megabase.genome import Genome
from megabase.logs import LOGGER
from megabase.settings.data import ShardSettings
from megabase.shards.records import Record, hash_files, read_records
from megabase.shards.writer import SPLICE_TABLES, STORE
from megabase.spec import OutputType, SiteClass
from megabase.tracks.table import base_name

SITES, USAGE, JUNCTIONS = (
    str(o) for o in (OutputType.SPLICE_SITES, OutputType.SPLICE_SITE_USAGE, OutputType.SPLICE_JUNCTIONS)
)
POSITIONS = "splice_site_positions"
_KINDS = np.array(["donor", "acceptor", "donor", "acceptor"])  # by class
_STRANDS = np.array(["+", "+", "-", "-"])
_CLASSES = len(_KINDS)


def import_splicing(
    files: Mapping[str, Sequence[Path]],
    table: pl.DataFrame,
    genome: Genome,
    folder: Path,
    settings: ShardSettings,
) -> str:
    """Write sites, usage and junctions.parquet into `folder`, or keep them; returns a hash of their sources.

    files: of the bundles `splice_sites`, `splice_site_usage`, `splice_junctions` and, where positions are not
    in the records of junctions, `splice_site_positions`. table: the track table, whose rows of usage and of
    junctions are the channels of their records. FileError where records differ about a site or junction,
    where usage or a junction stands at no site, and for another number of channels.
    """
    told = {name: hash_files(found) for name, found in sorted(files.items())}
    channels = [(base_name(row), row["strand"]) for row in _rows(table, USAGE, JUNCTIONS)]
    key = hash_json([FORMAT_VERSIONS[STORE], "tfrecords", told, list(genome.lengths.items()), channels])
    if all(_made_from(folder / f"{kind}.parquet", kind, key) for kind in SPLICE_TABLES):
        LOGGER.info("splicing: nothing that it is made from has changed; kept")
        return key
    sites = _Sites()
    for record in read_records(files[SITES], genome, SITES):
        sites.add(record, genome)
    usage = _Usage(_rows(table, USAGE), sites, genome)
    for record in read_records(files[USAGE], genome, USAGE):
        usage.add(record)
    tables = {
        "sites": sites.table(genome),
        "usage": usage.table(),
        "junctions": _junctions(files, _rows(table, JUNCTIONS), sites, genome),
    }
    for kind in SPLICE_TABLES:
        write_table(tables[kind], folder / f"{kind}.parquet", Stamp(kind, settings.hash(), {"key": key}))
    return key


def _rows(table: pl.DataFrame, *outputs: str) -> list[dict[str, str]]:
    return table.filter(pl.col("output_type").is_in(outputs)).to_dicts()


def _made_from(path: Path, kind: str, key: str) -> bool:
    """Whether a table is there, whole and made from the same."""
    try:
        return table_stamp(path, kind).inputs.get("key") == key
    except (FileError, OSError, pl.exceptions.PolarsError):
        return False


@dataclass
class _Chromosome:
    """Sites of a chromosome as position x 4 + class, in order, and the stretches that records cover."""

    sites: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    covered: list[tuple[int, int]] = field(default_factory=list)

    def between(self, low: int, high: int) -> np.ndarray:
        """Sites of bases low..high."""
        first, last = np.searchsorted(self.sites, [low * _CLASSES, high * _CLASSES])
        return self.sites[first:last]


class _Sites:
    """Splice sites by chromosome."""

    def __init__(self) -> None:
        self.by_chrom: dict[str, _Chromosome] = {}

    def add(self, record: Record, genome: Genome) -> None:
        """Add the sites of a record; FileError if it differs from earlier ones about a base."""
        flags = record.feature(SITES, None, SiteClass.NONE + 1)[:, :_CLASSES]
        first = record.first_of(len(flags))
        low, high = max(first, 0), min(first + len(flags), genome.lengths[record.chrom])
        rows, classes = np.nonzero(flags[low - first : high - first])
        found = (rows + low) * _CLASSES + classes
        here = self.by_chrom.setdefault(record.chrom, _Chromosome())
        for a, b in here.covered:
            a, b = max(a, low), min(b, high)
            if a < b:
                again = found[(found >= a * _CLASSES) & (found < b * _CLASSES)]
                differ = np.setxor1d(here.between(a, b), again)
                if len(differ):
                    raise _differs(record, SITES, int(differ[0]) // _CLASSES)
        here.sites = np.union1d(here.sites, found)
        here.covered = _merged([*here.covered, (low, high)])

    def of(self, chrom: str) -> np.ndarray:
        """Sites of a chromosome, position x 4 + class."""
        return self.by_chrom[chrom].sites if chrom in self.by_chrom else np.zeros(0, np.int64)

    def table(self, genome: Genome) -> pl.DataFrame:
        """`sites` table."""
        schema = dict.fromkeys(("chrom", "position", "strand", "kind"), pl.String) | {"position": pl.Int64}
        parts = []
        for chrom in genome.lengths:
            sites = self.of(chrom)
            classes = sites % _CLASSES
            columns = {"chrom": [chrom] * len(sites), "position": sites // _CLASSES}
            columns |= {"strand": _STRANDS[classes].tolist(), "kind": _KINDS[classes].tolist()}
            parts.append(pl.DataFrame(columns, schema=schema))
        return pl.concat(parts)


def _merged(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Disjoint stretches in order."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(stretches):
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def _differs(record: Record, name: str, base: int) -> FileError:
    return FileError(
        f"{record.where}, {record.chrom}:{base}: {name} differs from what another record says; the files are "
        "not of one release"
    )


def _own_channels(record: Record, name: str, values: np.ndarray, rows: int) -> np.ndarray:
    """Values [..., rows] of the channels of the track table; FileError if there are others.

    A record may have more: padding behind the tracks of each strand's half, zero throughout.
    """
    found = values.shape[-1]
    if found == rows:
        return values
    half = np.arange(rows // 2)
    own = np.concatenate([half, found // 2 + half])
    if found < rows or found % 2 or np.delete(values, own, axis=-1).any():
        raise FileError(f"{record.where}: {name} has {found} channels; the track table has {rows} such")
    return values[..., own]


@dataclass
class _Places:
    """Usage at the sites of one strand of a chromosome: bases [N] in order, values [N, B], those known."""

    bases: np.ndarray
    values: np.ndarray
    known: np.ndarray


class _Usage:
    """Usage of every site in every channel of its strand, zeros included, as the records give it."""

    def __init__(self, rows: Sequence[Mapping[str, str]], sites: _Sites, genome: Genome) -> None:
        self._rows = rows
        self._on = {strand: np.array([row["strand"] == strand for row in rows]) for strand in "+-"}
        self._names = {s: [base_name(row) for row in rows if row["strand"] == s] for s in "+-"}
        self._places: dict[tuple[str, str], _Places] = {}
        for chrom in genome.lengths:
            found = sites.of(chrom)
            for strand, names in self._names.items():
                bases = np.unique(found[_STRANDS[found % _CLASSES] == strand] // _CLASSES)
                values, known = np.zeros((len(bases), len(names)), np.float32), np.zeros(len(bases), bool)
                self._places[chrom, strand] = _Places(bases, values, known)

    def add(self, record: Record) -> None:
        """Add a record; FileError if it differs from earlier ones, or has usage where no site is."""
        usage = _own_channels(record, USAGE, record.feature(USAGE, None, None), len(self._rows))
        first = record.first_of(len(usage))
        used = {strand: usage[:, on].any(1) for strand, on in self._on.items()}
        for strand, on in self._on.items():
            places = self._places[record.chrom, strand]
            a, b = np.searchsorted(places.bases, [first, first + len(usage)])
            here = places.bases[a:b] - first
            now = usage[here][:, on].astype(np.float32)
            differ = places.known[a:b] & (places.values[a:b] != now).any(1)
            if differ.any():
                raise _differs(record, USAGE, first + int(here[differ.argmax()]))
            places.values[a:b], places.known[a:b] = now, True
            used[strand][here] = False
        stray = used["+"] | used["-"]
        if stray.any():
            raise FileError(
                f"{record.where}, {record.chrom}:{first + int(stray.argmax())}: usage where no splice site "
                "of that strand is; the files are not of one release"
            )

    def table(self) -> pl.DataFrame:
        """`usage` table."""
        parts = []
        for (chrom, strand), places in self._places.items():
            names, bases = self._names[strand], places.bases[places.known]
            count = len(names) * len(bases)
            parts.append(pl.DataFrame({
                "chrom": pl.repeat(chrom, count, dtype=pl.String, eager=True),
                "position": np.repeat(bases, len(names)),
                "strand": pl.repeat(strand, count, dtype=pl.String, eager=True),
                "biosample": pl.Series(names * len(bases), dtype=pl.String),
                "usage": places.values[places.known].ravel().astype(np.float64),
            }))  # fmt: skip
        return pl.concat(parts)


def _junctions(
    files: Mapping[str, Sequence[Path]], rows: Sequence[Mapping[str, str]], sites: _Sites, genome: Genome
) -> pl.DataFrame:
    """`junctions` table: those of a count, by the sites that a record lists."""
    strands = np.array([row["strand"] for row in rows])
    names = np.array([base_name(row) for row in rows], object)
    parts = []
    apart = iter(read_records(files[POSITIONS], genome, POSITIONS)) if files.get(POSITIONS) else None
    for record in read_records(files[JUNCTIONS], genome, JUNCTIONS):
        positions = _positions(record, next(apart, None) if apart is not None else record, sites)
        counts = record.feature(JUNCTIONS, positions.shape[1], positions.shape[1], None)
        counts = _own_channels(record, JUNCTIONS, counts, len(rows))
        donor, acceptor, channel = np.nonzero(counts)
        first = np.where(strands[channel] == "+", SiteClass.DONOR_PLUS, SiteClass.DONOR_MINUS)
        ends = positions[first, donor], positions[first + 1, acceptor]
        if (np.minimum(*ends) < 0).any():
            raise FileError(f"{record.where}: a count of sites beyond those that it lists")
        value = counts[donor, acceptor, channel].astype(np.float64)
        found = {"donor": ends[0] + record.start, "acceptor": ends[1] + record.start, "channel": channel}
        part = pl.DataFrame(found | {"count": value}).with_columns(chrom=pl.lit(record.chrom))
        parts.append(part.with_columns(pl.lit(record.where).alias("where")))
        if len(parts) > 64:  # windows repeat each other: hold each junction once
            parts = [_once(parts)]
    every = _once(parts) if parts else pl.DataFrame(schema={"channel": pl.Int64})
    if every.is_empty():
        schema = {"chrom": pl.String, "donor": pl.Int64, "acceptor": pl.Int64, "strand": pl.String,
                  "biosample": pl.String, "count": pl.Float64}  # fmt: skip
        return pl.DataFrame(schema=schema)
    channel = every["channel"].to_numpy()
    return every.with_columns(
        pl.Series("strand", strands[channel].tolist()), pl.Series("biosample", names[channel].tolist())
    ).select("chrom", "donor", "acceptor", "strand", "biosample", "count")


def _positions(record: Record, listed: Record | None, sites: _Sites) -> np.ndarray:
    """int [4, P], sites of each class from the record's first base on, -1 padded; all must be known sites."""
    where = (record.chrom, record.start, record.end)
    if listed is None or (listed.chrom, listed.start, listed.end) != where:
        raise FileError(
            f"{record.where}: is of {where[0]}:{where[1]}-{where[2]}, {POSITIONS} there are not; the bundles "
            "must have the same windows in the same order"
        )
    positions = listed.feature(POSITIONS, _CLASSES, None).astype(np.int64)
    classes, columns = np.nonzero(positions >= 0)
    base = positions[classes, columns] + record.start
    known = np.isin(base * _CLASSES + classes, sites.of(record.chrom))
    if not known.all():
        name = SiteClass.NAMES[int(classes[~known][0])]
        raise FileError(
            f"{listed.where}, {record.chrom}:{int(base[~known][0])}: is listed as {name}, {SITES} has no "
            "such site"
        )
    return positions


def _once(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Each junction once, in order; FileError if records give it several counts."""
    every = pl.concat(parts)
    site = ["chrom", "donor", "acceptor", "channel"]
    once = every.group_by(site, maintain_order=True).agg(
        pl.col("count").first(), pl.col("where").last(), (pl.col("count").n_unique() > 1).alias("differ")
    )
    if once["differ"].any():
        row = once.filter("differ").row(0, named=True)
        raise FileError(
            f"{row['where']}, {row['chrom']}:{row['donor']}-{row['acceptor']}: {JUNCTIONS} differs from what "
            "another record says; the files are not of one release"
        )
    return once.drop("differ").sort(site)
