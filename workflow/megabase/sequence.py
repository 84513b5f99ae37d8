"""DNA as codes and as one-hot tensors. Torch and numpy only; part of the numerical core.

Codes are uint8: 0..3 = A, C, G, T; 4 = anything else (N, IUPAC ambiguity, beyond a chromosome's end).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from megabase.spec import ALPHABET, UNKNOWN_BASE

if TYPE_CHECKING:
    from torch import Tensor  # imported where it is used, so that commands without a model start fast

Codes = TypeVar("Codes", np.ndarray, "Tensor")

_ENCODE = np.full(256, UNKNOWN_BASE, dtype=np.uint8)
for _code, _base in enumerate(ALPHABET):
    _ENCODE[ord(_base)] = _ENCODE[ord(_base.lower())] = _code
_DECODE = (ALPHABET + "N").encode().ljust(256, b"N")
_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN_BASE], dtype=np.uint8)


def encode(text: str | bytes) -> np.ndarray:
    """Codes uint8 [S] of a sequence; case does not matter, anything but ACGT is 4."""
    data = text.encode("ascii") if isinstance(text, str) else text
    return _ENCODE[np.frombuffer(data, dtype=np.uint8)]


def decode(codes: np.ndarray) -> str:
    """Sequence of codes uint8 [S], upper case, N for 4."""
    return np.asarray(codes, np.uint8).tobytes().translate(_DECODE).decode("ascii")


def reverse_complement(codes: Codes) -> Codes:
    """Codes of the other strand, read 5' to 3'; the last axis is the sequence."""
    if isinstance(codes, np.ndarray):
        return np.ascontiguousarray(_COMPLEMENT[codes[..., ::-1]])
    import torch

    return torch.from_numpy(_COMPLEMENT).to(codes.device)[codes.flip(-1).long()]


def one_hot(codes: Tensor) -> Tensor:
    """float32 [..., S, 4] of codes uint8 [..., S]; code 4 becomes all zeros."""
    import torch

    table = torch.zeros(UNKNOWN_BASE + 1, 4, device=codes.device)
    table[:4] = torch.eye(4, device=codes.device)
    return table[codes.long()]
