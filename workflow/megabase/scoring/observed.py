"""Observed tracks of an explanation's window, for the channels that the explanation shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from megabase.scoring.rows import MAX_SITES
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass


def observed_tracks(
    store: Any, rows: Mapping[OutputType, Sequence[Mapping[str, Any]]], chrom: str, start: int, length: int
) -> dict[OutputType, np.ndarray]:
    """Observed float32 arrays by output type in the shapes of the predictions; NaN = missing.

    rows: track rows of the channels shown; a channel that the store lacks is NaN, an output type of which it
    has no channel is left out. store: a `ShardStore`.
    """
    found = {}
    for output, shown in rows.items():
        names = store.channels(output)["name"].to_list()
        index = [names.index(r["name"]) if r["name"] in names else -1 for r in shown]
        if output is not OutputType.SPLICE_SITES and max(index, default=-1) < 0:
            continue
        values = _whole(store, output, chrom, start, length)
        if values is None:
            continue
        if output is OutputType.SPLICE_SITES:
            found[output] = values[:, : len(shown)]
            continue
        picked = values[..., [max(i, 0) for i in index]].astype(np.float32)
        picked[..., [i < 0 for i in index]] = np.nan
        found[output] = picked
    return found


def _whole(store: Any, output: OutputType, chrom: str, start: int, length: int) -> np.ndarray | None:
    """All channels of an output type of the store in one window; None where the store has none."""
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        from megabase.shards import densify

        dense = densify(store.runs(output, chrom, start, start + length), length).numpy()
        resolution = OUTPUTS[output].resolutions[0]
        if resolution == 1:
            return dense
        return dense.reshape(length // resolution, resolution, -1).sum(1)
    if kind is Kind.CONTACTS:
        return np.asarray(store.contacts(chrom, start, length))
    if not store.has_splicing:
        return None
    splicing = store.splicing(chrom, start, length, MAX_SITES)
    return _site_classes(splicing.classes) if kind is Kind.SITES else _usage(splicing, length)


def _site_classes(classes: np.ndarray) -> np.ndarray:
    """One-hot float32 [S, 5] of classes int8 [S]; NaN where unknown."""
    table = np.eye(len(SiteClass.NAMES), dtype=np.float32)
    return np.where(classes[:, None] >= 0, table[np.maximum(classes, 0)], np.nan).astype(np.float32)


def _usage(splicing: Any, length: int) -> np.ndarray:
    """Usage float32 [S, 2B]: zero off the sites, NaN at sites that were not measured."""
    positions, values = splicing.usage
    dense = np.zeros((length, values.shape[-1]), np.float32)
    dense[positions] = values
    return dense
