"""Contact maps of the published training records as a part of a store: one band of 2,048-bp bins a map.

A record bins the map from its own first base on; the store has bins from the chromosome's first base on, each
pixel the mean, by shared area, of those of the first record that covers both of its bins. At a window's own
offset the map comes back smoothed by at most one bin (docs/shards.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from megabase.files import FORMAT_VERSIONS, FileError, Stamp, hash_json, write_json
from megabase.genome import Genome
from megabase.logs import LOGGER
from megabase.settings.data import ShardSettings
from megabase.shards.bands import ROWS, Band, encode_rows
from megabase.shards.blocks import BlockWriter
from megabase.shards.encoding import PACKED, pack, unpack
from megabase.shards.records import Record, hash_files, read_records
from megabase.shards.writer import BANDS, PART, STORE, whole_part
from megabase.spec import PAIR, OutputType

NAME = str(OutputType.CONTACT_MAPS)


def import_contacts(
    files: Sequence[Path], channels: int, genome: Genome, folder: Path, settings: ShardSettings
) -> dict[str, Any]:
    """Write the part of contact maps, or keep it; returns its description.

    channels: maps in the track table. FileError for records that have another number, or windows of several
    lengths. A scratch file of all maps stands in `folder` meanwhile (docs/shards.md gives its size).
    """
    form = settings.model_dump(mode="json", include={"dtype", "level"})
    key = hash_json(
        [FORMAT_VERSIONS[STORE], "tfrecords", hash_files(files), list(genome.lengths.items()), channels, form]
    )
    stem = folder / NAME
    if (kept := whole_part(stem, BANDS, key)) is not None:
        LOGGER.info("%s: nothing that it is made from has changed; kept", NAME)
        return kept
    stem.with_suffix(".json").unlink(missing_ok=True)
    scratch = folder / f".spool-{NAME}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    bins, grid = 0, None
    for record in read_records(files, genome, NAME):
        maps = _maps(record, channels)
        if grid is None:
            bins, grid = len(maps), _Grid(scratch, channels, len(maps), genome, settings.dtype)
        if len(maps) != bins:
            raise FileError(f"{record.where}: a window of {len(maps)} bins, earlier ones have {bins}")
        grid.add(record.chrom, record.start, maps)
    if grid is None:
        raise FileError(f"{files[0]}: no record in any file of {NAME}; fetch the files again")
    writer = BlockWriter(stem, BANDS, key)
    for number, block in enumerate(grid.blocks(settings.level)):
        if number >= writer.done:
            writer.add([block])
    writer.finish()
    shutil.rmtree(scratch)
    band = {"bin_size": PAIR, "width": bins}
    part = {"output_type": NAME, "channels": channels, "key": key, "bands": [band] * channels}
    stamp = Stamp(PART, settings.hash(), {"key": key}, format_version=FORMAT_VERSIONS[PART])
    write_json(part, stem.with_suffix(".json"), stamp)
    return part


def _maps(record: Record, channels: int) -> np.ndarray:
    """float32 [Q, Q, channels] of a record; NaN = missing. What follows the last channel is padding."""
    maps = record.feature(NAME, None, None, None).astype(np.float32)
    mask = record.example.get(f"{NAME}_mask")
    if mask is not None:
        maps[~np.broadcast_to(mask, maps.shape)] = np.nan
    if maps.shape[2] < channels or np.nan_to_num(maps[:, :, channels:]).any():
        raise FileError(
            f"{record.where}: {NAME} has shape {maps.shape}; the track table has {channels} such maps"
        )
    if maps.shape[:2] != ((record.end - record.start) // PAIR,) * 2:
        raise FileError(
            f"{record.where}: {NAME} has shape {maps.shape}; wanted a square of bins of {PAIR} bases of "
            f"{record.end - record.start}"
        )
    return maps[:, :, :channels]


def grid_means(maps: np.ndarray, start: int, low: int, high: int) -> np.ndarray:
    """Means by area float32 [n, n, P] in bins low..high of 2,048 bases from base 0 on, n = high - low.

    maps: float32 [Q, Q, P] of bins that begin at base `start`; NaN = missing, left out of the mean.
    """
    index, shift = divmod(low * PAIR - start, PAIR)
    weight = np.float32(shift / PAIR)
    n, known = high - low, ~np.isnan(maps)
    total, area = np.where(known, maps, np.float32(0)), known.astype(np.float32)
    for _ in range(2):  # over the first axis, then over what was the second
        total, area = (_mixed(x, index, n, weight).swapaxes(0, 1) for x in (total, area))
    return np.divide(total, area, out=np.full_like(total, np.nan), where=area > 0)


def _mixed(values: np.ndarray, index: int, n: int, weight: np.float32) -> np.ndarray:
    """Rows index..index+n, each with its share of the row that follows."""
    mixed = values[index : index + n] * (1 - weight)
    if weight:
        mixed += values[index + 1 : index + 1 + n] * weight
    return mixed


class _Grid:
    """Bands of all maps in scratch files; what no record covered is missing.

    A sparse file reads as zeros, so bits stand there with those of NaN flipped: zero is missing.
    """

    def __init__(self, folder: Path, channels: int, width: int, genome: Genome, dtype: str) -> None:
        self.lengths, self.width, self.dtype = genome.lengths, width, dtype
        self._missing = pack(np.float32([np.nan]), dtype)[0]
        self._bits = {
            chrom: np.memmap(
                folder / f"{number}", PACKED[dtype], "w+", shape=(channels, -(-length // PAIR), width)
            )
            for number, (chrom, length) in enumerate(genome.lengths.items())
        }

    def add(self, chrom: str, start: int, maps: np.ndarray) -> None:
        """Fill the missing pixels of the bins that lie wholly within a record's window."""
        length = self.lengths[chrom]
        end = start + len(maps) * PAIR
        low, high = -(-max(start, 0) // PAIR), min(end, length) // PAIR
        if end >= length + PAIR - length % PAIR:  # the last bin, which the chromosome cuts
            high = -(-length // PAIR)
        n = high - low
        if n <= 0:
            return
        means = grid_means(maps, start, low, high)
        rows, distance = np.arange(n)[:, None], np.arange(n)[None, :]
        inside = rows + distance < n
        band = means[rows, np.minimum(rows + distance, n - 1)].transpose(2, 0, 1)  # [P, n, n]
        found = pack(np.where(inside, band, np.float32(np.nan)).ravel(), self.dtype).reshape(band.shape)
        here = self._bits[chrom][:, low:high, :n]
        np.copyto(here, found ^ self._missing, where=here == 0)

    def blocks(self, level: int) -> Iterator[bytes]:
        """Compressed rows, map after map, chromosome by chromosome of the genome."""
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        band = Band(PAIR, self.width, self.dtype)
        for channel in range(len(next(iter(self._bits.values())))):
            for bits in self._bits.values():
                for row in range(0, bits.shape[1], ROWS):
                    rows = bits[channel, row : row + ROWS] ^ self._missing
                    values = unpack(rows.ravel(), self.dtype).reshape(rows.shape)
                    yield encode_rows(values, band, compressor)
