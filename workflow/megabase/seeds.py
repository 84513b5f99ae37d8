"""Named random generators: a draw depends on the seed and on what it is for, and on nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def _key(seed: int, names: tuple[str | int, ...]) -> int:
    text = ":".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """numpy generator (Philox) of `seed` and `names`; the same arguments give the same draws anywhere."""
    return np.random.Generator(np.random.Philox(key=_key(seed, names)))


def torch_generator(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """torch generator of `seed` and `names` on a device."""
    import torch  # here, so that commands that only draw with numpy start fast

    return torch.Generator(device).manual_seed(_key(seed, names) & (2**63 - 1))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the step of SplitMix64
_BASE = 0x100000001B3  # odd, so that its powers can be divided by again


def mix(x: np.ndarray) -> np.ndarray:
    """uint64 whose bits all depend on all bits of x: the finalizer of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def text_keys(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [N] that stand for N texts: equal texts have equal keys, on every machine.

    data: uint8, the UTF-8 bytes of all texts after one another; offsets: int64 [N + 1]. A polynomial of each
    text's bytes modulo 2^64, from sums over all bytes, so that no text is looked at alone.
    """
    data, offsets = data[offsets[0] : offsets[-1]], offsets - offsets[0]
    powers = np.full(len(data) + 1, _BASE, np.uint64)
    powers[0] = 1
    powers = np.multiply.accumulate(powers)
    inverse = np.full(len(data) + 1, pow(_BASE, -1, 1 << 64), np.uint64)
    inverse[0] = 1
    inverse = np.multiply.accumulate(inverse)
    sums = np.zeros(len(data) + 1, np.uint64)
    np.add.accumulate((data.astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:])
    start, end = offsets[:-1], offsets[1:]
    return mix((sums[end] - sums[start]) * inverse[start] + (end - start).astype(np.uint64) * _GOLDEN)


def draws(seed: int, *names: str | int, keys: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 [N] in [0, 1): one draw for each pair of `keys` uint64 [N] and `columns` int [N].

    A draw is a function of seed, names, key and column (a counter-based generator), so it does not depend on
    what is drawn beside it.
    """
    stream = mix(keys ^ np.uint64(_key(seed, names) & (2**64 - 1)))
    counter = stream + (columns.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    return (mix(counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53
