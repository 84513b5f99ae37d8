"""Records in the layout of the published training files, encoded by code of its own."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import torch

TYPES = {"float32": 1, "int32": 3, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}


def varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(values: np.ndarray, kind: str) -> bytes:
    """As tf.io.serialize_tensor writes it."""
    if kind == "bfloat16":
        raw = torch.from_numpy(values.astype(np.float32)).bfloat16().view(torch.int16).numpy().tobytes()
    else:
        raw = values.astype(kind).tobytes()
    dims = b"".join(field(2, b"\x08" + varint(n)) for n in values.shape)
    return b"\x08" + varint(TYPES[kind]) + field(2, dims) + field(4, raw)


def string_tensor(text: str) -> bytes:
    return b"\x08\x07" + field(2, b"") + field(8, text.encode())


def example(features: dict[str, bytes]) -> bytes:
    entries = b"".join(
        field(1, field(1, name.encode()) + field(2, field(1, field(1, data))))
        for name, data in features.items()
    )
    return field(1, entries)


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_records(path: Path, records: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    framed = []
    for data in records:
        length = struct.pack("<Q", len(data))
        framed.append(length + masked(length) + data + masked(data))
    path.write_bytes(gzip.compress(b"".join(framed)))
    return path


def window_features(chrom: str, start: int, end: int) -> dict[str, bytes]:
    """What every record says of its interval."""
    return {
        "interval/chromosome": string_tensor(chrom),
        "interval/start": tensor(np.array(start), "int64"),
        "interval/end": tensor(np.array(end), "int64"),
    }
