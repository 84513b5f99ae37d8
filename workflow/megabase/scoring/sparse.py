"""Scoring by reading: every scorer gets the positions that it reads, and no others are predicted.

Torch only; part of the numerical core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabase.alignment import merged
from megabase.alleles import Pieces
from megabase.predictors.readings import Reading, mean_reading
from megabase.scoring.composite import COMPOSITE
from megabase.scoring.composite_rows import composite_rows, largest_of, tells_composite
from megabase.scoring.reads import AROUND, Span, bodies, wanted_of
from megabase.scoring.rows import RowMaker, Rows, same_junctions, splice_positions
from megabase.scoring.scorers import Part, Scorer
from megabase.spec import OutputType

if TYPE_CHECKING:
    from megabase.predictors.windows import Found, Transformed, Windows
    from megabase.scoring.annotation import GeneModel
    from megabase.scoring.engine import Case

SITES = OutputType.SPLICE_SITES
Wants = dict[OutputType, list[Span]]
Pair = tuple[Mapping[OutputType, Reading], Mapping[OutputType, Reading]]  # of REF and of ALT


class SparseScoring:
    """Scores cases with one model, or with the mean of several and the spread over them.

    members: `Windows` of every model. Of several the composite splicing score is a row of its own, where its
    parts are scored: its spread is known here alone.
    """

    def __init__(
        self, members: Sequence[Windows], rows: RowMaker, scorers: Sequence[Scorer], window: int
    ) -> None:
        self._members, self._rows, self._window = list(members), rows, window
        self._near = [s for s in scorers if s.part in AROUND]
        self._far = [s for s in scorers if s.part not in AROUND]
        self._scorers = list(scorers)
        self._junctions = any(s.part is Part.JUNCTIONS for s in scorers)
        self.with_composite = len(self._members) > 1 and tells_composite(s.name for s in scorers)

    def score(
        self,
        cases: Sequence[Case],
        alleles: Sequence[Pieces],
        coding: Sequence[Sequence[GeneModel]],
        batch_size: int,
    ) -> list[dict[str, Rows]]:
        """Rows by scorer name of every case; `ref_index` and `alt_index` are places in `alleles`."""
        around = [wanted_of(self._near, case, self._window, ()) for case in cases]
        genes = [
            wanted_of(self._far, case, self._window, own) for case, own in zip(cases, coding, strict=True)
        ]
        now: list[Wants] = [{} for _ in alleles]  # what cases without genes read of an allele
        later: list[Wants] = [{} for _ in alleles]  # what the others do, around the variant too
        for case, near, far in zip(cases, around, genes, strict=True):
            for index, a, b in zip((case.ref_index, case.alt_index), near, far, strict=True):
                wants = later[index] if far[0] else now[index]
                _add(wants, a)
                _add(wants, b if far[0] else {})
        states, read = self._read_near(alleles, now, later, batch_size)
        found: list[dict[str, Rows]] = [{} for _ in cases]
        for case, far, own, rows in zip(cases, genes, coding, found, strict=True):
            if not far[0]:
                pairs = [(m[case.ref_index].readings, m[case.alt_index].readings) for m in read]
                self._score_all(case, pairs, own, rows)
        self._score_far([i for i, far in enumerate(genes) if far[0]], cases, states, later, coding, found)
        return found

    def _read_near(
        self, alleles: Sequence[Pieces], now: Sequence[Wants], later: Sequence[Wants], batch_size: int
    ) -> tuple[list[list[Transformed]], list[list[Found]]]:
        """By member: alleles after the tower, and what is read of them now.

        Batch by batch, while the encoder's activations there are at hand.
        """
        reads = list(zip(now, later, strict=True))
        states: list[list[Transformed]] = [[] for _ in self._members]
        near: list[list[Found]] = [[] for _ in self._members]
        for member, own, found in zip(self._members, states, near, strict=True):
            member.expect(alleles, reads)
            for first in range(0, len(alleles), batch_size):
                batch = slice(first, first + batch_size)
                some = member.transform(alleles[batch], reads[batch])
                found += member.read(list(zip(some, now[batch], strict=True)))
                own += some
        return states, near

    # --- genes: a window after the other, because they take much memory

    def _score_far(
        self,
        places: Sequence[int],
        cases: Sequence[Case],
        states: Sequence[Sequence[Transformed]],
        later: Sequence[Wants],
        coding: Sequence[Sequence[GeneModel]],
        found: list[dict[str, Rows]],
    ) -> None:
        """Cases `places`, which have genes: what is around the variant, too, is mostly a part of them."""
        own = [bodies(cases[i], self._window) if self._junctions and coding[i] else [] for i in places]
        bodies_of = dict(zip(places, own, strict=True))
        order = sorted(places, key=lambda i: cases[i].ref_index)
        for ref_index, group in groupby(order, key=lambda i: cases[i].ref_index):
            same = list(group)
            asked = [(ref_index, later[ref_index], merged(s for i in same for s in bodies_of[i]))]
            for i in same:
                index = cases[i].alt_index
                asked.append((index, later[index], cases[i].alignment.reads(bodies_of[i])))
            read = self._read(states, asked)
            refs = next(read)
            for i, alts in zip(same, read, strict=True):
                self._score_genes(cases[i], refs, alts, coding[i], found[i])

    def _read(
        self, states: Sequence[Sequence[Transformed]], asked: Sequence[tuple[int, Wants, list[Span]]]
    ) -> Iterator[list[Found]]:
        """What every member reads of alleles, given as index, spans that are read and that junctions need.

        Two alleles at a time: spans of both are decoded together, and more would take much memory.
        """
        for first in range(0, len(asked), 2):
            some = asked[first : first + 2]
            keep = [spans for _, _, spans in some]
            by_member = [
                member.read([(own[index], wants) for index, wants, _ in some], keep=keep)
                for member, own in zip(self._members, states, strict=True)
            ]
            for found in zip(*by_member, strict=True):
                yield list(found)

    def _score_genes(
        self,
        case: Case,
        refs: list[Found],
        alts: list[Found],
        coding: Sequence[GeneModel],
        rows: dict[str, Rows],
    ) -> None:
        pairs = [(ref.readings, alt.readings) for ref, alt in zip(refs, alts, strict=True)]
        junctions = self._junctions and bool(coding)
        self._score_all(
            case, pairs, coding, rows, self._with_junctions(case, refs, alts) if junctions else None
        )

    def _score_all(
        self,
        case: Case,
        pairs: Sequence[Pair],
        coding: Sequence[GeneModel],
        rows: dict[str, Rows],
        cases: Sequence[Case] | None = None,
    ) -> None:
        """Rows of every scorer; cases: by member, with their junctions."""
        for scorer in self._scorers:
            rows[scorer.name] = self._score(scorer, cases or [case] * len(pairs), pairs, coding)
        if self.with_composite:
            rows[COMPOSITE] = composite_rows(rows)

    def _with_junctions(self, case: Case, refs: list[Found], alts: list[Found]) -> list[Case]:
        """The case with the junctions that every member predicts, at the sites of their mean."""
        ref, alt = (mean_reading([f.readings[SITES] for f in found]) for found in (refs, alts))
        positions = splice_positions(case, ref, alt, self._window)
        moved = case.alignment.sites(positions, alt.span)
        found = []
        for member, one, other in zip(self._members, refs, alts, strict=True):
            before = member.junctions(one.embedding, positions)
            after = member.junctions(other.embedding, moved)
            found.append(replace(case, junctions=(before, after, positions)))
        return found

    # --- one scorer

    def _score(
        self,
        scorer: Scorer,
        cases: Sequence[Case],
        pairs: Sequence[Pair],
        coding: Sequence[GeneModel],
    ) -> Rows:
        """Rows of the members' mean prediction, with the spread of their own scores."""
        if len(pairs) == 1:
            return self._rows.rows(scorer, cases[0], *pairs[0], coding)
        output = scorer.output_type
        means = [
            {output: mean_reading([p[side][output] for p in pairs])} if output in pairs[0][side] else {}
            for side in (0, 1)
        ]
        rows = self._rows.rows(scorer, _mean_case(cases), *means, coding)
        own = self._own_scores(scorer, rows, cases, pairs, coding)
        spread = own.std(0) if own.numel() else rows.raw
        return replace(rows, spread=spread, largest=largest_of(own))

    def _own_scores(
        self,
        scorer: Scorer,
        rows: Rows,
        cases: Sequence[Case],
        pairs: Sequence[Pair],
        coding: Sequence[GeneModel],
    ) -> Tensor:
        """The members' scores [M, N, P], rows as those of their mean."""
        if scorer.part is Part.JUNCTIONS:
            own = [same_junctions(rows, case) for case in cases]
        else:
            own = [
                self._rows.rows(scorer, case, *pair, coding).raw
                for case, pair in zip(cases, pairs, strict=True)
            ]
        return torch.stack(own) if rows.raw.numel() else rows.raw.expand(len(pairs), *rows.raw.shape)


def _mean_case(cases: Sequence[Case]) -> Case:
    """The case with the members' mean junctions."""
    if cases[0].junctions is None:
        return cases[0]
    values = [torch.stack([c.junctions[side].float() for c in cases]).mean(0) for side in (0, 1)]
    return replace(cases[0], junctions=(*values, cases[0].junctions[2]))


def _add(wants: Wants, more: Mapping[OutputType, Sequence[Span]]) -> None:
    for output, spans in more.items():
        wants[output] = merged([*wants.get(output, []), *spans])
