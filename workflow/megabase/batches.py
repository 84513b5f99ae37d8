"""Batches of windows: which ones, how shifted and turned, padded to the model's channels, and stacked.

A batch depends on (seed, step) and on nothing else, so a resumed run meets the batches it would have met,
and reading ahead in threads (`loading`) changes no byte. One batch may hold windows of several organisms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from megabase.augment import reverse_complement_batch
from megabase.channels import UNSTRANDED, Channels, TrackRows
from megabase.examples import Example, Source, read_example, spread
from megabase.genome import Interval
from megabase.parallel import SINGLE, Layout
from megabase.seeds import generator
from megabase.spec import OUTPUTS, PAIR, TOKEN, Kind, OutputType

WHOLE = ("splice_positions", OutputType.SPLICE_JUNCTIONS)  # targets that every rank of a window has all of


@dataclass
class Batch:
    """Windows as tensors. sequence uint8 [B, S]; organism int64 [B]; one interval a row.

    targets: as in the architecture page, by output type, with `splice_positions`. masks: bool [B, P] by
    output type, channels that exist. gene_masks: compact genes of the windows, `spans` int32 [B, G, 2] (start
    and end of each body, -1 padded) and `channels` bool [B, G, P] (RNA-seq tracks of its strand); or empty.
    first_row: number of the first row in the step's whole batch. first_base: where a part begins in its
    window; genes and splice positions stay in window coordinates.
    """

    sequence: Tensor
    organism: Tensor
    intervals: list[Interval]
    targets: dict[str, Tensor]
    masks: dict[OutputType, Tensor]
    gene_masks: dict[str, Tensor]
    first_row: int = 0
    first_base: int = 0

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with all tensors on a device."""
        move = {"targets": self.targets, "masks": self.masks, "gene_masks": self.gene_masks}
        moved = {k: {n: t.to(device) for n, t in v.items()} for k, v in move.items()}
        return replace(self, sequence=self.sequence.to(device), organism=self.organism.to(device), **moved)


def part(batch: Batch, layout: Layout) -> Batch:
    """The part of a batch that a rank holds: bases, tokens, and rows of contact maps.

    The batch is of whole windows, but its targets along the sequence may be of this part already.
    """
    if not layout.split:
        return batch
    bases = layout.part(batch.sequence.shape[1])

    def own(name: str, x: Tensor) -> Tensor:
        kind = OUTPUTS[OutputType(name)].kind if name != "splice_positions" else Kind.JUNCTIONS
        covered = x.shape[1] * (PAIR if kind is Kind.CONTACTS else per_value(OutputType(name)))
        if covered == bases.stop - bases.start:
            return x
        return x[:, layout.part(x.shape[1])].clone()  # a copy, so that the whole is not kept alive

    targets = {n: x if n in WHOLE else own(n, x) for n, x in batch.targets.items()}
    return replace(batch, sequence=batch.sequence[:, bases], targets=targets, first_base=bases.start)


def per_value(output: OutputType) -> int:
    """Bases that a target value along the sequence stands for."""
    return 1 if 1 in OUTPUTS[output].resolutions else TOKEN


def _missing(output: OutputType, example: Example, width: int, sites: int) -> Tensor:
    """A target that is missing everywhere, in the model's channels."""
    kind, length = OUTPUTS[output].kind, example.covered
    if kind is Kind.SITES:
        return torch.full((length,), -1, dtype=torch.int64)
    if kind is Kind.CONTACTS:
        bins = example.sequence.numel() // PAIR
        return torch.full((bins, bins, width), torch.nan)
    if kind is Kind.JUNCTIONS:
        return torch.zeros(sites, sites, width)
    return torch.full((length // per_value(output), width), torch.nan)


def _site_count(examples: Sequence[Example]) -> int:
    """Sites of the fullest class of any example, at least 1: more columns would be padding only."""
    counts = [
        int((e.targets["splice_positions"] >= 0).sum(-1).max())
        for e in examples
        if "splice_positions" in e.targets
    ]
    return max([1, *counts])


def _pad_target(
    output: OutputType, example: Example, channels: Channels, organism: str, sites: int
) -> Tensor:
    """The example's target of `output` in the model's channels; missing where it has none."""
    padded = _missing(output, example, channels.widths[output], sites)
    found = example.targets.get(output)
    if found is None:
        return padded
    if OUTPUTS[output].kind is Kind.SITES:
        return found
    index = torch.from_numpy(channels.index(output, organism)).to(found.device)
    if OUTPUTS[output].kind is Kind.JUNCTIONS:
        rows, columns = (min(n, sites) for n in found.shape[:2])
        padded[:rows, :columns, index] = found[:rows, :columns]
    else:
        padded[..., index] = found
    return padded


def _pad_rows(tensors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Stack integer tensors, cut or filled with -1 to `shape`."""
    stacked = torch.full((len(tensors), *shape), -1, dtype=tensors[0].dtype)
    for row, tensor in enumerate(tensors):
        where = tuple(slice(0, min(a, b)) for a, b in zip(tensor.shape, shape, strict=True))
        stacked[(row, *where)] = tensor[where]
    return stacked


def collate(
    examples: Sequence[Example], organisms: Sequence[str], channels: Channels, *, targets: bool = True
) -> Batch:
    """Stack examples of `organisms` into one batch in the model's channels."""
    masks = {
        output: torch.from_numpy(np.stack([channels.mask(output, o) for o in organisms]))
        for output in channels.widths
    }
    values: dict[str, Tensor] = {}
    if targets:
        sites = _site_count(examples)
        pairs = list(zip(examples, organisms, strict=True))
        for output in channels.widths:
            values[output] = torch.stack([_pad_target(output, e, channels, o, sites) for e, o in pairs])
        if OutputType.SPLICE_JUNCTIONS in channels.widths:
            none = torch.full((4, sites), -1, dtype=torch.int64)
            positions = [e.targets.get("splice_positions", none) for e in examples]
            values["splice_positions"] = _pad_rows(positions, (4, sites))
    return Batch(
        sequence=torch.stack([e.sequence for e in examples]),
        organism=torch.tensor([channels.organisms.index(o) for o in organisms]),
        intervals=[e.interval for e in examples],
        targets=values,
        masks=masks,
        gene_masks=_gene_masks(examples, organisms, channels),
    )


def _gene_masks(
    examples: Sequence[Example], organisms: Sequence[str], channels: Channels
) -> dict[str, Tensor]:
    """Genes of the examples as in `Batch.gene_masks`; empty where there is none."""
    most, rna = max(len(e.genes) for e in examples), OutputType.RNA_SEQ
    if not most or rna not in channels.widths:
        return {}
    genes = _pad_rows([e.genes for e in examples], (most, 3))
    strands = torch.from_numpy(np.stack([channels.strands(rna, o) for o in organisms])).to(genes.device)
    here = genes[..., 2:] >= 0
    own = (strands[:, None] == genes[..., 2:]) | (strands[:, None] == UNSTRANDED)
    return {"spans": genes[..., :2].contiguous(), "channels": own & here}


def reverse_example(example: Example, tracks: TrackRows) -> Example:
    """The example seen from the other strand. tracks: the organism's rows, for the strand partners."""
    device = example.sequence.device
    partners = {
        output: torch.tensor([[int(row["strand_partner"]) for row in rows]])
        for output, rows in tracks.items()
        if OUTPUTS[output].kind is Kind.TRACKS
    }
    one = {
        "sequence": example.sequence[None], "organism": torch.zeros(1, dtype=torch.int64, device=device),
        "targets": {name: value[None] for name, value in example.targets.items()}, "masks": {},
    }  # fmt: skip
    turned = reverse_complement_batch(one, partners)
    start, end, strand = example.genes.unbind(1)
    length = example.sequence.numel()
    return Example(
        interval=replace(example.interval, strand="-"),
        sequence=turned["sequence"][0],
        targets={name: value[0] for name, value in turned["targets"].items()},
        genes=torch.stack([length - end, length - start, 1 - strand], 1),
        part=example.part and slice(length - example.part.stop, length - example.part.start),
    )


def without_first(example: Example, bases: int) -> Example:
    """The example without the first bases (whole tokens) of the part that its targets cover."""
    targets = {
        name: x if name in WHOLE or name == OutputType.CONTACT_MAPS else x[bases // per_value(name) :]
        for name, x in example.targets.items()
    }
    return replace(example, targets=targets, part=slice(example.part.start + bases, example.part.stop))


@dataclass(frozen=True)
class Plan:
    """How windows are drawn. weights: share of each organism (default: its number of windows)."""

    seed: int
    batch_size: int
    max_shift: int = 0
    reverse_complement: float = 0.0
    max_sites: int = 512
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class PackedRow:
    """One window of a batch as it is read: tracks not dense, on the + strand. margin: bases read beyond."""

    organism: str
    example: Example
    reverse: bool
    margin: int


@dataclass(frozen=True)
class PackedBatch:
    """A batch as it is read, which for wide tracks is far smaller than the tensors that `to` makes of it."""

    windows: Windows
    rows: Sequence[PackedRow]
    layout: Layout
    first_row: int

    def to(self, device: torch.device | str) -> Batch:
        """The batch, made dense, turned and stacked on a device."""
        return replace(self.windows.stack(self.rows, self.layout, device), first_row=self.first_row)


class Windows:
    """Windows of several organisms. intervals: of each organism, all of one length.

    targets=False leaves the measured targets out (a student reads its teacher's predictions instead).
    opened: blocks are only decompressed where windows are read, and unpacked where they are made dense; for
    an accelerator, which does it in no time.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        intervals: Mapping[str, Sequence[Interval]],
        plan: Plan,
        channels: Channels,
        *,
        targets: bool = True,
        opened: bool = False,
    ) -> None:
        self._keep: Literal["packed", "runs"] = "packed" if opened else "runs"
        self.sources = {s.organism: s for s in sources if intervals.get(s.organism)}
        self.intervals = {name: list(intervals[name]) for name in self.sources}
        self.plan, self.channels, self.targets = plan, channels, targets
        lengths = {i.length for found in self.intervals.values() for i in found}
        if len(lengths) != 1:
            raise ValueError(f"windows have lengths {sorted(lengths)}; wanted windows, all of one length")
        self.length = lengths.pop()
        self._shares = self._organism_shares()

    def _organism_shares(self) -> np.ndarray:
        """Probability of each organism of `sources`, in their order."""
        weights = self.plan.weights or {name: len(found) for name, found in self.intervals.items()}
        unknown = sorted(set(weights) - {*self.intervals, *self.channels.organisms})
        if unknown:
            raise ValueError(
                f"organism_weights names {unknown}; organisms are {list(self.channels.organisms)}"
            )
        shares = np.array([weights.get(name, 0.0) for name in self.sources], dtype=np.float64)
        if not shares.sum() > 0:
            raise ValueError(f"organism_weights {dict(weights)} leave no organism to draw from")
        return shares / shares.sum()

    def draw(self, step: int) -> list[tuple[str, Interval, bool]]:
        """Organism, shifted interval and reverse-complement flag of every row of the batch of `step`."""
        rng, plan, names = generator(self.plan.seed, "windows", step), self.plan, list(self.sources)
        rows = []
        for _ in range(plan.batch_size):
            name = names[rng.choice(len(names), p=self._shares)]
            interval = self.intervals[name][rng.integers(len(self.intervals[name]))]
            shift = int(rng.integers(-plan.max_shift, plan.max_shift + 1))
            moved = replace(interval, start=interval.start + shift, end=interval.end + shift)
            rows.append((name, moved, bool(rng.random() < plan.reverse_complement)))
        return rows

    def example(
        self, organism: str, interval: Interval, reverse: bool = False, bases: slice | None = None
    ) -> Example:
        """One window, seen from the - strand if `reverse`. bases: whose targets are read, as seen then."""
        return self._turned(self._read(organism, interval, reverse, bases))

    def _read(
        self, organism: str, interval: Interval, reverse: bool = False, bases: slice | None = None
    ) -> PackedRow:
        """One window as it lies in the store, and how it is to be turned."""
        length, margin, read = interval.length, 0, bases
        if reverse and bases is not None:
            margin = TOKEN if bases.start else 0  # signal that moves by a base comes from beyond the part
            read = slice(length - bases.stop, length - bases.start + margin)
        example = read_example(
            self.sources[organism], interval, max_sites=self.plan.max_sites, targets=self.targets, part=read,
            keep=self._keep,
        )  # fmt: skip
        return PackedRow(organism, example, reverse, margin)

    def _turned(self, row: PackedRow, device: torch.device | str = "cpu") -> Example:
        """A window made dense on a device and seen from its strand."""
        example = spread(row.example, device)
        if not row.reverse:
            return example
        example = reverse_example(example, self.sources[row.organism].tracks)
        return without_first(example, row.margin) if row.margin else example

    def stack(self, rows: Sequence[PackedRow], layout: Layout, device: torch.device | str = "cpu") -> Batch:
        """A batch of these windows on a device; with many ranks to a window, this rank's part of it."""
        with torch.device(device):
            examples = [self._turned(row, device) for row in rows]
            batch = collate(examples, [row.organism for row in rows], self.channels, targets=self.targets)
        return (part(batch, layout) if self.targets else batch).to(device)

    def _pack(self, rows: Sequence[tuple[str, Interval, bool]], layout: Layout) -> list[PackedRow]:
        bases = layout.part(self.length) if layout.split and self.targets else None
        return [self._read(*row, bases) for row in rows]

    def packed(self, step: int, layout: Layout = SINGLE) -> PackedBatch:
        """The batch of `step` as it is read; depends on the plan's seed and on `step` alone.

        With many ranks: this rank's rows, and of these, if they have targets, its part of the windows.
        """
        own = layout.rows(self.plan.batch_size)
        return PackedBatch(self, self._pack(self.draw(step)[own], layout), layout, own.start)

    def batch(self, step: int, layout: Layout = SINGLE) -> Batch:
        """`packed`, made dense."""
        return self.packed(step, layout).to("cpu")

    def in_order(self, limit: int | None = None, layout: Layout = SINGLE) -> Iterator[Batch]:
        """All windows once, as they are, for validation. limit: a seeded subset of that many windows.

        With many ranks: the batches of this data rank (number d, d + D, ...), and this rank's part of them.
        """
        rows = [(name, interval) for name, found in self.intervals.items() for interval in found]
        if limit is not None and limit < len(rows):
            chosen = generator(self.plan.seed, "validation").choice(len(rows), limit, replace=False)
            rows = [rows[i] for i in sorted(chosen)]
        size = self.plan.batch_size
        for start in range(layout.data_rank * size, len(rows), layout.data_ranks * size):
            chosen = [(*row, False) for row in rows[start : start + size]]
            yield self.stack(self._pack(chosen, layout), layout)
