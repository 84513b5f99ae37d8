"""Splice junctions of any predictor: read at chosen sites, and taken out of the matrix.

Torch only; part of the numerical core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megabase.model.heads import choose_sites, without_padding
from megabase.spec import OutputType

Predictions = dict[OutputType, dict[str, Tensor]]
Reader = Callable[[list[int], Tensor], Tensor]
MAX_SITES, SITE_THRESHOLD = 512, 0.1  # as published, of a model that does not say


def predict_with_junctions(
    predictor: Any, codes: Tensor, organism: str, outputs: Sequence[OutputType], **options: Any
) -> tuple[Predictions, Reader]:
    """Predictions of a batch, and `(rows, positions) -> values` that reads junctions of its sequences.

    A predictor with `predict_with_junctions` reads them from what it kept; any other is run again. rows:
    places in the batch; positions int64 [N, 4, K] -> values [N, K, K, P]. options: of `predict`.
    """
    if hasattr(predictor, "predict_with_junctions"):
        return predictor.predict_with_junctions(codes, organism, outputs=outputs, **options)
    codes = torch.as_tensor(codes)

    def again(rows: list[int], positions: Tensor) -> Tensor:
        output = OutputType.SPLICE_JUNCTIONS
        found = predictor.predict(
            codes[rows], organism, outputs=[output], splice_positions=positions, **options
        )
        return found[output]["values"]

    return predictor.predict(codes, organism, outputs=outputs, **options), again


def likeliest_sites(predictor: Any, probabilities: Tensor) -> Tensor:
    """Positions int64 [B, 4, K] of the likeliest splice sites, -1 padded, by the limits of a predictor.

    probabilities [B, S, 5]; K is that of the class with most sites, at least 1.
    """
    limit = getattr(predictor, "max_sites", MAX_SITES)
    threshold = getattr(predictor, "site_threshold", SITE_THRESHOLD)
    return without_padding(choose_sites(probabilities, limit, threshold))


@dataclass(frozen=True)
class Junctions:
    """Junctions of one window: spans int64 [J, 2] (introns, half-open), strand (+/-), values [J, B]."""

    spans: Tensor
    strands: tuple[str, ...]
    values: Tensor


def unstack_junctions(values: Tensor, positions: Tensor, start: int) -> Junctions:
    """Junctions of a prediction [K, K, 2B] (donor x acceptor; + half, then - half) at positions [4, K].

    Every pair of a donor and an acceptor in transcription order is one junction, by donor, then acceptor, +
    strand first. Positions are window offsets, -1 is padding; `start` is the window's first base.
    """
    half = values.shape[-1] // 2
    spans, strands, rows = [], [], []
    for s, strand in enumerate("+-"):
        donor, acceptor = positions[2 * s].long()[:, None], positions[2 * s + 1].long()[None, :]
        ordered = donor < acceptor if strand == "+" else acceptor < donor
        d, a = torch.where(ordered & (donor >= 0) & (acceptor >= 0))
        donor, acceptor = donor[d, 0], acceptor[0, a]
        ends = (donor + 1, acceptor) if strand == "+" else (acceptor + 1, donor)
        spans.append(torch.stack(ends, -1) + start)
        strands += [strand] * len(d)
        rows.append(values[d, a, s * half : (s + 1) * half])
    return Junctions(torch.cat(spans), tuple(strands), torch.cat(rows))
