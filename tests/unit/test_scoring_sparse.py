"""The engine that reads gives the scores of two whole passes, wherever the variant lies."""

from __future__ import annotations

import numpy as np
import pytest
import sparse_stand_ins
import torch
from scoring_stand_ins import ToyPredictor, some_variants
from sparse_stand_ins import (
    BLOCK,
    PLACED,
    WINDOW,
    assert_close,
    errors,
    every_kind,
    make_engine,
    make_predictor,
    same_rows,
)

from megabase.alleles import Piece
from megabase.predictors.alphagenome import AlphaGenomePredictor
from megabase.predictors.ensemble import EnsemblePredictor
from megabase.predictors.windows import decoded_spans
from megabase.scoring.scorers import RECOMMENDED
from megabase.variants import Variant

exactly = sparse_stand_ins.exactly  # fixtures
genome, small_blocks = sparse_stand_ins.genome, sparse_stand_ins.small_blocks


@pytest.fixture(scope="module")
def predictor() -> AlphaGenomePredictor:
    return make_predictor()


@pytest.mark.parametrize(("placement", "tile"), PLACED)
def test_scores_are_those_of_two_whole_passes(predictor, genome, exactly, placement, tile) -> None:
    """The same numbers in float64; in float32 no further from them than whole passes are.

    The tile of a whole window puts variants at any place of it, its very ends included.
    """
    variants = every_kind(genome)

    def score(model, *, whole: bool) -> list:
        return make_engine(model, genome, whole=whole, placement=placement, tile=tile).score(variants)

    truth = exactly(predictor, lambda model: score(model, whole=True))
    exact = exactly(predictor, lambda model: score(model, whole=False))
    for a, b in zip(exact, truth, strict=True):
        assert all(same_rows(a[name], b[name]) for name in b)
    rounded = errors(score(predictor, whole=True), truth)
    found = errors(score(predictor, whole=False), truth)
    for name, rows in errors(exact, truth).items():
        assert (rows[:, 0] <= 1e-6 * rows[:, 1] + 1e-12).all(), name
        allowed = 1e-4 * found[name][:, 1] + 3 * rounded[name][:, 0].max()
        assert (found[name][:, 0] <= allowed).all(), name
    # there is something to find
    assert len(found["splice_junctions"]) > 3 and found["rna_seq"][:, 1].max() > 1e-3


def test_batches_change_nothing_but_rounding(predictor, genome) -> None:
    variants = every_kind(genome)
    wanted = make_engine(predictor, genome, whole=False).score(variants)
    found = make_engine(predictor, genome, whole=False, batch=1).score(variants[::-1])[::-1]
    assert_close(found, wanted)


def test_little_memory_gives_the_same_scores(predictor, genome) -> None:
    variants = every_kind(genome)[:12]
    wanted = make_engine(predictor, genome, whole=False).score(variants)
    found = make_engine(predictor, genome, whole=False, cache=0.0).score(variants)
    assert_close(found, wanted)


def test_an_allele_computes_what_it_changes(predictor, genome) -> None:
    """Encoder work: a window once, then two or three blocks an SNV; after an indel another grid, once."""
    block, tokens = BLOCK + 10, WINDOW // 128
    places = range(16_000, 16_120, 20)
    letters = ["".join("ACGT"[c] for c in genome.codes("chr1", p, p + 2)) for p in places]
    snvs = [
        Variant("chr1", p, ab[0], "A" if ab[0] != "A" else "C") for p, ab in zip(places, letters, strict=True)
    ]
    deletions = [Variant("chr1", p, ab, ab[0]) for p, ab in zip(places, letters, strict=True)]
    engine = make_engine(predictor, genome, whole=False, placement="tiled", scorers=[RECOMMENDED["dnase"]])
    (member,) = predictor.windows(genome, "toy", window=WINDOW, limit=10**9)
    seen = []
    for variants in ([snvs[0]], snvs, snvs, [deletions[0]], deletions):
        _, alleles = engine._cases(variants)
        before = member.encodings.encoded
        member.transform(alleles, [() for _ in alleles])
        seen.append(member.encodings.encoded - before)
    assert seen[0] <= (tokens / BLOCK + 2 + 3) * block  # the window, and one allele
    assert 0 < seen[1] <= (len(snvs) - 1) * 3 * block
    assert seen[2] == 0
    assert seen[3] > seen[1] / (len(snvs) - 1)  # what follows lies on another grid
    assert 0 < seen[4] <= (len(deletions) - 1) * 4 * block  # the grid is there, the window's end is its own


def test_skips_that_will_be_read_are_kept_with_the_tokens(predictor, genome) -> None:
    """Of blocks that were kept without them, too, and that another window of the batch needs without them."""
    (member,) = predictor.windows(genome, "toy", window=WINDOW, limit=10**9)
    kept, tokens = member.encodings, WINDOW // 128
    near, other = ((Piece("chr1", start, start + WINDOW),) for start in (16_000, 16_128))
    kept.tokens([near], tokens)
    seen = kept.encoded
    kept.tokens([other, near], tokens, [[], [(12, 18)]])
    assert kept.encoded > seen
    seen = kept.encoded
    found = kept.skips([(near, 12, 18)], tokens)
    assert kept.encoded == seen and found[0][0].shape[-1] == 6 * 128


def test_an_ensemble_scores_its_mean_and_tells_the_spread(genome) -> None:
    members = [make_predictor(seed) for seed in range(3)]
    together = EnsemblePredictor("ensemble", members)
    variants = every_kind(genome)[:14]
    scored = make_engine(together, genome, whole=False).score(variants)
    assert all(rows.pop("composite_splicing").spread is not None for rows in scored)
    assert_close(scored, make_engine(together, genome, whole=True).score(variants))
    alone = [make_engine(m, genome, whole=False).score(variants) for m in members]
    for i, rows in enumerate(scored):
        for name, one in rows.items():
            assert one.spread.shape == one.raw.shape
            if name != "splice_junctions" and one.raw.numel():  # a member alone reads other sites
                wanted = torch.stack([a[i][name].raw for a in alone]).std(0)
                torch.testing.assert_close(one.spread, wanted, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert any(rows["splice_junctions"].spread.numel() for rows in scored)


def test_a_predictor_without_windows_is_asked_for_whole_ones(genome) -> None:
    engine = make_engine(ToyPredictor(), genome, whole=False, placement="tiled")
    found = engine.score(some_variants(genome)[:3])
    assert all(rows["dnase"].spread is None for rows in found) and engine.predictor.calls


def test_bfloat16_reads_what_whole_passes_in_bfloat16_predict(genome) -> None:
    """Scores differ by the rounding of the type; where the alleles are the same, nothing does."""
    predictor, variants = make_predictor(), every_kind(genome)[:10]
    exact = make_engine(predictor, genome, whole=False, scorers=[RECOMMENDED["dnase"]]).score(variants)
    predictor.set_precision("bfloat16")
    found = make_engine(predictor, genome, whole=False, scorers=[RECOMMENDED["dnase"]]).score(variants)
    plain = make_engine(predictor, genome, whole=True, scorers=[RECOMMENDED["dnase"]]).score(variants)
    for other in (exact, plain):
        pair = [torch.cat([rows["dnase"].raw for rows in scored]).flatten() for scored in (found, other)]
        assert float(torch.corrcoef(torch.stack(pair))[0, 1]) > 0.95
    both = EnsemblePredictor("both", [predictor])
    both.set_precision("float32")
    assert predictor.dtype is torch.float32


def test_skips_that_later_batches_read_are_made_with_the_tokens(predictor, genome) -> None:
    """A batch is told what the ones after it will read of the blocks that it computes."""
    tokens, near = WINDOW // 128, [[(12, 18)]]
    first, second = ((Piece("chr1", start, start + WINDOW),) for start in (16_000, 16_128))
    seen = []
    for told in (False, True):
        (member,) = predictor.windows(genome, "toy", window=WINDOW, limit=10**9)
        if told:
            member.encodings.expect([second], tokens, near)
        member.encodings.tokens([first], tokens)
        member.encodings.tokens([second], tokens, near)
        seen.append(member.encodings.encoded)
    assert seen[1] < seen[0]


def test_decoded_spans_read_what_is_wanted_once_and_have_few_lengths() -> None:
    rng = np.random.default_rng(7)
    window, lengths = 131_072, set()
    for _ in range(200):
        starts = rng.integers(0, window - 1, 12)
        wanted = [
            [(int(a), int(min(a + rng.integers(1, 30_000 if a % 7 == 0 else 400), window))) for a in half]
            for half in (starts[:6], starts[6:])
        ]
        read = np.zeros(window, int)
        for (first, last), (a, b) in decoded_spans(wanted, window):
            assert 0 <= first <= a < b <= last <= window and (first % 128, last % 128) == (0, 0)
            read[a:b] += 1
            lengths.add(last - first)
        assert read.max() == 1 and all(read[a:b].all() for spans in wanted for a, b in spans)
    assert lengths <= {*range(256, 1025, 256), *range(1536, 16_385, 512)}
    assert decoded_spans([[(5, 300)]], 2048) == [((0, 512), (0, 384))]
    assert decoded_spans([[(1900, 2048)]], 2048) == [((1792, 2048), (1792, 2048))]
    assert decoded_spans([[(1600, 2048)]], 2048) == [((1536, 2048), (1536, 2048))]
    assert decoded_spans([[(1700, 2048)]], 2048) == [((1536, 2048), (1664, 2048))]  # within the window


def test_memory_is_taken_from_skips_first(predictor, genome) -> None:
    """What the tower needs of a window costs little to keep, and much to compute again."""
    tokens = WINDOW // 128
    window = (Piece("chr1", 16_000, 16_000 + WINDOW),)
    (member,) = predictor.windows(genome, "toy", window=WINDOW, limit=10**9)
    member.encodings.tokens([window], tokens, [[(0, tokens)]])
    (small,) = predictor.windows(genome, "toy", window=WINDOW, limit=member.encodings._bytes // 4)
    small.encodings.tokens([window], tokens, [[(0, tokens)]])
    before = small.encodings.encoded
    small.encodings.tokens([window], tokens)
    assert small.encodings.encoded == before  # the tokens are there
    small.encodings.skips([(window, 0, tokens)], tokens)
    assert small.encodings.encoded > before
