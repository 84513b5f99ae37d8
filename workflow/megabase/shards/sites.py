"""Splice sites, usage and junctions of a window, from sparse tables held in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from megabase.spec import SiteClass

_CLASS = {
    ("donor", "+"): SiteClass.DONOR_PLUS,
    ("acceptor", "+"): SiteClass.ACCEPTOR_PLUS,
    ("donor", "-"): SiteClass.DONOR_MINUS,
    ("acceptor", "-"): SiteClass.ACCEPTOR_MINUS,
}
UNKNOWN = -1


@dataclass(frozen=True)
class Splicing:
    """Splicing of one window of S bases; positions count from 0 at its start.

    classes: int8 [S], SiteClass; -1 unknown (outside the chromosome, or an organism without splice data).
    positions: int32 [4, K], sites of each class in order, -1 padded. usage: positions int32 [N] of all sites
    and float32 [N, 2B], by channel; NaN where a site was not measured, 0 on the strand it is not on.
    junctions: int32 [J, 3] of donor index, acceptor index (into `positions`) and channel, and float32 [J].
    channels: 2B of the junctions, + half first.
    """

    classes: np.ndarray
    positions: np.ndarray
    usage: tuple[np.ndarray, np.ndarray]
    junctions: tuple[np.ndarray, np.ndarray]
    channels: int

    @property
    def counts(self) -> np.ndarray:
        """Junction counts float32 [K, K, 2B] (donor, acceptor, channel), zero where none was seen."""
        sites = self.positions.shape[1]
        dense = np.zeros((sites, sites, self.channels), np.float32)
        index, values = self.junctions
        dense[index[:, 0], index[:, 1], index[:, 2]] = values
        return dense


@dataclass(frozen=True)
class _Chromosome:
    """Tables of one chromosome as arrays sorted by position (of the left end for junctions)."""

    position: np.ndarray
    site_class: np.ndarray
    usage: tuple[np.ndarray, np.ndarray, np.ndarray]  # position, channel, value
    junctions: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # left, right, channel, count


class SpliceTables:
    """Splice tables of an organism, cut to windows."""

    def __init__(
        self,
        sites: pl.DataFrame,
        usage: pl.DataFrame,
        junctions: pl.DataFrame,
        usage_channels: Mapping[tuple[str, str], int],
        junction_channels: Mapping[tuple[str, str], int],
    ) -> None:
        """Tables as in sites, usage and junctions.parquet; channel numbers by (biosample, strand)."""
        self.usage_channels, self.junction_channels = len(usage_channels), len(junction_channels)
        self._half = self.usage_channels // 2
        by_chrom = [_by_chrom(table) for table in (sites, usage, junctions)]
        self._chromosomes = {
            chrom: _Chromosome(
                *_site_arrays(by_chrom[0].get(chrom, sites.clear())),
                _usage_arrays(by_chrom[1].get(chrom, usage.clear()), usage_channels),
                _junction_arrays(by_chrom[2].get(chrom, junctions.clear()), junction_channels),
            )
            for chrom in {chrom for tables in by_chrom for chrom in tables}
        }
        empty = (sites.clear(), usage.clear(), junctions.clear())
        self._none = _Chromosome(
            *_site_arrays(empty[0]), _usage_arrays(empty[1], {}), _junction_arrays(empty[2], {})
        )

    def window(self, chrom: str, length: int, start: int, size: int, max_sites: int) -> Splicing:
        """Splicing of bases start..start+size of a chromosome of `length` bases.

        When a class has more than `max_sites` sites, only those in the largest stretch around the window's
        centre in which no class has more are listed in `positions` and `junctions`.
        """
        data = self._chromosomes.get(chrom, self._none)
        first, last = np.searchsorted(data.position, [start, start + size])
        where, kind = data.position[first:last] - start, data.site_class[first:last]
        classes = np.full(size, UNKNOWN, np.int8)
        classes[max(-start, 0) : max(length - start, 0)] = SiteClass.NONE
        classes[where[::-1]] = kind[::-1]  # sorted by class at one position: the first class wins
        positions = _class_positions(where, kind, size, max_sites)
        return Splicing(
            classes,
            positions,
            self._window_usage(data, where, kind, start, size),
            _window_junctions(data, positions, start, size, self.junction_channels // 2),
            self.junction_channels,
        )

    def _window_usage(
        self, data: _Chromosome, where: np.ndarray, kind: np.ndarray, start: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions of all sites and their usage, as in `Splicing.usage`."""
        sites = np.unique(where)
        values = np.zeros((len(sites), self.usage_channels), np.float32)
        rows = np.searchsorted(sites, where)
        minus = kind >= SiteClass.DONOR_MINUS
        values[rows[~minus], : self._half] = np.nan
        values[rows[minus], self._half :] = np.nan
        position, channel, value = data.usage
        first, last = np.searchsorted(position, [start, start + size])
        values[np.searchsorted(sites, position[first:last] - start), channel[first:last]] = value[first:last]
        return sites.astype(np.int32), values


def _by_chrom(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {str(key[0]): part for key, part in table.partition_by("chrom", as_dict=True).items()}


def _site_arrays(sites: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 and classes int8, sorted by both."""
    pairs = zip(sites["kind"].to_list(), sites["strand"].to_list(), strict=True)
    kind = np.array([_CLASS[pair] for pair in pairs], dtype=np.int8)
    position = sites["position"].to_numpy().astype(np.int64)
    order = np.lexsort((kind, position))
    return position[order], kind[order]


def _usage_arrays(
    usage: pl.DataFrame, channels: Mapping[tuple[str, str], int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = usage["position"].to_numpy().astype(np.int64)
    order = np.argsort(position, kind="stable")
    value = usage["usage"].to_numpy().astype(np.float32)
    return position[order], _channel_numbers(usage, channels)[order], value[order]


def _junction_arrays(
    junctions: pl.DataFrame, channels: Mapping[tuple[str, str], int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    donor, acceptor = (junctions[c].to_numpy().astype(np.int64) for c in ("donor", "acceptor"))
    left, right = np.minimum(donor, acceptor), np.maximum(donor, acceptor)
    order = np.argsort(left, kind="stable")
    count = junctions["count"].to_numpy().astype(np.float32)
    return left[order], right[order], _channel_numbers(junctions, channels)[order], count[order]


def _channel_numbers(table: pl.DataFrame, channels: Mapping[tuple[str, str], int]) -> np.ndarray:
    pairs = zip(table["biosample"].to_list(), table["strand"].to_list(), strict=True)
    return np.array([channels[pair] for pair in pairs], dtype=np.int64)


def _class_positions(where: np.ndarray, kind: np.ndarray, size: int, max_sites: int) -> np.ndarray:
    """int32 [4, max_sites], -1 padded: sites of each class, of the whole window or its middle."""
    positions = np.full((4, max_sites), -1, np.int32)
    distance = np.abs(2 * where - (size - 1))  # twice the distance from the centre
    reach = np.iinfo(np.int64).max
    for site_class in range(4):
        near = np.sort(distance[kind == site_class])
        if len(near) > max_sites:
            reach = min(reach, int(near[max_sites]))
    for site_class in range(4):
        chosen = where[(kind == site_class) & (distance < reach)]
        positions[site_class, : len(chosen)] = chosen
    return positions


def _window_junctions(
    data: _Chromosome, positions: np.ndarray, start: int, size: int, half: int
) -> tuple[np.ndarray, np.ndarray]:
    """Junctions both of whose ends are listed in `positions`, as in `Splicing.junctions`."""
    left, right, channel, count = data.junctions
    first, last = np.searchsorted(left, [start, start + size])
    inside = slice(first, last)
    left, right, channel, count = left[inside] - start, right[inside] - start, channel[inside], count[inside]
    plus = channel < half
    donor, acceptor = np.where(plus, left, right), np.where(plus, right, left)
    rows = np.where(plus, SiteClass.DONOR_PLUS, SiteClass.DONOR_MINUS)
    donor_index, donor_found = _find(positions, rows, donor)
    acceptor_index, acceptor_found = _find(positions, rows + 1, acceptor)
    found = donor_found & acceptor_found
    index = np.stack([donor_index, acceptor_index, channel], axis=1)[found]
    return index.astype(np.int32), count[found]


def _find(positions: np.ndarray, rows: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of each wanted position in its row of [4, K] (-1 padded), and whether it is there."""
    index, found = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    for row in np.unique(rows):
        listed = positions[row][positions[row] >= 0]
        here = np.flatnonzero(rows == row)
        place = np.searchsorted(listed, wanted[here])
        here, place = here[place < len(listed)], place[place < len(listed)]
        index[here] = place
        found[here] = listed[place] == wanted[here]
    return index, found
