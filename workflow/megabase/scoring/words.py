"""What a score means, in sentences that a geneticist can use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from megabase.scoring.annotation import PROTEIN_CODING
from megabase.scoring.scorers import Part
from megabase.spec import OutputType
from megabase.structural import WORDS, Event, is_structural, parse_structural, reference_span

if TYPE_CHECKING:
    from megabase.scoring.annotation import GeneModel
    from megabase.scoring.explain import Choice

_WHAT = {
    OutputType.RNA_SEQ: "RNA-seq coverage",
    OutputType.CAGE: "transcription initiation (CAGE)",
    OutputType.PROCAP: "transcription initiation (PRO-cap)",
    OutputType.DNASE: "chromatin accessibility (DNase)",
    OutputType.ATAC: "chromatin accessibility (ATAC)",
    OutputType.CHIP_HISTONE: "histone modification signal",
    OutputType.CHIP_TF: "transcription-factor binding",
}


def describe(
    variant: Any,
    choice: Choice,
    track: Mapping[str, Any],
    genes: Sequence[GeneModel],
    model: str,
    window: int,
) -> list[str]:
    """Sentences: what changes and how much, how unusual that is, where the variant lies, what to mind."""
    return [
        _change(variant, choice, track),
        _strength(choice),
        _place(variant, genes, window),
        f"This is a prediction of {model} from {window:,} bases of sequence around the variant; it is not a "
        "measurement, and effects of more distant sequence are not seen.",
    ]


def _kind(variant: Any) -> str:
    if is_structural(variant.alt):
        event = parse_structural(variant.position, variant.alt)
        size = f" of {event.end - event.start:,} bases" if isinstance(event, Event) else ""
        return f"{WORDS[event.kind]}{size}"
    difference = len(variant.alt) - len(variant.ref)
    if difference == 0:
        return "single-nucleotide variant" if len(variant.ref) == 1 else "multi-nucleotide variant"
    size = "1 base" if abs(difference) == 1 else f"{abs(difference)} bases"
    return f"{'insertion' if difference > 0 else 'deletion'} of {size}"


def fold_change(choice: Choice) -> float | None:
    """ALT / REF as a ratio, for the scorers whose score is a logarithm of it."""
    if choice.scorer.aggregation == "lfc":
        return math.exp(choice.raw)
    return 2.0**choice.raw if choice.scorer.aggregation == "diff_log2_sum" else None


def _change(variant: Any, choice: Choice, track: Mapping[str, Any]) -> str:
    what = _WHAT.get(choice.scorer.output_type, choice.scorer.output_type.value.replace("_", " "))
    if track.get("target"):
        what += f" of {track['target']}"
    part = "in the body" if choice.scorer.part is Part.BODY else "over the exons"
    where = f" {part} of {choice.gene_name or choice.gene_id}" if choice.gene_id else ""
    if choice.scorer.width:
        where += f" within {choice.scorer.width:,} bases of it"
    cell = track.get("biosample_name") or track["name"]
    ratio = fold_change(choice)
    size = f" to {ratio:.2f} times that of REF" if ratio is not None else f" by {abs(choice.raw):.3g}"
    verb = "raises" if choice.raw > 0 else "lowers"
    if not choice.scorer.signed:
        verb = "changes"
    name = f"{variant.chrom}:{variant.position + 1:,} {_short(variant.ref)}>{_short(variant.alt)}"
    article = "an" if _kind(variant).startswith("i") else "a"
    return f"{name}, {article} {_kind(variant)}, {verb} predicted {what}{where} in {cell}{size}."


def _short(allele: str) -> str:
    return allele if len(allele) <= 12 else f"{allele[:6]}...({len(allele)} bases)"


def _strength(choice: Choice) -> str:
    """How the effect compares with the background; a signed quantile q leaves (1 - |q|) / 2 beyond it."""
    if choice.quantile is None:
        return "The scorer is not calibrated, so how unusual this effect is was not estimated."
    if not choice.scorer.signed:
        many = _many((1 - choice.quantile) * choice.background)
        return (
            f"On this track, {many} of the {choice.background:,} common background variants change as much "
            f"(quantile {choice.quantile:.4f})."
        )
    number = (1 - abs(choice.quantile)) / 2 * choice.background
    side = "high" if choice.quantile > 0 else "low"
    many = _many(number)
    return (
        f"On this track, {many} of the {choice.background:,} common background variants score as {side} or "
        f"{side}er (quantile {choice.quantile:+.4f})."
    )


def _many(number: float) -> str:
    return f"about {number:,.0f}" if number >= 1 else "fewer than one"


def _nearness(gene: GeneModel, start: int, end: int) -> tuple[int, bool, int]:
    """Order of genes by distance; of genes as near, protein-coding ones, then those that start nearest."""
    away = max(gene.start - end, start - gene.end, 0)
    return away, gene.gene_type != PROTEIN_CODING, min(abs(site - start) for site in gene.tss)


def _place(variant: Any, genes: Sequence[GeneModel], window: int) -> str:
    """Where the variant lies relative to the nearest gene of the window."""
    if not genes:
        return f"No annotated gene lies in the window of {window:,} bases."
    start, end = reference_span(variant)
    gene = min(genes, key=lambda g: _nearness(g, start, end))
    name = gene.gene_name or gene.gene_id
    if gene.start >= end or gene.end <= start:
        before = (gene.start >= end) == (gene.strand != "-")
        distance = max(gene.start - end, start - gene.end) + 1
        side = "upstream" if before else "downstream"
        return f"The nearest gene is {name}; the variant lies {distance:,} bases {side} of it."
    exonic = any(a < end and b > start for a, b in gene.exons.tolist())
    sites = [int(p) for kind in gene.splice_sites() for p in kind]
    text = f"The variant lies in an {'exon' if exonic else 'intron'} of {name}"
    if sites:
        distance = min(max(p - end + 1, start - p, 0) for p in sites)
        text += (
            f", {distance:,} bases from the nearest annotated splice site"
            if distance
            else ", at a splice site"
        )
    return (
        text
        + f" and {min(abs(t - start) for t in gene.tss):,} bases from the nearest start of transcription."
    )
