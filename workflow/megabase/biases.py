"""Head biases that start from the data: an untrained model predicts the mean of its training windows.

The published biases start at zero and 15,000 steps forget it. A sparse output (a splice site every few
kilobases, a CAGE peak) is far from sigmoid(0), and a short training would spend itself on the way there.
`train.bias_windows` switches it on. Torch only; part of the numerical core.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabase.model.scaling import scale_targets
from megabase.objective import target_at
from megabase.spec import OUTPUTS, Kind, OutputType

if TYPE_CHECKING:
    from megabase.batches import Batch
    from megabase.model import AlphaGenome

LEAST = 1e-6  # least mean that a bias stands for: a channel without signal stays reachable


class RunningMean:
    """Mean by organism and channel of values that come in batches; NaN is left out."""

    def __init__(self, organisms: int) -> None:
        self.total: Tensor | None = None
        self.count: Tensor | None = None
        self.organisms = organisms

    def add(self, values: Tensor, organism: Tensor) -> None:
        """values [B, ..., P], organism int64 [B]."""
        flat = values.flatten(1, -2).double()
        known = ~flat.isnan()
        sums, counts = torch.where(known, flat, 0.0).sum(1), known.sum(1).double()
        if self.total is None or self.count is None:
            self.total = torch.zeros(self.organisms, flat.shape[-1], dtype=torch.float64)
            self.count = torch.zeros_like(self.total)
        self.total.index_add_(0, organism, sums)
        self.count.index_add_(0, organism, counts)

    def mean(self) -> Tensor:
        """float64 [n_organisms, P]; LEAST where nothing was seen."""
        if self.total is None or self.count is None:
            raise ValueError("the mean of no batches")
        return torch.where(self.count > 0, self.total / self.count.clamp_min(1), LEAST)


def inverse_softplus(y: Tensor) -> Tensor:
    """x with softplus(x) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))


def starting_bias(kind: Kind, mean: Tensor) -> Tensor:
    """Bias at which a head of `kind` with no other input gives `mean` (tracks: at learnt_scale 0)."""
    if kind is Kind.TRACKS:
        return inverse_softplus(mean.clamp_min(LEAST) / math.log(2.0))
    if kind is Kind.SITES:
        return torch.log(mean.clamp_min(LEAST))
    if kind is Kind.USAGE:
        return torch.logit(mean.clamp(LEAST, 1 - LEAST))
    return mean


def start_biases(model: AlphaGenome, batches: Iterable[Batch]) -> None:
    """Set the biases of every head of `model` but the junctions' (which has none) from measured targets."""
    means: dict[tuple[OutputType, int], RunningMean] = {}
    for batch in batches:
        for output, resolution, values in _targets(model, batch):
            running = means.setdefault((output, resolution), RunningMean(model.sizes.n_organisms))
            running.add(values, batch.organism)
    with torch.no_grad():
        for (output, resolution), running in means.items():
            head = model.head_of(output).at(resolution)
            bias = head.multi_organism_linear.b
            bias.copy_(starting_bias(OUTPUTS[output].kind, running.mean()).to(bias))


def _targets(model: AlphaGenome, batch: Batch) -> Iterable[tuple[OutputType, int, Tensor]]:
    """(output type, resolution, target [B, ..., P] in the space of the head) of one batch."""
    for output in model.sizes.outputs():
        spec, target = OUTPUTS[output], batch.targets.get(output)
        if target is None or spec.kind is Kind.JUNCTIONS:
            continue
        if spec.kind is Kind.SITES:
            classes = torch.nn.functional.one_hot(target.clamp_min(0), 5).double()
            yield output, 1, classes.masked_fill((target < 0)[..., None], torch.nan)
        elif spec.kind is not Kind.TRACKS:
            yield output, spec.resolutions[0], target
        else:
            mean = model.track_mean(output)[batch.organism][:, None]
            for resolution in spec.resolutions:
                raw = target_at(target, resolution, batch.sequence.shape[1] // resolution).float()
                yield output, resolution, scale_targets(raw, mean, resolution, squash=spec.squash)
