"""Genome sequence, intervals and gene models as files and as lookups.

`prepare_genome` turns a FASTA into one byte a base, memory-mapped by `Genome`; `Genes` reads the tables
that `megabase.genes.prepare_genes` makes. Coordinates are 0-based half-open; chromosome names are the
FASTA's, and other names are translated at the edge by `Genome.resolve`.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, read_json, read_table, write_json
from megabase.logs import progress
from megabase.sequence import encode
from megabase.spec import STRANDS, UNKNOWN_BASE

BLOCK = 1 << 24  # bases read from the FASTA at a time
LONG = 1 << 18  # bases: longer stretches are read from the file rather than mapped
MIN_INTRON = 10  # shorter gaps between exons are frameshifts of the annotation, not introns
_REGION = re.compile(r"^(?P<chrom>[^:]+):(?P<start>[\d,]*\d)-(?P<end>[\d,]*\d)$")
_MITOCHONDRIA = ("chrM", "M", "MT", "chrMT")


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Stretch [start, end) of a chromosome, 0-based half-open; may reach beyond the chromosome's ends."""

    chrom: str
    start: int
    end: int
    strand: str = "."

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"interval {self.chrom}:{self.start}-{self.end} ends before it starts")
        if self.strand not in STRANDS:
            raise ValueError(f"strand {self.strand!r} is not one of {STRANDS}")

    @property
    def length(self) -> int:
        """Bases in the interval."""
        return self.end - self.start

    @property
    def center(self) -> int:
        """0-based position of the middle base, the left one of two; an empty interval's is its start."""
        return (self.start + self.end) // 2

    def resize(self, length: int) -> Interval:
        """Interval of `length` bases around the same center: [center - length // 2, ...)."""
        start = self.center - length // 2
        return replace(self, start=start, end=start + length)

    def shift(self, bases: int) -> Interval:
        """The interval moved by `bases` along the chromosome, whatever its strand."""
        return replace(self, start=self.start + bases, end=self.end + bases)

    def overlaps(self, other: Interval) -> bool:
        """Whether the two share a base; strands are not compared."""
        return self.chrom == other.chrom and self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}:{self.strand}"


def parse_region(text: str) -> Interval:
    """Interval of `chrom:start-end`, 1-based and closed as people and browsers write it, commas allowed.

    ValueError if it is not one.
    """
    match = _REGION.match(text)
    start, end = (int(match[k].replace(",", "")) for k in ("start", "end")) if match else (0, 0)
    if match is None or not 1 <= start <= end:
        raise ValueError(f"region {text!r}; wanted chrom:start-end, 1-based, start not beyond end")
    return Interval(match["chrom"], start - 1, end)


class Genome:
    """Sequence of one genome, memory-mapped: opening is instant and processes share the pages.

    Long stretches are read rather than mapped, so that who goes over all of it does not end with a genome of
    mapped pages, which schedulers count as its memory.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "sequence.json"
        if not path.exists():
            raise FileError(f"{path}: not found; wanted a folder written by `megabase prepare-genome`")
        info = read_json(path, "genome")
        self.name: str = info["name"]
        self.organism: str = info["organism"]
        self.aliases: dict[str, str] = info["aliases"]
        self.lengths: dict[str, int] = {c["name"]: c["length"] for c in info["chromosomes"]}
        self._offsets: dict[str, int] = {c["name"]: c["offset"] for c in info["chromosomes"]}
        codes = self.folder / "sequence.u8"
        self._codes = _map_codes(codes, sum(self.lengths.values()))
        self._handle = os.open(codes, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    @classmethod
    def open(cls, folder: str | Path) -> Genome:
        """Open a folder written by `prepare_genome`; FileError if it is not one or is cut short."""
        return cls(folder)

    def __reduce__(self) -> tuple[type[Genome], tuple[Path]]:
        return Genome, (self.folder,)  # a worker process maps the file again instead of copying it

    @cached_property
    def order(self) -> dict[str, int]:
        """Rank of each chromosome in the FASTA: the genome order that tables are sorted by."""
        return {name: rank for rank, name in enumerate(self.lengths)}

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        """Codes uint8 [end - start] of a stretch; positions outside the chromosome are 4 (N).

        `chrom` is a name of the FASTA (see `resolve`); an unknown one is a ValueError.
        """
        if chrom not in self.lengths:
            raise ValueError(
                f"genome {self.name} has no chromosome {chrom!r}; it has {some_of(self.lengths)}"
            )
        if end < start:
            raise ValueError(f"stretch {chrom}:{start}-{end} ends before it starts")
        length, offset = self.lengths[chrom], self._offsets[chrom]
        first, last = min(max(start, 0), length), min(max(end, 0), length)
        if first == start and last == end:
            return self._stored(offset + start, offset + end)
        codes = np.full(end - start, UNKNOWN_BASE, dtype=np.uint8)
        codes[first - start : max(last - start, first - start)] = self._stored(offset + first, offset + last)
        return codes

    def _stored(self, first: int, last: int) -> np.ndarray:
        """A copy of bytes first..last of the file; nothing if last is not behind first."""
        if last - first < LONG:
            return np.array(self._codes[first:last])
        codes, done = np.empty(last - first, np.uint8), 0
        while done < len(codes):  # a call gives 2 GiB at most
            read = os.preadv(self._handle, [codes[done:]], first + done)
            if not read:
                raise FileError(f"{self.folder}: cut short while it is read; run prepare-genome again")
            done += read
        return codes

    def resolve(self, name: str) -> str | None:
        """Chromosome that `name` stands for, or None.

        Tried in turn: the FASTA's own name, the alias table, `1` for `chr1` and back, `MT` for `chrM` and
        back. ValueError if the last two lead to more than one chromosome; nothing else is guessed.
        """
        if name in self.lengths:
            return name
        if name in self.aliases:
            return self.aliases[name]
        other = {name.removeprefix("chr"), f"chr{name}"}
        if name in _MITOCHONDRIA:
            other.update(_MITOCHONDRIA)
        found = sorted({self.aliases.get(o, o) for o in other} & set(self.lengths))
        if len(found) > 1:
            raise ValueError(f"chromosome name {name!r} is ambiguous in genome {self.name}: {found}")
        return found[0] if found else None

    def resolve_names(self, names: Iterable[str]) -> dict[str, str | None]:
        """`resolve` of each distinct name, for joining with a table."""
        return {name: self.resolve(name) for name in dict.fromkeys(names)}


def _map_codes(path: Path, length: int) -> np.ndarray:
    found = path.stat().st_size if path.exists() else -1
    if found != length:
        raise FileError(f"{path}: {found} bytes, wanted {length}; delete the folder and rerun prepare-genome")
    if not length:
        return np.zeros(0, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))  # a plain view: slices of a memmap are slow


def some_of(names: Iterable[str], count: int = 5) -> str:
    """The first few of many names, for a message."""
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def prepare_genome(
    fasta: str | Path,
    output: str | Path,
    *,
    organism: str,
    name: str,
    aliases: str | Path | None = None,
    config_hash: str = "",
) -> Genome:
    """Write `sequence.u8` and `sequence.json` of a FASTA (plain, gzip or bgzip) into the folder `output`.

    Codes are 0..3 = ACGT in either case, 4 = anything else, one byte a base, chromosomes in the order of the
    FASTA. `aliases` is a headerless two-column TSV: other name, name in the FASTA. FileError for a file that
    is not FASTA, is empty, or names a sequence twice, and for an alias that contradicts another name.
    """
    output = Path(output)
    with _open_fasta(Path(fasta)) as records:
        lengths = {key: len(records[key]) for key in records.keys()}
        table = read_aliases(aliases, lengths) if aliases else {}
        with progress(sum(lengths.values()), f"genome {name}", "bp") as done:
            with atomic_path(output / "sequence.u8") as temporary, temporary.open("wb") as handle:
                for chrom in lengths:
                    for codes in _code_blocks(records, chrom, lengths[chrom]):
                        handle.write(codes.tobytes())
                        done.advance(len(codes))
    offsets = np.cumsum([0, *lengths.values()]).tolist()
    chromosomes = [
        {"name": chrom, "length": length, "offset": offset}
        for (chrom, length), offset in zip(lengths.items(), offsets[:-1], strict=True)
    ]
    stamp = Stamp("genome", config_hash, hash_inputs([fasta, *([aliases] if aliases else [])]))
    value = {"name": name, "organism": organism, "chromosomes": chromosomes, "aliases": table}
    write_json(value, output / "sequence.json", stamp)
    return Genome.open(output)


def read_aliases(path: str | Path, lengths: Mapping[str, int]) -> dict[str, str]:
    """`{other name: FASTA name}` from a two-column TSV without header; lines of `#` are comments.

    FileError with the line number for a line without two columns, an unknown FASTA name, or another name
    that already stands for a different chromosome.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 2 or not all(parts):
            raise FileError(f"{path}: line {number}: found {line!r}, wanted other name, tab, FASTA name")
        other, chrom = parts
        if chrom not in lengths:
            raise FileError(
                f"{path}: line {number}: {chrom!r} is not in the FASTA; it has {some_of(lengths)}"
            )
        known = other if other in lengths else table.get(other, chrom)
        if known != chrom:
            raise FileError(f"{path}: line {number}: {other!r} already stands for {known}, not {chrom}")
        if other != chrom:
            table[other] = chrom
    return table


@contextmanager
def _open_fasta(path: Path) -> Iterator[Any]:
    """pyfaidx records of a FASTA; its index is made in a temporary folder (the source may be read-only)."""
    from pyfaidx import Fasta
    from pyfaidx import FastaIndexingError as IndexingError

    if not path.exists():
        raise FileError(f"{path}: FASTA not found")
    with tempfile.TemporaryDirectory() as folder:
        plain = _decompressed(path, Path(folder))
        try:
            records = Fasta(str(plain), indexname=str(Path(folder) / "index.fai"), as_raw=True)
        except (IndexingError, ValueError) as error:
            raise FileError(f"{path}: not a FASTA that can be indexed: {error}") from error
        with records:
            if not any(len(records[key]) for key in records.keys()):
                raise FileError(f"{path}: holds no sequence; wanted FASTA records (>name, then bases)")
            yield records


def _decompressed(path: Path, folder: Path) -> Path:
    """`path`, or its plain copy in `folder` if it is gzip or bgzip; FileError if that is cut short."""
    with path.open("rb") as handle:
        if handle.read(2) != b"\x1f\x8b":
            return path
    plain = folder / "plain.fa"
    try:
        with gzip.open(path, "rb") as source, plain.open("wb") as target:
            _copy(source, target)
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise FileError(f"{path}: cannot be decompressed ({error}); fetch it again") from error
    return plain


def _copy(source: Any, target: BinaryIO) -> None:
    shutil.copyfileobj(source, target, 1 << 22)


def _code_blocks(records: Any, chrom: str, length: int) -> Iterator[np.ndarray]:
    """Codes of one FASTA record, a block at a time."""
    for start in range(0, length, BLOCK):
        yield encode(records[chrom][start : min(start + BLOCK, length)])


class Genes:
    """Gene models of one genome: `.genes`, `.transcripts` and `.exons` are polars tables in genome order."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        for kind in ("genes", "transcripts", "exons"):
            if not (path := self.folder / f"{kind}.parquet").exists():
                raise FileError(f"{path}: not found; wanted a folder written by `megabase prepare-genes`")
        self.genes = read_table(self.folder / "genes.parquet", "genes")
        self.transcripts = read_table(self.folder / "transcripts.parquet", "transcripts")
        self.exons = read_table(self.folder / "exons.parquet", "exons")

    @classmethod
    def open(cls, folder: str | Path) -> Genes:
        """Open a folder written by `prepare_genes`."""
        return cls(folder)

    @cached_property
    def _by_chrom(self) -> dict[str, pl.DataFrame]:
        return {str(key[0]): part for key, part in self.genes.partition_by("chrom", as_dict=True).items()}

    def overlapping(self, interval: Interval) -> pl.DataFrame:
        """Rows of `.genes` that share a base with the interval, on either strand, in genome order."""
        part = self._by_chrom.get(interval.chrom)
        if part is None:
            return self.genes.clear()
        return part.filter((pl.col("start") < interval.end) & (pl.col("end") > interval.start))

    def exons_of(self, gene_ids: Iterable[str]) -> pl.DataFrame:
        """Union of the exons of all transcripts of each gene: gene_id, chrom, start, end, strand.

        Overlapping and touching exons of a gene are merged, so that no base is listed twice; sorted by gene
        and start.
        """
        wanted = self.exons.filter(pl.col("gene_id").is_in(list(gene_ids)))
        columns = ["gene_id", "chrom", "strand", "start", "end"]
        reach = pl.col("end").cum_max().shift(1).over("gene_id")
        first = (reach.is_null() | (pl.col("start") > reach)).cast(pl.Int64)
        return (
            wanted.select(columns)
            .sort("gene_id", "start", "end")
            .with_columns(run=first.cum_sum())
            .group_by("gene_id", "chrom", "strand", "run", maintain_order=True)
            .agg(pl.col("start").min(), pl.col("end").max())
            .select("gene_id", "chrom", "start", "end", "strand")
        )

    def splice_sites(self) -> pl.DataFrame:
        """Annotated splice sites, each once: chrom, position (0-based), strand, kind.

        `donor` is the last exonic base before an intron and `acceptor` the first exonic base after it, both
        read along the strand (AlphaGenome Methods, splicing). Gaps below MIN_INTRON bases are no introns.
        """
        exons = self.exons.sort("transcript_id", "start")
        following = pl.col("start").shift(-1).over("transcript_id")
        introns = exons.with_columns(left=pl.col("end") - 1, right=following).filter(
            pl.col("right") - pl.col("end") >= MIN_INTRON
        )
        plus = pl.col("strand") == "+"
        parts = [
            introns.select(
                "chrom",
                pl.when(plus == forward).then("left").otherwise("right").alias("position"),
                "strand",
                pl.lit(kind).alias("kind"),
            )
            for kind, forward in (("donor", True), ("acceptor", False))
        ]
        return pl.concat(parts).unique().sort("chrom", "position", "strand", "kind")
