"""What a training store holds, in figures, and whether every block of it is whole.

A store is described from its small files alone; statistics of runs come from a sample of blocks spread over
the genome, and `verify` reads all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from megabase.files import FileError, check_stamp, read_json
from megabase.logs import progress
from megabase.shards.bands import ROWS, decode_rows
from megabase.shards.encoding import decode_chunk, unpack
from megabase.shards.reader import ShardStore
from megabase.spec import OutputType

SAMPLE = 32  # blocks of an output type that statistics are taken from
BFLOAT16 = 2  # bytes of a dense value that sizes are compared with


def inspect_shards(folder: str | Path, *, verify: bool = False) -> dict[str, Any]:
    """Description of a store, ready to print: its genome, and each output type's size and runs.

    verify: read every block; FileError names the first one that is damaged.
    """
    store = ShardStore.open(folder)
    bases = sum(store.lengths.values())
    info = read_json(store.folder / "store.json", "shards")
    stamp = check_stamp(info["megabase"], "shards", store.folder / "store.json")
    outputs = [_signal_row(store, output, bases) for output in store.signal_outputs]
    if store.bands:
        outputs.append(_contacts_row(store, bases))
    if verify:
        verify_blocks(store)
    files = [path for path in store.folder.iterdir() if path.is_file()]
    return {
        "folder": str(store.folder), "organism": store.organism, "genome": info["genome"],
        "chromosomes": len(store.lengths), "bases": bases, "chunk": info["chunk"], "dtype": info["dtype"],
        "chunks": sum(-(-n // info["chunk"]) for n in store.lengths.values()), "splicing": store.has_splicing,
        "bytes": sum(path.stat().st_size for path in files), "outputs": outputs,
        "format_version": stamp.format_version, "package_version": stamp.package_version,
        "config_hash": stamp.config_hash, "inputs": dict(stamp.inputs), "verified": verify,
    }  # fmt: skip


def _signal_row(store: ShardStore, output: OutputType, bases: int) -> dict[str, Any]:
    """Figures of one output type; those of runs are of the sample."""
    blocks, form = store.blocks(output), store.form(output)
    chosen = np.unique(np.linspace(0, len(blocks) - 1, SAMPLE).round().astype(int))
    runs = covered = missing = 0
    for number in chosen:
        _, lengths, bits = _decoded(store, output, int(number))
        runs += len(lengths)
        covered += int(lengths.sum())
        missing += int(lengths[np.isnan(unpack(bits, form.dtype))].sum())
    size = int(blocks.sizes.sum())
    part = read_json(store.folder / f"{output}.json", "shard_part")
    return {
        "output_type": str(output), "tracks": form.channels, "bytes": size,
        "bytes_per_base_and_track": size / (bases * form.channels),
        "times_smaller_than_bfloat16": BFLOAT16 * bases * form.channels / max(size, 1),
        "bases_per_run": covered / max(runs, 1), "missing": missing / max(covered, 1),
        "blocks": len(blocks), "sampled": len(chosen), "key": part["key"],
    }  # fmt: skip


def _contacts_row(store: ShardStore, bases: int) -> dict[str, Any]:
    """Figures of the contact maps, beside those of their dense bands."""
    blocks = store.blocks(OutputType.CONTACT_MAPS)
    dense = sum(BFLOAT16 * band.width * -(-bases // band.bin_size) for band in store.bands)
    size = int(blocks.sizes.sum())
    part = read_json(store.folder / f"{OutputType.CONTACT_MAPS}.json", "shard_part")
    return {
        "output_type": str(OutputType.CONTACT_MAPS), "tracks": len(store.bands), "bytes": size,
        "bytes_per_base_and_track": size / (bases * len(store.bands)),
        "times_smaller_than_bfloat16": dense / max(size, 1), "bases_per_run": None, "missing": None,
        "blocks": len(blocks), "sampled": 0, "key": part["key"],
    }  # fmt: skip


def _decoded(store: ShardStore, output: OutputType, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    blocks = store.blocks(output)
    try:
        return decode_chunk(blocks.read(number), store.form(output))
    except ValueError as error:
        raise FileError(
            f"{blocks.path}: block {number} is damaged: {error}; write the store again"
        ) from error


def verify_blocks(store: ShardStore) -> int:
    """Read and check every block of a store; returns their number. FileError names one that is damaged."""
    outputs = list(store.signal_outputs)
    total = sum(len(store.blocks(output)) for output in outputs)
    with progress(total, "verify", "blocks") as done:
        for output in outputs:
            wanted = list(_block_lengths(store))
            if len(wanted) != len(store.blocks(output)):
                raise FileError(
                    f"{store.blocks(output).path}: {len(store.blocks(output))} blocks, the genome has "
                    f"{len(wanted)} chunks; write the store again"
                )
            for number, length in enumerate(wanted):
                _, lengths, _ = _decoded(store, output, number)
                found = int(lengths.sum())
                if found != length * store.form(output).channels:
                    raise FileError(
                        f"{store.blocks(output).path}: block {number} covers {found} bases of all channels, "
                        f"wanted {length * store.form(output).channels}; write the store again"
                    )
                done.advance()
    if store.bands:
        total += _verify_bands(store)
    return total


def _block_lengths(store: ShardStore) -> Iterator[int]:
    """Bases of every chunk of the genome."""
    for length in store.lengths.values():
        for start in range(0, length, store.chunk):
            yield min(store.chunk, length - start)


def _verify_bands(store: ShardStore) -> int:
    """Check every block of the contact maps."""
    blocks, number = store.blocks(OutputType.CONTACT_MAPS), 0
    for band in store.bands:
        for length in store.lengths.values():
            bins = -(-length // band.bin_size)
            for first in range(0, bins, ROWS):
                try:
                    decode_rows(blocks.read(number), band, min(ROWS, bins - first))
                except Exception as error:
                    raise FileError(
                        f"{blocks.path}: block {number} is damaged: {error}; write the store again"
                    ) from error
                number += 1
    return number


def description(found: dict[str, Any]) -> str:
    """The figures as text, an output type a line."""
    lines = [
        f"{found['folder']}: {found['organism']}, genome {found['genome']}, {found['chromosomes']} "
        f"chromosomes, {found['bases']:,} bases in {found['chunks']:,} chunks of {found['chunk']:,}, "
        f"{found['dtype']}, "
        f"{found['bytes']:,} bytes",
        f"format {found['format_version']}, written by megabase {found['package_version']}, settings "
        f"{found['config_hash']}, inputs {', '.join(f'{k} {v}' for k, v in found['inputs'].items())}",
        "",
        f"{'output type':<18}{'tracks':>7}{'bytes':>18}{'bytes/base/track':>18}{'x bfloat16':>12}"
        f"{'bases/run':>11}{'missing':>9}  made from",
    ]
    for row in found["outputs"]:
        step = "" if row["bases_per_run"] is None else f"{row['bases_per_run']:.1f}"
        missing = "" if row["missing"] is None else f"{row['missing']:.1%}"
        share = f"1/{row['times_smaller_than_bfloat16']:.1f}"
        lines.append(
            f"{row['output_type']:<18}{row['tracks']:>7}{row['bytes']:>18,}"
            f"{row['bytes_per_base_and_track']:>18.5f}{share:>12}"
            f"{step:>11}{missing:>9}  {row['key']}"
        )
    lines.append("splice tables: " + ("yes" if found["splicing"] else "none"))
    if found["verified"]:
        lines.append("every block is whole")
    return "\n".join(lines)
