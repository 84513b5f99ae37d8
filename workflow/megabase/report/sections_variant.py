"""Sections of one variant's page: in short, genes and tissues, both alleles, bases, splicing, trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from megabase.report.blocks import Card, Cards, PageSection, Table, Text, number, picture
from megabase.report.explanation import Explanation
from megabase.report.figures_locus import locus_figure, mutagenesis_figure, zoom_figure
from megabase.report.figures_variant import forest_figure, tissue_figure
from megabase.report.variant_effects import Effects
from megabase.report.variant_words import (
    UNUSUAL,
    certainty_sentence,
    control_sentence,
    effect_rarity,
    modality_sentences,
    rarity_text,
    representation_sentence,
    scorer_label,
    size_text,
    substitution_sentence,
    track_text,
)
from megabase.scoring.explain import Choice
from megabase.spec import OutputType

CARDS = 8
GENES = 12  # rows of the table of genes
JUNCTIONS = 12


@dataclass(frozen=True)
class Subject:
    """What the page is about: all effects, the one that is explained, its explanation.

    controls: scores of indels of the same length nearby, where the variant is one.
    """

    effects: Effects
    choice: Choice
    explanation: Explanation
    controls: Sequence[float] = ()

    @property
    def row(self) -> Mapping[str, Any]:
        """The explained effect as a row of the effects."""
        table = self.effects.table.filter(
            pl.col("scorer") == self.choice.scorer.name, pl.col("channel") == self.choice.channel
        )
        return table.filter(pl.col("gene_id").eq_missing(pl.lit(self.choice.gene_id))).row(0, named=True)


def build_sections(subject: Subject) -> list[PageSection]:
    """The sections of the page in order."""
    found = [
        summary_section(subject),
        tissue_section(subject),
        locus_section(subject),
        bases_section(subject),
        splicing_section(subject),
        trust_section(subject),
    ]
    return [section for section in found if section is not None]


def summary_section(subject: Subject) -> PageSection:
    """The largest effects as cards, what they mean in words, and all of them as a table."""
    effects = subject.effects
    best = effects.strongest(["scorer"]).to_dicts()
    cards = [_card(row, effects) for row in best[:CARDS]]
    words = [subject.explanation.info["words"][0], *subject.explanation.info["words"][2:3]]
    blocks = [
        Text(words),
        Cards(cards, "Largest predicted change of each kind of signal; blue: unusual among common variants"),
        Text(modality_sentences(effects), listed=True),
    ]
    return PageSection("summary", "In short", blocks)


def _card(row: Mapping[str, Any], effects: Effects) -> Card:
    where = " · ".join(t for t in (row["gene_name"] or row["gene_id"], row["biosample_name"]) if t)
    rare = effect_rarity(row, effects)
    note = "; ".join(t for t in (where, rarity_text(row, effects)) if t)
    title = scorer_label(row["scorer"], row["output_type"])
    title = f"{title} {row['target']}" if row["target"] else title
    return Card(title, size_text(row["change"], row["raw"]), note, rare is not None and rare < UNUSUAL)


def tissue_section(subject: Subject) -> PageSection:
    """Modalities by tissue, the explained score over its tracks, and the genes of the window."""
    effects, row = subject.effects, subject.row
    caption = (
        "Each cell is the largest predicted change of ALT against REF among a tissue's tracks: its size, and "
        "in colour how unusual it is among common variants. Grey: no such track. Scores of splicing, "
        "contacts and polyadenylation have no direction."
        if effects.calibrated
        else "Each cell is the largest score among a tissue's tracks. The scores are not calibrated: colours "
        "compare raw scores, which differ in scale from row to row."
    )
    blocks: list[Any] = [picture("tissues", tissue_figure(effects), caption)]
    what = scorer_label(row["scorer"], row["output_type"])
    title = f"{what} of {row['gene_name'] or row['gene_id']}" if row["gene_id"] else what
    bars = " Bars: two standard deviations over models either way." if row["spread"] is not None else ""
    caption = f"The score that is explained below, on the tracks that change most.{bars}"
    figure = forest_figure(effects, row["scorer"], row["gene_id"], title)
    blocks.append(picture("tracks", figure, caption))
    blocks.append(_effect_table(effects))
    genes = _gene_table(subject)
    return PageSection("tissues", "Genes and tissues", blocks + ([genes] if genes else []))


def _effect_table(effects: Effects) -> Table:
    """The largest effect of every scorer."""
    rows, strong = [], set()
    order = {o.value: i for i, o in enumerate(OutputType)}
    best = effects.strongest(["scorer"]).to_dicts()
    for row in sorted(best, key=lambda r: (order.get(r["output_type"], 99), r["scorer"])):
        rare = effect_rarity(row, effects)
        if rare is not None and rare >= UNUSUAL:
            strong.add((len(rows), 3))
        rows.append(
            [scorer_label(row["scorer"], row["output_type"]), track_text(row),
             row["gene_name"] or row["gene_id"] or "", size_text(row["change"], row["raw"]),
             _with_minus(row["raw"], ".3g"), _with_minus(row["spread"], ".2g"),
             _with_minus(row["quantile"], ".5f"), number(row["representation"], 2)]
        )  # fmt: skip
    caption = (
        "Largest effect of every scorer. Quantile: rank among common variants, from −1 or 0 to 1; bold: "
        "at most 1 in 10 of them is as extreme. Spread: standard deviation over models. Representation: how "
        "well the tissue was measured in training, 0 to 1."
    )
    columns = ("signal", "track", "gene", "ALT against REF", "score", "spread", "quantile", "representation")
    return Table(columns, rows, caption, frozenset(range(3, 8)), frozenset(strong))


def _with_minus(value: float | None, form: str) -> str:
    """A number with a minus sign for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{'−' if value < 0 else ''}{abs(value):{form}}"


def _gene_table(subject: Subject) -> Table | None:
    """Genes by their largest expression effect: where the variant lies to them, and the tissue."""
    table = subject.effects.table.filter(pl.col("scorer") == "rna_seq")
    if table.is_empty():
        return None
    best = subject.effects.strongest(["scorer", "gene_id"]).filter(pl.col("scorer") == "rna_seq")
    places = {g["gene_id"]: g for g in subject.explanation.info["genes"]}
    first = subject.explanation.variant["position"]
    last = first + len(subject.explanation.variant["ref"])
    rows = []
    for row in best.head(GENES).iter_rows(named=True):
        gene = places.get(row["gene_id"])
        rows.append(
            [row["gene_name"] or row["gene_id"], row["gene_strand"] or "", _where(gene, first, last),
             size_text(row["change"], row["raw"]), track_text(row), rarity_text(row, subject.effects)]
        )  # fmt: skip
    more = best.height - len(rows)
    rest = f" {more} more genes change less." if more > 0 else ""
    caption = f"Genes with a transcription start in the window, by their largest change of expression.{rest}"
    columns = ("gene", "strand", "the variant lies", "ALT against REF", "tissue", "")
    return Table(columns, rows, caption, frozenset({3}))


def _where(gene: Mapping[str, Any] | None, first: int, last: int) -> str:
    """Where a variant's bases, from `first` up to `last`, lie relative to a gene."""
    if gene is None:
        return ""
    if gene["start"] < last and gene["end"] > first:
        return "in an exon" if any(a < last and b > first for a, b in gene["exons"]) else "in an intron"
    before = (gene["start"] >= last) == (gene["strand"] != "-")
    away = max(gene["start"] - last, first - gene["end"]) + 1
    return f"{away:,} bp {'upstream' if before else 'downstream'}"


def locus_section(subject: Subject) -> PageSection:
    """Both alleles' predictions in the whole window, and base by base around the variant."""
    explanation = subject.explanation
    observed = any(name.startswith("observed/") for name in explanation.arrays)
    seen = "Grey: what was measured (on the reference genome). " if observed else ""
    caption = (
        f"{seen}Dark: predicted for the reference allele, orange: for the alternative one. The line marks "
        "the variant, the explained gene is green. Of each modality one track is shown: the scored one, or "
        "the one of the same tissue that changes most. Units are those of the normalized tracks."
    )
    blocks: list[Any] = [picture("locus", locus_figure(explanation), caption)]
    if any(lane.bases == 1 for lane in explanation.lanes()):
        caption = (
            "The same tracks about the variant, base by base. After an indel, ALT is laid on REF's positions."
        )
        blocks.append(picture("locus_zoom", zoom_figure(explanation), caption))
    return PageSection("locus", "Both alleles", blocks)


def bases_section(subject: Subject) -> PageSection | None:
    """Which bases matter to the explained score, on either allele."""
    explanation, row = subject.explanation, subject.row
    if not explanation.logos():
        return None
    of = f" of {row['gene_name'] or row['gene_id']}" if row["gene_id"] else ""
    caption = (
        f"In-silico mutagenesis of {scorer_label(row['scorer'], row['output_type'])}{of}, {track_text(row)}. "
        "A letter's height is what the sequence gains by this base rather than the other three; below, the "
        "effect of every substitution of REF. The box marks the variant. A motif that stands in one row only "
        "is made or broken by the variant."
    )
    blocks: list[Any] = [picture("mutagenesis", mutagenesis_figure(explanation), caption)]
    ism, first = explanation.info["ism"], explanation.variant["position"] - explanation.info["ism"]["start"]
    own = (first, first + len(explanation.variant["ref"]))
    told = substitution_sentence(explanation.arrays["ism"], ism["sequence"], row["raw"], own)
    return PageSection("bases", "Which bases matter", blocks + ([Text([told])] if told else []))


def splicing_section(subject: Subject) -> PageSection | None:
    """Junctions whose predicted use changes most; None without any."""
    junctions = subject.explanation.info.get("junctions", [])
    if not junctions:
        return None
    changed = sorted(junctions, key=lambda j: -abs(j["alt"] - j["ref"]))[:JUNCTIONS]
    chrom = subject.explanation.variant["chrom"]
    rows = [
        [f"{chrom}:{j['donor'] + 1:,}", f"{chrom}:{j['acceptor'] + 1:,}", j["strand"], j["biosample"] or "",
         f"{j['ref']:.3g}", f"{j['alt']:.3g}"]
        for j in changed
    ]  # fmt: skip
    caption = (
        "Splice junctions of the genes at the variant, those whose predicted use changes most first. Donor: "
        "last base of the exon, acceptor: first base of the next. Use in units of normalized reads."
    )
    columns = ("donor", "acceptor", "strand", "tissue", "use, REF", "use, ALT")
    return PageSection("splicing", "Splicing", [Table(columns, rows, caption, frozenset({4, 5}))])


def trust_section(subject: Subject) -> PageSection:
    """What the numbers can and cannot carry."""
    effects, row = subject.effects, subject.row
    background = f"{effects.background:,} common variants" if effects.background else "common variants"
    lines: list[str | None] = [
        f"Quantiles compare with {background}: an effect is called unusual by its rank among them, which "
        "does not make it harmful."
        if effects.calibrated
        else "These scores are not calibrated: how unusual an effect is among common variants is not known.",
        certainty_sentence(row),
        control_sentence(subject.controls, row["raw"]),
        representation_sentence(row),
        f"The model sees {effects.window:,} bases about the variant; what acts from farther away is not in "
        "these numbers, nor are other variants of the same person.",
        "These are predictions of a model, no measurement and no diagnosis; a functional test decides.",
    ]
    return PageSection("trust", "How far to trust this", [Text([t for t in lines if t], listed=True)])
