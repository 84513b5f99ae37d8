"""Where the window of a variant lies.

`centered`: around the variant itself, as published for single variants. `binned`: around the 128-bp bin of
the variant's first base, as in the published genome-wide scores: all windows lie on one grid of 128 bases, so
that what the encoder gives along the genome serves them all. `tiled`: around the tile of so many bases that
holds the variant's first base: the variants of a tile share one window and its reference pass. A deletion,
duplication or inversion that is told by its end is placed by its middle, and never by a tile.
Positions are 0-based. Source: AlphaGenome, Methods and the published atlas of all variants.
"""

from __future__ import annotations

from typing import Any

from megabase.alignment import window_start
from megabase.spec import PAIR, TOKEN
from megabase.structural import reference_span

CENTERED, BINNED, TILED = PLACEMENTS = ("centered", "binned", "tiled")


def check_placement(placement: str, window: int, tile: int) -> None:
    """ValueError for a placement, window or tile that no variant can be scored with."""
    if placement not in PLACEMENTS:
        raise ValueError(f"scoring.placement is {placement!r}; wanted one of {', '.join(PLACEMENTS)}")
    if window % PAIR:
        raise ValueError(f"scoring window of {window} bases; wanted a multiple of {PAIR}")
    if placement == TILED and (tile % TOKEN or not TOKEN <= tile <= window):
        raise ValueError(
            f"scoring.tile is {tile} bases; wanted a multiple of {TOKEN} up to the window, {window}"
        )


def place_window(variant: Any, placement: str, window: int, tile: int) -> int:
    """First base (may be negative) of the window of a variant with `.position` and `.ref`."""
    first, last = reference_span(variant)
    if placement == CENTERED:
        return window_start(first, last - first, window)
    event = last - first > len(variant.ref)
    step = tile if placement == TILED and not event else TOKEN
    at = (first + last) // 2 if event else first
    return at // step * step + step // 2 - window // 2
