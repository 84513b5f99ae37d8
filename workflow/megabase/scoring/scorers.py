"""The scorers by name: what each reads, where, how it aggregates, and whether its sign has a meaning.

The recommended names are those of the published set: `{output_type}`, `{output_type}_active` and
`polyadenylation`. A custom scorer is written `output_type:center:width:aggregation` (width in bases or
`none`), or `output_type:gene:kind[:width]` of kind `lfc`, `active` or `splicing`, where a width leaves of
exons or gene body only the bases around the variant. Part of the numerical core. Source: AlphaGenome
Methods (variant scoring).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from megabase.scoring.formulas import AGGREGATIONS
from megabase.spec import OUTPUTS, TRACK_OUTPUTS, Kind, OutputType, SiteClass
from megabase.spec import file_name as file_name


class Part(StrEnum):
    """The part of the window that a scorer reads."""

    CENTRE = "center"  # bins around the variant
    EXONS = "exons"  # exons of the genes whose TSS lies in the window
    BODY = "body"  # bodies of the genes that overlap the variant
    JUNCTIONS = "junctions"  # introns inside the genes that overlap the variant
    SITES = "polya_sites"  # upstream of the polyadenylation sites of genes that overlap the variant
    CONTACTS = "contacts"  # contacts of the variant's bin


@dataclass(frozen=True, slots=True)
class Scorer:
    """One scorer: where it reads and how it turns REF and ALT predictions into one number a track.

    width: bases around the variant (centre and gene scores), None is the whole window. signed: whether the
    sign is the direction of the effect. needs: every output type that must be predicted, scored one first.
    """

    name: str
    output_type: OutputType
    part: Part
    aggregation: str
    signed: bool
    width: int | None = None
    needs: tuple[OutputType, ...] = ()

    @property
    def has_genes(self) -> bool:
        """Whether a row of its output is a variant and a gene, rather than a variant."""
        return self.part not in (Part.CENTRE, Part.CONTACTS)

    @property
    def resolution(self) -> int:
        """Bases a bin: the finest that the output type has."""
        return OUTPUTS[self.output_type].resolutions[0]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready description for `scores.json`."""
        return {
            "name": self.name, "output_type": self.output_type.value, "part": self.part.value,
            "aggregation": self.aggregation, "width": self.width, "signed": self.signed,
            "genes": self.has_genes,
        }  # fmt: skip


def _centre(name: str, output: OutputType, width: int | None, aggregation: str) -> Scorer:
    signed = aggregation.startswith("diff")
    return Scorer(name, output, Part.CENTRE, aggregation, signed, width, (output,))


def _recommended() -> dict[str, Scorer]:
    """The 19 scorers of the published recommended set, in its order of modalities."""
    o = OutputType
    found = [
        Scorer("rna_seq", o.RNA_SEQ, Part.EXONS, "lfc", True, None, (o.RNA_SEQ,)),
        Scorer("rna_seq_active", o.RNA_SEQ, Part.EXONS, "active", False, None, (o.RNA_SEQ,)),
    ]
    for output in (o.CAGE, o.PROCAP, o.DNASE, o.ATAC, o.CHIP_HISTONE, o.CHIP_TF):
        width = 2001 if output is o.CHIP_HISTONE else 501
        found.append(_centre(output.value, output, width, "diff_log2_sum"))
        found.append(_centre(f"{output.value}_active", output, width, "active_sum"))
    junctions, sites = o.SPLICE_JUNCTIONS, o.SPLICE_SITES
    found += [
        Scorer("contact_maps", o.CONTACT_MAPS, Part.CONTACTS, "mean_abs", False, None, (o.CONTACT_MAPS,)),
        Scorer("splice_sites", sites, Part.BODY, "splicing", False, None, (sites,)),
        Scorer("splice_site_usage", o.SPLICE_SITE_USAGE, Part.BODY, "splicing", False, None,
               (o.SPLICE_SITE_USAGE,)),
        Scorer("splice_junctions", junctions, Part.JUNCTIONS, "abs_log", False, None, (junctions, sites)),
        Scorer("polyadenylation", o.RNA_SEQ, Part.SITES, "ratio", False, None, (o.RNA_SEQ,)),
    ]  # fmt: skip
    return {scorer.name: scorer for scorer in found}


RECOMMENDED: dict[str, Scorer] = _recommended()
_GENE_PARTS = {"lfc": (Part.EXONS, True), "active": (Part.EXONS, False), "splicing": (Part.BODY, False)}


def recommended(
    tracks: Mapping[OutputType, Sequence[Any]], *, has_genes: bool, has_polya_sites: bool
) -> list[Scorer]:
    """The recommended scorers that a model's tracks and the annotation at hand allow."""
    return [s for s in RECOMMENDED.values() if why_not(s, tracks, has_genes, has_polya_sites) is None]


def why_not(
    scorer: Scorer, tracks: Mapping[OutputType, Sequence[Any]], has_genes: bool, has_polya_sites: bool
) -> str | None:
    """Why a scorer cannot run on a model's tracks and the annotation at hand; None if it can."""
    missing = [o.value for o in scorer.needs if not tracks.get(o)]
    if missing:
        return f"the model has no tracks of {', '.join(missing)}"
    if scorer.has_genes and not has_genes:
        return "it needs a gene annotation"
    if scorer.part is Part.SITES and not has_polya_sites:
        return "it needs a table of polyadenylation sites"
    return None


def parse_scorer(text: str) -> Scorer:
    """A scorer by its recommended name or in the custom grammar; ValueError with the nearest name."""
    if text in RECOMMENDED:
        return RECOMMENDED[text]
    fields = text.split(":")
    if len(fields) == 1:
        near = _nearest(text, ["recommended", *RECOMMENDED])
        raise ValueError(f"unknown scorer {text!r}; nearest name: {near}")
    if fields[0] not in {o.value for o in OutputType}:
        raise ValueError(
            f"scorer {text!r}: unknown output type {fields[0]!r}; nearest name: {_nearest(fields[0])}"
        )
    output = OutputType(fields[0])
    if fields[1] == "center" and len(fields) == 4:
        return _parse_centre(text, output, fields[2], fields[3])
    if fields[1] == "gene" and len(fields) in (3, 4):
        return _parse_gene(text, output, fields[2], fields[3] if len(fields) == 4 else "none")
    raise ValueError(
        f"scorer {text!r}: wanted output_type:center:width:aggregation "
        "or output_type:gene:(lfc|active|splicing)[:width]"
    )


def _nearest(word: str, names: Iterable[str] = tuple(OutputType)) -> str:
    return difflib.get_close_matches(word, [str(n) for n in names], n=1, cutoff=0.0)[0]


def _parse_centre(text: str, output: OutputType, width: str, aggregation: str) -> Scorer:
    if output not in TRACK_OUTPUTS:
        raise ValueError(f"scorer {text!r}: a centre scorer needs a track output type, not {output.value}")
    if aggregation not in AGGREGATIONS:
        near = _nearest(aggregation, AGGREGATIONS)
        raise ValueError(f"scorer {text!r}: unknown aggregation {aggregation!r}; nearest name: {near}")
    return _centre(text, output, parse_width(text, width), aggregation)


def parse_width(scorer: str, text: str) -> int | None:
    """Bases of a width as text, `none` is None; ValueError that names the scorer."""
    if text.lower() == "none":
        return None
    if not (text.isdecimal() and int(text) > 0):
        raise ValueError(f"scorer {scorer!r}: width {text!r}; wanted a number of bases or `none`")
    return int(text)


def _parse_gene(text: str, output: OutputType, kind: str, width: str) -> Scorer:
    if kind not in _GENE_PARTS:
        near = _nearest(kind, _GENE_PARTS)
        raise ValueError(f"scorer {text!r}: unknown gene score {kind!r}; nearest name: {near}")
    if OUTPUTS[output].resolutions[0] != 1 or OUTPUTS[output].kind is Kind.JUNCTIONS:
        raise ValueError(f"scorer {text!r}: a gene scorer needs a 1-bp output type, not {output.value}")
    part, signed = _GENE_PARTS[kind]
    return Scorer(text, output, part, kind, signed, parse_width(text, width), (output,))


def parse_scorers(
    names: Sequence[str],
    tracks: Mapping[OutputType, Sequence[Any]],
    *,
    has_genes: bool,
    has_polya_sites: bool,
) -> list[Scorer]:
    """Scorers of a list of names, `recommended` expanded, each once; ValueError for one that cannot run."""
    found: dict[str, Scorer] = {}
    for name in names:
        if name == "recommended":
            allowed = recommended(tracks, has_genes=has_genes, has_polya_sites=has_polya_sites)
            found |= {scorer.name: scorer for scorer in allowed}
            continue
        scorer = parse_scorer(name)
        reason = why_not(scorer, tracks, has_genes, has_polya_sites)
        if reason:
            raise ValueError(f"scorer {name!r} cannot run: {reason}")
        found[scorer.name] = scorer
    if not found:
        raise ValueError(f"scorers {list(names)} leave nothing to score with this model and annotation")
    return list(found.values())


def scorer_tracks(scorer: Scorer, tracks: Mapping[OutputType, Sequence[Mapping[str, Any]]]) -> list[dict]:
    """Rows (columns of the track table) of the channels of a scorer's score, in order.

    Splice sites have the four site classes; junctions one row a biosample (their + half, strand `.`); all
    others the channels of the output type.
    """
    rows = [dict(row) for row in tracks[scorer.output_type]]
    if scorer.output_type is OutputType.SPLICE_SITES:
        return rows[: SiteClass.NONE]
    if scorer.part is Part.JUNCTIONS:
        return [row | {"strand": ".", "strand_partner": i} for i, row in enumerate(rows[: len(rows) // 2])]
    return rows
