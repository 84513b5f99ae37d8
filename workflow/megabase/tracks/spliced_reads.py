"""Splicing straight from aligned reads: junction counts of a BAM, and how its reads use known sites.

Streamed by chromosome. A read counts if it is mapped to one place (NH is 1 or, without NH, its mapping
quality is high), primary, no duplicate and not failed. Source: AlphaGenome (bioRxiv 2025.06.25.661532),
Methods, splicing; splice-site strength after Dent et al. 2021 (SpliSER).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pysam

from megabase.files import FileError
from megabase.genome import Genome
from megabase.settings.data import TrackSettings
from megabase.tracks.bigwig import match_names
from megabase.tracks.cut_sites import SKIPPED, open_bam, sorted_bam

MIN_INTRON, MAX_INTRON = 20, 1_000_000  # bases of a gap that is an intron: STAR's settings as published
MATCHED = (pysam.CMATCH, pysam.CEQUAL, pysam.CDIFF)
_SCHEMA = {"chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "strand": pl.String, "count": pl.Int64}
_SITES = {"chrom": pl.String, "position": pl.Int64, "strand": pl.String, "usage": pl.Float64}
Junction = tuple[int, int, str]  # start, end (0-based half-open intron) and strand


@dataclass(frozen=True)
class Walk:
    """Aligned stretches of a read and the introns between them.

    stretches: (start, end on the genome, first base of the read); introns: (start, end, aligned bases of the
    exon before and after it).
    """

    stretches: list[tuple[int, int, int]]
    introns: list[tuple[int, int, int, int]]


def walk(read: pysam.AlignedSegment) -> Walk:
    """Follow a read's CIGAR: M, = and X are aligned, N of an intron's length is an intron."""
    place, base = read.reference_start, 0
    stretches: list[tuple[int, int, int]] = []
    gaps: list[tuple[int, int]] = []
    exons = [0]  # aligned bases of each exon
    for kind, length in read.cigartuples or ():
        if kind in MATCHED:
            stretches.append((place, place + length, base))
            exons[-1] += length
        if kind == pysam.CREF_SKIP:
            gaps.append((place, place + length))
            exons.append(0)
        if kind in (*MATCHED, pysam.CDEL, pysam.CREF_SKIP):
            place += length
        if kind in (*MATCHED, pysam.CINS, pysam.CSOFT_CLIP):
            base += length
    introns = [
        (*gap, exons[n], exons[n + 1])
        for n, gap in enumerate(gaps)
        if MIN_INTRON <= gap[1] - gap[0] <= MAX_INTRON
    ]
    return Walk(stretches, introns)


def strand_of(read: pysam.AlignedSegment, library: str) -> str | None:
    """Strand of the RNA of a spliced read: tag XS, else ts (relative to the read), else the library's."""
    if read.has_tag("XS") and read.get_tag("XS") in ("+", "-"):
        return str(read.get_tag("XS"))
    along = "-" if read.is_reverse else "+"
    if read.has_tag("ts") and read.get_tag("ts") in ("+", "-"):
        return along if read.get_tag("ts") == "+" else _other(along)
    if library == "unstranded":
        return None
    first_along = _other(along) if read.is_read2 else along
    return first_along if library == "forward" else _other(first_along)


def _other(strand: str) -> str:
    return "-" if strand == "+" else "+"


class SplicedReads:
    """One BAM that splicing is read from. FileError if it is none, or of another assembly."""

    def __init__(self, path: str | Path, genome: Genome, settings: TrackSettings, scratch: Path) -> None:
        with open_bam(path) as reads:
            lengths = dict(zip(reads.references, reads.lengths, strict=True))
        self.path = Path(path)
        self._names = match_names(lengths, genome, path)
        self._sorted, self._index = sorted_bam(self.path, scratch)
        self._settings = settings

    def _reads(self, chrom: str) -> Iterator[pysam.AlignedSegment]:
        """Reads of a chromosome that count, by position."""
        index = {"index_filename": str(self._index)} if self._index else {}
        least = self._settings.splice_mapping_quality
        try:
            with pysam.AlignmentFile(str(self._sorted), "rb", **index) as reads:
                for read in reads.fetch(self._names[chrom]):
                    if not read.flag & SKIPPED and _is_unique(read, least):
                        yield read
        except (OSError, ValueError) as error:
            raise FileError(f"{self.path}: damaged on {chrom} ({error}); fetch it again") from error

    def junctions(self, annotated: pl.DataFrame) -> pl.DataFrame:
        """INTRON and `count`: fragments that are spliced there.

        A read needs `settings.junction_overhang` aligned bases on either side, or one where the intron is in
        `annotated` (INTRON). Mates that both cross a junction count once.
        """
        parts = [pl.DataFrame(schema=_SCHEMA)]
        for chrom in self._names:
            known = set(annotated.filter(pl.col("chrom") == chrom).select("start", "end", "strand").rows())
            counts: Counter[Junction] = Counter()
            crossed: dict[str, set[Junction]] = {}  # by fragment, until its mate comes
            for read in self._reads(chrom):
                found = self._crossed(read, known)
                before = crossed.pop(read.query_name, set())
                counts.update(found - before)
                if found and _awaits_mate(read):
                    crossed[read.query_name] = found
            rows = [(chrom, *junction, n) for junction, n in sorted(counts.items())]
            parts.append(pl.DataFrame(rows, schema=_SCHEMA, orient="row"))
        return pl.concat(parts)

    def _crossed(self, read: pysam.AlignedSegment, known: set[Junction]) -> set[Junction]:
        """Junctions that a read crosses with enough bases about them."""
        if not any(kind == pysam.CREF_SKIP for kind, _ in read.cigartuples or ()):
            return set()
        strand = strand_of(read, self._settings.library_strand)
        if strand is None:
            return set()
        return {
            (start, end, strand)
            for start, end, before, after in walk(read).introns
            if min(before, after)
            >= (1 if (start, end, strand) in known else self._settings.junction_overhang)
        }

    def usage(self, sites: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
        """chrom, position, strand and `usage` = using / (using + skipping) of the sites that reads tell of.

        sites: chrom, position, strand, kind; kept: INTRON of the junctions that count. A read uses the sites
        at the ends of its junctions, on their strand. It skips a site that lies inside a junction of the
        site's strand, and one across whose exon-intron border it is aligned without a gap, whatever its own
        strand. The base at the site must have `settings.splice_base_quality` where the read has that base.
        """
        parts = [pl.DataFrame(schema=_SITES)]
        for chrom in self._names:
            here = sites.filter(pl.col("chrom") == chrom)
            if here.height:
                junctions = set(kept.filter(pl.col("chrom") == chrom).select("start", "end", "strand").rows())
                tally = SiteTally(here, junctions, self._settings)
                for read in self._reads(chrom):
                    tally.add(read)
                parts.append(tally.table(chrom))
        return pl.concat(parts)


class SiteTally:
    """Reads that use, and reads that skip, each splice site of a chromosome."""

    def __init__(self, sites: pl.DataFrame, junctions: set[Junction], settings: TrackSettings) -> None:
        """sites: position, strand and kind; a place that is donor and acceptor of a strand counts as one."""
        self._junctions, self._settings = junctions, settings
        self._keys = sorted(set(sites.select("position", "strand").rows()))
        self._number = {key: n for n, key in enumerate(self._keys)}
        self._of_strand = {
            strand: sorted(position for position, s in self._keys if s == strand) for strand in "+-"
        }
        borders = set()  # (first base behind the border, site)
        for position, strand, kind in sites.select("position", "strand", "kind").rows():
            intron_follows = (kind == "donor") == (strand == "+")
            borders.add((position + intron_follows, position, strand))
        self._borders = sorted(borders)
        self._places = [border[0] for border in self._borders]
        self.using, self.skipping = np.zeros((2, len(self._keys)), np.int64)

    def add(self, read: pysam.AlignedSegment) -> None:
        """Take in one read."""
        walked = walk(read)
        qualities = read.query_qualities
        seen = {start: base for start, _, base in walked.stretches}
        ends = {end: base + end - start for start, end, base in walked.stretches}
        if walked.introns and (strand := strand_of(read, self._settings.library_strand)):
            for start, end, _, _ in walked.introns:
                if (start, end, strand) not in self._junctions:
                    continue
                for position, base in ((start - 1, ends.get(start, 0) - 1), (end, seen.get(end, -1))):
                    if self._good(qualities, base) and (position, strand) in self._number:
                        self.using[self._number[position, strand]] += 1
                inside = self._of_strand[strand]
                for at in range(bisect_left(inside, start), bisect_left(inside, end)):
                    self.skipping[self._number[inside[at], strand]] += 1
        for start, end, base in walked.stretches:
            for at in range(bisect_right(self._places, start), bisect_left(self._places, end)):
                _, position, strand = self._borders[at]
                if self._good(qualities, base + position - start):
                    self.skipping[self._number[position, strand]] += 1

    def _good(self, qualities: object, base: int) -> bool:
        """Whether a base of the read is good enough; a read without qualities is, a base it lacks is not."""
        if base < 0:
            return False
        return qualities is None or qualities[base] >= self._settings.splice_base_quality  # type: ignore[index]

    def table(self, chrom: str) -> pl.DataFrame:
        """chrom, position, strand and usage of the sites that a read uses or skips."""
        reads = self.using + self.skipping
        rows = [
            (chrom, *self._keys[n], float(self.using[n] / reads[n])) for n in np.flatnonzero(reads).tolist()
        ]
        return pl.DataFrame(rows, schema=_SITES, orient="row")


def _is_unique(read: pysam.AlignedSegment, least: int) -> bool:
    """Whether a read is mapped to one place, well enough."""
    if read.has_tag("NH"):
        return read.get_tag("NH") == 1 and read.mapping_quality >= least
    return read.mapping_quality >= least


def _awaits_mate(read: pysam.AlignedSegment) -> bool:
    """Whether the other read of the fragment comes later on the same chromosome."""
    if not read.is_paired or read.mate_is_unmapped or read.next_reference_id != read.reference_id:
        return False
    return bool(read.next_reference_start >= read.reference_start)
