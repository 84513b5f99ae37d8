"""Losses: pure functions of y_true, y_pred and mask, each a float32 scalar.

Masks are boolean and broadcast to the values; they may be positional (per base and channel). What is
masked enters no sum, neither of the target nor of the prediction, and no gradient passes through it; a
target may be NaN there. Means are masked means: sum(x * mask) / max(1, sum(mask)), over the batch of all
ranks of `layout`: each gives its rows and its part of the window, all get the same loss. What every rank of
a window computes alike (junctions, segments and genes that span parts) counts alike in both sums.
Source: AlphaGenome preprint, Methods, loss functions, and the published code's values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from megabase.parallel import SINGLE, Layout

EPSILON = 1e-7
POSITIONAL_WEIGHT = 5.0
COUNT_WEIGHT = 0.2  # of the junction totals beside the junction ratios
COUNT_CLIP = 10.0
REACH = 3.0  # deviations up to which a variance is learned from squares


def mean_of(total: Tensor, count: Tensor, layout: Layout) -> Tensor:
    """total / max(1, count), both summed over all ranks."""
    if layout.single:
        return total / count.clamp_min(1)
    total, count = layout.total(torch.stack((total.double(), count.double()))).unbind()
    return (total / count.clamp_min(1)).float()


def masked_mean(values: Tensor, mask: Tensor, layout: Layout = SINGLE) -> Tensor:
    """Mean of values where mask, float32; 0 where nothing is left. NaN is harmless where masked."""
    mask = mask.expand_as(values)
    return mean_of(torch.where(mask, values.float(), 0.0).sum(), mask.sum(), layout)


def gaussian(
    *, y_true: Tensor, y_pred: Tensor, log_variance: Tensor, mask: Tensor, layout: Layout = SINGLE
) -> Tensor:
    """Masked mean of the negative log likelihood of y_true under normals about y_pred, less log(2 pi) / 2.

    Beyond `REACH` deviations the squared difference counts by its logarithm: one value far out pulls like
    one at that distance, and a variance that begins too small does not throw the optimizer off.
    """
    squares, most = _masked(y_true.float() - y_pred.float(), mask).square(), REACH**2
    ratio = squares * torch.exp(-log_variance)
    far = most * (1 + torch.log(ratio.clamp_min(most) / most))
    return masked_mean((log_variance + torch.where(ratio > most, far, ratio)) / 2, mask, layout)


def poisson_terms(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Poisson deviance of rates, per element: 0 at y_pred = y_true; both finite and >= 0."""
    best = y_true - y_true * torch.log(y_true + EPSILON)
    return y_pred - y_true * torch.log(y_pred + EPSILON) - best


def poisson(*, y_true: Tensor, y_pred: Tensor, mask: Tensor, layout: Layout = SINGLE) -> Tensor:
    """Masked mean Poisson loss, less the least that it can be."""
    y_true, y_pred = _masked(y_true, mask).clamp_min(0), _masked(y_pred, mask)
    return masked_mean(poisson_terms(y_true, y_pred), mask, layout)


def multinomial(
    *,
    y_true: Tensor,
    y_pred: Tensor,
    mask: Tensor,
    segment: int,
    positional_weight: float = POSITIONAL_WEIGHT,
    layout: Layout = SINGLE,
) -> Tensor:
    """Total and shape of the signal in segments: the loss of the genome tracks.

    y_true, y_pred [B, S, P] in scaled space; mask bool, broadcastable to them; segment: positions, a
    divisor of the window's. Per segment and track, the Poisson loss of the sums divided by the number of
    unmasked positions, plus `positional_weight` times the cross entropy of the positions' shares. A segment
    with nothing unmasked does not count.
    """
    total, positional = multinomial_parts(
        y_true=y_true, y_pred=y_pred, mask=mask, segment=segment, layout=layout
    )
    return total + positional_weight * positional


def multinomial_parts(
    *, y_true: Tensor, y_pred: Tensor, mask: Tensor, segment: int, layout: Layout = SINGLE
) -> tuple[Tensor, Tensor]:
    """The two parts of `multinomial`: (of the totals, of the positions)."""
    part = y_true.shape[1]
    if part * layout.sequence_ranks % segment:
        raise ValueError(f"segment of {segment} positions does not divide {part * layout.sequence_ranks}")
    mask = mask.expand_as(y_true)
    block = math.gcd(part, segment)  # the whole segment, unless a window is split within one
    shape = (-1, block)
    y_true = _masked(y_true, mask).clamp_min(0).unflatten(1, shape)
    y_pred = _masked(y_pred, mask).unflatten(1, shape)
    own = mask.unflatten(1, shape).sum(2)
    sum_true, sum_pred, count = y_true.sum(2), y_pred.sum(2), own
    within = sum_pred
    if block < segment:
        first = layout.offset(part) + block * torch.arange(part // block, device=y_true.device)
        sums = torch.stack((sum_true, sum_pred, own.to(sum_pred)))
        sums = _segment_sums(sums, first // segment, part * layout.sequence_ranks // segment, layout)
        sum_true, sum_pred, count = sums.unbind()
        within = sum_pred[:, first // segment]
    total = masked_mean(poisson_terms(sum_true, sum_pred) / count.clamp_min(1), count > 0, layout)
    share = torch.log(y_pred / (within[:, :, None] + EPSILON) + EPSILON)
    positional = mean_of(-torch.dot(y_true.flatten(), share.flatten()), own.sum(), layout)
    return total, positional


def _segment_sums(sums: Tensor, index: Tensor, segments: int, layout: Layout) -> Tensor:
    """Sums [N, B, blocks, P] of own blocks, in segments `index` -> [N, B, segments, P] of the window."""
    whole = sums.new_zeros(*sums.shape[:2], segments, sums.shape[-1])
    return layout.row_total(whole.index_add(2, index, sums))


def mse(*, y_true: Tensor, y_pred: Tensor, mask: Tensor, layout: Layout = SINGLE) -> Tensor:
    """Masked mean squared error."""
    return masked_mean((_masked(y_true, mask) - _masked(y_pred, mask)).square(), mask, layout)


def cross_entropy_from_logits(
    *, y_true: Tensor, y_pred: Tensor, mask: Tensor, layout: Layout = SINGLE
) -> Tensor:
    """Softmax cross entropy of classes on the last axis, smoothed by 1e-7 over the classes.

    y_true: class probabilities [..., K] (one-hot, or a teacher's); y_pred: logits [..., K]; mask: bool
    [..., 1].
    """
    smooth = (1 - EPSILON) * _masked(y_true, mask) + EPSILON / y_true.shape[-1]
    loss = -(smooth * F.log_softmax(_masked(y_pred, mask), dim=-1)).sum(-1, keepdim=True)
    return masked_mean(loss, mask, layout)


def binary_cross_entropy_from_logits(
    *, y_true: Tensor, y_pred: Tensor, mask: Tensor, layout: Layout = SINGLE
) -> Tensor:
    """Binary cross entropy of fractions y_true, held within [1e-7, 1 - 1e-7], from logits y_pred."""
    target = _masked(y_true, mask).clamp(EPSILON, 1 - EPSILON)
    loss = F.binary_cross_entropy_with_logits(_masked(y_pred, mask), target, reduction="none")
    return masked_mean(loss, mask, layout)


def ratio_cross_entropy(
    *, y_true: Tensor, y_pred: Tensor, mask: Tensor, axis: int, layout: Layout = SINGLE
) -> Tensor:
    """Cross entropy of the shares of counts along `axis`, masked mean over what is left of the other axes.

    A row without an unmasked element does not count.
    """
    mask = mask.expand_as(y_true)
    share_true = _shares(_masked(y_true, mask).clamp_min(0), mask, axis)
    share_pred = _shares(_masked(y_pred, mask), mask, axis)
    logs = torch.log(torch.where(mask, share_pred, 1.0))
    return masked_mean(-(share_true * logs).sum(axis), mask.any(axis), layout)


def junction_counts(
    *, y_true: Tensor, y_pred: Tensor, mask: Tensor, axis: int, layout: Layout = SINGLE
) -> Tensor:
    """Poisson loss of counts summed over `axis`; true sums above 10 are compressed by a square root."""
    mask = mask.expand_as(y_true)
    sum_true = _masked(y_true, mask).clamp_min(0).sum(axis)
    high = 2 * torch.sqrt(COUNT_CLIP * sum_true.clamp_min(COUNT_CLIP)) - COUNT_CLIP
    sum_true = torch.where(sum_true > COUNT_CLIP, high, sum_true)
    sum_pred = _masked(y_pred, mask).sum(axis)
    return poisson(y_true=sum_true, y_pred=sum_pred, mask=mask.any(axis), layout=layout)


def junctions(*, y_true: Tensor, y_pred: Tensor, mask: Tensor, layout: Layout = SINGLE) -> Tensor:
    """Loss of splice-junction counts [B, D, A, P]: shares over donors and over acceptors, totals."""
    both = {"y_true": y_true, "y_pred": y_pred, "mask": mask, "layout": layout}
    ratios = ratio_cross_entropy(**both, axis=1) + ratio_cross_entropy(**both, axis=2)
    counts = junction_counts(**both, axis=1) + junction_counts(**both, axis=2)
    return ratios + COUNT_WEIGHT * counts


def gene_tracks(
    *,
    y_true: Tensor,
    y_pred: Tensor,
    mask: Tensor,
    bodies: Tensor,
    channels: Tensor,
    positional_weight: float = POSITIONAL_WEIGHT,
    layout: Layout = SINGLE,
) -> Tensor:
    """Expression of every gene: its total over tracks, and how the tracks share it.

    y_true, y_pred [B, S, P] in scaled space; mask bool, broadcastable; bodies bool [B, G, S]: the bases of
    each gene, all False for a gene that is not there; channels bool [B, G, P]: tracks of the gene's
    strand. A gene's value in a track is its mean over the gene's unmasked bases.
    """
    mask = mask.expand_as(y_true)
    weights = bodies.to(torch.float32)
    bases = weights @ mask.float()
    true, pred = weights @ _masked(y_true, mask).clamp_min(0), weights @ _masked(y_pred, mask)
    if layout.split:
        bases, true, pred = layout.row_total(torch.stack((bases, true, pred))).unbind()
    true, pred = true / bases.clamp_min(1), pred / bases.clamp_min(1)
    active = channels & (bases > 0)
    true, pred = torch.where(active, true, 0.0), torch.where(active, pred, 0.0)
    sum_true, sum_pred = true.sum(-1), pred.sum(-1)
    most = layout.maximum(active.sum(-1).amax()).clamp_min(1)
    total = masked_mean(poisson_terms(sum_true, sum_pred) / most, active.any(-1), layout)
    shares = torch.log(pred / (sum_pred[..., None] + EPSILON) + EPSILON)
    return total + positional_weight * masked_mean(-true * shares, active, layout)


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values.float(), 0.0)


def _shares(values: Tensor, mask: Tensor, axis: int) -> Tensor:
    raised = torch.where(mask, values + EPSILON, 0.0)
    total = raised.sum(axis, keepdim=True)
    return raised / torch.where(total > 0, total, 1.0)
