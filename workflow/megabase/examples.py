"""One window of one organism as tensors: its sequence, its measured targets and its genes.

Everything is in the organism's own channels and on the + strand; `batches` shifts, turns, pads and stacks.
Missing signal is NaN, missing splice labels are -1; neither is ever a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from megabase.channels import STRAND_NUMBERS, TrackRows, rows_by_output
from megabase.genome import Genes, Genome, Interval
from megabase.shards import PackedSignal, Runs, ShardStore, densify
from megabase.spec import OUTPUTS, TOKEN, TRACK_OUTPUTS, Kind, OutputType

EVERY_SITE = 512  # splice sites of a class that an evaluated window may have


@dataclass(frozen=True)
class Source:
    """What one organism's windows are read from. index: its number in the model. genes: for the gene loss."""

    organism: str
    index: int
    genome: Genome
    store: ShardStore
    genes: Genes | None = None
    tracks: TrackRows = field(init=False)

    def __post_init__(self) -> None:
        rows = self.store.tracks.to_dicts()
        object.__setattr__(self, "tracks", rows_by_output(rows, sites=self.store.has_splicing))


@dataclass
class Example:
    """One window. sequence uint8 [S]; targets by output type, no batch axis, and `splice_positions`.

    Targets of tracks may be `Runs` or `PackedSignal` still, as they are read; `spread` makes them dense.
    genes int32 [G, 3]: start and end relative to the window, clipped to it, and strand (0 = +, 1 = -).
    part: the bases that targets along the sequence cover, where they are not all of the window; contact
    maps, junctions and positions are always the window's.
    """

    interval: Interval
    sequence: Tensor
    targets: dict[str, Any]
    genes: Tensor
    part: slice | None = None

    @property
    def covered(self) -> int:
        """Bases that targets along the sequence cover."""
        return self.sequence.numel() if self.part is None else self.part.stop - self.part.start


def pieces(windows: Sequence[Interval], length: int | None) -> list[Interval]:
    """The windows cut into pieces of `length` bases, in order; None leaves them whole.

    ValueError unless every window is a whole number of pieces.
    """
    if length is None:
        return list(windows)
    if odd := next((w for w in windows if w.length % length), None):
        raise ValueError(
            f"window: {length} bp does not divide the {odd.length} bp of {odd.chrom}:{odd.start}-{odd.end}; "
            "wanted a divisor of folds.window"
        )
    return [
        replace(window, start=start, end=start + length)
        for window in windows
        for start in range(window.start, window.end, length)
    ]


def spread(example: Example, device: torch.device | str = "cpu") -> Example:
    """The example with all tensors on a device, and its tracks made dense there.

    Tracks become float32 [S, P] per base, or [S/128, P] sums of 128 bases for ChIP; NaN where missing.
    """
    targets = {
        name: track_target(value, OutputType(name), example.covered, device)
        if isinstance(value, Runs | PackedSignal)
        else value.to(device)
        for name, value in example.targets.items()
    }
    moved = {"sequence": example.sequence.to(device), "genes": example.genes.to(device)}
    return replace(example, targets=targets, **moved)


def track_target(
    signal: Runs | PackedSignal, output: OutputType, length: int, device: torch.device | str = "cpu"
) -> Tensor:
    """float32 [S, P] per base, or [S/128, P] sums of 128 bases for ChIP; NaN where missing."""
    packed = isinstance(signal, PackedSignal)
    values = signal.dense(device) if packed else densify(signal, length, device)
    if 1 in OUTPUTS[output].resolutions:
        return values
    return values.unflatten(0, (-1, TOKEN)).sum(1)


def splice_targets(
    store: ShardStore, interval: Interval, tracks: TrackRows, max_sites: int, part: slice | None = None
) -> dict[str, Tensor]:
    """`splice_sites` int64 [S], `splice_positions` int64 [4, K], usage [S, P] and junctions [K, K, P].

    Usage is 0 at a base whose class is known and that is no measured site (its loss runs over every base).
    part: the bases of the window that sites and usage are wanted of, by default all.
    """
    part = part or slice(0, interval.length)
    found = store.splicing(interval.chrom, interval.start, interval.length, max_sites)
    classes = torch.from_numpy(found.classes[part].astype(np.int64))
    sites = max(1, int((found.positions >= 0).sum(-1).max()))  # the rest of a row is padding
    targets: dict[str, Tensor] = {
        OutputType.SPLICE_SITES: classes,
        "splice_positions": torch.from_numpy(found.positions[:, :sites].astype(np.int64)),
    }
    if OutputType.SPLICE_SITE_USAGE in tracks:
        usage = torch.zeros(len(classes), len(tracks[OutputType.SPLICE_SITE_USAGE]))
        usage[classes < 0] = torch.nan
        where, values = found.usage
        here = (where >= part.start) & (where < part.stop)
        usage[torch.from_numpy(where[here].astype(np.int64) - part.start)] = torch.from_numpy(values[here])
        targets[OutputType.SPLICE_SITE_USAGE] = usage
    if OutputType.SPLICE_JUNCTIONS in tracks:
        counts = torch.zeros(sites, sites, found.channels)
        index, values = found.junctions
        counts[tuple(torch.from_numpy(index.T.astype(np.int64)))] = torch.from_numpy(values)
        targets[OutputType.SPLICE_JUNCTIONS] = counts
    return targets


def gene_spans(genes: Genes | None, interval: Interval) -> Tensor:
    """int32 [G, 3] (start, end, strand 0/1) of the gene bodies in the interval, relative and clipped."""
    if genes is None:
        return torch.zeros(0, 3, dtype=torch.int32)
    found = genes.overlapping(interval).select("start", "end", "strand")
    start = np.clip(found["start"].to_numpy() - interval.start, 0, interval.length)
    end = np.clip(found["end"].to_numpy() - interval.start, 0, interval.length)
    strand = np.array([STRAND_NUMBERS.get(s, 0) for s in found["strand"]], dtype=np.int64)
    return torch.from_numpy(np.stack([start, end, strand], 1).astype(np.int32).reshape(-1, 3))


def read_example(
    source: Source,
    interval: Interval,
    *,
    max_sites: int,
    targets: bool = True,
    part: slice | None = None,
    keep: Literal["dense", "runs", "packed"] = "dense",
) -> Example:
    """One window on the + strand; without its measured targets where they are not wanted.

    part: the bases (whole tokens) of the window whose targets are read, by default all. keep: how far
    tracks are unpacked; the tensors that `spread` makes of them are the same.
    """
    codes = torch.from_numpy(source.genome.codes(interval.chrom, interval.start, interval.end))
    genes = gene_spans(source.genes if OutputType.RNA_SEQ in source.tracks else None, interval)
    values: dict[str, Any] = {}
    if targets:
        present = [o for o in source.tracks if o in TRACK_OUTPUTS]
        inside = interval
        if part is not None:
            inside = replace(interval, start=interval.start + part.start, end=interval.start + part.stop)
        read = source.store.packed if keep == "packed" else source.store.runs
        values |= {o: read(o, inside.chrom, inside.start, inside.end) for o in present}
        if OutputType.CONTACT_MAPS in source.tracks:
            maps = source.store.contacts(interval.chrom, interval.start, interval.length)
            values[OutputType.CONTACT_MAPS] = torch.from_numpy(maps)
        if any(OUTPUTS[o].kind in (Kind.SITES, Kind.USAGE, Kind.JUNCTIONS) for o in source.tracks):
            values |= splice_targets(source.store, interval, source.tracks, max_sites, part)
    example = Example(interval, codes, values, genes, part)
    return spread(example) if keep == "dense" else example
