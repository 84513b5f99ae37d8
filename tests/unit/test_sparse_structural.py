"""Structural variants and haplotypes by reading: the scores of whole windows, in every placement."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import sparse_stand_ins
from scoring_stand_ins import make_annotation
from sparse_stand_ins import PLACED, WINDOW, assert_close, event, make_engine, make_predictor
from test_personal_engine import allele, edits_of, table_of

from megabase.personal import Haplotypes
from megabase.scoring.personal_engine import PersonalEngine
from megabase.scoring.scorers import RECOMMENDED
from megabase.variants import Variant

genome, small_blocks = sparse_stand_ins.genome, sparse_stand_ins.small_blocks  # fixtures
EVENTS = [
    (10_590, "<DEL:END=11000>"), (10_590, "<DUP:END=10950>"), (10_590, "<INV:END=11700>"),
    (10_590, "t[chr1:20000["), (10_590, "t]chr1:12000]"), (10_590, "]chr2:3000]CCt"),
    (10_590, "[chr1:9500[t"), (10_590, "tAC."), (9_000, "<DEL:END=12700>"),
]  # fmt: skip


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.mark.parametrize(("placement", "tile"), PLACED[:3])
def test_structural_variants(genome, predictor, placement, tile) -> None:
    variants = [event(genome, *one) for one in EVENTS]
    options = {"placement": placement, "tile": tile}
    found, wanted = (
        make_engine(predictor, genome, whole=whole, **options).score(variants) for whole in (False, True)
    )
    assert_close(found, wanted)


def test_haplotypes(genome, predictor) -> None:
    edits = edits_of(genome)
    variants = [allele(genome, e) for e in edits] + [event(genome, 11_000, "<HAP:END=12900>")]
    variants = [Variant(v.chrom, v.position, v.ref, v.alt, 1) for v in variants]

    def scored(whole: bool):
        settings = SimpleNamespace(
            window=WINDOW, batch_size=8, placement="binned", tile=1024, cache=1.0, whole_windows=whole
        )
        people = Haplotypes(genome, table_of(genome, edits))
        scorers = list(RECOMMENDED.values())
        return PersonalEngine(predictor, people, make_annotation(), scorers, settings).score(variants)

    assert_close(scored(False), scored(True))
