"""Gradients of what a network predicts with respect to its sequence.

A network offers `differentiable`: 1-bp predictions of a float one-hot sequence that autograd can follow. Of
an ensemble the gradient is the mean of its members' gradients, each of its own objective, so that one graph
is in memory at a time; with both strands averaged, it is that of the mean prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from megabase.predictors.strands import BothStrands
from megabase.sequence import one_hot
from megabase.spec import OutputType


def networks_of(predictor: Any) -> list[Any]:
    """The networks of a predictor that have gradients; ValueError for a model without any."""
    if isinstance(predictor, BothStrands):
        return [BothStrands(network) for network in networks_of(predictor.wrapped)]
    members = getattr(predictor, "members", None)
    if members:
        return [network for member in members for network in networks_of(member)]
    if not hasattr(predictor, "differentiable"):
        raise ValueError(
            f"{predictor.name} has no gradients; wanted a teacher, a student or an ensemble of them"
        )
    return [predictor]


def input_gradient(
    predictor: Any,
    codes: Tensor,
    organism: str,
    output: OutputType,
    channels: Sequence[int],
    objective: Callable[[Tensor], Tensor],
) -> Tensor:
    """Gradient float32 [S, 4], on the CPU, of an objective by the one-hot sequence of codes uint8 [S].

    objective: 1-bp predictions [S, P] of these channels of an output type, in the units of the tracks, to
    one number.
    """
    networks = networks_of(predictor)
    total = torch.zeros(len(codes), 4)
    for network in networks:
        sequence = one_hot(codes)[None].requires_grad_()
        with torch.enable_grad():
            value = objective(network.differentiable(sequence, organism, output, channels)[0])
            (gradient,) = torch.autograd.grad(value, sequence)
        total += gradient[0].float().cpu() / len(networks)
    return total


def on_the_simplex(gradient: Tensor) -> Tensor:
    """Gradient [..., 4] less its mean over the bases: the part that a change of base can follow.

    One-hot values add up to 1 everywhere, so the network never saw the direction in which all four grow; what
    the gradient holds along it is chance. Source: Majdandzic et al., Genome Biology 24, 109 (2023).
    """
    return gradient - gradient.mean(-1, keepdim=True)
