"""Every SNV of a BED or of a genome, dealt to chunks without holding more than one of them.

Each known base (A, C, G, T) has three variants, in the order of the alternates; bases that are N are counted
and left out. The genome is read twice: once to count the known bases of each stretch, which tells where
chunks end, and once to write them. A stretch is what shares a window of the model, 128 bases or more, so no
window is parted; its cost is that of `megabase.packing`, with the genes at its middle for all its variants.
"""

from __future__ import annotations

import gzip
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, hash_inputs, write_json, write_table
from megabase.genome import Genome
from megabase.logs import LOGGER, progress
from megabase.packing import Packing, chunks_needed, nearest_ends, reachable_genes, variant_costs
from megabase.records import ACCEPTED_SCHEMA, REJECTED_SCHEMA
from megabase.spec import ALPHABET, TOKEN, UNKNOWN_BASE

WHOLE_GENOME = "genome"  # value of the setting `saturate` that stands for every chromosome
BLOCK = 1 << 22  # bases that are looked at together
_ALTERNATES = np.array([[b for b in range(4) if b != ref] for ref in range(4)], dtype=np.uint8)
_HEADERS = ("#", "track", "browser")


@dataclass(frozen=True, slots=True)
class Region:
    """Bases [start, end) of a chromosome, 0-based; `record`: line of the BED, or number of the chromosome."""

    chrom: str
    start: int
    end: int
    record: int


def whole_genome(genome: Genome) -> list[Region]:
    """Every chromosome that has bases, in genome order."""
    lengths = enumerate(genome.lengths.items(), 1)
    return [Region(chrom, 0, length, number) for number, (chrom, length) in lengths if length]


def read_regions(bed: str | Path, genome: Genome) -> list[Region]:
    """Regions of a BED (plain or gzip) in genome order; those that overlap are one, of the first one's line.

    FileError with the line for one that is no region of the genome, and for a file without any.
    """
    found = [_region(bed, number, line, genome) for number, line in _lines(Path(bed))]
    if not found:
        raise FileError(f"{bed}: holds no region; wanted lines of chrom, start, end, parted by tabs")
    merged: list[Region] = []
    for region in sorted(found, key=lambda r: (genome.order[r.chrom], r.start, r.end, r.record)):
        last = merged[-1] if merged else None
        if last is not None and last.chrom == region.chrom and region.start < last.end:
            merged[-1] = Region(last.chrom, last.start, max(last.end, region.end), last.record)
        else:
            merged.append(region)
    return merged


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(1-based number, text) of the lines of a BED that should be regions."""
    if not path.is_file():
        raise FileError(f"{path}: BED not found; wanted the regions to saturate")
    with path.open("rb") as handle:
        opened = gzip.open if handle.read(2) == b"\x1f\x8b" else open
    try:
        with opened(path, "rt", encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip() and not line.startswith(_HEADERS):
                    yield number, line.rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read to its end ({error}); copy or make it again") from error


def _region(bed: str | Path, number: int, line: str, genome: Genome) -> Region:
    parts = line.split("\t")
    if len(parts) < 3 or not (parts[1].strip().isdecimal() and parts[2].strip().isdecimal()):
        raise FileError(
            f"{bed}: line {number} is {line[:60]!r}; wanted chrom, start and end, parted by tabs; correct it"
        )
    chrom, start, end = genome.resolve(parts[0].strip()), int(parts[1]), int(parts[2])
    if chrom is None:
        raise FileError(
            f"{bed}: line {number} is on {parts[0]!r}, wanted a chromosome of genome {genome.name}; correct "
            "it, or name the genome that the BED is of"
        )
    if not start < end <= genome.lengths[chrom]:
        raise FileError(
            f"{bed}: line {number} is {start}-{end}, wanted start < end <= {genome.lengths[chrom]}, the "
            f"length of {chrom}; correct it"
        )
    return Region(chrom, start, end, number)


@dataclass(frozen=True)
class Stretches:
    """Known bases of each stretch [W] that has a base of a region, in genome order."""

    chrom: np.ndarray  # int64, rank of the chromosome
    number: np.ndarray  # int64, of the stretch in its chromosome
    known: np.ndarray  # int64


def stretch_length(packing: Packing) -> int:
    """Bases of a stretch: the shared one, or the shortest multiple of it that has a token."""
    return packing.shared * -(-TOKEN // packing.shared)


def count_stretches(regions: Sequence[Region], genome: Genome, length: int) -> Stretches:
    """Known bases by stretch of `length` bases, of regions in genome order."""
    rows: list[np.ndarray] = []
    for region in regions:
        for start, codes in _blocks(region, genome, BLOCK // length * length or length):
            number = (start + np.arange(len(codes))) // length
            first, last = int(number[0]), int(number[-1])
            known = np.bincount(number - first, codes != UNKNOWN_BASE, last - first + 1).astype(np.int64)
            rank = np.full(len(known), genome.order[region.chrom])
            rows.append(np.stack([rank, np.arange(first, last + 1), known]))
    chrom, number, known = np.concatenate(rows, axis=1)
    first = np.flatnonzero((np.diff(chrom, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0))
    return Stretches(chrom[first], number[first], np.add.reduceat(known, first))


def _blocks(region: Region, genome: Genome, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first position, codes) of the region, cut where the chromosome has a multiple of `size` bases."""
    start = region.start
    while start < region.end:
        end = min((start // size + 1) * size, region.end)
        yield start, genome.codes(region.chrom, start, end)
        start = end


def chunk_stretches(found: Stretches, genome: Genome, jobs: int, packing: Packing) -> list[int]:
    """Stretches at which chunks begin and end: [jobs + 1]; chunks that are not needed are empty, and last."""
    count, variants = len(found.known), 3 * found.known
    total = int(variants.sum())
    if not total:
        return [0] + [count] * jobs
    length = stretch_length(packing)
    names = pl.Series(list(genome.lengths)).gather(found.chrom)
    middle = pl.DataFrame({"chrom": names, "position": found.number * length + length // 2})
    windows = np.where(found.known > 0, np.minimum(found.known, length // packing.shared), 0)
    each = variant_costs(np.zeros(count), reachable_genes(middle, packing), packing.chunks)
    spent = np.cumsum(variants * each + packing.chunks.window_cost * windows)
    used = chunks_needed(total, jobs, packing.chunks)
    inner = np.unique(nearest_ends(spent, used) + 1)
    inner = inner[inner < count].tolist()
    return [0, *inner, *[count] * (jobs - len(inner))]


def regions_between(
    regions: Sequence[Region], found: Stretches, genome: Genome, bounds: tuple[int, int], length: int
) -> Iterator[Region]:
    """What the regions have in the stretches bounds[0]..bounds[1], in genome order."""
    first, last = bounds
    if first == last:
        return
    begin = int(found.chrom[first]), int(found.number[first]) * length
    until = int(found.chrom[last - 1]), (int(found.number[last - 1]) + 1) * length
    here = bisect_right(regions, begin, key=lambda r: (genome.order[r.chrom], r.end))
    beyond = bisect_left(regions, until, key=lambda r: (genome.order[r.chrom], r.start))
    for region in regions[here:beyond]:
        rank = genome.order[region.chrom]
        start = max(region.start, begin[1]) if rank == begin[0] else region.start
        end = min(region.end, until[1]) if rank == until[0] else region.end
        yield replace(region, start=start, end=end)


def every_snv(regions: Iterable[Region], genome: Genome) -> pl.DataFrame:
    """The variants of known bases of the regions: ACCEPTED_SCHEMA, three a base in the order of ALT."""
    parts = [_known_bases(region, genome) for region in regions]
    if not parts:
        return pl.DataFrame(schema=ACCEPTED_SCHEMA)
    rank, position, codes, record = (np.concatenate(column) for column in zip(*parts, strict=True))
    letters, names = pl.Series(list(ALPHABET)), pl.Series(list(genome.lengths))
    table = pl.DataFrame({
        "chrom": names.gather(np.repeat(rank, 3)),
        "position": np.repeat(position, 3),
        "ref": letters.gather(np.repeat(codes, 3)),
        "alt": letters.gather(_ALTERNATES[codes].ravel()),
        "record": np.repeat(record, 3),
        "allele": np.tile(np.array([1, 2, 3], np.int64), len(codes)),
    })  # fmt: skip
    number = (pl.col("position") + 1).cast(pl.String)
    name = pl.concat_str("chrom", number, "ref", "alt", separator=":")
    table = table.with_columns(variant_id=name, source_id=pl.lit(None, pl.String))
    return table.select(list(ACCEPTED_SCHEMA))


def _known_bases(region: Region, genome: Genome) -> tuple[np.ndarray, ...]:
    """Rank of the chromosome, position, code and record of each base that is not N."""
    codes = genome.codes(region.chrom, region.start, region.end)
    at = np.flatnonzero(codes != UNKNOWN_BASE).astype(np.int64)
    same = (np.full(len(at), value, np.int64) for value in (genome.order[region.chrom], region.record))
    rank, record = same
    return rank, region.start + at, codes[at], record


def split_saturation(
    source: str | Path,
    genome: Genome,
    outputs: Sequence[str | Path],
    rejected: str | Path,
    *,
    whole: bool,
    packing: Packing,
    config_hash: str = "",
) -> int:
    """Write every SNV of a BED (`source`), or of the `whole` genome, as one `variants` table per output.

    Also the `rejected` table, which is empty, and `split.json` beside it, as `split_variants` writes them;
    under `saturated` it counts the regions, their bases, and those left out because they are N. Returns the
    number of variants. Memory is that of one chunk. FileError as of `read_regions`.
    """
    regions = whole_genome(genome) if whole else read_regions(source, genome)
    length = stretch_length(packing)
    found = count_stretches(regions, genome, length)
    bounds = chunk_stretches(found, genome, len(outputs), packing)
    sequence = genome.folder / "sequence.json"
    inputs = hash_inputs([sequence] if whole else [source, sequence])
    sizes: list[int] = []
    with progress(len(outputs), "every SNV", "chunks") as bar:
        for path, *edges in zip(outputs, bounds[:-1], bounds[1:], strict=True):
            table = every_snv(regions_between(regions, found, genome, (edges[0], edges[1]), length), genome)
            write_table(table, path, Stamp("variants", config_hash, inputs))
            sizes.append(table.height)
            bar.advance()
    write_table(pl.DataFrame(schema=REJECTED_SCHEMA), rejected, Stamp("rejected", config_hash, inputs))
    bases, known = sum(r.end - r.start for r in regions), int(found.known.sum())
    counts: Mapping[str, object] = {
        "alleles": 3 * known,
        "left_out": 0,
        "rejected": 0,
        "chunks": [{"name": Path(p).stem, "variants": n} for p, n in zip(outputs, sizes, strict=True)],
        "saturated": {"regions": len(regions), "bases": bases, "unknown_bases": bases - known},
    }
    write_json(counts, Path(rejected).with_name("split.json"), Stamp("split", config_hash, inputs))
    LOGGER.info("variants: %d, of %d bases; %d more are N", 3 * known, known, bases - known)
    return 3 * known
