"""Windows of the published training records: where each lies, checked against the genome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megabase.files import FileError, hash_json
from megabase.genome import Genome
from megabase.logs import progress
from megabase.shards.tfrecords import Example, read_examples
from megabase.spec import UNKNOWN_BASE


@dataclass(frozen=True)
class Record:
    """One record: bases start..end (0-based half-open, may reach beyond the chromosome) and its features."""

    where: str  # file and number from 1, for messages
    chrom: str
    start: int
    end: int
    example: Example

    def feature(self, name: str, *shape: int | None) -> np.ndarray:
        """The tensor of a feature; FileError unless it is there and of this shape (None = any size)."""
        if name not in self.example:
            raise FileError(f"{self.where}: has no {name}; its features are {sorted(self.example)}")
        values = np.asarray(self.example[name])
        wanted = [n is None or n == found for n, found in zip(shape, values.shape, strict=False)]
        if values.ndim != len(shape) or not all(wanted):
            told = ", ".join("any" if n is None else str(n) for n in shape)
            raise FileError(f"{self.where}: {name} has shape {values.shape}; wanted ({told})")
        return values

    def first_of(self, length: int) -> int:
        """First base of targets of `length` bases: they are the middle of the sequence."""
        return self.start + (self.end - self.start - length) // 2


def read_records(files: Sequence[Path], genome: Genome, what: str) -> Iterator[Record]:
    """All records of files in order; FileError for one of another genome, told by file and number."""
    with progress(len(files), f"import {what}", "files") as done:
        for path in files:
            for number, example in read_examples(path):
                where = f"{path}: record {number}"
                chrom, start, end = _interval(example, genome, where)
                _check_sequence(example, genome, chrom, start, where)
                yield Record(where, chrom, start, end, example)
            done.advance()


def hash_files(files: Sequence[Path]) -> str:
    """Hash of the subsets, names and sizes of files of records."""
    return hash_json([[p.parent.parent.name, p.parent.name, p.name, p.stat().st_size] for p in files])


def _interval(example: Example, genome: Genome, where: str) -> tuple[str, int, int]:
    """Chromosome (the genome's name), start and end of a record."""
    try:
        name = example["interval/chromosome"]
        start, end = (int(np.asarray(example[f"interval/{key}"]).item()) for key in ("start", "end"))
    except (KeyError, ValueError) as error:
        raise FileError(f"{where}: has no interval ({error}); its features are {sorted(example)}") from None
    text = name.decode() if isinstance(name, bytes) else str(name)
    chrom = genome.resolve(text)
    if chrom is None or not start < end or start >= genome.lengths[chrom] or end <= 0:
        raise FileError(f"{where}: {text}:{start}-{end} is not in genome {genome.name}")
    return chrom, start, end


def _check_sequence(example: Example, genome: Genome, chrom: str, start: int, where: str) -> None:
    """FileError if the record's sequence, where it has one, is not the genome's."""
    found = example.get("dna_sequence")
    if found is None:
        return
    codes = genome.codes(chrom, start, start + len(found))
    known = codes != UNKNOWN_BASE
    if not (found[known, codes[known]] == 1).all():
        raise FileError(f"{where}: its sequence is not that of {genome.name} at {chrom}:{start}")
