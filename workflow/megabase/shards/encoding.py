"""One block of the store: the runs of all channels in one chunk of bases, as integers, compressed.

Lengths of runs are stored rather than their starts, less one, one byte plane after the other. A channel with
at most 256 distinct values in the chunk (counts, whatever they were scaled by) stores each run's value as
one byte, its rank among them; other channels store the values themselves. Both give back every bit.
docs/shards.md has the layout. numpy and zstandard only, so that writing processes start fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zstandard

PACKED = {"float32": np.dtype("<u4"), "float16": np.dtype("<u2"), "bfloat16": np.dtype("<u2")}
MOST_RANKS = 256  # distinct values of a channel that ranks of one byte can tell apart
_SAMPLE = 2 * MOST_RANKS  # runs of a channel that are looked at before all are sorted
_HEAD = np.dtype("<u4")

PackedRuns = tuple[np.ndarray, np.ndarray]  # lengths [R] and stored bits [R] of one channel


@dataclass(frozen=True)
class ChunkFormat:
    """What a reader must know to unpack a chunk of an output type."""

    channels: int
    chunk: int  # bases
    dtype: str


def pack(values: np.ndarray, dtype: str) -> np.ndarray:
    """Stored bits of float32 [R]: those of float32 (uint32), float16 or bfloat16 (uint16).

    Rounds to the nearest, ties to even. ValueError if a value overflows.
    """
    values = np.asarray(values, np.float32)
    missing = np.isnan(values)
    if dtype == "float32":
        packed = values.view(np.uint32)
        if missing.any():
            packed = np.where(missing, np.uint32(0x7FC00000), packed)  # one NaN for all
    elif dtype == "bfloat16":
        bits = values.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        packed = np.where(missing, 0x7FC0, rounded).astype(np.uint16)
    else:
        with np.errstate(over="ignore"):
            packed = np.where(missing, np.float32(np.nan), values).astype("<f2").view("<u2")
    overflow = np.isinf(unpack(packed, dtype))
    if overflow.any():
        raise ValueError(
            f"value {values[overflow][0]:g} does not fit {dtype}; set shards.dtype to float32 or bfloat16"
        )
    return packed


def unpack(packed: np.ndarray, dtype: str) -> np.ndarray:
    """float32 [R] of stored bits."""
    if dtype == "float32":
        return packed.view(np.float32)
    if dtype == "bfloat16":
        return (packed.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return packed.view(np.float16).astype(np.float32)


def runs_of_intervals(
    starts: np.ndarray, ends: np.ndarray, values: np.ndarray, span: tuple[int, int], dtype: str
) -> PackedRuns:
    """`(starts int64 [R], stored bits [R])` of the runs that cover span = (start, end) of a chromosome.

    Intervals are disjoint, in order and inside the span; bases without one are missing.
    """
    known = np.concatenate([[span[0]], ends])  # up to where the bases before each interval, and the end, are
    gaps = np.flatnonzero(np.append(starts, span[1]) != known)
    if len(gaps):
        starts, values = np.insert(starts, gaps, known[gaps]), np.insert(values, gaps, np.nan)
    bits = pack(values, dtype)
    changed = np.empty(len(bits), bool)
    changed[:1] = True
    np.not_equal(bits[1:], bits[:-1], out=changed[1:])
    return starts[changed], bits[changed]


def cut_runs(runs: PackedRuns, start: int, end: int) -> PackedRuns:
    """`(lengths int64 [R], stored bits [R])` of bases start..end of runs given by their starts."""
    starts, bits = runs
    first = np.searchsorted(starts, start, "right") - 1
    last = np.searchsorted(starts, end, "left")
    edges = np.append(starts[first:last], end)
    edges[0] = start
    return np.diff(edges), bits[first:last]


def encode_chunk(
    runs: Sequence[PackedRuns], form: ChunkFormat, compressor: zstandard.ZstdCompressor
) -> bytes:
    """One compressed block of each channel's `(lengths, stored bits)`; every channel has a run."""
    counts = np.array([len(lengths) for lengths, _ in runs], _HEAD)
    lengths = np.concatenate([lengths for lengths, _ in runs]).astype("<u4") - np.uint32(1)
    planes = max(1, (int(lengths.max()).bit_length() + 7) // 8)
    entries = np.zeros(len(runs), _HEAD)
    tables, ranks, plain = [], [], []
    for number, (_, bits) in enumerate(runs):
        found = _ranked(bits)
        if found is None:
            plain.append(bits)
        else:
            entries[number] = len(found[0])
            tables.append(found[0])
            ranks.append(found[1])
    dtype = PACKED[form.dtype]
    table, values = (np.concatenate([np.zeros(0, dtype), *parts]) for parts in (tables, plain))
    head = [np.array([planes], _HEAD), counts, entries]
    values_of = [*_planes(table, dtype.itemsize), *ranks, *_planes(values, dtype.itemsize)]
    parts = [*head, *_planes(lengths, planes), *values_of]
    return compressor.compress(b"".join(part.tobytes() for part in parts))


def _ranked(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Distinct values and the rank uint8 of each run's; None where plain values take less."""
    sample = np.sort(bits[:_SAMPLE])
    if np.count_nonzero(sample[1:] != sample[:-1]) >= MOST_RANKS:
        return None
    table, ranks = np.unique(bits, return_inverse=True)
    size = bits.itemsize
    if len(table) > MOST_RANKS or len(table) * size + len(bits) > len(bits) * size:
        return None
    return table, ranks.astype(np.uint8)


def _planes(values: np.ndarray, count: int) -> list[np.ndarray]:
    """The `count` low bytes of integers [R], each byte's as an array of its own."""
    table = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.itemsize)
    return [table[:, plane] for plane in range(count)]


@dataclass(frozen=True)
class OpenChunk:
    """A block that is decompressed and no more: its head is read, its body are byte planes still.

    planes: bytes of a run's length. counts, entries int64 [P]: runs of each channel, and values in its table
    (0 = its values are stored themselves). body uint8: planes of lengths less one, of tables, ranks, planes
    of the values that have no rank.
    """

    planes: int
    counts: np.ndarray
    entries: np.ndarray
    body: np.ndarray


def open_chunk(data: bytes, form: ChunkFormat) -> OpenChunk:
    """Decompress a block of `encode_chunk`, which lets other threads run meanwhile.

    ValueError if it is not one: the checksum differs, or its size is not what its head says.
    """
    try:
        raw = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"its checksum or frame is wrong ({error})") from None
    head = 1 + 2 * form.channels
    if len(raw) < 4 * head:
        raise ValueError(f"{len(raw)} bytes, wanted a head of {4 * head}")
    planes, counts, entries = np.split(
        np.frombuffer(raw, _HEAD, head).astype(np.int64), [1, 1 + form.channels]
    )
    chunk = OpenChunk(int(planes[0]), counts, entries, np.frombuffer(raw, np.uint8, offset=4 * head))
    if len(chunk.body) != (wanted := sum(body_parts(chunk, form))):
        raise ValueError(
            f"{len(raw)} bytes, its head wants {wanted + 4 * head}; it is of another number of channels"
        )
    return chunk


def body_parts(chunk: OpenChunk, form: ChunkFormat) -> tuple[int, int, int, int]:
    """Bytes of the parts of a body: lengths, tables, ranks, plain values."""
    size, total = PACKED[form.dtype].itemsize, int(chunk.counts.sum())
    n_ranks = int(chunk.counts[chunk.entries > 0].sum())
    return chunk.planes * total, size * int(chunk.entries.sum()), n_ranks, size * (total - n_ranks)


def decode_chunk(data: bytes, form: ChunkFormat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(counts int64 [P], lengths int32 [R], stored bits [R])` of a block; ValueError as `open_chunk`."""
    return decode_open(open_chunk(data, form), form)


def decode_open(chunk: OpenChunk, form: ChunkFormat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(counts int64 [P], lengths int32 [R], stored bits [R])` of an open block."""
    counts, entries, dtype = chunk.counts, chunk.entries, PACKED[form.dtype]
    edges = np.cumsum(body_parts(chunk, form))[:-1]
    in_lengths, in_table, ranks, in_plain = np.split(chunk.body, edges)
    lengths = _join_planes(in_lengths, chunk.planes, np.dtype("<i4"))
    lengths += 1
    table = _join_planes(in_table, dtype.itemsize, dtype)
    plain = _join_planes(in_plain, dtype.itemsize, dtype)
    if len(ranks) == 0:
        return counts, lengths, plain
    ranked = entries > 0
    first = np.cumsum(entries) - entries
    looked_up = table[np.repeat(first[ranked], counts[ranked]) + ranks]
    if len(ranks) == len(lengths):
        return counts, lengths, looked_up
    is_ranked = np.repeat(ranked, counts)
    bits = np.empty(len(lengths), dtype)
    bits[is_ranked], bits[~is_ranked] = looked_up, plain
    return counts, lengths, bits


def _join_planes(body: np.ndarray, planes: int, dtype: np.dtype) -> np.ndarray:
    """Integers of byte planes that follow each other."""
    if planes == 1:
        return body.astype(dtype)
    count = len(body) // planes
    table = np.zeros((count, dtype.itemsize), np.uint8)
    for plane in range(planes):
        table[:, plane] = body[plane * count : (plane + 1) * count]
    return table.view(dtype).ravel()
