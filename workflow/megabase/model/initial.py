"""Initial weights. The published code states those of linear maps; convolutions are our choice."""

from __future__ import annotations

import torch
from torch import nn

from megabase.model.heads import MultiOrganismLinear
from megabase.model.layers import Embed, fan_in_sigma, truncated_normal
from megabase.seeds import torch_generator

JUNCTION_SIGMA = 0.1


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw the initial weights, each from a generator named by the seed and its name.

    Truncated normals: of deviation 1 / sqrt(fan in) for linear maps and convolutions, 1 for organism
    embeddings, 0.1 for junction embeddings. Standardized convolutions too are drawn (the released
    code, made for inference, holds zeros there). Gains are 1, biases 0, learnt_scale 0 and
    residual_scale 0.9, as the paper has it.
    """
    for name, module in model.named_modules():
        if isinstance(module, Embed):
            sigma, weight = JUNCTION_SIGMA if name.endswith("_logits") else 1.0, module.embeddings
        elif hasattr(module, "w"):
            weight = module.w
            many = isinstance(module, MultiOrganismLinear)
            sigma = fan_in_sigma(weight.shape[1] if many else weight[..., 0].numel())
        else:
            continue
        truncated_normal(weight, sigma, torch_generator(seed, "initialize", name))
