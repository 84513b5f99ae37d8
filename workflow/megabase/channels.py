"""Which channels the model has, and which of them an organism uses.

A head is as wide as the widest organism. Tracks are padded at the end; splice usage and junctions, whose
first half is the + strand and second half the - strand of the same biosamples, are padded within each half.
Padding exists in tensors only: masks name the real channels, and no file ever lists a padded one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from megabase.spec import OUTPUTS, TRACK_COLUMNS, Kind, OutputType, SiteClass

TrackRows = dict[OutputType, list[dict[str, Any]]]
_HALVES = (Kind.USAGE, Kind.JUNCTIONS)
STRAND_NUMBERS = {"+": 0, "-": 1}
UNSTRANDED = 2


def rows_by_output(rows: Sequence[Mapping[str, Any]], *, sites: bool = True) -> TrackRows:
    """Rows of TRACK_COLUMNS grouped by output type, in channel order.

    sites: whether splice-site labels exist; the five classes then get one row each, which no table stores.
    """
    grouped: TrackRows = {}
    for output in OutputType:
        found = [dict(row) for row in rows if row["output_type"] == output.value]
        if found and output is not OutputType.SPLICE_SITES:
            grouped[output] = found
    if sites:
        grouped[OutputType.SPLICE_SITES] = [_site_row(index) for index in range(len(SiteClass.NAMES))]
    return {output: grouped[output] for output in OutputType if output in grouped}


def _site_row(index: int) -> dict[str, Any]:
    """The row of a splice-site class; the strand partner is the class seen from the other strand."""
    name = SiteClass.NAMES[index]
    strand = name[-1] if index != SiteClass.NONE else "."
    row: dict[str, Any] = dict.fromkeys(TRACK_COLUMNS)
    partner = SiteClass.REVERSE_COMPLEMENT[index]
    output = OutputType.SPLICE_SITES.value
    return row | {"name": name, "output_type": output, "strand": strand, "strand_partner": partner}


@dataclass(frozen=True)
class Channels:
    """Channel layout of a model over `organisms` (in model index order), from their track rows.

    heads: channels of the heads of an existing model, by output type, where they are more than the widest
    organism has (the published model's are); ValueError where they are fewer. widths: channels of every
    head. index(output, organism): padded channel of every real channel.
    """

    organisms: tuple[str, ...]
    tracks: Mapping[str, TrackRows]
    heads: Mapping[str, int] = field(default_factory=dict)
    widths: dict[OutputType, int] = field(init=False)

    def __post_init__(self) -> None:
        widths = {}
        for output in OutputType:
            count = max((len(self.tracks[o].get(output, [])) for o in self.organisms), default=0)
            width = self.heads.get(output, 0) if self.heads else count
            if width < count:
                raise ValueError(f"{output}: {count} tracks, but the model's head has {width} channels")
            if width:
                widths[output] = width
        object.__setattr__(self, "widths", widths)

    def index(self, output: OutputType, organism: str) -> np.ndarray:
        """int64 [n]: model channel of each of the organism's n channels of `output`."""
        count = len(self.tracks[organism].get(output, []))
        if OUTPUTS[output].kind not in _HALVES:
            return np.arange(count)
        half, width = count // 2, self.widths.get(output, 0) // 2
        return np.concatenate([np.arange(half), width + np.arange(half)])

    def mask(self, output: OutputType, organism: str) -> np.ndarray:
        """bool [P]: the model's channels of `output` that the organism has."""
        mask = np.zeros(self.widths[output], bool)
        mask[self.index(output, organism)] = True
        return mask

    def means(self, output: OutputType) -> np.ndarray:
        """float32 [n_organisms, P]: nonzero_mean of every channel; 1 where missing, zero or padded."""
        means = np.ones((len(self.organisms), self.widths[output]), np.float32)
        for number, organism in enumerate(self.organisms):
            rows = self.tracks[organism].get(output, [])
            values = np.array([row.get("nonzero_mean") or 1.0 for row in rows], np.float32)
            means[number, self.index(output, organism)] = np.where(np.isfinite(values), values, 1.0)
        return means

    def strands(self, output: OutputType, organism: str) -> np.ndarray:
        """int8 [P]: 0 for + channels, 1 for -, 2 for unstranded ones, -1 for padding."""
        strands = np.full(self.widths[output], -1, np.int8)
        rows = self.tracks[organism].get(output, [])
        strands[self.index(output, organism)] = [STRAND_NUMBERS.get(r["strand"], UNSTRANDED) for r in rows]
        return strands
