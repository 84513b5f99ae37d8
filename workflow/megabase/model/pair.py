"""The pair stack: what every two 2,048-bp bins have to do with each other. Tensors are [B, Q, Q, C].

Where a window is split, a rank holds its rows, [B, q, Q, C].
Source: AlphaGenome preprint, Methods, pair update block.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megabase.model.layers import LayerNorm, Linear, gelu_tanh
from megabase.model.sizes import Sizes
from megabase.parallel import Sharded
from megabase.spec import PAIR, TOKEN

TOKENS_PER_BIN = PAIR // TOKEN


def central_mask_features(length: int, n_features: int, mask_tokens: int) -> Tensor:
    """float32 [2 * length, n_features] of the distances -length .. length - 1.

    Half of the features tell that the distance is shorter than each of a series of widths, the other
    half the same with the distance's sign. mask_tokens is a constant of the model, not the window's.
    """
    n = n_features // 2
    widths = np.arange(n) + np.geomspace(1, mask_tokens - n + 1, n, endpoint=False)
    distance = np.arange(-length, length)
    inside = (widths[None, :] > np.abs(distance)[:, None]).astype(np.float32)
    features = np.concatenate([inside, np.sign(distance)[:, None] * inside], axis=1)
    return torch.from_numpy(features.astype(np.float32))


def relative_shift(x: Tensor) -> Tensor:
    """[B, H, q, Q + q] by (query, distance) -> [B, H, q, Q] by (query, key): distance = key - query.

    The first distance is -q seen from the first query.
    """
    rows, width = x.shape[-2:]
    flat = x.flatten(-2)[..., rows:]  # row i now starts one column earlier than row i - 1
    return flat.unflatten(-1, (rows, width - 1))[..., : width - rows]


class SequenceToPairBlock(Sharded):
    """Tokens to a pair tensor: many-headed products of bins with relative positions."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        heads, width = sizes.pair_heads, sizes.pair_heads * sizes.pair_query_channels
        self.heads, self.mask_tokens = heads, sizes.pair_mask_tokens
        self.norm_seq2pair = LayerNorm(sizes.trunk, rms=True)
        self.linear_q = Linear(sizes.trunk, width, bias=False)
        self.linear_k = Linear(sizes.trunk, width, bias=False)
        self.linear_pos_features = Linear(sizes.pair_position_features, width)
        self.q_r_bias = nn.Parameter(torch.zeros(1, 1, heads, sizes.pair_query_channels))
        self.k_r_bias = nn.Parameter(torch.zeros(1, 1, heads, sizes.pair_query_channels))
        self.linear_y_q = Linear(sizes.trunk, sizes.pair_channels, bias=False)
        self.linear_y_k = Linear(sizes.trunk, sizes.pair_channels, bias=False)
        self.linear_pair = Linear(heads, sizes.pair_channels)
        self.dropout = nn.Dropout(sizes.dropout)

    def positions(self, length: int, like: Tensor) -> Tensor:
        """Learned position features [2 Q, heads, channels]."""
        n_features = self.linear_pos_features.w.shape[0]
        features = central_mask_features(length, n_features, self.mask_tokens)
        return self.linear_pos_features(features.to(like)).unflatten(-1, (self.heads, -1))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, t, C] -> [B, q, Q, pair channels]: own rows; the columns are the bins of the whole window."""
        x = self.norm_seq2pair(tokens.unflatten(1, (-1, TOKENS_PER_BIN)).mean(2))
        every = self.layout.gather(x, 1)
        rows, length = x.shape[1], every.shape[1]
        first = self.layout.offset(rows)
        q = self.linear_q(x).unflatten(-1, (self.heads, -1))
        k = self.linear_k(every).unflatten(-1, (self.heads, -1))
        positions = self.positions(length, x)
        near = positions[length - first - rows : 2 * length - first]  # distances seen from own rows
        by_q = relative_shift(torch.einsum("bqhc,phc->bhqp", q + self.q_r_bias.to(q.dtype), near))
        by_k = relative_shift(torch.einsum("bkhc,phc->bhkp", k + self.k_r_bias.to(k.dtype), positions))
        by_k = by_k[..., first : first + rows].transpose(-1, -2)
        product = torch.einsum("bqhc,bkhc->bhqk", q, k) + 0.5 * (by_q + by_k)
        active = gelu_tanh(every)
        pair = self.linear_pair(product.permute(0, 2, 3, 1))
        pair = pair + self.linear_y_q(active[:, first : first + rows])[:, :, None]
        pair = pair + self.linear_y_k(active)[:, None, :]
        return self.dropout(pair)


class RowAttentionBlock(nn.Module):
    """Attention of every pair (i, j) to the pairs (i, k) of its row."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels = sizes.pair_channels
        self.layer_norm = LayerNorm(channels, rms=True)
        self.linear_q = Linear(channels, channels, bias=False)
        self.linear_k = Linear(channels, channels, bias=False)
        self.linear_v = Linear(channels, channels)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, pair: Tensor) -> Tensor:
        """[B, Q, Q, C] -> [B, Q, Q, C]."""
        x = self.layer_norm(pair)
        q, k, v = self.linear_q(x), self.linear_k(x), self.linear_v(x)
        return self.dropout(F.scaled_dot_product_attention(q, k, v))


class PairMLPBlock(nn.Module):
    """Two linear maps at every pair."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        hidden = sizes.pair_mlp_ratio * sizes.pair_channels
        self.layer_norm = LayerNorm(sizes.pair_channels, rms=True)
        self.linear = Linear(sizes.pair_channels, hidden)
        self.linear_1 = Linear(hidden, sizes.pair_channels)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, pair: Tensor) -> Tensor:
        """[B, Q, Q, C] -> [B, Q, Q, C]."""
        return self.dropout(self.linear_1(F.relu(self.linear(self.layer_norm(pair)))))


class PairUpdateBlock(nn.Module):
    """New evidence from the tokens, then row attention and an MLP, all residual."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sequence_to_pair_block = SequenceToPairBlock(sizes)
        self.row_attention_block = RowAttentionBlock(sizes)
        self.pair_mlp_block = PairMLPBlock(sizes)

    def forward(self, tokens: Tensor, pair: Tensor | None) -> Tensor:
        """tokens [B, T, C], pair [B, Q, Q, P] or None at the first block -> [B, Q, Q, P]."""
        update = self.sequence_to_pair_block(tokens)
        pair = update if pair is None else pair + update
        pair = pair + self.row_attention_block(pair)
        return pair + self.pair_mlp_block(pair)
