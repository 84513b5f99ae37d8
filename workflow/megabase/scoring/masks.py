"""Which positions of a window a score reads: centre spans, gene masks and splice sites.

Torch only; part of the numerical core. Positions are 0-based within the window, spans half-open.
Source: AlphaGenome Methods (variant scoring) and the published scorer definitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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


def gene_masks(spans: Sequence[Tensor], start: int, length: int, near: tuple[int, int]) -> Tensor:
    """bool [S, G]: bases of each gene's genome spans int [N, 2], of them those in window positions `near`."""
    mask = torch.stack([span_mask(s, start, length) for s in spans], -1)
    mask[: near[0]] = False
    mask[near[1] :] = False
    return mask


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
