"""Floating-point operations of a pass through the network, by closed formula; needs no torch.

Multiplications and additions of matrix products and convolutions, 2 each, as profilers count them; norms,
activations and sums are left out. The formula is proven on the network itself (tests/unit/test_flops.py).
Faster algorithms for the same product (`winograd`) count as the product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from megabase.model.sizes import N_DOWNSAMPLE, STEM_WIDTH, WIDTH, Sizes
from megabase.spec import OUTPUTS, PAIR, TOKEN, Kind, OutputType


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the network: its name, the bases that a position of it stands for (0: a head), its work."""

    name: str
    level: int
    flop: int


def forward_parts(
    sizes: Sizes, bases: int, outputs: Collection[OutputType] | None = None, sites: int | None = None
) -> list[Part]:
    """Parts of a forward pass over one sequence of `bases` bases (a multiple of 2,048), in their order.

    outputs: output types that are computed, by default all with a head. sites: splice sites of a class in the
    junction matrix, by default as many as the network may have; they are given, not searched.
    """
    if bases < PAIR or bases % PAIR:
        raise ValueError(f"{bases} bases; wanted a multiple of {PAIR}")
    wanted = [o for o in sizes.outputs() if outputs is None or o in outputs]
    parts = [*_encoder(sizes, bases), *_tower(sizes, bases)]
    if any(OUTPUTS[o].resolutions != (PAIR,) for o in wanted):
        flop = 2 * (bases // TOKEN) * sizes.trunk * sizes.embedding_128bp
        parts.append(Part("output embedder, 128 bp", TOKEN, flop))
    if any(1 in OUTPUTS[o].resolutions for o in wanted):
        parts += _decoder(sizes, bases)
    return [*parts, *_heads(sizes, bases, wanted, sizes.max_sites if sites is None else sites)]


def forward_flop(
    sizes: Sizes, bases: int, outputs: Collection[OutputType] | None = None, sites: int | None = None
) -> int:
    """Operations of a forward pass over one sequence; arguments as of `forward_parts`."""
    return sum(part.flop for part in forward_parts(sizes, bases, outputs, sites))


def read_flop(sizes: Sizes, bases: int, work: Mapping[str, int]) -> int:
    """Operations of predictions at chosen places of windows of `bases` bases (`predictors/windows.py`).

    work: bases computed by part of `forward_parts` (`encoder` and `skips` for all of their levels; of a head,
    the bases at its finest resolution), how many times the `tower` ran, and the bases whose tokens its
    `last block` computed. ValueError for a part that there is not.
    """
    whole = {part.name: part.flop for part in forward_parts(sizes, bases)}
    levels = {name: sum(flop for part, flop in whole.items() if part.startswith(f"{name}, "))
              for name in ("encoder", "skips")}  # fmt: skip
    last = _last_block(sizes, bases)
    tower = sum(part.flop for part in _tower(sizes, bases)) - last
    widths = {1: sizes.embedding_1bp, TOKEN: sizes.embedding_128bp}
    total = 0
    for name, amount in work.items():
        if name == "tower":
            total += tower * amount
        elif name == "last block":
            total += last * amount // bases
        elif name in levels:
            total += levels[name] * amount // bases
        elif name.startswith("head ") and name in whole:
            output = OutputType(name.removeprefix("head "))
            r = OUTPUTS[output].resolutions[0]
            per_bin = whole[name] * r // bases  # contacts: a bin with all others
            if r in widths:
                per_bin = 2 * widths[r] * sizes.channels[output]
            total += per_bin * amount // r
        elif name in whole:
            total += whole[name] * amount // bases
        else:
            raise ValueError(f"work of {name!r}, which is no part of a forward pass: {', '.join(whole)}")
    return total


def training_flop(sizes: Sizes, bases: int, sites: int | None = None, *, recompute_bases: int = 0) -> int:
    """Operations of a training step for one window: a forward pass, and twice that for the gradients.

    recompute_bases: levels up to it, and with it the heads, are computed once more (`model/recompute.py`).
    That is an upper bound: torch leaves out the last product of a block, which no gradient needs.
    """
    parts = forward_parts(sizes, bases, sites=sites)
    again = sum(part.flop for part in parts if recompute_bases and part.level <= recompute_bases)
    return 3 * sum(part.flop for part in parts) + again


def _convolution(n_in: int, n_out: int, width: int, positions: int) -> int:
    return 2 * n_in * n_out * width * positions


def _encoder(sizes: Sizes, bases: int) -> Iterator[Part]:
    first = sizes.stage_channels(0)
    stem = _convolution(4, first, STEM_WIDTH, bases) + _convolution(first, first, WIDTH, bases)
    yield Part("encoder, 1 bp", 1, stem)
    for stage in range(1, N_DOWNSAMPLE + 1):
        level = 2**stage
        n_in, n_out = sizes.stage_channels(stage - 1), sizes.stage_channels(stage)
        flop = _convolution(n_in + n_out, n_out, WIDTH, bases // level)
        yield Part(f"encoder, {level} bp", level, flop)


def _decoder(sizes: Sizes, bases: int) -> Iterator[Part]:
    """The decoder, down to its finest level, and the 1-bp output embedder behind it."""
    n_in, finest = sizes.trunk, N_DOWNSAMPLE + 1 - sizes.decoder_blocks
    for stage in range(N_DOWNSAMPLE, finest - 1, -1):
        level, n_out = 2**stage, sizes.stage_channels(stage)
        yield Part(f"skips, {level} bp", level, _convolution(n_out, n_out, 1, bases // level))
        flop = _convolution(n_in, n_out, WIDTH, bases // (2 * level))
        yield Part(f"decoder, {level} bp", level, flop + _convolution(n_out, n_out, WIDTH, bases // level))
        n_in = n_out
    flop = 2 * (bases // sizes.resolution) * sizes.finest_channels * sizes.embedding_1bp
    flop += 2 * (bases // TOKEN) * sizes.embedding_128bp * sizes.embedding_1bp
    yield Part("output embedder, 1 bp", 1, flop)


def _tower(sizes: Sizes, bases: int) -> Iterator[Part]:
    tokens, bins, blocks = bases // TOKEN, bases // PAIR, sizes.tower_blocks
    heads, query, value = sizes.attention_heads, sizes.query_channels, sizes.value_channels
    maps = 2 * tokens * sizes.trunk * (heads * query + query + value + heads * value)
    attention = maps + 2 * tokens * tokens * heads * (query + value)
    mlp = 4 * tokens * sizes.trunk * sizes.mlp_ratio * sizes.trunk
    biases = 2 * bins * bins * sizes.pair_channels * heads  # keeps its activations: no level
    yield Part("attention", TOKEN, blocks * attention)
    yield Part("MLPs", TOKEN, blocks * mlp)
    yield Part("attention biases", 2 * TOKEN, blocks * biases)
    yield Part("pair stack", TOKEN, (blocks + 1) // 2 * _pair_update(sizes, bins))


def _last_block(sizes: Sizes, bases: int) -> int:
    """What the last block of the tower does for its tokens, but for their keys and values."""
    tokens, heads = bases // TOKEN, sizes.attention_heads
    width = heads * (sizes.query_channels + sizes.value_channels)
    mlp = 4 * tokens * sizes.trunk * sizes.mlp_ratio * sizes.trunk
    return 2 * tokens * sizes.trunk * width + 2 * tokens * tokens * width + mlp


def _pair_update(sizes: Sizes, bins: int) -> int:
    channels, width = sizes.pair_channels, sizes.pair_heads * sizes.pair_query_channels
    pairs = bins * bins
    products = 4 * bins * sizes.trunk * width  # queries and keys
    products += 2 * (2 * bins) * sizes.pair_position_features * width
    products += 2 * (2 * bins * 2 * bins) * width  # both with the positions
    products += (
        2 * pairs * width + 2 * pairs * sizes.pair_heads * channels + 4 * bins * sizes.trunk * channels
    )
    row_attention = 6 * pairs * channels * channels + 4 * pairs * bins * channels
    return products + row_attention + 4 * pairs * channels * sizes.pair_mlp_ratio * channels


def _heads(sizes: Sizes, bases: int, outputs: Collection[OutputType], sites: int) -> Iterator[Part]:
    widths = {1: sizes.embedding_1bp, TOKEN: sizes.embedding_128bp}
    for output in outputs:
        channels = sizes.channels[output]
        if OUTPUTS[output].kind is Kind.CONTACTS:
            flop = 2 * (bases // PAIR) ** 2 * sizes.pair_channels * channels
        elif OUTPUTS[output].kind is Kind.JUNCTIONS:
            found = min(sites, bases)
            flop = 2 * 4 * found * sizes.embedding_1bp * sizes.junction_hidden
            flop += 2 * found * found * sizes.junction_hidden * channels
        else:
            flop = sum(2 * (bases // r) * widths[r] * channels for r in OUTPUTS[output].resolutions)
        yield Part(f"head {output}", 0, flop)
