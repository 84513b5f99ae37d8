"""The engine that reads gives the scores of whole passes on both strands, averaged."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import sparse_stand_ins
import torch
from scoring_stand_ins import ToyPredictor
from sparse_stand_ins import (
    PLACED,
    WINDOW,
    assert_close,
    errors,
    event,
    every_kind,
    make_engine,
    make_predictor,
    same_rows,
)

from megabase.alleles import OtherStrand, Piece, codes_of, turned
from megabase.predictors.alphagenome import AlphaGenomePredictor
from megabase.predictors.ensemble import EnsemblePredictor
from megabase.predictors.strands import BothStrands
from megabase.sequence import reverse_complement
from megabase.spec import OUTPUTS, Kind, OutputType

exactly = sparse_stand_ins.exactly  # fixtures
genome, small_blocks = sparse_stand_ins.genome, sparse_stand_ins.small_blocks
PARTNERS = (1, 0, 2)  # of strands "+-."


def paired(predictor: AlphaGenomePredictor) -> AlphaGenomePredictor:
    """The predictor with tracks that have another strand."""
    info = copy.deepcopy(predictor.info)
    for tracks in info["tracks"].values():
        for output, rows in tracks.items():
            if OUTPUTS[OutputType(output)].kind is Kind.TRACKS:
                for row, partner in zip(rows, PARTNERS, strict=True):
                    row["strand_partner"] = partner
    return AlphaGenomePredictor(predictor.model, info)


@pytest.fixture(scope="module")
def predictor() -> AlphaGenomePredictor:
    return paired(make_predictor())


@pytest.mark.parametrize(("placement", "tile"), PLACED[1::2])
def test_scores_are_those_of_whole_passes_on_both_strands(
    predictor, genome, exactly, placement, tile
) -> None:
    """SNVs, indels, a window's ends, a chromosome's ends, N; every scorer. Exact in float64."""
    variants = [*every_kind(genome), event(genome, 12_099, "<INV:END=12600>"),
                event(genome, 12_199, "<DEL:END=12700>")]  # fmt: skip

    def score(model, *, whole: bool) -> list:
        engine = make_engine(BothStrands(model), genome, whole=whole, placement=placement, tile=tile)
        assert bool(engine.members) is not whole
        return engine.score(variants)

    truth = exactly(predictor, lambda model: score(model, whole=True))
    exact = exactly(predictor, lambda model: score(model, whole=False))
    for a, b in zip(exact, truth, strict=True):
        assert all(same_rows(a[name], b[name]) for name in b)
    for name, rows in errors(exact, truth).items():
        assert (rows[:, 0] <= 1e-6 * rows[:, 1] + 1e-12).all(), name
    assert_close(score(predictor, whole=False), score(predictor, whole=True))
    alone = make_engine(predictor, genome, whole=False, placement=placement, tile=tile).score(variants)
    apart = [(a["dnase"].raw - b["dnase"].raw).abs().max() for a, b in zip(alone, exact, strict=True)]
    assert max(apart) > 1e-3  # the strands differ


def test_an_ensemble_of_both_strands_tells_its_spread(predictor, genome) -> None:
    members = [predictor, paired(make_predictor(1))]
    variants = every_kind(genome)[:6]
    scored = make_engine(BothStrands(EnsemblePredictor("e", members)), genome, whole=False).score(variants)
    alone = [make_engine(BothStrands(m), genome, whole=False).score(variants) for m in members]
    for i, rows in enumerate(scored):
        wanted = torch.stack([found[i]["dnase"].raw for found in alone]).std(0)
        torch.testing.assert_close(rows["dnase"].spread, wanted, rtol=1e-3, atol=1e-4)


def test_what_is_not_read_in_parts_is_predicted_whole(genome) -> None:
    assert BothStrands(ToyPredictor()).windows(genome, "toy", window=WINDOW, limit=10**9) is None


def test_a_turned_window_is_the_reverse_complement(genome) -> None:
    """Pieces ahead, behind, literal, and beyond the chromosome's ends."""
    pieces = (
        Piece("chr1", -30, 200), Piece.literal("ACCGTN"), Piece("chr1", 500, 700, reverse=True),
        Piece("chr2", 10, 50), Piece("chr1", 35_900, 36_500),
    )  # fmt: skip
    found = codes_of(turned(pieces), OtherStrand(genome))
    np.testing.assert_array_equal(found, reverse_complement(codes_of(pieces, genome)))
    assert turned(turned(pieces)) == pieces
