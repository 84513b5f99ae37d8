"""Output embedders and the eleven heads.

Source: AlphaGenome preprint, Methods, output embedder and prediction heads. Every head has one linear map
an organism. Sequence embeddings are [B, S, D]; at 1 bp they lie in memory as [B, D, S].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megabase.model.fused import ScaledSoftplus
from megabase.model.layers import (
    GELU_SLOPE,
    Embed,
    LayerNorm,
    Linear,
    RMSBatchNorm,
    gelu_sigmoid,
    rope_angles,
    rotate,
)
from megabase.model.sizes import Sizes
from megabase.parallel import SINGLE, Layout, Sharded
from megabase.spec import OUTPUTS, TOKEN, Kind, OutputType, SiteClass

JUNCTION_CHUNK = 1 << 24  # elements of a junction feature tensor that are alive at once
SITE_KINDS = ("pos_donor", "pos_acceptor", "neg_donor", "neg_acceptor")  # order of SiteClass


class OutputEmbedder(nn.Module):
    """128-bp output embedding from the tower's tokens."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.linear = Linear(sizes.trunk, sizes.embedding_128bp)
        self.rms_batch_norm = RMSBatchNorm(sizes.embedding_128bp)
        self.embed = Embed(sizes.n_organisms, sizes.embedding_128bp)

    def forward(self, x: Tensor, organism: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, D]."""
        y = self.rms_batch_norm(self.linear(x))
        return gelu_sigmoid(y + self.embed(organism)[:, None].to(y.dtype))


class OutputEmbedder1(nn.Module):
    """1-bp output embedding from the decoder and the 128-bp embedding.

    Where the decoder stops at r bp, it is that of r bp, repeated r times: every head, loss and reader works
    as at 1 bp, and what is computed before the repetition is as much as r bp needs.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.resolution = sizes.resolution
        self.linear = Linear(sizes.finest_channels, sizes.embedding_1bp)
        self.linear_1 = Linear(sizes.embedding_128bp, sizes.embedding_1bp, bias=False)
        self.rms_batch_norm = RMSBatchNorm(sizes.embedding_1bp)
        self.embed = Embed(sizes.n_organisms, sizes.embedding_1bp)

    def forward(self, x: Tensor, embedding_128bp: Tensor, organism: Tensor, start: int = 0) -> Tensor:
        """x [B, C, S / r], embedding [B, T, D'] -> [B, S, D].

        Of a part of a window, x begins `start` bases into the first token, and may end within the last.
        """
        skip = self.linear_1(embedding_128bp).transpose(1, 2) + self.linear.b[:, None].to(x.dtype)
        y = torch.matmul(self.linear.w.t().to(x.dtype), x)
        repeats = TOKEN // self.resolution
        if x.shape[-1] == skip.shape[-1] * repeats:
            y = (y.unflatten(-1, (-1, repeats)) + skip[..., None]).flatten(-2)
        else:
            first = start // self.resolution
            y = y + skip.repeat_interleave(repeats, -1)[..., first : first + x.shape[-1]]
        shift = self.embed(organism)[..., None]
        scaled = self.rms_batch_norm(y, axis=1, slope=GELU_SLOPE, shift=shift)
        active = F.silu(scaled) * (1 / GELU_SLOPE)
        if self.resolution > 1:
            active = active.repeat_interleave(self.resolution, -1)
        return active.transpose(1, 2)


class OutputPair(Sharded):
    """Pair output embedding: made symmetric, normalized."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer_norm = LayerNorm(sizes.pair_channels, rms=True)
        self.embed = Embed(sizes.n_organisms, sizes.pair_channels)

    def forward(self, pair: Tensor, organism: Tensor) -> Tensor:
        """[B, Q, Q, C] -> [B, Q, Q, C]."""
        return self.embed_mean(pair + self.layout.transpose(pair), organism[:, None])

    def embed_mean(self, both: Tensor, organism: Tensor) -> Tensor:
        """Sums [..., Q, C] of pairs (i, j) and (j, i), organism [...] -> [..., Q, C]."""
        y = self.layer_norm(both / 2)
        return gelu_sigmoid(y + self.embed(organism).unsqueeze(-2).to(y.dtype))


class MultiOrganismLinear(nn.Module):
    """One linear map an organism, chosen by the example's organism."""

    def __init__(self, n_organisms: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(n_organisms, n_in, n_out))
        self.b = nn.Parameter(torch.zeros(n_organisms, n_out))

    def weights(self, channels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """w [organisms, in, P] and b [organisms, P] of output channels int64 [P], by default of all."""
        return some_channels(self.w, channels), some_channels(self.b, channels)

    def forward(self, x: Tensor, organism: Tensor, channels: Tensor | None = None) -> Tensor:
        """[B, ..., in], organism int64 [B] -> [B, ..., out], or only some output channels int64 [P]."""
        flat = x.flatten(1, -2) if x.ndim > 3 else x
        weight, bias = (value[organism].to(x.dtype) for value in self.weights(channels))
        return torch.baddbmm(bias[:, None], flat, weight).unflatten(1, x.shape[1:-1])


def some_channels(x: Tensor, channels: Tensor | None) -> Tensor:
    """x [..., P] at channels int64 [P'], or x itself where none are named."""
    return x if channels is None else x.index_select(-1, channels)


def linear_together(
    maps: list[MultiOrganismLinear],
    x: Tensor,
    organism: Tensor,
    channels: list[Tensor | None] | None = None,
) -> list[Tensor]:
    """[B, S, P_i] of each of several maps of the same x [B, S, D], by one product over all channels.

    channels: for each map the output channels int64 [P_i] to compute, None for all of its. The results lie
    in memory as [B, P, S]: at 1 bp the long axis is innermost, as in the decoder.
    """
    parts = [m.weights(c) for m, c in zip(maps, channels or [None] * len(maps), strict=True)]
    weight = torch.cat([w for w, _ in parts], -1)[organism].to(x.dtype)
    bias = torch.cat([b for _, b in parts], -1)[organism][..., None].to(x.dtype)
    joined = torch.baddbmm(bias, weight.transpose(1, 2), x.transpose(1, 2))
    return [y.transpose(1, 2) for y in joined.split([b.shape[-1] for _, b in parts], 1)]


class GenomeTracks(nn.Module):
    """Non-negative tracks at one resolution, in scaled space."""

    def __init__(self, sizes: Sizes, n_in: int, channels: int) -> None:
        super().__init__()
        self.learnt_scale = nn.Parameter(torch.zeros(sizes.n_organisms, channels))
        self.multi_organism_linear = MultiOrganismLinear(sizes.n_organisms, n_in, channels)

    def activate(self, logits: Tensor, organism: Tensor, channels: Tensor | None = None) -> Tensor:
        """[B, S, P] of the linear map (of `channels` int64 [P], by default all) -> [B, S, P] >= 0."""
        scale = some_channels(self.learnt_scale, channels)
        gain = F.softplus(scale)[organism][:, None].to(logits.dtype)
        return ScaledSoftplus.apply(logits, gain)


class TracksHead(nn.Module):
    """A track output type at its resolutions, each a `GenomeTracks`."""

    def __init__(self, sizes: Sizes, output_type: OutputType) -> None:
        super().__init__()
        widths = {1: sizes.embedding_1bp, TOKEN: sizes.embedding_128bp}
        self.resolutions = OUTPUTS[output_type].resolutions
        for r in self.resolutions:
            head = GenomeTracks(sizes, widths[r], sizes.channels[output_type])
            self.add_module(f"resolution_{r}", head)

    def at(self, resolution: int) -> GenomeTracks:
        """The tracks at a resolution."""
        return self.get_submodule(f"resolution_{resolution}")


class LinearHead(nn.Module):
    """A linear map an organism: contact maps, splice-site classes and splice-site usage."""

    def __init__(self, sizes: Sizes, n_in: int, channels: int) -> None:
        super().__init__()
        self.multi_organism_linear = MultiOrganismLinear(sizes.n_organisms, n_in, channels)

    def forward(self, x: Tensor, organism: Tensor, channels: Tensor | None = None) -> Tensor:
        """[B, ..., D] -> [B, ..., P], or only `channels` int64 [P]."""
        return self.multi_organism_linear(x, organism, channels)

    def at(self, resolution: int) -> LinearHead:
        """Itself: it has one resolution."""
        return self


def site_predictions(output_type: OutputType, logits: Tensor) -> dict[str, Tensor]:
    """`logits` and float32 `probabilities` [B, S, P] of splice sites (classes) or usage (fractions)."""
    classes = output_type is OutputType.SPLICE_SITES
    probabilities = logits.float().softmax(-1) if classes else torch.sigmoid(logits.float())
    return {"logits": logits, "probabilities": probabilities}


class JunctionHead(Sharded):
    """Counts of every donor with every acceptor, by biosample and strand.

    A site is its 1-bp embedding, mapped, scaled and shifted by biosample and turned by its position; a
    count is the softplus of the product of a donor and an acceptor.
    """

    def __init__(self, sizes: Sizes, channels: int) -> None:
        super().__init__()
        self.hidden, self.biosamples = sizes.junction_hidden, channels // 2
        self.max_position = sizes.junction_max_position
        self.multi_organism_linear = MultiOrganismLinear(sizes.n_organisms, sizes.embedding_1bp, self.hidden)
        for kind in SITE_KINDS:
            embed = Embed(sizes.n_organisms, 2 * self.biosamples * self.hidden)
            self.add_module(f"{kind}_logits", embed)

    def _features(
        self, kind: int, h: Tensor, positions: Tensor, organism: Tensor, span: slice | Tensor
    ) -> Tensor:
        """Turned site features [B, K, biosamples of span, hidden]."""
        table = self.get_submodule(f"{SITE_KINDS[kind]}_logits")(organism).to(h.dtype)
        scale, offset = table.view(-1, 2, self.biosamples, self.hidden)[:, :, span].unbind(1)
        x = torch.addcmul(offset[:, None], scale[:, None], h[:, kind, :, None])
        cos, sin = rope_angles(positions[:, kind], self.hidden, self.max_position)
        return rotate(x, cos[:, :, None], sin[:, :, None])

    def _strand(
        self, donor: int, h: Tensor, positions: Tensor, organism: Tensor, chosen: Tensor | None
    ) -> Tensor:
        """Counts [B, K donors, K acceptors, biosamples] of the strand whose donors are `donor`.

        chosen: biosamples int64 [n] to compute, by default all.
        """
        step = max(1, JUNCTION_CHUNK // max(1, h.shape[0] * h.shape[2] * self.hidden))
        count = self.biosamples if chosen is None else len(chosen)
        parts = [h.new_zeros(h.shape[0], h.shape[2], h.shape[2], 0)] if count == 0 else []
        for start in range(0, count, step):
            span = slice(start, start + step) if chosen is None else chosen[start : start + step]
            left = self._features(donor, h, positions, organism, span)
            right = self._features(donor + 1, h, positions, organism, span)
            parts.append(F.softplus(torch.einsum("bdtc,batc->bdat", left, right)))
        return torch.cat(parts, -1)

    def forward(
        self, x: Tensor, organism: Tensor, positions: Tensor, channels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """x [B, S, D], positions int64 [B, 4, K] in order of `SiteClass`, -1 where there is no site.

        -> values [B, K, K, P] (0 where masked), positions, mask bool [B, K, K, P]. channels: only these
        int64 [P], ascending: those of + before those of -. Columns without any site are filled, not computed.
        """
        safe = without_padding(positions).clamp_min(0)
        h = at_sites(self.multi_organism_linear, x, organism, safe.flatten(1), self.layout)
        return self.counts(h.unflatten(1, safe.shape[1:]), organism, positions, channels)

    def counts(
        self, h: Tensor, organism: Tensor, positions: Tensor, channels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As `forward`, of mapped embeddings h [B, 4, k, hidden] of the sites, k of `without_padding`."""
        chosen: tuple[Tensor | None, Tensor | None] = (None, None)
        if channels is not None:
            plus = channels < self.biosamples
            chosen = (channels[plus], channels[~plus] - self.biosamples)
        safe = without_padding(positions).clamp_min(0)
        kinds = (SiteClass.DONOR_PLUS, SiteClass.DONOR_MINUS)
        strands = zip(kinds, chosen, strict=True)
        values = torch.cat([self._strand(kind, h, safe, organism, some) for kind, some in strands], -1)
        if padding := positions.shape[-1] - safe.shape[-1]:
            values = F.pad(values, (0, 0, 0, padding, 0, padding))
        mask = some_channels(junction_mask(positions, self.biosamples), channels)
        return {"values": values.masked_fill(~mask, 0), "positions": positions, "mask": mask}


def at_sites(
    linear: MultiOrganismLinear, x: Tensor, organism: Tensor, positions: Tensor, layout: Layout
) -> Tensor:
    """Mapped embeddings [B, N, out] of x [B, S, D] at positions int64 [B, N] of the window, of any rank."""
    local = positions - layout.offset(x.shape[1])
    index = local.clamp(0, x.shape[1] - 1) if layout.split else local
    h = linear(x.gather(1, index[..., None].expand(-1, -1, x.shape[-1])), organism)
    if not layout.split:
        return h
    own = (local >= 0) & (local < x.shape[1])
    return layout.row_total(torch.where(own[..., None], h, 0).float()).to(h.dtype)


def junction_mask(positions: Tensor, biosamples: int) -> Tensor:
    """bool [B, K, K, 2 * biosamples]: both sites exist; + half of the channels first."""
    real = positions >= 0
    plus = real[:, SiteClass.DONOR_PLUS, :, None] & real[:, SiteClass.ACCEPTOR_PLUS, None, :]
    minus = real[:, SiteClass.DONOR_MINUS, :, None] & real[:, SiteClass.ACCEPTOR_MINUS, None, :]
    return torch.stack((plus, minus), -1).repeat_interleave(biosamples, -1)


def without_padding(positions: Tensor) -> Tensor:
    """positions int64 [B, 4, K] -> [B, 4, k]: without the last columns that hold no site at all; k >= 1.

    The junction tensor grows with the square of K, and few windows have as many sites as K allows.
    """
    used = (positions >= 0).flatten(0, 1).any(0).nonzero()
    return positions[..., : int(used.max()) + 1 if len(used) else 1]


def choose_sites(probabilities: Tensor, n: int, threshold: float, layout: Layout = SINGLE) -> Tensor:
    """Positions int64 [B, 4, K] of the likeliest sites of each class, ascending, -1 padded at the end.

    probabilities [B, S, 5]; K = min(n, S); sites at or below `threshold` are left out.
    """
    part = probabilities.shape[1]
    length = part * layout.sequence_ranks
    values, index = probabilities[..., : SiteClass.NONE].transpose(1, 2).topk(min(n, part), dim=-1)
    if layout.split:  # the likeliest of every rank's likeliest
        values, index = layout.gather(values, -1), layout.gather(index + layout.offset(part), -1)
        values, best = values.topk(min(n, length), dim=-1)
        index = index.gather(-1, best)
    ordered = index.masked_fill(values <= threshold, length).sort(-1).values
    return ordered.masked_fill(ordered == length, -1)


def build_head(sizes: Sizes, output_type: OutputType) -> nn.Module:
    """The head of an output type."""
    channels = sizes.channels[output_type]
    kind = OUTPUTS[output_type].kind
    if kind is Kind.TRACKS:
        return TracksHead(sizes, output_type)
    if kind is Kind.JUNCTIONS:
        return JunctionHead(sizes, channels)
    width = sizes.pair_channels if kind is Kind.CONTACTS else sizes.embedding_1bp
    return LinearHead(sizes, width, channels)
