"""Regions of a remote VCF: gnomAD's or dbSNP's variants of a place without the whole file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pysam

from megabase.files import FileError, Stamp, atomic_path, hash_bytes, hash_json
from megabase.genome import Interval, parse_region
from megabase.logs import LOGGER
from megabase.sources.ranges import Ranges
from megabase.sources.tabix import Index, header_lines, lines_between, read_index

_END = re.compile(r"(?:^|;)END=(\d+)")


def fetch_region(
    source: str,
    regions: Sequence[Interval],
    output: str | Path,
    *,
    index: str | None = None,
    aliases: str | Path | None = None,
    attempts: int = 6,
    backoff: float = 1.0,
) -> int:
    """Write the records of a bgzip VCF that overlap any of `regions` (0-based half-open) as a bgzip VCF.

    source: `http(s)://...` of a server that sends ranges, or a file; index: its `.tbi` (source + `.tbi`
    without). Contigs are found by name, with or without `chr`, or by a two-column table of other names
    (`import-aliases`). Each record comes once, in the file's order; the header is the source's, with the
    source and the regions. Only the blocks that the index names are read; each is checked, so an answer that
    was cut short is an error and nothing is written. Returns the number of records; FileError.
    """
    others = _other_names(aliases)
    with (
        Ranges(index or f"{source}.tbi", attempts=attempts, backoff=backoff) as small,
        Ranges(source, attempts=attempts, backoff=backoff) as file,
    ):
        raw = small.whole()
        found = read_index(raw, small.source)
        header = header_lines(file, found.comment)
        if not header or not header[-1].startswith("#CHROM"):
            raise FileError(f"{source}: has no VCF header; wanted a bgzip VCF")
        places = merged(found, [(_contig(found, r.chrom, others, source), r.start, r.end) for r in regions])
        stamp = Stamp("regions", hash_json(places), {Path(small.source).name: hash_bytes(raw)})
        notes = [f"##megabase={json.dumps(stamp.as_dict())}", f"##megabase_source={source}"]
        notes += [f"##megabase_region={name}:{start + 1}-{end}" for name, start, end in places]
        count = 0
        with atomic_path(output) as temporary, pysam.BGZFile(str(temporary), "w") as handle:
            text = "\n".join([*header[:-1], *notes, header[-1]]) + "\n"
            handle.write(text.encode())
            for line in records(file, found, places):
                handle.write(line + b"\n")
                count += 1
    LOGGER.info("%s: %d records of %d regions", source, count, len(places))
    return count


def records(file: Ranges, index: Index, places: Iterable[tuple[str, int, int]]) -> Iterator[bytes]:
    """Lines of the records that overlap any of the places, which are merged and in the file's order."""
    before = ("", 0)  # contig and end of the place before: what began ahead of it has come already
    for name, start, end in places:
        done = before[1] if before[0] == name else 0
        for begin, stop in index.stretches(name, start, end):
            for line in lines_between(file, begin, stop):
                if line.startswith(index.comment.encode()) or not line:
                    continue
                contig, first, last = _span(line, file.source)
                if contig == name and first < end and last > start and first >= done:
                    yield line
        before = (name, end)


def merged(index: Index, places: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Places in the file's order, those that overlap or touch as one."""
    order = {name: number for number, name in enumerate(index.contigs)}
    found: list[tuple[str, int, int]] = []
    for name, start, end in sorted(places, key=lambda place: (order[place[0]], *place[1:])):
        if found and found[-1][0] == name and start <= found[-1][2]:
            found[-1] = (name, found[-1][1], max(found[-1][2], end))
        else:
            found.append((name, start, end))
    return found


def _span(line: bytes, source: str) -> tuple[str, int, int]:
    """(contig, start, end) of a record, 0-based half-open; `END` counts where INFO has it."""
    fields = line.split(b"\t", 8)
    if len(fields) < 8 or not fields[1].isdigit():
        raise FileError(f"{source}: a line of the region is no VCF record: {line[:60]!r}")
    start = int(fields[1]) - 1
    told = _END.search(fields[7].decode("utf-8", "replace"))
    return fields[0].decode(), start, max(start + len(fields[3]), int(told[1]) if told else 0)


def _contig(index: Index, name: str, others: Mapping[str, str], source: str) -> str:
    """Name of a contig in the index, by its own name, with or without `chr`, or by another name."""
    same = {name, name.removeprefix("chr"), f"chr{name}", others.get(name, name)}
    same |= {other for other, chrom in others.items() if chrom in same}
    if found := sorted(same & set(index.contigs)):
        return found[0]
    known = ", ".join(list(index.contigs)[:4])
    raise FileError(
        f"{source}: has no contig {name} ({known}, ...); give a table of aliases, or its own name"
    )


def _other_names(aliases: str | Path | None) -> dict[str, str]:
    if aliases is None:
        return {}
    lines = Path(aliases).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    if bad := [pair for pair in pairs if len(pair) != 2]:
        raise FileError(f"{aliases}: found {bad[0]}, wanted other name, tab, name")
    return {other: chrom for other, chrom in pairs}


def read_regions(texts: Iterable[str], bed: str | Path | None = None) -> list[Interval]:
    """Regions of `chrom:start-end` texts (1-based, closed) and of a BED file; FileError if there are none."""
    found = [parse_region(text) for text in texts]
    lines = Path(bed).read_text(encoding="utf-8").splitlines() if bed is not None else []
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        if len(fields) < 3 or not (fields[1] + fields[2]).isdigit() or int(fields[1]) >= int(fields[2]):
            raise FileError(f"{bed}: line {number}: {line[:60]!r}, wanted chromosome, start < end (BED)")
        found.append(Interval(fields[0], int(fields[1]), int(fields[2])))
    if not found:
        raise FileError("no region; give --region chrom:start-end, or --bed")
    return found
