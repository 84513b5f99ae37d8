"""Read windows from the training store of an organism."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import zstandard

from megabase.files import FileError, read_json, read_table
from megabase.shards.bands import ROWS, Band, decode_rows, rebin, square
from megabase.shards.blocks import Blocks
from megabase.shards.encoding import ChunkFormat, OpenChunk, open_chunk
from megabase.shards.packed import PackedSignal, Piece
from megabase.shards.runs import Runs
from megabase.shards.sites import SpliceTables, Splicing
from megabase.spec import PAIR, OutputType
from megabase.tracks.table import base_name


class ShardStore:
    """The store of one organism. Any window is read from the few chunks that it touches.

    Windows may reach beyond a chromosome's ends; what is outside is missing. An object may be pickled (it
    opens its files again) and read from several threads.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.name == "store.json":
            self.folder = self.folder.parent
        path = self.folder / "store.json"
        if not path.exists():
            raise FileError(f"{path}: not found; wanted a folder written by `megabase write-shards`")
        store = read_json(path, "shards")
        self.organism: str = store["organism"]
        self.lengths: dict[str, int] = store["lengths"]
        self.tracks: pl.DataFrame = read_table(self.folder / "tracks.parquet", "tracks")
        self.has_splicing: bool = store["splicing"]
        self.chunk: int = store["chunk"]
        self._forms = {
            OutputType(o): ChunkFormat(n, store["chunk"], store["dtype"]) for o, n in store["signal"].items()
        }
        self._signal = {o: Blocks(self.folder / str(o), "runs") for o in self._forms}
        self.bands = [Band(b["bin_size"], b["width"], store["dtype"]) for b in store["contacts"]]
        self._first_chunk = _first_blocks(self.lengths, self.chunk)

    @classmethod
    def open(cls, folder: str | Path) -> ShardStore:
        """Open a folder written by `write_shards`; FileError if it is none or damaged."""
        return cls(folder)

    def __reduce__(self) -> tuple[type[ShardStore], tuple[Path]]:
        return ShardStore, (self.folder,)

    @property
    def signal_outputs(self) -> list[OutputType]:
        """Output types whose signal is stored as runs."""
        return list(self._forms)

    def form(self, output_type: OutputType) -> ChunkFormat:
        """Format of the blocks of a track output type."""
        return self._forms[output_type]

    def blocks(self, output_type: OutputType) -> Blocks:
        """Blocks of an output type: chunks of the genome in order, or rows of contact maps."""
        return self._contact_blocks if output_type is OutputType.CONTACT_MAPS else self._signal[output_type]

    def channels(self, output_type: OutputType) -> pl.DataFrame:
        """Rows of the track table of one output type, in channel order."""
        return self.tracks.filter(pl.col("output_type") == str(output_type))

    def packed(self, output_type: OutputType, chrom: str, start: int, end: int) -> PackedSignal:
        """Signal of bases start..end (0-based half-open) of a track output type, its blocks only opened.

        FileError if a block is damaged.
        """
        output_type = OutputType(output_type)
        if output_type not in self._forms:
            raise ValueError(
                f"{self.folder}: no {output_type} signal; it has {[str(o) for o in self._forms]}"
            )
        length, form = self._length(chrom), self._forms[output_type]
        if end <= start:
            raise ValueError(f"window {chrom}:{start}-{end} is empty")
        pieces, (low, high) = [], (max(start, 0), min(end, length))
        for number in range(low // self.chunk, -(-high // self.chunk)) if low < high else ():
            origin = number * self.chunk
            first, last = max(low, origin), min(high, origin + self.chunk)
            chunk = self._open(output_type, self._first_chunk[chrom] + number)
            size = min(self.chunk, length - origin)
            pieces.append(Piece(first - start, chunk, size, first - origin, last - origin))
        return PackedSignal(form, end - start, pieces)

    def runs(self, output_type: OutputType, chrom: str, start: int, end: int) -> Runs:
        """As `packed`, as runs: every channel's of each stretch of equal values."""
        packed = self.packed(output_type, chrom, start, end)
        try:
            return packed.runs()
        except ValueError as error:
            raise FileError(
                f"{self._signal[OutputType(output_type)].path}: a block of {chrom}:{start}-{end} is damaged: "
                f"{error}; write the store again"
            ) from error

    def _open(self, output_type: OutputType, number: int) -> OpenChunk:
        blocks = self._signal[output_type]
        try:
            return open_chunk(blocks.read(number), self._forms[output_type])
        except ValueError as error:
            raise FileError(
                f"{blocks.path}: block {number} is damaged: {error}; write the store again"
            ) from error

    def contacts(self, chrom: str, start: int, length: int) -> np.ndarray:
        """log(observed / expected) float32 [Q, Q, P] of the 2,048-bp bins of a window; NaN = missing.

        Source bins are averaged by the area that they share with the window's own bins; area that is missing
        is left out of the mean. ValueError unless `length` is a multiple of 2,048.
        """
        if length <= 0 or length % PAIR:
            raise ValueError(f"window of {length} bases; contact maps want a multiple of {PAIR}")
        bins, end = length // PAIR, self._length(chrom)
        maps = np.full((bins, bins, len(self.bands)), np.nan, np.float32)
        if start < end and start + length > 0:
            for channel, band in enumerate(self.bands):
                low = max(start, 0) // band.bin_size
                high = -(-min(start + length, end) // band.bin_size)
                values = square(self._band_rows(channel, chrom, low, high))
                first = low * band.bin_size
                maps[:, :, channel] = rebin(values, first, band.bin_size, end, start, bins)
        return maps

    def splicing(self, chrom: str, start: int, length: int, max_sites: int) -> Splicing:
        """Splice sites, usage and junctions of bases start..start+length; see `Splicing`."""
        return self._splice_tables.window(chrom, self._splice_length(chrom), start, length, max_sites)

    def _length(self, chrom: str) -> int:
        if chrom not in self.lengths:
            raise ValueError(f"{self.folder}: no chromosome {chrom!r}; it has {list(self.lengths)[:3]}...")
        return self.lengths[chrom]

    def _splice_length(self, chrom: str) -> int:
        """Chromosome length, or 0 where nothing is known of splicing at all."""
        length = self._length(chrom)
        return length if self.has_splicing else 0

    @cached_property
    def _contact_blocks(self) -> Blocks:
        return Blocks(self.folder / str(OutputType.CONTACT_MAPS), "bands")

    @cached_property
    def _first_band_block(self) -> list[dict[str, int]]:
        """By channel, the number of each chromosome's first block."""
        offset, first = 0, []
        for band in self.bands:
            here = _first_blocks(self.lengths, ROWS * band.bin_size)
            first.append({chrom: number + offset for chrom, number in here.items()})
            offset += sum(-(-length // (ROWS * band.bin_size)) for length in self.lengths.values())
        return first

    def _band_rows(self, channel: int, chrom: str, low: int, high: int) -> np.ndarray:
        """float32 [high - low, width] of bins low..high of a chromosome."""
        band = self.bands[channel]
        n_bins = -(-self.lengths[chrom] // band.bin_size)
        parts = []
        for block in range(low // ROWS, -(-high // ROWS)):
            rows = min((block + 1) * ROWS, n_bins) - block * ROWS
            data = self._contact_blocks.read(self._first_band_block[channel][chrom] + block)
            try:
                parts.append(decode_rows(data, band, rows))
            except (ValueError, zstandard.ZstdError) as error:
                raise FileError(
                    f"{self._contact_blocks.path}: block {self._first_band_block[channel][chrom] + block} is "
                    f"damaged: {error}; write the store again"
                ) from error
        first = low // ROWS * ROWS
        return np.concatenate(parts)[low - first : high - first]

    @cached_property
    def _splice_tables(self) -> SpliceTables:
        schemas = {
            "sites": {"chrom": pl.String, "position": pl.Int64, "strand": pl.String, "kind": pl.String},
            "usage": {"chrom": pl.String, "position": pl.Int64, "strand": pl.String, "biosample": pl.String,
                      "usage": pl.Float64},
            "junctions": {"chrom": pl.String, "donor": pl.Int64, "acceptor": pl.Int64, "strand": pl.String,
                          "biosample": pl.String, "count": pl.Float64},
        }  # fmt: skip
        tables = [
            read_table(self.folder / f"{kind}.parquet", kind)
            if self.has_splicing
            else pl.DataFrame(schema=schema)
            for kind, schema in schemas.items()
        ]
        numbers = [
            self._channel_numbers(o) for o in (OutputType.SPLICE_SITE_USAGE, OutputType.SPLICE_JUNCTIONS)
        ]
        return SpliceTables(*tables, *numbers)

    def _channel_numbers(self, output_type: OutputType) -> dict[tuple[str, str], int]:
        """`{(biosample, strand): channel}` of the usage or junction tracks."""
        rows = self.channels(output_type).iter_rows(named=True)
        return {(base_name(row), row["strand"]): number for number, row in enumerate(rows)}


def _first_blocks(lengths: dict[str, int], size: int) -> dict[str, int]:
    """Number of the first block of each chromosome, blocks of `size` bases in order."""
    first, total = {}, 0
    for chrom, length in lengths.items():
        first[chrom] = total
        total += -(-length // size)
    return first
