"""Signal of the published training records as a part of a store: every base once.

A base is taken from the first record that covers it; what later ones say of it must be the same, except of
ChIP, whose bins of 128 bases begin elsewhere in every window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard

from megabase.files import FORMAT_VERSIONS, FileError, Stamp, hash_json, write_json
from megabase.genome import Genome
from megabase.logs import LOGGER
from megabase.settings.data import ShardSettings
from megabase.shards.blocks import BlockWriter
from megabase.shards.encoding import ChunkFormat, decode_chunk, encode_chunk, pack
from megabase.shards.records import Record, hash_files, read_records
from megabase.shards.writer import PART, RUNS, STORE, whole_part
from megabase.spec import OUTPUTS, TOKEN, OutputType


def import_signal(
    output: OutputType,
    files: Sequence[Path],
    channels: int,
    genome: Genome,
    folder: Path,
    settings: ShardSettings,
) -> dict[str, Any]:
    """Write the part of one output type from the files of its bundle, or keep it; returns its description.

    channels: tracks of this type in the track table; a record may have more, masked or zero throughout.
    FileError for records of another number of channels, and where two differ about a base.
    """
    form = ChunkFormat(channels, settings.chunk, settings.dtype)
    made_from = settings.model_dump(mode="json", include={"dtype", "chunk", "level"})
    told, lengths = hash_files(files), list(genome.lengths.items())
    key = hash_json([FORMAT_VERSIONS[STORE], "tfrecords", told, lengths, channels, made_from])
    stem = folder / str(output)
    if (kept := whole_part(stem, RUNS, key)) is not None:
        LOGGER.info("%s: nothing that it is made from has changed; kept", output)
        return kept
    stem.with_suffix(".json").unlink(missing_ok=True)
    spool_path = folder / f".spool-{output}"
    with spool_path.open("w+b") as handle:
        spool = _Spool(handle, form, settings.level, exact=1 in OUTPUTS[output].resolutions)
        for record in read_records(files, genome, str(output)):
            _spool_record(record, output, genome, spool)
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


def _spool_record(record: Record, output: OutputType, genome: Genome, spool: _Spool) -> None:
    """Add the chunks that a record touches."""
    values = _signal(record, output, spool.form.channels)
    start = record.first_of(len(values))
    low, high = max(start, 0), min(start + len(values), genome.lengths[record.chrom])
    values = values[low - start : high - start]
    for first in range(low // spool.form.chunk * spool.form.chunk, high, spool.form.chunk):
        size = min(spool.form.chunk, genome.lengths[record.chrom] - first)
        a, b = max(first, low), min(first + size, high)
        bits = pack(values[a - low : b - low], spool.form.dtype)
        spool.add(record.chrom, first, size, a - first, bits, record.where)


def _signal(record: Record, output: OutputType, channels: int) -> np.ndarray:
    """float32 [S, P] per base of a record, NaN where its mask says that nothing was measured."""
    name = str(output)
    values = np.array(record.feature(name, None, None), np.float32)
    mask = record.example.get(f"{name}_mask")
    known = np.broadcast_to(True if mask is None else mask, values.shape)
    padding = np.where(known, values, np.float32(0))[:, channels:]
    if values.shape[1] < channels or padding.any():
        raise FileError(
            f"{record.where}: {name} has shape {values.shape}; the track table has {channels} such tracks"
        )
    values[~known] = np.nan
    values = values[:, :channels]  # what follows is padding
    if 1 in OUTPUTS[output].resolutions:
        return values
    return np.repeat(values / np.float32(TOKEN), TOKEN, axis=0)  # sums of 128 bases, exactly divided
