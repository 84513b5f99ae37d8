"""The published training records of AlphaGenome as a training store.

Records hold windows of 1 Mb around intervals that begin 49,173 bp apart, so a base is in 21 of them. The
store has every base once: any window, shift and fold scheme can be trained on, and a run goes on exactly.
A base is taken from the first record that covers it; what later ones say of it must be the same, except of
ChIP, whose bins of 128 bases begin elsewhere in every window. Signal tracks are imported; contact maps are
binned at each window's own offset and have no common grid, and splice tables are made from their sources
(docs/shards.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
import zstandard

from megabase.files import FORMAT_VERSIONS, FileError, Stamp, hash_json, read_table, sole_writer, write_json
from megabase.genome import Genome
from megabase.logs import LOGGER, progress
from megabase.settings.data import ShardSettings
from megabase.shards.blocks import BlockWriter
from megabase.shards.encoding import ChunkFormat, decode_chunk, encode_chunk, pack
from megabase.shards.tfrecords import Example, read_examples
from megabase.shards.writer import PART, RUNS, STORE, whole_part, write_store
from megabase.spec import OUTPUTS, TOKEN, TRACK_OUTPUTS, UNKNOWN_BASE, OutputType


def import_tfrecords(
    folder: str | Path,
    tracks: str | Path,
    genome_folder: str | Path,
    output_dir: str | Path,
    settings: ShardSettings,
) -> Path:
    """Write a store from the records of one organism and fold split; returns its `store.json`.

    folder: `.../{FOLD_SPLIT}/{ORGANISM}`, with `{SUBSET}/{BUNDLE}/data_*.tfrecord` below; all subsets are
    read, since folds are a matter of intervals. tracks: the track table (`tracks`), whose rows of an output
    type are the channels of its bundle, in order. FileError for damaged records, for another genome or number
    of channels, and where two records differ about a base.
    """
    genome, table = Genome.open(genome_folder), read_table(tracks, "tracks")
    output_dir, parts = Path(output_dir), {}
    with sole_writer(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "store.json").unlink(missing_ok=True)
        for output in TRACK_OUTPUTS:
            files = sorted(Path(folder).glob(f"*/{str(output).upper()}/data_*.tfrecord"))
            channels = table.filter(pl.col("output_type") == str(output)).height
            if files and channels:
                parts[output] = _import_part(output, files, channels, genome, output_dir, settings)
            elif files:
                LOGGER.warning(
                    "%s: %d files, the track table has no such track; left out", output, len(files)
                )
        if not parts:
            raise FileError(
                f"{folder}: no */BUNDLE/data_*.tfrecord of a track of {tracks}; wanted that of an organism"
            )
        kept = table.filter(pl.col("output_type").is_in([str(output) for output in parts]))
        inputs = {str(output): part["key"] for output, part in parts.items()}
        return write_store(output_dir, kept, genome, settings, parts, inputs, splicing=False)


def _import_part(
    output: OutputType,
    files: Sequence[Path],
    channels: int,
    genome: Genome,
    folder: Path,
    settings: ShardSettings,
) -> dict[str, Any]:
    """Write the part of one output type from the files of its bundle, or keep it; returns its description."""
    form = ChunkFormat(channels, settings.chunk, settings.dtype)
    told = [[p.parent.parent.name, p.name, p.stat().st_size] for p in files]
    made_from = settings.model_dump(mode="json", include={"dtype", "chunk", "level"})
    key = hash_json(
        [FORMAT_VERSIONS[STORE], "tfrecords", told, list(genome.lengths.items()), channels, made_from]
    )
    stem = folder / str(output)
    if (kept := whole_part(stem, RUNS, key)) is not None:
        LOGGER.info("%s: nothing that it is made from has changed; kept", output)
        return kept
    stem.with_suffix(".json").unlink(missing_ok=True)
    spool_path = folder / f".spool-{output}"
    with spool_path.open("w+b") as handle:
        spool = _Spool(handle, form, settings.level, exact=1 in OUTPUTS[output].resolutions)
        with progress(len(files), f"import {output}", "files") as done:
            for path in files:
                _spool_file(path, output, genome, spool)
                done.advance()
        writer = BlockWriter(stem, RUNS, key)
        empty = len([None for chrom, n in genome.lengths.items() for s in range(0, n, form.chunk)
                     if (chrom, s) not in spool.places])  # fmt: skip
        LOGGER.info("%s: %d chunks are in no record; their signal is missing", output, empty)
        todo = spool.in_order(genome)
        for _ in range(writer.done):
            next(todo)
        for block in todo:
            writer.add([block])
        writer.finish()
    spool_path.unlink()
    part = {"output_type": str(output), "channels": channels, "key": key}
    stamp = Stamp(PART, settings.hash(), {"key": key}, format_version=FORMAT_VERSIONS[PART])
    write_json(part, stem.with_suffix(".json"), stamp)
    return part


@dataclass
class _Spool:
    """Blocks by chunk in the order in which they came, with the bases of each that are known."""

    handle: IO[bytes]
    form: ChunkFormat
    level: int
    exact: bool  # every record says the same of a base
    places: dict[tuple[str, int], tuple[int, int, int, int]] = field(default_factory=dict)

    def add(self, chrom: str, start: int, size: int, low: int, bits: np.ndarray, where: str) -> None:
        """Add bits [n, P] of bases low.. of a chunk of `size` bases; FileError if those known differ."""
        high, key = low + len(bits), (chrom, start)
        known_low, known_high = low, high
        merged = bits
        if key in self.places:
            offset, length, known_low, known_high = self.places[key]
            self.handle.seek(offset)
            before = self._dense(self.handle.read(length), size)
            a, b = max(low, known_low), min(high, known_high)
            if a < b and self.exact:
                self._check(before[a:b], bits[a - low : b - low], f"{where}, {chrom}:{start + a}")
            if known_low <= low and high <= known_high:
                return
            if a > b:  # apart: the wider one stays
                if high - low <= known_high - known_low:
                    return
                known_low, known_high = low, high
            else:
                merged = np.concatenate([bits[: max(a - low, 0)], before[known_low:known_high],
                                         bits[max(known_high - low, 0) :]])  # fmt: skip
                known_low, known_high = min(low, known_low), max(high, known_high)
        missing = np.full(
            (size, self.form.channels), pack(np.float32([np.nan]), self.form.dtype)[0], bits.dtype
        )
        missing[known_low:known_high] = merged
        data = self._encode(missing)
        offset = self.handle.seek(0, 2)
        self.handle.write(data)
        self.places[key] = offset, len(data), known_low, known_high

    @staticmethod
    def _check(before: np.ndarray, now: np.ndarray, where: str) -> None:
        if not np.array_equal(before, now):
            base, channel = (int(n) for n in np.argwhere(before != now)[0])
            raise FileError(
                f"{where}+{base}, channel {channel}: differs from what another record says of this base; the "
                "files are not of one release"
            )

    def _dense(self, data: bytes, size: int) -> np.ndarray:
        """Bits [size, P] of a block."""
        _, lengths, bits = decode_chunk(data, self.form)
        return np.repeat(bits, lengths).reshape(self.form.channels, size).T

    def _encode(self, bits: np.ndarray) -> bytes:
        runs = []
        for column in np.ascontiguousarray(bits.T):
            starts = np.concatenate([[0], np.flatnonzero(column[1:] != column[:-1]) + 1])
            runs.append((np.diff(starts, append=len(column)), column[starts]))
        return encode_chunk(runs, self.form, zstandard.ZstdCompressor(level=self.level, write_checksum=True))

    def in_order(self, genome: Genome) -> Iterator[bytes]:
        """Blocks of all chunks of the genome; those of no record are missing throughout."""
        nothing = pack(np.float32([np.nan]), self.form.dtype)
        for chrom, length in genome.lengths.items():
            for start in range(0, length, self.form.chunk):
                if (chrom, start) in self.places:
                    offset, size, _, _ = self.places[chrom, start]
                    self.handle.seek(offset)
                    yield self.handle.read(size)
                else:
                    bases = np.array([min(self.form.chunk, length - start)])
                    runs = [(bases, nothing)] * self.form.channels
                    compressor = zstandard.ZstdCompressor(level=self.level, write_checksum=True)
                    yield encode_chunk(runs, self.form, compressor)


def _spool_file(path: Path, output: OutputType, genome: Genome, spool: _Spool) -> None:
    """Add all records of a file."""
    for number, example in read_examples(path):
        where = f"{path}: record {number}"
        chrom, start, end = _interval(example, genome, where)
        _check_sequence(example, genome, chrom, start, where)
        values = _signal(example, output, spool.form.channels, where)
        start += (end - start - len(values)) // 2  # targets are the middle of the sequence
        low, high = max(start, 0), min(start + len(values), genome.lengths[chrom])
        values = values[low - start : high - start]
        for first in range(low // spool.form.chunk * spool.form.chunk, high, spool.form.chunk):
            size = min(spool.form.chunk, genome.lengths[chrom] - first)
            a, b = max(first, low), min(first + size, high)
            bits = pack(values[a - low : b - low], spool.form.dtype)
            spool.add(chrom, first, size, a - first, bits, where)


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


def _signal(example: Example, output: OutputType, channels: int, where: str) -> np.ndarray:
    """float32 [S, P] per base of a record, NaN where its mask says that nothing was measured."""
    name = str(output)
    if name not in example:
        raise FileError(f"{where}: has no {name}; its features are {sorted(example)}")
    values = np.array(example[name], np.float32)
    if values.ndim != 2 or values.shape[1] != channels:
        raise FileError(
            f"{where}: {name} has shape {values.shape}; the track table has {channels} such tracks"
        )
    if (mask := example.get(f"{name}_mask")) is not None:
        values[~np.broadcast_to(mask, values.shape)] = np.nan
    if 1 in OUTPUTS[output].resolutions:
        return values
    return np.repeat(values / np.float32(TOKEN), TOKEN, axis=0)  # sums of 128 bases, exactly divided
