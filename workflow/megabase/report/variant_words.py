"""What the scores of one variant say, in sentences: by modality, how surely, and what single bases do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from megabase.locus import track_label
from megabase.report.variant_effects import Effects
from megabase.scoring.composite import COMPOSITE, PARTS
from megabase.style import label_of

MOST_RARE = 5.0  # no quantile says more than 1 in 100,000
UNUSUAL = 1.0  # rarity from which an effect is told: 1 in 10 common variants
LITTLE = 0.2  # of the effect, below which no single substitution explains it
GROUPS: dict[str, tuple[str, ...]] = {  # subject of a sentence: scorers
    "Gene expression": ("rna_seq",),
    "Transcription initiation": ("cage", "procap"),
    "Chromatin accessibility at the variant": ("dnase", "atac"),
    "Histone marks at the variant": ("chip_histone",),
    "Binding of transcription factors at the variant": ("chip_tf",),
    "Splicing": (COMPOSITE, *PARTS),
    "Polyadenylation": ("polyadenylation",),
    "Contacts of chromatin": ("contact_maps",),
}


def rarity(quantile: float, signed: bool, background: int) -> float:
    """-log10 of the share of common variants beyond a score; no more than the background can tell.

    A signed quantile q leaves (1 - |q|) / 2 of them on its side, an unsigned one 1 - q.
    """
    share = (1 - abs(quantile)) / 2 if signed else 1 - quantile
    most = min(MOST_RARE, math.log10(background + 1)) if background else MOST_RARE
    return min(max(-math.log10(max(share, 1e-9)), 0.0), most)


def size_text(change: float | None, raw: float) -> str:
    """`-28%`, `3.1×`: ALT over REF; the raw score where that is not known."""
    if change is None:
        return f"{raw:.2g}"
    percent = 100 * (change - 1)
    if abs(percent) < 0.05:
        return "0%"
    if abs(percent) < 100:
        text = f"{percent:+.0f}%" if abs(percent) >= 9.5 else f"{percent:+.1f}%"
        return text.replace("-", "−")
    return f"{change:.1f}×" if change < 100 else f"{change:,.0f}×"


def scorer_label(scorer: str, output_type: str) -> str:
    """Name of a scorer for people."""
    named = {"polyadenylation": "polyadenylation", COMPOSITE: "splicing, composite"}
    return scorer if ":" in scorer else named.get(scorer, label_of(output_type))


def effect_rarity(row: Mapping[str, Any], effects: Effects) -> float | None:
    """`rarity` of a row of the effects; None where it has no quantile."""
    if row["quantile"] is None:
        return None
    return rarity(row["quantile"], row["signed"], effects.background)


def rarity_text(row: Mapping[str, Any], effects: Effects) -> str:
    """`as extreme as 1 in 500 common variants`; empty where the score is not calibrated."""
    found = effect_rarity(row, effects)
    if found is None:
        return ""
    if effects.background and found >= math.log10(effects.background + 1) - 1e-6:
        return f"more extreme than all {effects.background:,} common variants compared"
    if found >= MOST_RARE - 0.31:
        return "more extreme than 1 in 50,000 common variants"
    if found < 0.5:
        return "within the range of common variants"
    one_in = 10**found
    shown = round(one_in) if one_in < 10 else int(float(f"{one_in:.1e}"))
    return f"as extreme as 1 in {shown:,} common variants"


def track_text(row: Mapping[str, Any]) -> str:
    """Biosample, target and strand of a row of the effects, or else the track's name."""
    known = {"target": row["target"], "biosample_name": row["biosample_name"], "strand": row["track_strand"]}
    return track_label(known) or row["track_name"]


def modality_sentences(effects: Effects) -> list[str]:
    """A sentence for each group of scorers in the store: its strongest effect, or that it has none."""
    best = effects.strongest(["scorer"])
    told = []
    for subject, scorers in GROUPS.items():
        rows = best.filter(pl.col("scorer").is_in(scorers)).to_dicts()
        if rows:
            told.append(_sentence(subject, rows[0], effects))
    return told


def _sentence(subject: str, row: Mapping[str, Any], effects: Effects) -> str:
    """What changes, how much, where, and how unusual that is."""
    what = scorer_label(row["scorer"], row["output_type"])
    if named := row["gene_name"] or row["gene_id"] or row["target"]:
        what += f" of {named}"
    where = f" in {row['biosample_name']}" if row["biosample_name"] else ""
    size = size_text(row["change"], row["raw"])
    found = effect_rarity(row, effects)
    if found is not None and found < UNUSUAL:
        return f"{subject}: nothing unusual. The largest change is {size} ({what}{where})."
    verb = "change" if what.split(" of ")[0].endswith("s") else "changes"
    if row["signed"]:
        verb = "rises" if row["raw"] > 0 else "falls"
    verb += " to" if size.endswith("×") else " by"
    rare = rarity_text(row, effects)
    return f"{subject}: {what} {verb} {size.lstrip('+−')}{where}{', ' + rare if rare else ''}."


def certainty_sentence(row: Mapping[str, Any]) -> str:
    """How an effect compares with the spread of its score over models."""
    if row["spread"] is None:
        return (
            "These scores tell no spread over models; those of an ensemble do, and then show how far models "
            "trained alike differ about this variant."
        )
    spread, size = float(row["spread"]), abs(float(row["raw"]))
    ratio = size / spread if spread > 0 else math.inf
    agree = "they agree on its direction" if row["signed"] else "they agree that there is one"
    judged = agree if ratio >= 2 else "that is no agreement on whether there is an effect"
    times = "far larger than" if ratio > 100 else f"{ratio:.1f} times"
    return (
        f"Models trained alike differ about this score by {spread:.2g} (standard deviation); the effect of "
        f"{size:.2g} is {times} that: {judged}."
    )


def control_sentence(controls: Sequence[float], score: float) -> str | None:
    """Whether moving the sequence alone explains the score of an indel; None without controls."""
    sizes = np.abs(np.array([c for c in controls if math.isfinite(c)]))
    if not len(sizes):
        return None
    ratio = abs(score) / sizes.max() if sizes.max() > 0 else math.inf
    judged = "lies within that" if ratio < 1 else f"is {min(ratio, 999):.1f} times the largest"
    warning = ": much of it may come from moving the sequence, not from the bases" if ratio < 2 else ""
    return (
        f"Indels of the same length at {len(sizes)} other places nearby, off any exon, change this score by "
        f"{np.median(sizes):.2g} (median; largest {sizes.max():.2g}). The variant's {abs(score):.2g} "
        f"{judged}{warning}."
    )


def representation_sentence(row: Mapping[str, Any]) -> str | None:
    """How well the tissue of an effect was represented in training; None where that is not known."""
    value = row["representation"]
    if value is None:
        return None
    how = "well" if value >= 0.5 else "in part" if value >= 0.2 else "hardly"
    lean = "" if value >= 0.5 else "; what is said about it leans on other tissues"
    name = row["biosample_name"] or row["track_name"]
    return f"{name} was {how} represented in the training data ({value:.2f} of 1){lean}."


def substitution_sentence(matrix: np.ndarray, bases: str, score: float, what: Sequence[int]) -> str | None:
    """Whether single substitutions near the variant account for its effect; None without a score.

    matrix [W, 4]: contributions of REF as in an explanation, bases [W]: its sequence, what: (first, last) of
    the variant's own bases in it.
    """
    own = np.array([[b == letter for letter in "ACGT"] for b in bases.upper()])
    if not score or not own.any():
        return None
    effects = np.where(own, 0.0, matrix - np.where(own, matrix, 0.0).sum(1, keepdims=True))
    sizes = np.where(own.any(1), np.abs(effects).max(1), 0.0)
    share = float(sizes.max()) / abs(score)
    if share < LITTLE:
        return (
            f"No single substitution among the {len(bases)} bases shown changes the score by more than "
            f"{100 * share:.1f}% of the variant's effect: it comes from several bases together or from "
            "moving the sequence, and a model's artefact is not excluded."
        )
    inside = sizes[what[0] : what[1]].max()
    outside = np.where((np.arange(len(sizes)) >= what[0]) & (np.arange(len(sizes)) < what[1]), 0.0, sizes)
    at = int(outside.argmax())
    if outside[at] <= inside:
        return f"Of the {len(bases)} bases shown, none matters more to this score than those of the variant."
    away = what[0] - at if at < what[0] else at - what[1] + 1
    return (
        f"A base {away:,} bp from the variant matters more to this score: a substitution there has "
        f"{outside[at] / abs(score):.1f} times the effect of the variant."
    )
