"""Scoring on a person's haplotypes: the engine, in the coordinates of personal chromosomes.

A variant is compared with its haplotype without it, so genes are moved to where they lie there, and junctions
are told in the genome's coordinates again. A region compares the genome with a haplotype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from megabase.files import read_table
from megabase.personal import Haplotypes, Placed
from megabase.scoring.annotation import Annotation, GeneModel
from megabase.scoring.engine import Case, Engine, Rows
from megabase.scoring.scorers import Scorer

if TYPE_CHECKING:
    from megabase.genome import Genome


class PersonalEngine(Engine):
    """As `Engine`; haplotypes: of the sample, whose variants (with `haplotype` 1 or 2) are scored."""

    def __init__(
        self,
        predictor: Any,
        haplotypes: Haplotypes,
        annotation: Annotation | None,
        scorers: Any,
        settings: Any,
    ) -> None:
        super().__init__(predictor, haplotypes, annotation, scorers, settings, haplotypes)
        self.haplotypes = haplotypes

    def batches(self, variants: Sequence[Any]) -> Iterator[slice]:
        """Runs of neighbouring variants that are scored together."""
        return super().batches([self._placed(v) for v in variants])

    def score(self, variants: Sequence[Any]) -> list[dict[str, Rows]]:
        """Rows by scorer name of each variant, in order; junctions in the genome's coordinates."""
        placed = [self._placed(v) for v in variants]
        return [
            {name: _on_genome(one, rows) for name, rows in found.items()}
            for one, found in zip(placed, super().score(placed), strict=True)
        ]

    def _placed(self, variant: Any) -> Placed:
        return variant if isinstance(variant, Placed) else self.haplotypes.place(variant)

    def _cases(self, variants: Sequence[Placed]) -> tuple[list[Case], Any]:
        cases, alleles = super()._cases(variants)
        for case in cases if self.annotation is not None else ():
            one, window = case.variant, self.settings.window
            first, last = (int(p) for p in to_genome(one, np.array([case.start, case.start + window])))
            interval = one.variant.interval
            overlapping = self.annotation.overlapping(interval.chrom, interval.start, interval.end)
            starting = self.annotation.starting_in(interval.chrom, first, last)
            moved = [moved_gene(gene, one) for gene in starting]
            case.starting = [g for g in moved if any(case.start <= t < case.start + window for t in g.tss)]
            case.overlaps = [moved_gene(gene, one) for gene in overlapping]
        return cases, alleles


def make_engine(
    predictor: Any,
    genome: Genome,
    annotation: Annotation | None,
    scorers: Sequence[Scorer],
    settings: Any,
    haplotypes: str | Path | None = None,
) -> Engine:
    """The engine of a genome, or, with a table of `list_haplotypes`, that of a person's haplotypes."""
    if haplotypes is None:
        return Engine(predictor, genome, annotation, scorers, settings)
    people = Haplotypes(genome, read_table(haplotypes, "haplotypes"))
    return PersonalEngine(predictor, people, annotation, scorers, settings)


def to_reference(placed: Placed, positions: np.ndarray, *, ends: bool = False) -> np.ndarray:
    """Where bases of the genome lie on the REF sequence of a placed variant; int64, as positions.

    ends: the positions are exclusive ends of stretches.
    """
    if placed.edit is None:
        return np.asarray(positions, np.int64)
    edit, personal = placed.edit, placed.personal
    moved = personal.ends(positions) if ends else personal.places(positions)
    if not placed.has:
        return moved
    lost = edit.end - edit.start
    inside = (positions > edit.start) & (positions <= edit.end) if ends else (
        (positions >= edit.start) & (positions < edit.end))  # fmt: skip
    after = positions > edit.end if ends else positions >= edit.end
    moved = np.where(after, moved + lost - len(edit.bases), moved)
    return np.where(inside, placed.start + positions - edit.start, moved)


def to_genome(placed: Placed, positions: np.ndarray) -> np.ndarray:
    """Bases of the genome at positions of the REF sequence of a placed variant."""
    if placed.edit is None:
        return np.asarray(positions, np.int64)
    edit, personal = placed.edit, placed.personal
    if not placed.has:
        return personal.origins(positions)
    lost = edit.end - edit.start
    before, inside = positions < placed.start, positions < placed.start + lost
    later = personal.origins(positions - lost + len(edit.bases))
    own = np.where(inside, edit.start + positions - placed.start, later)
    return np.where(before, personal.origins(positions), own)


def moved_gene(gene: GeneModel, placed: Placed) -> GeneModel:
    """The gene in the coordinates of a placed variant's REF sequence."""
    if placed.edit is None:
        return gene

    def spans(values: np.ndarray) -> np.ndarray:
        starts = to_reference(placed, values[:, 0])
        return np.stack([starts, np.maximum(to_reference(placed, values[:, 1], ends=True), starts)], -1)

    (start, end), = spans(np.array([[gene.start, gene.end]]))  # fmt: skip
    return replace(
        gene, start=int(start), end=int(end), tss=to_reference(placed, np.array(gene.tss)).tolist(),
        exons=spans(gene.exons), introns=spans(gene.introns),
        polya_sites=to_reference(placed, gene.polya_sites),
    )  # fmt: skip


def _on_genome(placed: Placed, rows: Rows) -> Rows:
    """Rows whose junctions are told in the genome's coordinates."""
    if rows.junctions is None or not len(rows.junctions):
        return rows
    spans = rows.junctions.numpy()
    moved = np.stack([to_genome(placed, spans[:, 0]), to_genome(placed, spans[:, 1] - 1) + 1], -1)
    return replace(rows, junctions=_tensor(moved))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
