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
