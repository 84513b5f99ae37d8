"""The store's signal as dense Zarr arrays, for tools that read nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from megabase.files import FileError, hash_path, sole_writer
from megabase.logs import progress
from megabase.shards.reader import ShardStore
from megabase.shards.runs import densify
from megabase.spec import OutputType

CHUNK_BASES, CHUNK_CHANNELS = 16_384, 64  # a chunk: 4 MB of float32
FILE_VALUES = 1 << 27  # values of a file (a Zarr shard) at most: 512 MB, which are in memory at a time
DONE = "megabase_done"  # attribute: bases that are written


def export_zarr(folder: str | Path, output: str | Path) -> Path:
    """Write `{output_type}/{chromosome}` [bases, channels] float32 of a store into a Zarr 3 group.

    NaN = missing. The root's attributes are the organism and the store's hash, a group's `tracks` the rows of
    the track table. A run that was killed goes on; one of another store is refused. A chromosome is never
    in memory whole. FileError without the optional package zarr.
    """
    store = ShardStore.open(folder)
    output = Path(output)
    zarr = _package(output)
    made_from = hash_path(store.folder / "store.json")
    with sole_writer(output):
        root = zarr.open_group(str(output), mode="a")
        if root.attrs.get("store", made_from) != made_from:
            raise FileError(f"{output}: was exported from another store; remove it, or give another folder")
        root.attrs.update({"store": made_from, "organism": store.organism, "format": "megabase signal 1"})
        total = sum(store.lengths.values()) * len(store.signal_outputs)
        with progress(total, "export", "bases") as done:
            for output_type in store.signal_outputs:
                group = root.require_group(str(output_type))
                rows = json.loads(store.channels(output_type).write_json())
                group.attrs["tracks"] = rows
                for chrom in store.lengths:
                    _export_chromosome(group, store, output_type, chrom, done)
    return output


def _package(path: Path) -> Any:
    try:
        import zarr
    except ImportError:
        raise FileError(f"{path}: zarr is not installed; run `pip install 'megabase[zarr]'`") from None
    return zarr


def _export_chromosome(group: Any, store: ShardStore, output: OutputType, chrom: str, done: Any) -> None:
    """Write one array, file by file, from where an earlier run stopped."""
    length, width = store.lengths[chrom], store.form(output).channels
    span = CHUNK_BASES * max(1, FILE_VALUES // (width * CHUNK_BASES))
    channels = min(CHUNK_CHANNELS, width)
    if chrom not in group:
        group.create_array(
            chrom, shape=(length, width), dtype="float32", fill_value=np.nan, chunks=(CHUNK_BASES, channels),
            shards=(span, -(-width // channels) * channels), dimension_names=(f"{chrom}_base", "channel"),
            attributes={DONE: 0},
        )  # fmt: skip
    array = group[chrom]
    first = array.attrs[DONE]
    done.advance(first)
    for start in range(first, length, span):
        end = min(start + span, length)
        array[start:end] = densify(store.runs(output, chrom, start, end), end - start).numpy()
        array.attrs[DONE] = end
        done.advance(end - start)
