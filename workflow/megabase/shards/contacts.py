"""Write the bands of contact maps into the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cooler
import numpy as np
import zstandard

from megabase.files import FileError
from megabase.settings.data import ShardSettings
from megabase.shards.bands import ROWS, Band, encode_rows

_PIXELS = 1 << 22  # read at a time


def open_maps(
    paths: Sequence[Path], lengths: Mapping[str, int], dtype: str
) -> list[tuple[cooler.Cooler, Band]]:
    """Every map with the format of its band; FileError if one is of another genome."""
    maps = [cooler.Cooler(str(path)) for path in paths]
    for path, matrix in zip(paths, maps, strict=True):
        if any(lengths.get(name) != int(n) for name, n in matrix.chromsizes.items()):
            raise FileError(f"{path}: chromosomes differ from the genome's; normalize the map again")
    return [(matrix, Band(int(matrix.binsize), _band_width(matrix), dtype)) for matrix in maps]


def band_blocks(
    maps: Sequence[tuple[cooler.Cooler, Band]], lengths: Mapping[str, int], settings: ShardSettings
) -> Iterator[bytes]:
    """Compressed rows of every map, map after map, chromosome by chromosome of the genome."""
    for matrix, band in maps:
        yield from _map_blocks(matrix, band, lengths, settings)


def _band_width(matrix: cooler.Cooler) -> int:
    """1 + largest distance in bins of a pixel."""
    widest = 0
    for low, high in _spans(int(matrix.info["nnz"]), _PIXELS):
        pixels = matrix.pixels()[low:high]
        widest = max(widest, int((pixels["bin2_id"] - pixels["bin1_id"]).max()))
    return widest + 1


def _spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    for low in range(0, length, step):
        yield low, min(low + step, length)


def _map_blocks(
    matrix: cooler.Cooler, band: Band, lengths: Mapping[str, int], settings: ShardSettings
) -> Iterator[bytes]:
    """Compressed rows of one map; empty where it has no bins."""
    compressor = zstandard.ZstdCompressor(level=settings.level, write_checksum=True)
    with matrix.open("r") as handle:
        edges = handle["indexes/bin1_offset"][:]
    for chrom, length in lengths.items():
        offset = matrix.offset(chrom) if chrom in matrix.chromnames else None
        for low, high in _spans(-(-length // band.bin_size), ROWS):
            rows = np.full((high - low, band.width), np.nan, np.float32)
            if offset is not None:
                pixels = matrix.pixels()[int(edges[offset + low]) : int(edges[offset + high])]
                first = pixels["bin1_id"].to_numpy() - offset - low
                distance = (pixels["bin2_id"] - pixels["bin1_id"]).to_numpy()
                rows[first, distance] = pixels["value"].to_numpy()
            yield encode_rows(rows, band, compressor)
