"""The Parquet dataset of scores: how a part is written, which parts hold a place or gene, and reading them.

A scorer's folder has one part a chunk, rows in genome order. Row groups are small and carry the least and
largest position, so a reader skips what it does not need; `parts.parquet` tells which positions a part holds,
`genes.parquet` where the variants of a gene lie, so a query opens few files. Choices, measured in
docs/benchmarks.md: raw scores stay float32 (effects of rare weight are small: half precision loses them below
6e-5); zstd at level 1; numbers are split into byte streams, identifiers kept as differences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from megabase.files import FileError, Stamp, atomic_path, check_stamp
from megabase.scoring.keys import JUNCTION_KEYS, SPREAD
from megabase.spec import file_name

if TYPE_CHECKING:
    import pyarrow.parquet as pq

CHUNK, SCORES = "chunk", "scores"  # kinds of files
GROUP_VALUES = 1 << 20  # raw scores of a row group: 4 MB
GROUP_ROWS = 1 << 13  # at most; what a query of one variant reads of a scorer with few tracks
BLOCK_VALUES = 1 << 22  # raw scores in memory at a time while scores are merged: 16 MB
_TEXTS = ("chrom", "ref", "alt", "gene_id", "gene_name", "strand")
_NUMBERS = ("raw", "quantile", SPREAD)


def group_rows(width: int) -> int:
    """Rows of a row group of a scorer of so many tracks."""
    return max(1, min(GROUP_ROWS, GROUP_VALUES // max(width, 1)))


def block_rows(width: int) -> int:
    """Rows read at a time: whole row groups."""
    rows = group_rows(width)
    return rows * max(1, min(1 << 17, BLOCK_VALUES // max(width, 1)) // rows)


class PartWriter:
    """Appends blocks of rows to one Parquet file; the schema is that of the first block.

    Rows wait until a row group is full, so the bytes do not depend on how the rows are cut in blocks.
    """

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self._path, self._stamp = path, stamp
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pl.DataFrame] = []

    def write(self, table: pl.DataFrame) -> None:
        """Append rows; `raw` is a fixed-size list."""
        self._held.append(table)
        group = group_rows(table.schema["raw"].size)
        if (rows := sum(block.height for block in self._held)) >= group:
            whole = rows // group * group
            together = pl.concat(self._held)
            self._append(together[:whole])
            self._held = [together[whole:]]

    def _append(self, table: pl.DataFrame) -> None:
        found = table.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = self._open(found.schema)
        self._writer.write_table(found, row_group_size=group_rows(table.schema["raw"].size))

    def _open(self, schema: object) -> pq.ParquetWriter:
        import pyarrow.parquet as pq

        names = schema.names
        encodings = {"variant_id": "DELTA_BYTE_ARRAY", "position": "DELTA_BINARY_PACKED"}
        encodings |= {name: "DELTA_BINARY_PACKED" for name in JUNCTION_KEYS}
        encodings = {name: kind for name, kind in encodings.items() if name in names}
        encodings |= {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in _NUMBERS if name in names}
        metadata = {"megabase": json.dumps(self._stamp.as_dict())}
        return pq.ParquetWriter(
            self._path, schema.with_metadata(metadata), compression="zstd", compression_level=1,
            use_dictionary=[name for name in _TEXTS if name in names], column_encoding=encodings,
        )  # fmt: skip

    def close(self) -> None:
        """Write the rows that wait, and end the file."""
        if self._held and (self._writer is None or any(block.height for block in self._held)):
            self._append(pl.concat(self._held))
        if self._writer is not None:
            self._writer.close()


@contextmanager
def write_part(path: Path, stamp: Stamp) -> Iterator[PartWriter]:
    """A writer of a new part, renamed into place when the block ends; it must be given a block, if empty."""
    with atomic_path(path) as temporary:
        writer = PartWriter(temporary, stamp)
        try:
            yield writer
        finally:
            writer.close()


def read_blocks(path: Path, kind: str) -> Iterator[pl.DataFrame]:
    """Rows of a scorer's Parquet file, a block at a time (at least one, if empty).

    FileError if the file is not of `kind`.
    """
    import pyarrow.parquet as pq

    found = pl.read_parquet_metadata(path).get("megabase")
    check_stamp(json.loads(found) if found else None, kind, path)
    schema = pl.read_parquet_schema(path)
    with pq.ParquetFile(path, pre_buffer=False) as file:
        empty = True
        for batch in file.iter_batches(block_rows(schema["raw"].size), use_threads=False):
            empty = False
            yield pl.from_arrow(batch)
    if empty:
        yield pl.DataFrame(schema=schema)


def split_blocks(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows of a table in memory, a block at a time (at least one, if empty)."""
    rows = block_rows(table.schema["raw"].size)
    for start in range(0, max(table.height, 1), rows):
        yield table[start : start + rows]


def part_name(number: int) -> str:
    """File of the part made from one chunk."""
    return f"part-{number:05d}.parquet"


def scorer_parts(scores_dir: str | Path, scorer: str) -> list[Path]:
    """Parts of a scorer in order; FileError if the scores lack it."""
    folder = Path(scores_dir) / file_name(scorer)
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        have = ", ".join(sorted(p.name for p in Path(scores_dir).glob("*") if p.is_dir()))
        raise FileError(f"{folder}: no scores of {scorer}; these are there: {have or 'none'}")
    return parts
