"""Which positions of a window a score reads: centre spans, gene masks and where alleles line up.

Torch only; part of the numerical core. Positions are 0-based within the window, spans half-open.
Source: AlphaGenome Methods (variant scoring) and the published scorer definitions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def window_start(position: int, ref_length: int, window: int) -> int:
    """First base (0-based, may be negative) of the window centred on a variant's reference interval."""
    return position + ref_length // 2 - window // 2


def centre_span(offset: int, bins: int, width: int | None, resolution: int = 1) -> tuple[int, int]:
    """Span of bins of `width` bases around the variant at `offset` bases into a window of `bins` bins.

    The span holds ceil(width / resolution) bins from `centre - n // 2` on, and is cut at the window's ends;
    width None is the whole window.
    """
    if width is None:
        return 0, bins
    wide = -(-width // resolution)
    first = offset // resolution - wide // 2
    return max(first, 0), min(first + wide, bins)


def span_mask(spans: Tensor, start: int, length: int) -> Tensor:
    """bool [S]: bases of the window `[start, start + length)` inside any of the genome spans int [N, 2]."""
    edges = torch.zeros(length + 1, dtype=torch.int64)
    inside = (spans.long() - start).clamp(0, length)
    edges.index_add_(0, inside[:, 0], torch.ones(len(inside), dtype=torch.int64))
    edges.index_add_(0, inside[:, 1], -torch.ones(len(inside), dtype=torch.int64))
    return edges.cumsum(0)[:length] > 0


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


def select_splice_sites(scores: Tensor, limit: int, threshold: float) -> Tensor:
    """Positions int64 [4, K] of the best sites of each class, ascending, -1 padded; K <= limit, at least 1.

    scores [S, 4]: probability of donor+, acceptor+, donor-, acceptor- (1 at annotated sites, 0 where no
    site is wanted). The `limit` largest at or above `threshold` are kept; of equal ones the leftmost.
    """
    rows = []
    for column in scores.unbind(-1):
        order = torch.sort(column, descending=True, stable=True)
        best = order.indices[: min(limit, len(column))]
        rows.append(best[order.values[: len(best)] >= threshold].sort().values)
    width = max(1, max(len(row) for row in rows))
    return torch.stack([torch.nn.functional.pad(row, (0, width - len(row)), value=-1) for row in rows])
