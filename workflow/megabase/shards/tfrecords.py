"""Records of TensorFlow's formats without TensorFlow: gzip TFRecord files of `tf.train.Example`s of tensors.

Written from the published descriptions of the formats: a record is its length, a masked CRC-32C of that, the
data, and a masked CRC-32C of the data; an Example is a protocol buffer that maps names to lists; a tensor
that `tf.io.serialize_tensor` wrote is a TensorProto.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from megabase.files import FileError

# numbers of types in TensorProto; bfloat16 is kept as its bits until it is widened
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 14: "<u2", 19: "<f2"}
_STRING, _BFLOAT16 = 7, 14
_VARINTS = {7, 10, 11}  # fields of integers: int_val, int64_val, bool_val
_HALVES = 13  # half_val: bits of float16 and bfloat16, as integers
_FLOATS = {5: "<f4", 6: "<f8"}

Example = dict[str, Any]  # by name: a numpy array, bytes, or an int


def read_tfrecords(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """`(number from 1, data)` of every record of a gzip TFRecord file.

    FileError with the number of the record that is cut short or whose checksum differs.
    """
    number = 0
    try:
        with gzip.open(path, "rb") as handle:
            while head := handle.read(12):
                number += 1
                if len(head) < 12:
                    raise EOFError("its head is cut short")
                length, check = struct.unpack("<QI", head)
                if _masked_crc(head[:8]) != check:
                    raise ValueError("the checksum of its length is wrong")
                data = handle.read(length)
                tail = handle.read(4)
                if len(data) < length or len(tail) < 4:
                    raise EOFError("its data are cut short")
                if _masked_crc(data) != struct.unpack("<I", tail)[0]:
                    raise ValueError("its checksum is wrong")
                yield number, data
    except (EOFError, ValueError, OSError, zlib.error) as error:
        raise FileError(f"{path}: record {max(number, 1)}: {error}; fetch the file again") from error


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_examples(path: str | Path) -> Iterator[tuple[int, Example]]:
    """`(number from 1, {name: value})` of every Example of a file, serialized tensors as arrays.

    FileError with the number of a record that is no Example.
    """
    for number, data in read_tfrecords(path):
        try:
            example = parse_example(data)
        except (ValueError, IndexError, struct.error, KeyError) as error:
            raise FileError(f"{path}: record {number}: is no Example of tensors ({error})") from error
        yield number, example


def parse_example(data: bytes | memoryview) -> Example:
    """Values of an Example: a list of one is its element; bytes that are a tensor become an array."""
    found: Example = {}
    for _, features in _fields(memoryview(data), {1}):
        for _, entry in _fields(features, {1}):
            parts = dict(_fields(entry, {1, 2}))
            found[bytes(parts[1]).decode()] = _feature(parts[2])
    return found


def _feature(data: memoryview) -> Any:
    for kind, values in _fields(data, {1, 2, 3}):
        if kind == 1:
            items = [value for _, value in _fields(values, {1})]
            return parse_tensor(items[0]) if len(items) == 1 else [bytes(item) for item in items]
        if kind == 2:
            return np.concatenate([np.frombuffer(v, "<f4") for _, v in _fields(values, {1})])
        integers = [n for _, value in _fields(values, {1}) for n in _integers(value)]
        return integers[0] if len(integers) == 1 else np.array(integers, np.int64)
    raise ValueError("a feature is empty")


def parse_tensor(data: memoryview) -> np.ndarray | bytes:
    """The array of a serialized tensor (bfloat16 as float32, strings as bytes); other bytes as they are."""
    try:
        kind, shape, parts = 0, [], []
        for field, value in _fields(data, None):
            if field == 1:
                kind = int(value)
            elif field == 2:
                shape = [
                    next((int(n) for f, n in _fields(dim, None) if f == 1), 0)
                    for _, dim in _fields(value, {2})
                ]
            elif field in (4, 8, _HALVES, *_VARINTS, *_FLOATS):
                parts.append((field, value))
        if kind != _STRING and kind not in _DTYPES:
            raise ValueError(f"tensor of type {kind}")
    except (ValueError, IndexError, TypeError, struct.error):
        return bytes(data)  # a plain string
    if kind == _STRING:
        strings = [bytes(value) for _, value in parts]
        return strings[0] if len(strings) == 1 else np.array(strings, object).reshape(shape)
    values = _values(kind, parts)
    count = int(np.prod(shape))
    if len(values) == 1 and count > 1:
        values = np.repeat(values, count)  # a constant tensor may list its value once
    if len(values) != count:
        raise ValueError(f"tensor of {len(values)} values, its shape is {shape}")
    values = values.reshape(shape)
    return (values.astype(np.uint32) << 16).view(np.float32) if kind == _BFLOAT16 else values


def _values(kind: int, parts: list[tuple[int, Any]]) -> np.ndarray:
    """Flat values of a tensor, from its bytes or its list."""
    dtype = np.dtype(_DTYPES[kind])
    found = []
    for field, value in parts:
        if field == 4:
            found.append(np.frombuffer(value, dtype))
        elif field in _FLOATS:
            found.append(np.frombuffer(value, _FLOATS[field]).astype(dtype))
        elif field == _HALVES:
            found.append(np.array(list(_integers(value)), np.uint16).view(dtype))
        else:
            found.append(np.array(list(_integers(value)), np.int64).astype(dtype))
    return np.concatenate(found) if found else np.zeros(0, dtype)


def _fields(data: memoryview, wanted: set[int] | None) -> Iterator[tuple[int, Any]]:
    """`(number, value)` of the fields of a protocol buffer: an int, or the bytes of any longer type."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size = {1: 8, 5: 4}.get(wire)
            if size is None:
                size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field is cut short")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"field of wire type {wire}")
        if wanted is None or number in wanted:
            yield number, value


def _integers(value: int | memoryview) -> Iterator[int]:
    """Signed integers of a field that is one, or of packed ones."""
    if isinstance(value, int):
        yield value - (1 << 64) if value >> 63 else value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number - (1 << 64) if number >> 63 else number


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("an integer is too long")
