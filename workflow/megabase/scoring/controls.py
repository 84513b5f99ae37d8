"""Controls of an indel: what moving the sequence alone does to a score.

An indel shifts all that follows it against the bins of the network, which can change a gene's prediction
where no base of importance was lost or gained. Indels of the same length at other places show how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from megabase.scoring.engine import Engine
from megabase.scoring.scorers import Part
from megabase.sequence import decode
from megabase.structural import is_structural

if TYPE_CHECKING:
    from megabase.scoring.explain import Choice

DISTANCES = (200, 450, 700, 950, 1200, 1500)  # bases from the variant, on either side


def shift_controls(engine: Engine, choice: Choice, variant: Any) -> list[float]:
    """Scores of indels of the variant's length change nearby, on the channel and gene of the choice.

    Deletions take away that many bases, insertions repeat those that follow. Only places off every gene's
    exons, and on the variant's side of the explained gene, are used. Empty for variants that shift nothing,
    and for scorers that read about the variant itself.
    """
    change = len(variant.alt) - len(variant.ref)
    if is_structural(variant.alt) or change == 0:
        return []
    if choice.scorer.part is not Part.EXONS or engine.annotation is None:
        return []
    controls = [
        c for d in DISTANCES for side in (-1, 1) if (c := _control(engine, variant, side * d, change))
    ]
    (gene,) = engine.annotation.find(choice.gene_id)[:1]
    controls = [c for c in controls if _side(c, gene) == _side(variant, gene)]
    found = []
    for scored in engine.score(controls):
        rows = scored[choice.scorer.name]
        found += [
            float(raw[choice.channel])
            for row, raw in zip(rows.genes, rows.raw, strict=True)
            if row.gene_id == choice.gene_id
        ]
    return found


def _control(engine: Engine, variant: Any, away: int, change: int) -> Any | None:
    """An indel of that length change so far away; None in an exon, on unknown bases, off the chromosome."""
    position, length = variant.position + away, abs(change)
    if position < 0 or position + length + 1 > engine.genome.lengths[variant.chrom]:
        return None
    text = decode(engine.genome.codes(variant.chrom, position, position + length + 1))
    near = engine.annotation.overlapping(variant.chrom, position, position + length + 1)
    if "N" in text or any(_touches(gene.exons.tolist(), position, position + length + 1) for gene in near):
        return None
    ref, alt = (text, text[0]) if change < 0 else (text[0], text)
    return type(variant)(variant.chrom, position, ref, alt)


def _touches(spans: Sequence[Sequence[int]], start: int, end: int) -> bool:
    return any(a < end and b > start for a, b in spans)


def _side(variant: Any, gene: Any) -> tuple[bool, bool]:
    return variant.position < gene.start, variant.position >= gene.end
