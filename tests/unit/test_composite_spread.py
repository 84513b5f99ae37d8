"""The composite splicing score of an ensemble has the spread of its members' own composite scores."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from scoring_stand_ins import make_annotation, make_genome, some_variants
from sparse_stand_ins import WINDOW, make_predictor

from megabase.files import Stamp, write_table
from megabase.predictors.ensemble import EnsemblePredictor
from megabase.scoring.chunks import score_chunk
from megabase.scoring.composite import COMPOSITE, PARTS, composite_table
from megabase.scoring.composite_rows import composite_rows, largest_of, tells_composite
from megabase.scoring.engine import Engine
from megabase.scoring.keys import GENE_KEYS, VARIANT_KEYS, raw_matrix
from megabase.scoring.rows import Rows
from megabase.scoring.scorers import RECOMMENDED
from megabase.scoring.store import merge_scores
from megabase.settings.scoring import ScoringSettings
from megabase.spec import VARIANT_COLUMNS

STAMP = Stamp("chunk")
SETTINGS = ScoringSettings(window=WINDOW, batch_size=8)
SCORERS = [RECOMMENDED[name] for name in (*PARTS, "dnase")]


def part(genes: str, members: list[list[list[float]]]) -> Rows:
    """Rows of genes named by letters: of each member and gene the scores of every track; raw is the mean."""
    own = torch.tensor(members)
    known = [SimpleNamespace(gene_id=letter) for letter in genes]
    return Rows(own.mean(0), known, spread=own.std(0), largest=largest_of(own))


def test_members_are_added_up_one_by_one() -> None:
    """Sites 1, usage 1, junctions 1/5, largest over tracks and junctions; a part without the gene is zero."""
    rows = {
        "splice_sites": part("ab", [[[1.0, 3.0], [0.5, 0.25]], [[2.0, 1.0], [0.5, 0.0]]]),
        "splice_site_usage": part("a", [[[0.5]], [[float("nan")]]]),
        "splice_junctions": part("aaa", [[[5.0], [10.0], [1.0]], [[20.0], [0.0], [5.0]]]),
    }
    found = composite_rows(rows)
    assert [gene.gene_id for gene in found.genes] == ["a", "b"]
    members = np.array([[3.0 + 0.5 + 10 / 5, 0.5], [2.0 + 0.0 + 20 / 5, 0.5]])
    np.testing.assert_allclose(found.spread[:, 0], members.std(0, ddof=1), rtol=1e-6)
    # of the mean: largest of [1.5, 2.0], no usage (a member has none), largest of [12.5, 5, 3]
    np.testing.assert_allclose(found.raw[:, 0], [2.0 + 0.0 + 12.5 / 5, 0.5], rtol=1e-6)
    assert tells_composite(rows) and not tells_composite(["splice_sites", "splice_junctions"])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("composite")
    genome = make_genome(folder)
    variants = [v for v in some_variants(genome)[:8] if set(v.ref + v.alt) <= set("ACGT")]
    rows = [(v.variant_id, v.chrom, v.position, v.ref, v.alt, None, 1, 1) for v in variants]
    table = pl.DataFrame(rows, orient="row", infer_schema_length=None, schema=[
        "variant_id", "chrom", "position", "ref", "alt", "source_id", "record", "allele"])  # fmt: skip
    assert set(VARIANT_COLUMNS) <= set(table.columns)
    write_table(table.sort("position").select(VARIANT_COLUMNS), folder / "1-of-1.parquet", Stamp("variants"))
    members = [make_predictor(seed) for seed in range(3)]
    engine = Engine(EnsemblePredictor("both", members), genome, make_annotation(), SCORERS, SETTINGS)
    score_chunk(engine, folder / "1-of-1.parquet", folder / "chunk", STAMP)
    return SimpleNamespace(folder=folder, engine=engine, variants=sorted(variants, key=lambda v: v.position))


def test_a_chunk_and_its_merge_carry_the_spread(world, tmp_path) -> None:
    scored = world.engine.score(world.variants)
    table = composite_table(world.folder / "chunk")
    own = pl.read_parquet(world.folder / "chunk" / f"{COMPOSITE}.parquet")
    assert table.height == own.height == sum(len(rows[COMPOSITE].genes) for rows in scored) > 3
    wanted = torch.cat([rows[COMPOSITE].spread for rows in scored])[:, 0]
    keys = [*VARIANT_KEYS, *GENE_KEYS]
    both = table.join(own, on=keys, nulls_equal=True, suffix="_own")
    assert both.height == table.height
    np.testing.assert_allclose(raw_matrix(both), raw_matrix(both, "raw_own"), rtol=1e-6)
    assert sorted(raw_matrix(both, "spread")[:, 0]) == pytest.approx(sorted(wanted.tolist()))
    assert raw_matrix(both, "spread").max() > 0
    rejected = tmp_path / "rejected.parquet"
    write_table(pl.DataFrame({"record": []}), rejected, Stamp("rejected"))
    merge_scores([world.folder / "chunk"], rejected, None, None, tmp_path / "scores")
    merged = pl.read_parquet(tmp_path / f"scores/{COMPOSITE}/part-*.parquet")
    np.testing.assert_array_equal(raw_matrix(merged, "spread"), raw_matrix(table, "spread"))


def test_one_model_has_no_composite_rows(world) -> None:
    engine = Engine(make_predictor(), world.engine.genome, make_annotation(), SCORERS, SETTINGS)
    assert not engine.with_composite and COMPOSITE not in engine.score(world.variants[:1])[0]
