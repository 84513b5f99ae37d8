"""A predictor that sees a window in tiles: what a shorter input gives, at the same positions.

Tiles lie side by side, so that every position is predicted once, from the bases of its tile alone. What joins
two tiles is out of reach: contacts between them are missing (NaN), junctions between them have no read (0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from megabase.channels import TrackRows
from megabase.model.heads import junction_mask, without_padding
from megabase.predictors.base import Predictions, Predictor, check_request
from megabase.spec import OUTPUTS, PAIR, Kind, OutputType, SiteClass

_JUNCTIONS = OutputType.SPLICE_JUNCTIONS
_STRANDS = (
    (SiteClass.DONOR_PLUS, SiteClass.ACCEPTOR_PLUS),
    (SiteClass.DONOR_MINUS, SiteClass.ACCEPTOR_MINUS),
)


class Tiled:
    """Wraps a predictor: windows of whole tiles of `tile` bases are predicted tile by tile."""

    def __init__(self, predictor: Predictor, tile: int) -> None:
        if tile % PAIR or tile < PAIR:
            raise ValueError(f"a tile of {tile} bp; wanted a multiple of {PAIR}")
        self._predictor, self.tile = predictor, tile
        self.name, self.window, self.organisms = predictor.name, predictor.window, predictor.organisms

    def tracks(self, organism: str) -> TrackRows:
        """Rows of TRACK_COLUMNS by output type, as the wrapped predictor gives them."""
        return self._predictor.tracks(organism)

    @torch.inference_mode()
    def predict(
        self,
        codes: Any,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
    ) -> Predictions:
        """As `Predictor.predict`, of [B, S] with S whole tiles. Junctions need `splice_positions`.

        ValueError where the tiles do not fill the sequence.
        """
        codes = torch.as_tensor(codes)
        check_request(organism, self.organisms, codes.shape[-1])
        if codes.shape[-1] % self.tile:
            raise ValueError(f"tiles of {self.tile} bp do not fill a sequence of {codes.shape[-1]} bp")
        count = codes.shape[-1] // self.tile
        outputs = list(self.tracks(organism) if outputs is None else outputs)
        if splice_positions is None:
            outputs = [o for o in outputs if o is not OutputType.SPLICE_JUNCTIONS]
        if count == 1:
            return self._predictor.predict(
                codes, organism, outputs=outputs, splice_positions=splice_positions
            )
        order = local = None
        if splice_positions is not None:
            splice_positions = splice_positions.cpu()
            order, local = in_tiles(splice_positions, self.tile, count)
        cut = codes.unflatten(1, (count, self.tile)).flatten(0, 1)
        found = self._predictor.predict(cut, organism, outputs=outputs, splice_positions=local)
        joined = {o: _joined(o, heads, count) for o, heads in found.items() if o is not _JUNCTIONS}
        if _JUNCTIONS in found:
            values = found[_JUNCTIONS]["values"]
            joined[_JUNCTIONS] = _placed(values, splice_positions, order, local)
        return joined


def in_tiles(positions: Tensor, tile: int, count: int) -> tuple[Tensor, Tensor]:
    """Sites of a window by tile: (order, positions), int64 [B * count, 4, K'].

    positions [B, 4, K] of the window, -1 padded. Those returned are relative to each tile, -1 padded; `order`
    says which site of the window each of them is.
    """
    start = torch.arange(0, count * tile, tile, device=positions.device)[:, None, None]
    local = positions[:, None].long() - start
    local = local.masked_fill((local < 0) | (local >= tile), -1).flatten(0, 1)
    order = (local < 0).int().argsort(dim=-1, stable=True)
    local = without_padding(local.gather(-1, order))
    return order[..., : local.shape[-1]], local


def _joined(output: OutputType, heads: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Values of the window from those of its tiles."""
    if OUTPUTS[output].kind is not Kind.CONTACTS:
        return {name: value.unflatten(0, (-1, count)).flatten(1, 2) for name, value in heads.items()}
    maps = heads["values"].unflatten(0, (-1, count))
    batch, _, bins, _, width = maps.shape
    whole = maps.new_full((batch, count, bins, count, bins, width), torch.nan)
    for tile in range(count):
        whole[:, tile, :, tile] = maps[:, tile]
    return {"values": whole.flatten(3, 4).flatten(1, 2)}


def _placed(values: Tensor, positions: Tensor, order: Tensor, local: Tensor) -> dict[str, Tensor]:
    """Junctions of the window: values [B * count, K', K', P] of the tiles at the window's own sites."""
    positions, order, local = (x.to(values.device) for x in (positions, order, local))
    batch, sites, half = len(positions), positions.shape[-1], values.shape[-1] // 2
    whole = values.new_zeros(batch, sites, sites, 2 * half)
    for number, tile in enumerate(values):
        row = number // (len(values) // batch)
        for strand, (donor, acceptor) in enumerate(_STRANDS):
            own = slice(strand * half, (strand + 1) * half)
            left, right = (order[number, kind][local[number, kind] >= 0] for kind in (donor, acceptor))
            whole[row, left[:, None], right[None], own] = tile[: len(left), : len(right), own]
    return {"values": whole, "positions": positions, "mask": junction_mask(positions, half)}
