"""The transformer tower over 128-bp tokens. Tensors are [B, T, C].

Source: AlphaGenome preprint, Methods, transformer tower: multi-query attention (one key and value for all
heads) with rotary positions, a bias from the pair stack, and a soft cap on the biased logits.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megabase.model.convolution import block_name
from megabase.model.layers import LayerNorm, Linear, RMSBatchNorm, gelu_tanh, rope_angles, rotate
from megabase.model.pair import TOKENS_PER_BIN, PairUpdateBlock
from megabase.model.recompute import run
from megabase.model.sizes import Sizes
from megabase.parallel import Sharded
from megabase.spec import TOKEN

SOFT_CAP = 5.0


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """q [B, t, H, C], k [B, T, C], v [B, T, V], bias [B, H, q, Q] -> [B, t, H, V]; t, q: this rank's.

    The soft cap applies to the logits after the bias; logits and softmax are float32.
    """
    if not torch.is_grad_enabled():
        return _attend_in_place(q, k, v, bias)
    logits = torch.einsum("bqhc,bkc->bhqk", q, k).float() / math.sqrt(q.shape[-1])
    blocks = logits.unflatten(-1, (-1, TOKENS_PER_BIN)).unflatten(2, (-1, TOKENS_PER_BIN))
    blocks = blocks + bias.float()[:, :, :, None, :, None]
    logits = SOFT_CAP * torch.tanh(blocks.flatten(-2).flatten(2, 3) / SOFT_CAP)
    return torch.einsum("bhqk,bkv->bqhv", logits.softmax(-1).to(v.dtype), v)


def _attend_in_place(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The same numbers with one copy of the logits, the largest tensor of a long window."""
    logits = torch.einsum("bqhc,bkc->bhqk", q, k).float().contiguous()
    logits.div_(math.sqrt(q.shape[-1]))
    blocks = logits.unflatten(-1, (-1, TOKENS_PER_BIN)).unflatten(2, (-1, TOKENS_PER_BIN))
    blocks.add_(bias.float()[:, :, :, None, :, None])
    weights = logits.div_(SOFT_CAP).tanh_().mul_(SOFT_CAP).softmax(-1)
    return torch.einsum("bhqk,bkv->bqhv", weights.to(v.dtype), v)


@cache
def compiled_attend() -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """`attend` by torch.compile: the passes over the logits become one. ValueError without a compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ValueError(f"train.compile: torch.compile needs a C++ compiler, and {compiler} is not found")
    return torch.compile(attend, dynamic=False)


def rows_of(x: Tensor, at: Tensor) -> Tensor:
    """Rows [B, n, C] of x [B, T, C] at int64 [B, n]."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))


class AttentionBiasBlock(nn.Module):
    """Pair tensor to one attention bias a head and pair of bins."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.rms_batch_norm = RMSBatchNorm(sizes.pair_channels, ndim=4)
        self.linear = Linear(sizes.pair_channels, sizes.attention_heads, bias=False)

    def forward(self, pair: Tensor) -> Tensor:
        """[B, Q, Q, P] -> [B, heads, Q, Q]; every bias holds for 16 x 16 tokens."""
        return self.linear(gelu_tanh(self.rms_batch_norm(pair))).permute(0, 3, 1, 2)


class MHABlock(Sharded):
    """Multi-query attention between two norms: own queries to the keys and values of the whole window."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        heads = sizes.attention_heads
        self.heads, self.max_position = heads, sizes.rope_max_position
        self.rms_batch_norm = RMSBatchNorm(sizes.trunk)
        self.q_layer = Linear(sizes.trunk, heads * sizes.query_channels, bias=False)
        self.k_layer = Linear(sizes.trunk, sizes.query_channels, bias=False)
        self.v_layer = Linear(sizes.trunk, sizes.value_channels, bias=False)
        self.norm_q = LayerNorm(sizes.query_channels)
        self.norm_k = LayerNorm(sizes.query_channels)
        self.norm_v = LayerNorm(sizes.value_channels)
        self.linear_embedding = Linear(heads * sizes.value_channels, sizes.trunk)
        self.rms_batch_norm_1 = RMSBatchNorm(sizes.trunk)
        self.dropout = nn.Dropout(sizes.dropout)
        self.compiled = False

    def forward(self, x: Tensor, bias: Tensor, at: Tensor | None = None) -> Tensor:
        """[B, T, C] -> [B, T, C]; bias [B, heads, Q, Q].

        at: int64 [B, n], whole bins of tokens, whose attention [B, n, C] is wanted only; bias of their bins.
        """
        h = self.rms_batch_norm(x)
        own = h if at is None else rows_of(h, at)
        q = self.norm_q(self.q_layer(own).unflatten(-1, (self.heads, -1)))
        k, v = self.norm_k(self.k_layer(h)), self.norm_v(self.v_layer(h))
        positions = torch.arange(x.shape[1], device=x.device) + self.layout.offset(x.shape[1])
        cos, sin = rope_angles(positions, k.shape[-1], self.max_position)
        cos_q, sin_q = (cos, sin) if at is None else (cos[at], sin[at])
        q, k = rotate(q, cos_q[..., None, :], sin_q[..., None, :]), rotate(k, cos, sin)
        k, v = self.layout.gather(k, 1), self.layout.gather(v, 1)
        attention = compiled_attend() if self.compiled else attend
        y = self.linear_embedding(attention(q, k, v, bias).flatten(-2))
        return self.dropout(self.rms_batch_norm_1(y))


class MLPBlock(nn.Module):
    """Two linear maps between two norms."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        hidden = sizes.mlp_ratio * sizes.trunk
        self.rms_batch_norm = RMSBatchNorm(sizes.trunk)
        self.linear = Linear(sizes.trunk, hidden)
        self.linear_1 = Linear(hidden, sizes.trunk)
        self.rms_batch_norm_1 = RMSBatchNorm(sizes.trunk)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        h = self.dropout(F.relu(self.linear(self.rms_batch_norm(x))))
        return self.dropout(self.rms_batch_norm_1(self.linear_1(h)))


class TransformerTower(nn.Module):
    """Blocks of attention and MLP; every second one, from the first, updates the pair tensor."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.n_blocks = sizes.tower_blocks
        for i in range(sizes.tower_blocks):
            if i % 2 == 0:
                self.add_module(block_name("pair_update_block", i // 2), PairUpdateBlock(sizes))
            self.add_module(block_name("attention_bias_block", i), AttentionBiasBlock(sizes))
            self.add_module(block_name("mha_block", i), MHABlock(sizes))
            self.add_module(block_name("mlp_block", i), MLPBlock(sizes))

    def _block(self, name: str, index: int) -> nn.Module:
        return self.get_submodule(block_name(name, index))

    def forward(self, x: Tensor, bins: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B, T, C] -> (tokens [B, T, C], pair [B, Q, Q, P]).

        bins: int64 [B, n], those whose tokens are wanted; the others are NaN. They are in all blocks but the
        last, of which nothing else depends on them.
        """
        pair = None
        for i in range(self.n_blocks):
            if i % 2 == 0:
                pair = run(self._block("pair_update_block", i // 2), x, pair)
            bias = self._block("attention_bias_block", i)(pair)
            if bins is not None and i == self.n_blocks - 1:
                return self._finish(x, bias, bins), pair
            x = x + run(self._block("mha_block", i), x, bias)
            x = x + run(self._block("mlp_block", i), x)
        return x, pair

    def _finish(self, x: Tensor, bias: Tensor, bins: Tensor) -> Tensor:
        """The last block for the tokens of bins int64 [B, n]; NaN elsewhere."""
        within = torch.arange(TOKENS_PER_BIN, device=x.device)
        at = (bins[..., None] * TOKENS_PER_BIN + within).flatten(1)
        chosen = bins[:, None, :, None].expand(-1, bias.shape[1], -1, bias.shape[-1])
        own = rows_of(x, at)
        own = own + self._block("mha_block", self.n_blocks - 1)(x, bias.gather(2, chosen), at)
        own = own + self._block("mlp_block", self.n_blocks - 1)(own)
        return torch.full_like(x, torch.nan).scatter_(1, at[..., None].expand_as(own), own)

    def levels(self) -> Iterator[tuple[int, nn.Module]]:
        """(bases a token, block) of every block but the attention biases, which are small."""
        for i in range(self.n_blocks):
            if i % 2 == 0:
                yield TOKEN, self._block("pair_update_block", i // 2)
            yield TOKEN, self._block("mha_block", i)
            yield TOKEN, self._block("mlp_block", i)
