"""Heads of the variance output: how far the teachers of a student lie from what it predicts.

One linear map an organism and output type gives the log variance of a teacher's prediction about the
student's, in the even space (`model/even.py`). Maps read what the heads read, detached, so that the rest of
the network is the same with and without them. Tracks are read from the 128-bp embedding, sites and usage
from the 1-bp one, contact maps from the pair one; the log variance of a junction is the sum of a part of its
donor and one of its acceptor. This output is not published. Torch only; part of the numerical core.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from megabase.model.heads import MultiOrganismLinear, at_sites, some_channels, without_padding
from megabase.model.sizes import Sizes
from megabase.parallel import Sharded
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass

if TYPE_CHECKING:
    from megabase.model.alphagenome import Embeddings

FLOOR = 1e-6  # least variance: teachers that differ by a thousandth agree
# Deviation that the maps start at, everywhere.
START = {Kind.TRACKS: 0.1, Kind.CONTACTS: 0.1, Kind.JUNCTIONS: 0.1, Kind.SITES: 0.01, Kind.USAGE: 0.1}


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
                linear.b.fill_(2 * math.log(START[kind]) / (2 if junctions else 1))
            self.add_module(str(output), linear)

    def forward(
        self,
        embeddings: Embeddings,
        organism: Tensor,
        outputs: Collection[OutputType],
        positions: Tensor | None = None,
        channels: Mapping[OutputType, Tensor] | None = None,
    ) -> dict[OutputType, Tensor]:
        """Log variances float32: tracks [B, T, P], contact maps [B, Q, Q, P], sites and usage [B, S, P],
        junctions [B, K, K, P] at positions int64 [B, 4, K].

        channels: by output type only these int64 [P], ascending. No gradient leaves these maps.
        """
        out: dict[OutputType, Tensor] = {}
        for output in OUTPUTS:
            if output not in outputs or not hasattr(self, str(output)):
                continue
            linear, chosen = self.get_submodule(str(output)), (channels or {}).get(output)
            kind = OUTPUTS[output].kind
            if kind is Kind.JUNCTIONS:
                if positions is None:
                    raise ValueError("the spread of splice_junctions needs splice_positions [B, 4, K]")
                raw = some_channels(self._junctions(linear, embeddings.bp1, organism, positions), chosen)
            else:
                source = {Kind.TRACKS: embeddings.bp128, Kind.CONTACTS: embeddings.pair}
                raw = linear(source.get(kind, embeddings.bp1).detach(), organism, chosen)
            out[output] = torch.logaddexp(raw.float(), raw.new_full((), math.log(FLOOR)).float())
        return out

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
