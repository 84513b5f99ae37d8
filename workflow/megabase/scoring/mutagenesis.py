"""In-silico mutagenesis: what each base around a variant contributes to one score.

Tensor part of scoring. Matrix convention: each substitution's score less the mean of the three, so the base
that is there holds minus their mean (plus, for an unsigned scorer). Source: AlphaGenome (ISM matrices).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megabase.alignment import Alignment
from megabase.scoring.engine import Case, Engine, Predictions
from megabase.scoring.scorers import Scorer
from megabase.spec import ALPHABET, UNKNOWN_BASE, OutputType


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
