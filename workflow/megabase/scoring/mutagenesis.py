"""In-silico mutagenesis: what each base around a variant contributes to one score.

Every substitution is a variant that the engine scores, on the sequence of the ALT allele, too; about a
structural variant both are mutated in whole windows. Tensor part of scoring. Matrix convention: each
substitution's score less the mean of the three, so the base that is there holds minus their mean (plus, for
an unsigned scorer). Source: AlphaGenome (ISM matrices).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megabase.alignment import Alignment
from megabase.logs import progress
from megabase.scoring.alternate import AlternateGenome, alternate_annotation
from megabase.scoring.engine import Case, Engine, Predictions
from megabase.scoring.scorers import Scorer
from megabase.sequence import decode
from megabase.spec import ALPHABET, UNKNOWN_BASE, OutputType
from megabase.structural import is_structural

AT_ONCE = 96  # substitutions between two steps of the progress line


@dataclass(frozen=True)
class Question:
    """What is mutated and which number is read: a stretch, a scorer, the channels averaged, a gene."""

    chrom: str
    start: int
    end: int
    scorer: Scorer
    channels: tuple[int, ...]
    gene_id: str | None


def contribution_matrix(scores: np.ndarray, bases: np.ndarray, *, signed: bool) -> np.ndarray:
    """float32 [W, 4] of substitution scores [W, 4] (any value at the base itself) and codes uint8 [W].

    A position of unknown base, or with a score that is NaN, is all zeros.
    """
    known = bases < UNKNOWN_BASE
    own = np.eye(4, dtype=bool)[np.where(known, bases, 0)]
    scores = np.where(own, 0.0, scores)
    matrix = scores - scores.sum(1, keepdims=True) / 3
    if not signed:
        matrix = np.where(own, np.abs(matrix), matrix)
    matrix[~known | np.isnan(matrix).any(1)] = 0
    return matrix.astype(np.float32)


def answer(
    engine: Engine, question: Question, variant: Any | None, *, start: int | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays of a mutagenesis, and the sequences that were mutated by array (`ism`, `ism_alt`).

    variant: its ALT sequence is mutated, too; ValueError for one that is not a sequence (`AlternateGenome`).
    start: of the one window of all substitutions, on either sequence; by default each has its own.
    """
    one = [question.scorer]
    alleles = {"": engine.moved(one, engine.genome, engine.annotation, start)}
    if variant is not None:
        annotation = alternate_annotation(engine.annotation, variant) if engine.annotation else None
        genome = AlternateGenome(engine.genome, variant)
        alleles["_alt"] = engine.moved(one, genome, annotation, start)
    arrays, sequences = {}, {}
    for name, own in alleles.items():
        bases = own.genome.codes(question.chrom, question.start, question.end)
        scores = substitution_scores(own, question, bases)
        arrays[f"scores{name}"] = scores.astype(np.float32)
        arrays[f"ism{name}"] = contribution_matrix(scores, bases, signed=question.scorer.signed)
        sequences[f"ism{name}"] = decode(bases)
    return arrays, sequences


def contributions(engine: Engine, question: Question, case: Case, codes: Tensor) -> dict[str, np.ndarray]:
    """Matrices [W, 4] `ism` and `ism_alt` of both alleles of a case, all in its window.

    codes: uint8 [B, S], the sequences of the alleles. One channel is read.
    """
    if not is_structural(case.variant.alt):
        arrays, _ = answer(engine, question, case.variant, start=case.start)
        return {key: arrays[key] for key in ("ism", "ism_alt")}
    span = question.start - case.start, question.end - case.start
    return {
        key: mutate(
            engine, question.scorer, question.channels[0], question.gene_id, case, codes[index], span,
            type(case.variant), on_alternate=key == "ism_alt",
        )
        for key, index in (("ism", case.ref_index), ("ism_alt", case.alt_index))
    }  # fmt: skip


def substitution_scores(engine: Engine, question: Question, bases: np.ndarray) -> np.ndarray:
    """Score [W, 4] of every substitution of codes uint8 [W]; NaN at the base itself and where none is."""
    from megabase.variants import Variant

    places = [(i, b) for i, own in enumerate(bases) if own < UNKNOWN_BASE for b in range(4) if b != own]
    variants = [
        Variant(question.chrom, question.start + i, ALPHABET[bases[i]], ALPHABET[b]) for i, b in places
    ]
    scores = np.full((len(bases), 4), np.nan)
    with progress(len(variants), "mutagenize", "substitutions") as bar:
        for first in range(0, len(variants), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            for (i, b), found in zip(places[part], engine.score(variants[part]), strict=True):
                scores[i, b] = _read(found[question.scorer.name], question)
            bar.advance(len(variants[part]))
    return scores


def _read(rows: Any, question: Question) -> float:
    """Mean over the channels of the gene's row; of several rows (junctions) the largest."""
    wanted = [
        question.gene_id is None or (g is not None and g.gene_id == question.gene_id) for g in rows.genes
    ]
    values = rows.raw[np.flatnonzero(wanted)][:, list(question.channels)].double().nanmean(-1)
    values = values[~values.isnan()]
    return float(values[values.abs().argmax()]) if len(values) else float("nan")


@torch.inference_mode()
def mutate(
    engine: Engine,
    scorer: Scorer,
    channel: int,
    gene_id: str | None,
    case: Case,
    codes: Tensor,
    span: tuple[int, int],
    variant_type: Any,
    *,
    on_alternate: bool,
) -> np.ndarray:
    """Contribution matrix [W, 4] of the window positions `span` of one allele's sequence uint8 [S].

    Every substitution is scored against the sequence itself by one scorer and channel (and gene). The window
    stays that of `case`. on_alternate: `codes` is the ALT allele, laid on REF's positions for gene scores.
    variant_type: class of variants, `(chrom, position, ref, alt)`.
    """
    first, last = span
    bases = codes[first:last].numpy()
    places = [(i, b) for i, own in enumerate(bases) if own < UNKNOWN_BASE for b in range(4) if b != own]
    scores = np.full((last - first, 4), np.nan)
    align = on_alternate and scorer.has_genes
    own = Alignment.of_alleles(0, 1, 1, len(codes))  # a substitution moves no base of its sequence
    size = max(1, engine.settings.batch_size)
    base = engine.predictor.predict(codes[None], engine.organism, outputs=list(scorer.needs))
    for start in range(0, len(places), size):
        batch = places[start : start + size]
        mutated = codes.repeat(len(batch), 1)
        for row, (i, b) in enumerate(batch):
            mutated[row, first + i] = b
        found = engine.predictor.predict(mutated, engine.organism, outputs=list(scorer.needs))
        both = _laid_on_reference(_joined(base, found), case if align else None)
        for row, (i, b) in enumerate(batch):
            position = case.start + first + i
            snv = variant_type(case.variant.chrom, position, ALPHABET[bases[i]], ALPHABET[b])
            one = replace(case, variant=snv, ref_index=0, alt_index=row + 1, alignment=own)
            scores[i, b] = _pick(engine.score_case(scorer, one, both), channel, gene_id)
    return contribution_matrix(scores, bases, signed=scorer.signed)


def _joined(base: Predictions, found: Predictions) -> Predictions:
    return {
        output: {key: torch.cat([value, found[output][key]]) for key, value in heads.items()}
        for output, heads in base.items()
        if output is not OutputType.SPLICE_JUNCTIONS
    }


def _laid_on_reference(predictions: Predictions, case: Case | None) -> Predictions:
    """Predictions of 1-bp outputs on REF positions, if `case` gives the alleles to align by."""
    if case is None or len(case.variant.ref) == len(case.variant.alt):
        return predictions
    fine = ("1bp", "probabilities")
    return {
        output: {
            k: torch.stack([case.align(row, output) for row in v]) for k, v in heads.items() if k in fine
        }
        for output, heads in predictions.items()
    }


def _pick(rows: Any, channel: int, gene_id: str | None) -> float:
    for gene, raw in zip(rows.genes, rows.raw, strict=True):
        if gene_id is None or (gene is not None and gene.gene_id == gene_id):
            return float(raw[channel])
    return float("nan")
