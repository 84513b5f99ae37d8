"""Heads of the variance output: how far the teachers of a student lie from what it predicts.

One linear map an organism and output type gives the log variance of a teacher's prediction about the
student's, in the even space (`model/even.py`). Maps read what the heads read, detached, so that the rest of
the network is the same with and without them. Tracks are read from the 128-bp embedding, sites and usage
from the 1-bp one, contact maps from the pair one; the log variance of a junction is the sum of a part of its
donor and one of its acceptor; that of a probability p is in units of p (1 - p), because almost all bases are
surely no site. This output is not published. Torch only; part of the numerical core.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from megabase.model.heads import (
    MultiOrganismLinear,
    at_sites,
    linear_together,
    some_channels,
    without_padding,
)
from megabase.model.sizes import Sizes
from megabase.parallel import Sharded
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass

if TYPE_CHECKING:
    from megabase.model.alphagenome import Embeddings

FLOOR = 1e-6  # least variance: teachers that differ by a thousandth agree
START = 0.2  # deviation that the maps start at, everywhere (of probabilities: times that of a coin of p)


class SpreadHeads(Sharded):
    """Log variances by output type; the submodules are named by output type."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        widths = {Kind.TRACKS: sizes.embedding_128bp, Kind.CONTACTS: sizes.pair_channels}
        for output in sizes.outputs():
            kind, channels = OUTPUTS[output].kind, sizes.channels[output]
            junctions = kind is Kind.JUNCTIONS  # a part of the donor and a part of the acceptor
            linear = MultiOrganismLinear(
                sizes.n_organisms, widths.get(kind, sizes.embedding_1bp), channels * (2 if junctions else 1)
            )
            with torch.no_grad():
                linear.w.zero_()
                linear.b.fill_(2 * math.log(START) / (2 if junctions else 1))
            self.add_module(str(output), linear)

    def forward(
        self,
        embeddings: Embeddings,
        predictions: Mapping[OutputType, Mapping[str, Tensor]],
        organism: Tensor,
        positions: Tensor | None = None,
        channels: Mapping[OutputType, Tensor] | None = None,
    ) -> dict[OutputType, Tensor]:
        """Log variances float32: tracks [B, T, P], contact maps [B, Q, Q, P], sites and usage [B, S, P],
        junctions [B, K, K, P] at positions int64 [B, 4, K].

        predictions: of the heads, of every output type that is wanted. channels: by output type those int64
        [P], ascending, that were predicted. No gradient leaves these maps.
        """
        chosen = channels or {}
        raw: dict[OutputType, Tensor] = {}
        for source, kinds in ((embeddings.bp128, (Kind.TRACKS,)), (embeddings.bp1, (Kind.SITES, Kind.USAGE))):
            maps = {o: self.get_submodule(str(o)) for o in predictions if OUTPUTS[o].kind in kinds}
            if maps:
                found = linear_together(
                    list(maps.values()), source.detach(), organism, [chosen.get(o) for o in maps]
                )
                raw |= dict(zip(maps, found, strict=True))
        if (output := OutputType.CONTACT_MAPS) in predictions:
            linear = self.get_submodule(output)
            raw[output] = linear(embeddings.pair.detach(), organism, chosen.get(output))
        if (output := OutputType.SPLICE_JUNCTIONS) in predictions:
            if positions is None:
                raise ValueError("the spread of splice_junctions needs splice_positions [B, 4, K]")
            found = self._junctions(self.get_submodule(output), embeddings.bp1, organism, positions)
            raw[output] = some_channels(found, chosen.get(output))
        return {o: _log_variance(raw[o], predictions[o].get("probabilities")) for o in predictions}

    def _junctions(
        self, linear: MultiOrganismLinear, bp1: Tensor, organism: Tensor, positions: Tensor
    ) -> Tensor:
        """[B, K, K, P] at positions int64 [B, 4, K], -1 where there is no site; + half of P first."""
        safe = without_padding(positions).clamp_min(0)
        y = at_sites(linear, bp1.detach(), organism, safe.flatten(1), self.layout).unflatten(
            1, safe.shape[1:]
        )
        donor, acceptor = y.chunk(2, -1)
        half = donor.shape[-1] // 2
        plus = (SiteClass.DONOR_PLUS, SiteClass.ACCEPTOR_PLUS, slice(half))
        minus = (SiteClass.DONOR_MINUS, SiteClass.ACCEPTOR_MINUS, slice(half, None))
        strands = [donor[:, d, :, None, part] + acceptor[:, a, None, :, part] for d, a, part in (plus, minus)]
        padding = positions.shape[-1] - safe.shape[-1]
        return F.pad(torch.cat(strands, -1), (0, 0, 0, padding, 0, padding))


def _log_variance(raw: Tensor, probabilities: Tensor | None) -> Tensor:
    """float32 log variance of a map's output: above the floor, of probabilities in units of p (1 - p)."""
    raw, floor = raw.float(), math.log(FLOOR)
    if probabilities is not None:
        p = probabilities.detach()
        raw = raw + torch.log(p * (1 - p) + FLOOR)
    return torch.logaddexp(raw, raw.new_full((), floor))
