"""Parts of a forward pass on a part of the window, to the same numbers as the whole pass.

Without gradients, norms are constants and every convolution is local, so that a token follows from 513 bases
more on either side of it, and a position of the decoder from 6 tokens more. Only the tower sees the whole
window. At a window's ends convolutions see zeros, which are not what a longer window has there; a part that
begins or ends with the window is computed with its end, not beyond it.

Positions and tokens are those of the window, 0-based half-open. Source: AlphaGenome preprint, Methods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megabase.model.alphagenome import AlphaGenome
from megabase.model.heads import site_predictions, some_channels
from megabase.model.scaling import unscale_predictions
from megabase.model.sizes import N_DOWNSAMPLE, RESOLUTIONS, STEM_WIDTH, WIDTH, Sizes
from megabase.spec import OUTPUTS, TOKEN, Kind, OutputType

SEEN = WIDTH // 2  # positions beyond its own that a residual convolution sees
ENCODER_REACH = STEM_WIDTH // 2 + SEEN + sum(2 * SEEN * 2**i for i in range(1, N_DOWNSAMPLE + 1))  # bases
ENCODER_MARGIN = -(-ENCODER_REACH // TOKEN)  # tokens that hold them
MULTIPLE = 4  # lengths that wide convolutions take fast (`winograd`)

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens [B, C, t] of a part and the skips at 1, 2, ..., 64 bp, each [B, C_i, t * 128 / 2**i].

    The skips are those that the decoder adds, after its own convolution of one position
    (`SequenceDecoder.adapt`): what alleles share of it is computed once. None: [].
    """

    tokens: Tensor
    skips: list[Tensor]

    def cut(self, first: int, last: int) -> Encoded:
        """Tokens [first, last) of the part, and their skips."""
        return Encoded(self.tokens[..., first:last], cut_skips(self.skips, first, last))


def cut_skips(skips: Sequence[Tensor], first: int, last: int) -> list[Tensor]:
    """Skips of tokens [first, last) of a part."""
    return [x[..., first * (TOKEN >> i) : last * (TOKEN >> i)] for i, x in enumerate(skips)]


def join_skips(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Skips of neighbouring parts as those of one."""
    return [torch.cat(level, -1) for level in zip(*parts, strict=True)] if len(parts) > 1 else list(parts[0])


def encode_part(
    model: AlphaGenome, sequence: Tensor, before: int, after: int, *, skips: bool = True
) -> Encoded:
    """One-hot bases [B, n, 4] of whole tokens -> what they encode to, less `before` and `after` tokens.

    Exact where both are `ENCODER_MARGIN`, or 0 at an end of the window.
    """
    tokens, seen = model.encode(sequence)
    found = Encoded(tokens, seen if skips else []).cut(before, tokens.shape[-1] - after)
    return Encoded(found.tokens, model.sequence_decoder.adapt(found.skips)) if skips else found


@dataclass(frozen=True, slots=True)
class DecoderPlan:
    """What is computed of each level for the positions of a span.

    ranges: positions of the input of every block, coarse to fine, in units of its level, and last the range
    of the finest level; first and last: the span in bases.
    """

    first: int
    last: int
    ranges: tuple[Span, ...]

    @property
    def tokens(self) -> Span:
        """Tokens that are read."""
        return self.ranges[0]

    @property
    def shape(self) -> tuple:
        """What two plans share that may be computed as one batch."""
        start = self.tokens[0]
        levels = [TOKEN >> i for i in range(len(self.ranges))]
        own = tuple(
            (a - start * TOKEN // w, b - start * TOKEN // w)
            for (a, b), w in zip(self.ranges, levels, strict=True)
        )
        return (self.first - start * TOKEN, self.last - start * TOKEN, own)


def plan_decoder(sizes: Sizes, first: int, last: int, window: int) -> DecoderPlan:
    """How the decoder gives bases [first, last) of a window; ValueError for a span that is not in it."""
    if not 0 <= first < last <= window:
        raise ValueError(f"span [{first}, {last}) is not in a window of {window} bases")
    resolution = sizes.resolution
    own = _whole((first // resolution, -(-last // resolution)), window // resolution)
    ranges = [own]
    for level in range(RESOLUTIONS.index(resolution), RESOLUTIONS.index(resolution) + sizes.decoder_blocks):
        coarse = window >> (level + 1)
        seen = (own[0] - SEEN) // 2, -((-own[1] - SEEN) // 2)
        own = _whole((max(seen[0], 0) - SEEN, min(seen[1], coarse) + SEEN), coarse)
        ranges.append(own)
    return DecoderPlan(first, last, tuple(reversed(ranges)))


def _whole(span: Span, length: int) -> Span:
    """A span within [0, length) that holds as much of `span` as is there, of a multiple of `MULTIPLE`."""
    first, last = max(span[0], 0), min(span[1], length)
    wide = min(-(-(last - first) // MULTIPLE) * MULTIPLE, length)
    first = min(first, length - wide)
    return first, first + wide


def decode_part(model: AlphaGenome, plan: DecoderPlan, tokens: Tensor, skips: Sequence[Tensor]) -> Tensor:
    """Tokens [B, t, C] of `plan.tokens`, skips (`Encoded`) -> [B, C_r, n] of the finest level's range."""
    decoder = model.sequence_decoder
    x = tokens.transpose(1, 2)
    at = plan.ranges[0][0]
    for i, (_, block) in enumerate(decoder.levels()):
        level, (first, last) = N_DOWNSAMPLE - i, plan.ranges[i]
        start = plan.tokens[0] * (TOKEN >> level)
        x = block.join(x, skips[level][..., 2 * first - start : 2 * last - start])
        at = 2 * first
        wanted = plan.ranges[i + 1]
        x = x[..., wanted[0] - at : wanted[1] - at]
    return x


def embed_part(
    model: AlphaGenome, plan: DecoderPlan, tokens: Tensor, skips: Sequence[Tensor], organism: Tensor
) -> Tensor:
    """1-bp output embedding [B, n, D] of the span of a plan, of tokens [B, t, C] of `plan.tokens`."""
    x = decode_part(model, plan, tokens, skips)
    resolution, start = model.sizes.resolution, plan.tokens[0]
    first, last = (p * resolution for p in plan.ranges[-1])
    own = (first // TOKEN, -(-last // TOKEN))
    coarse = model.output_embedder(tokens[:, own[0] - start : own[1] - start], organism)
    found = model.output_embedder_1(x, coarse, organism, first - own[0] * TOKEN)
    return found[:, plan.first - first : plan.last - first]


class FinestHeads:
    """The sequence heads of one organism at their finest resolution, with their weights taken out once.

    channels: int64 [P] by output type, those that are predicted (of splice sites all); absent: all.
    """

    def __init__(self, model: AlphaGenome, organism: int, channels: Mapping[OutputType, Tensor]) -> None:
        self._model, self._organism, self._channels = model, organism, channels
        self._joined: dict[tuple[OutputType, ...], tuple[Tensor, Tensor, list[int]]] = {}

    def predict(self, x: Tensor, outputs: Collection[OutputType]) -> dict[OutputType, Tensor]:
        """Predictions [B, n, P] in the units of the tracks.

        x [B, n, D]: output embedding of the resolution that all of `outputs` share. Junctions and contact
        maps have functions of their own.
        """
        weight, bias, sizes = self._weights(tuple(outputs), x)
        logits = torch.matmul(x, weight) + bias
        return {
            output: self._finish(output, y)
            for output, y in zip(outputs, logits.split(sizes, -1), strict=True)
        }

    def _weights(self, outputs: tuple[OutputType, ...], like: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Weights [D, P] and biases [P] of some heads side by side, and the channels of each."""
        if outputs not in self._joined:
            parts = [self._linear(output) for output in outputs]
            joined = [torch.cat([part[i] for part in parts], -1).to(like) for i in (0, 1)]
            self._joined[outputs] = (*joined, [len(part[1]) for part in parts])
        return self._joined[outputs]

    def _linear(self, output: OutputType) -> tuple[Tensor, Tensor]:
        linear = self._model.head_of(output).at(OUTPUTS[output].resolutions[0]).multi_organism_linear
        chosen = self._channels.get(output)
        return tuple(some_channels(value[self._organism], chosen) for value in (linear.w, linear.b))

    def _finish(self, output: OutputType, logits: Tensor) -> Tensor:
        if OUTPUTS[output].kind is not Kind.TRACKS:
            return site_predictions(output, logits)["probabilities"]
        chosen, resolution = self._channels.get(output), OUTPUTS[output].resolutions[0]
        index = torch.full((len(logits),), self._organism, device=logits.device)
        scaled = self._model.head_of(output).at(resolution).activate(logits, index, chosen).float()
        mean = some_channels(self._model.track_mean(output), chosen)[index][:, None]
        return unscale_predictions(scaled, mean, resolution, squash=OUTPUTS[output].squash)


def contact_columns(model: AlphaGenome, pair: Tensor, bins: Sequence[int]) -> Tensor:
    """What the contact head reads of one window's pair tensor [Q, Q, C]: own and mirrored, [2, n, Q, C]."""
    return torch.stack((pair[list(bins)], pair[:, list(bins)].transpose(0, 1)))


def predict_contacts(
    model: AlphaGenome, columns: Tensor, organism: Tensor, channels: Tensor | None = None
) -> Tensor:
    """Contacts [n, Q, P] of bins with all bins, of `contact_columns` [2, n, Q, C]."""
    embedded = model.output_pair.embed_mean(columns[0] + columns[1], organism.expand(columns.shape[1]))
    return model.head_of(OutputType.CONTACT_MAPS)(embedded, organism.expand(columns.shape[1]), channels)
