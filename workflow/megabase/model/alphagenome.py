"""The whole network: DNA in, eleven kinds of output out.

`forward` is a chain of `encode`, `transform`, `embed` (which may `decode`) and `predict_heads`, which may
be called one by one. Source: AlphaGenome (bioRxiv 2025.06.25.661532), Methods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from megabase.model.attention import MHABlock, TransformerTower
from megabase.model.convolution import SequenceDecoder, SequenceEncoder, StandardizedConv1D
from megabase.model.heads import (
    JunctionHead,
    OutputEmbedder,
    OutputEmbedder1,
    OutputPair,
    build_head,
    choose_sites,
    linear_together,
    site_predictions,
    some_channels,
    without_padding,
)
from megabase.model.initial import draw_weights
from megabase.model.layers import Embed
from megabase.model.recompute import mark_levels, run
from megabase.model.scaling import unscale_predictions
from megabase.model.sizes import Sizes
from megabase.model.spread import SpreadHeads
from megabase.parallel import Sharded
from megabase.spec import OUTPUTS, PAIR, TOKEN, TRACK_OUTPUTS, Kind, OutputType

Predictions = dict[OutputType, dict[str, Tensor]]
Chosen = Mapping[OutputType, Tensor]  # channels of a head to compute, int64 [P] ascending; absent: all


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What the heads read; None where no requested head reads it.

    bp1 [B, S, D], bp128 [B, T, D'], pair [B, Q, Q, C].
    """

    bp1: Tensor | None
    bp128: Tensor | None
    pair: Tensor | None

    def detach(self) -> Embeddings:
        """The same values; no gradient of what reads them goes on to what made them."""
        parts = (self.bp1, self.bp128, self.pair)
        return Embeddings(*(None if x is None else x.detach() for x in parts))


class AlphaGenome(Sharded):
    """AlphaGenome at any sizes. Submodules carry the names of the published checkpoint.

    Where a window is split over ranks (`parallel.attach`), every rank calls with its part of the sequence and
    gets its part of the predictions: positions, tokens, rows of contact maps, and junctions whole.

    seed: draws the initial parameters, each from a generator of its own name, so that a parameter's
    start does not depend on which others exist; None leaves them unset, for a caller who loads them.
    """

    def __init__(self, sizes: Sizes, *, seed: int | None = 0) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed = Embed(sizes.n_organisms, sizes.trunk)
        self.sequence_encoder = SequenceEncoder(sizes)
        self.transformer_tower = TransformerTower(sizes)
        self.sequence_decoder = SequenceDecoder(sizes)
        self.output_embedder = OutputEmbedder(sizes)
        self.output_embedder_1 = OutputEmbedder1(sizes)
        self.output_pair = OutputPair(sizes)
        self.head = nn.ModuleDict({OUTPUTS[o].published_head: build_head(sizes, o) for o in sizes.outputs()})
        self.track_means = nn.Module()
        for output_type in sizes.outputs():
            if output_type in TRACK_OUTPUTS:
                ones = torch.ones(sizes.n_organisms, sizes.channels[output_type])
                self.track_means.register_buffer(output_type, ones)
        if seed is not None:
            draw_weights(self, seed)
        if sizes.spread:
            self.spread = SpreadHeads(sizes)  # starts at constants

    def recompute(self, bases: int) -> None:
        """Forget the activations of levels up to `bases` a position and compute them again; 0: none.

        1 for the 1-bp level alone, 128 for everything up to the tower (`model/recompute.py`).
        """
        own = [(1, self.output_embedder_1), (TOKEN, self.output_embedder)]
        parts = (self.sequence_encoder, self.transformer_tower, self.sequence_decoder)
        mark_levels(chain(own, *(part.levels() for part in parts)), bases)

    def keep_constants(self, on: bool = True) -> None:
        """Keep what follows from the weights alone between passes without gradients: for inference.

        Convolutions keep their standardized weights; on CPUs, in float32, wide ones the form that `winograd`
        multiplies, which takes 8/5 of their memory.
        """
        for module in self.modules():
            if isinstance(module, StandardizedConv1D):
                module.constants.keep(on)

    def compile_attention(self, on: bool = True) -> None:
        """Attention by torch.compile: worth its half minute of compiling for windows from 131,072 bp.

        ValueError, when it is first used, where there is no C++ compiler.
        """
        for module in self.modules():
            if isinstance(module, MHABlock):
                module.compiled = on

    def encode(self, sequence: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, S, 4] -> (128-bp tokens [B, C, T], skips at 1, 2, ..., 64 bp, each [B, C_i, S / 2**i])."""
        return self.sequence_encoder(sequence.transpose(1, 2).contiguous())

    def transform(
        self, tokens: Tensor, organism: Tensor, bins: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """[B, C, T] of `encode` -> (tokens [B, T, C], pair [B, Q, Q, P]).

        bins: int64 [B, n] of 2,048 bp, those whose tokens are wanted; the others are NaN.
        """
        x = tokens.transpose(1, 2)
        return self.transformer_tower(x + self.embed(organism)[:, None].to(x.dtype), bins)

    def decode(self, tokens: Tensor, skips: list[Tensor]) -> Tensor:
        """Tokens [B, T, C] of `transform` and the skips of `encode` -> [B, C_r, S / r] at r bp."""
        return self.sequence_decoder(tokens.transpose(1, 2), skips)

    def embed_outputs(
        self,
        tokens: Tensor,
        pair: Tensor,
        skips: list[Tensor],
        organism: Tensor,
        outputs: Collection[OutputType],
    ) -> Embeddings:
        """What the heads of `outputs` read; the decoder runs only if one of them predicts at 1 bp."""
        bp1 = bp128 = contacts = None
        if any(OUTPUTS[o].resolutions != (PAIR,) for o in outputs):
            bp128 = run(self.output_embedder, tokens, organism)
        if any(1 in OUTPUTS[o].resolutions for o in outputs):
            bp1 = run(self.output_embedder_1, self.decode(tokens, skips), bp128, organism)
        if OutputType.CONTACT_MAPS in outputs:
            contacts = self.output_pair(pair, organism)
        return Embeddings(bp1, bp128, contacts)

    def predict_heads(
        self,
        embeddings: Embeddings,
        organism: Tensor,
        outputs: Collection[OutputType],
        splice_positions: Tensor | None = None,
        channels: Chosen | None = None,
    ) -> Predictions:
        """Predictions of `outputs`; without splice_positions junctions are read at the likeliest sites."""
        chosen = channels or {}
        logits = self._sequence_logits(embeddings, organism, outputs, chosen)
        out: Predictions = {}
        for output_type in self.sizes.outputs():
            if output_type not in outputs or output_type is OutputType.SPLICE_JUNCTIONS:
                continue
            head, kind = self.head_of(output_type), OUTPUTS[output_type].kind
            if kind is Kind.TRACKS:
                out[output_type] = {
                    f"scaled_{r}bp": head.at(r).activate(
                        logits[output_type, r], organism, chosen.get(output_type)
                    )
                    for r in OUTPUTS[output_type].resolutions
                }
            elif kind is Kind.CONTACTS:
                out[output_type] = {"values": head(embeddings.pair, organism, chosen.get(output_type))}
            else:
                out[output_type] = site_predictions(output_type, logits[output_type, 1])
        if OutputType.SPLICE_JUNCTIONS in outputs:
            if splice_positions is None:
                splice_positions = self.splice_sites(embeddings.bp1, organism)
            junctions: JunctionHead = self.head_of(OutputType.SPLICE_JUNCTIONS)
            out[OutputType.SPLICE_JUNCTIONS] = junctions(
                embeddings.bp1, organism, splice_positions.long(), chosen.get(OutputType.SPLICE_JUNCTIONS)
            )
        return out

    def _sequence_logits(
        self, embeddings: Embeddings, organism: Tensor, outputs: Collection[OutputType], channels: Chosen
    ) -> dict[tuple[OutputType, int], Tensor]:
        """Linear maps of all track, site and usage heads, [B, S / r, P] by output type and resolution r."""
        out: dict[tuple[OutputType, int], Tensor] = {}
        for r, x in ((1, embeddings.bp1), (TOKEN, embeddings.bp128)):
            maps = {
                o: self.head_of(o).at(r).multi_organism_linear
                for o in self.sizes.outputs()
                if o in outputs and r in OUTPUTS[o].resolutions and o is not OutputType.SPLICE_JUNCTIONS
            }
            if maps:
                found = linear_together(list(maps.values()), x, organism, [channels.get(o) for o in maps])
                out |= {(o, r): y for o, y in zip(maps, found, strict=True)}
        return out

    def forward(
        self,
        sequence: Tensor,
        organism: Tensor,
        *,
        outputs: Collection[OutputType] | None = None,
        splice_positions: Tensor | None = None,
        channels: Chosen | None = None,
    ) -> Predictions:
        """Predictions in scaled space of one-hot DNA.

        sequence: float [B, S, 4], S a multiple of 2,048; its dtype is that of the activations. organism:
        int64 [B]. outputs: output types to compute, by default all that have a head. splice_positions:
        int [B, 4, K], 0-based in the window, in order of `SiteClass`, -1 where there is no site. channels:
        by output type the channels int64 [P], ascending, that are computed; by default, and of splice-site
        classes always, all. Returns, by output type: tracks `scaled_1bp` [B, S, P] and `scaled_128bp`
        [B, T, P]; contact maps `values` [B, Q, Q, P]; splice sites and usage `logits` and `probabilities`
        [B, S, P]; junctions `values` and `mask` [B, K, K, P] and `positions` [B, 4, K].
        """
        wanted = self._check(sequence, organism, outputs, channels)
        embeddings = self.embeddings(sequence, organism, wanted)
        return self.predict_heads(embeddings, organism, wanted, splice_positions, channels)

    def embeddings(self, sequence: Tensor, organism: Tensor, outputs: Collection[OutputType]) -> Embeddings:
        """Everything before the heads of `outputs`: one-hot DNA [B, S, 4] to what `predict_heads` reads."""
        tokens, skips = self.encode(sequence)
        tokens, pair = self.transform(tokens, organism)
        return self.embed_outputs(tokens, pair, skips, organism, outputs)

    def splice_sites(self, bp1: Tensor, organism: Tensor) -> Tensor:
        """Likeliest splice sites int64 [B, 4, K] of the 1-bp embedding, for the junction head.

        K is that of the class with most sites, at most `max_sites`.
        """
        if OutputType.SPLICE_SITES not in self.sizes.outputs():
            raise ValueError(
                "junctions were asked of a model without a splice-site head: pass splice_positions [B, 4, K]"
            )
        with torch.no_grad():
            logits = self.head_of(OutputType.SPLICE_SITES)(bp1, organism)
            found = site_predictions(OutputType.SPLICE_SITES, logits)["probabilities"]
        return without_padding(
            choose_sites(found, self.sizes.max_sites, self.sizes.site_threshold, self.layout)
        )

    def set_track_means(self, output_type: OutputType, means: Tensor) -> None:
        """Set the mean of non-zero bases of every track, float [n_organisms, P]; NaN or 0 counts as 1."""
        if output_type not in TRACK_OUTPUTS or output_type not in self.sizes.outputs():
            raise ValueError(f"track means of {output_type}: this model has no such track head")
        buffer = self.track_mean(output_type)
        if means.shape != buffer.shape:
            raise ValueError(
                f"track means of {output_type}: found shape {tuple(means.shape)}, wanted "
                f"{tuple(buffer.shape)} (organisms, channels)"
            )
        values = means.to(buffer)
        buffer.copy_(torch.where(torch.isfinite(values) & (values > 0), values, 1.0))

    def track_mean(self, output_type: OutputType) -> Tensor:
        """float32 [n_organisms, P] of a track output type."""
        return getattr(self.track_means, output_type)

    def unscale(
        self, predictions: Predictions, organism: Tensor, channels: Chosen | None = None
    ) -> Predictions:
        """Predictions with `1bp` [B, S, P] and `128bp` [B, T, P] added, in the units of the tracks.

        A 128-bp value is the sum over its bases. Other output types pass unchanged. channels: those that
        the predictions were computed for.
        """
        out: Predictions = {}
        for output_type, values in predictions.items():
            out[output_type] = dict(values)
            if OUTPUTS[output_type].kind is Kind.TRACKS:
                mean = some_channels(self.track_mean(output_type), (channels or {}).get(output_type))
                mean = mean[organism][:, None]
                squash = OUTPUTS[output_type].squash
                for r in OUTPUTS[output_type].resolutions:
                    scaled = values[f"scaled_{r}bp"].float()
                    out[output_type][f"{r}bp"] = unscale_predictions(scaled, mean, r, squash=squash)
        return out

    def head_of(self, output_type: OutputType) -> nn.Module:
        """The head of an output type; its parts carry the published names."""
        return self.head[OUTPUTS[output_type].published_head]

    def _check(
        self,
        sequence: Tensor,
        organism: Tensor,
        outputs: Collection[OutputType] | None,
        channels: Chosen | None,
    ) -> list[OutputType]:
        if sequence.ndim != 3 or sequence.shape[-1] != 4 or sequence.shape[1] % PAIR or not sequence.shape[1]:
            raise ValueError(
                f"sequence has shape {tuple(sequence.shape)}; wanted [B, S, 4] with S a multiple of {PAIR}"
            )
        if organism.shape != sequence.shape[:1]:
            raise ValueError(f"organism has shape {tuple(organism.shape)}; wanted [{sequence.shape[0]}]")
        known = self.sizes.outputs()
        wanted = known if outputs is None else [OutputType(o) for o in outputs]
        if missing := [str(o) for o in wanted if o not in known]:
            raise ValueError(f"this model has no head for {missing}; it has {[str(o) for o in known]}")
        if OutputType.SPLICE_SITES in (channels or {}):
            raise ValueError("channels of splice_sites: the five classes share one softmax; take all of them")
        return wanted
