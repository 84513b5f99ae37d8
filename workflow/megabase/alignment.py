"""Where the positions of two alleles of one window line up.

Torch only; part of the numerical core. Positions are 0-based within the window, spans half-open. An allele
begins `offset` bases into the window, indels are left-aligned. Source: AlphaGenome Methods (variant scoring).
"""

from __future__ import annotations

import torch
from torch import Tensor


def window_start(position: int, ref_length: int, window: int) -> int:
    """First base (0-based, may be negative) of the window centred on a variant's reference interval."""
    return position + ref_length // 2 - window // 2


def align_alternate(alt: Tensor, offset: int, ref_length: int, alt_length: int) -> Tensor:
    """Predictions on ALT [S, ...] put on the positions of REF, same shape.

    Insertion: the last shared base takes the maximum over itself and the inserted bases, what follows moves
    left and the tail becomes zero. Deletion: zeros at the deleted bases, what follows moves right and the
    last values fall off. `offset` is the variant's first base within the window.
    """
    change = alt_length - ref_length
    if change == 0:
        return alt
    if change > 0:
        anchor = offset + ref_length - 1
        inserted = alt[anchor : anchor + change + 1].amax(0, keepdim=True)
        tail = torch.zeros_like(alt[:change])
        return torch.cat([alt[:anchor], inserted, alt[anchor + change + 1 :], tail])[: len(alt)]
    kept = offset + alt_length
    gap = torch.zeros_like(alt[: min(-change, len(alt) - kept)])
    return torch.cat([alt[:kept], gap, alt[kept:]])[: len(alt)]


def alternate_positions(
    positions: Tensor, offset: int, ref_length: int, alt_length: int, length: int
) -> Tensor:
    """Where positions of the REF sequence lie in the ALT sequence; int64, -1 stays -1.

    A deleted base is read at the base before the deletion; a base pushed out of the window becomes -1.
    """
    shared = offset + min(ref_length, alt_length)
    moved = torch.where(positions < offset + ref_length, torch.full_like(positions, shared - 1),
                        positions + alt_length - ref_length)  # fmt: skip
    moved = torch.where(positions < shared, positions, moved)
    return torch.where((positions < 0) | (moved >= length), torch.full_like(moved, -1), moved)


def alternate_sites(positions: Tensor, alt: Tensor, offset: int, ref_length: int, alt_length: int) -> Tensor:
    """Where splice sites int64 [4, K] of REF are read on ALT; -1 where ALT's window has no such place.

    The base before an insertion stands for the inserted bases too: it is read at the likeliest of them. alt
    [S, 4 or 5]: class probabilities of the ALT sequence.
    """
    alt = alt[:, :4].float().cpu()
    moved = alternate_positions(positions, offset, ref_length, alt_length, len(alt))
    inserted = alt_length - ref_length
    if inserted <= 0:
        return moved
    anchor = offset + ref_length - 1
    best = anchor + alt[anchor : anchor + inserted + 1].argmax(0)
    return torch.where(positions == anchor, best.unsqueeze(-1), moved)
