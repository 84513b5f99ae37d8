"""Element-gene scores from gradients: a known gradient, finite differences, weights and tables."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from predict_stand_ins import WINDOW as TINY_WINDOW
from predict_stand_ins import make_model
from scoring_stand_ins import make_annotation, make_genome

from megabase.files import FileError
from megabase.predictors.base import load_predictor
from megabase.predictors.ensemble import EnsemblePredictor
from megabase.predictors.gradients import input_gradient, networks_of, on_the_simplex
from megabase.predictors.strands import BothStrands
from megabase.scoring.enhancers import (
    element_share,
    expression_channels,
    gene_gradient,
    gradient_sizes,
    read_pairs,
    score_pairs,
)
from megabase.sequence import one_hot
from megabase.settings.scoring import EnhancerScoring
from megabase.spec import OutputType

WINDOW = 16_384
SETTINGS = EnhancerScoring()
SWITCH = 8_500  # the base that the toy's RNA-seq depends on


class SwitchPredictor:
    """RNA-seq of every base is exp(weights of the base at `SWITCH`), so that its gradient is known."""

    name, organisms, window = "switch", ["toy"], WINDOW
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])

    def __init__(self, start: int) -> None:
        self.place = SWITCH - start

    def tracks(self, organism):
        rows = [("liver", "+"), ("liver", "-"), ("brain", ".")]
        return {
            OutputType.RNA_SEQ: [
                {"name": f"{b} {s}", "biosample_name": b, "ontology_curie": f"UBERON:{i}", "strand": s}
                for i, (b, s) in enumerate(rows)
            ]
        }

    def differentiable(self, sequence, organism, output, channels):
        level = torch.exp(sequence[:, self.place] @ self.weights)
        scale = torch.tensor([1.0, 10.0, 100.0])[list(channels)]
        return (level[:, None] * scale).unsqueeze(1).expand(-1, sequence.shape[1], -1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("enhancers")
    genome, annotation = make_genome(folder), make_annotation()
    plus = annotation.find("plus")[0]
    start = (plus.start + plus.end) // 2 - WINDOW // 2
    return SimpleNamespace(folder=folder, genome=genome, annotation=annotation, gene=plus, start=start)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_predictor(make_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.mark.parametrize("kind", ["input", "norm"])
def test_the_gradient_of_log_coverage_is_the_known_one(world, kind):
    """log of exp(w . x) times a constant has the gradient w at the switch and 0 elsewhere."""
    predictor = SwitchPredictor(world.start)
    settings = EnhancerScoring(gradient=kind)
    sizes = gene_gradient(predictor, world.genome, world.gene, [0, 2], settings, WINDOW)
    centred = predictor.weights - predictor.weights.mean()
    own = int(world.genome.codes("chr1", SWITCH, SWITCH + 1)[0])
    wanted = centred.norm() if kind == "norm" else centred[own].abs()
    assert sizes.nonzero()[:, 0].tolist() == [SWITCH - world.start]
    assert float(sizes[SWITCH - world.start]) == pytest.approx(float(wanted), rel=1e-5)


def test_an_element_is_scored_by_its_weight_at_the_gradient(world):
    """With all of the gradient at one base, the score is the window times the Gaussian weight there."""
    table = pl.DataFrame({
        "chrom": ["1", "chr1", "chr1", "chr2", "chr1"], "start": [8_000, 8_400, 15_000, 100, 30_000],
        "end": [8_800, 8_600, 15_500, 200, 31_000], "gene": ["PLUS"] * 5, "biosample": ["Liver"] * 5,
        "label": [1, 1, 0, 0, 0],
    })  # fmt: skip
    found = score_pairs(table, SwitchPredictor(world.start), world.genome, world.annotation, SETTINGS, WINDOW)
    assert found.columns[:6] == table.columns and found["gene_id"].to_list() == ["plus"] * 5
    offsets = np.arange(-1200, 1200)
    weights = np.exp(-0.5 * (offsets / 300) ** 2)
    for row in found.iter_rows(named=True):
        away = SWITCH - (row["start"] + row["end"]) // 2
        near = row["chrom"] != "chr2" and abs(away) < 1200
        wanted = WINDOW * weights[offsets == away][0] / weights.sum() if near else 0.0
        assert row["score"] == pytest.approx(wanted, rel=1e-5) and row["reason"] is None
    assert found["tracks"].to_list() == [1] * 5  # the + track: the - track is of the other strand
    assert found["tss_distance"].to_list() == [600, 500, 6250, None, 21_500]


def test_equal_gradients_score_one_and_cut_weights_less():
    sizes = torch.ones(5000)
    assert element_share(sizes, 2500, SETTINGS) == pytest.approx(1)
    assert element_share(sizes, 0, SETTINGS) == pytest.approx(0.5, abs=2e-3)
    assert element_share(sizes, -1, SETTINGS) == element_share(sizes, 5000, SETTINGS) == 0


def test_sizes_ignore_what_no_change_of_base_can_follow():
    gradient = torch.tensor([[4.0, 4.0, 4.0, 4.0], [3.0, 1.0, 1.0, 3.0], [1.0, 9.0, 9.0, 9.0]])
    codes = torch.tensor([0, 1, 4], dtype=torch.uint8)
    assert gradient_sizes(gradient, codes, "input").tolist() == [0, 1, 0]
    assert gradient_sizes(gradient, codes, "norm").tolist() == [0, 2, 0]
    assert on_the_simplex(gradient).sum(-1).tolist() == [0, 0, 0]


def test_tracks_of_a_biosample_by_name_or_term_and_strand():
    rows = SwitchPredictor(0).tracks("toy")[OutputType.RNA_SEQ]
    assert expression_channels(rows, "liver", "-") == [1]
    assert (
        expression_channels(rows, "uberon:0", "+") == [0] and expression_channels(rows, "UBERON:0", "-") == []
    )
    assert expression_channels(rows, "Brain", "-") == [2] and expression_channels(rows, "skin", "+") == []


def test_pairs_that_cannot_be_scored_say_why(world):
    rows = [("nobody", "liver", "unknown_gene"), ("plus", "skin", "no_track"), ("far", "liver", None)]
    table = pl.DataFrame({
        "chrom": "chr1", "start": 10, "end": 20, "gene": [r[0] for r in rows],
        "biosample": [r[1] for r in rows],
    })  # fmt: skip
    predictor = SwitchPredictor(0)
    predictor.place = 30_500 - (35_000 - WINDOW // 2)  # in the run of N
    found = score_pairs(table, predictor, world.genome, world.annotation, SETTINGS, WINDOW)
    assert found["reason"].to_list() == ["unknown_gene", "no_track", "no_gradient"]
    assert found["score"].is_null().all()


@pytest.mark.parametrize("both", [False, True])
def test_gradients_of_a_network_are_its_finite_differences(tiny, both):
    """The directional derivative along the gradient and along a random direction, in float64."""
    network = BothStrands(tiny) if both else tiny
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 4, TINY_WINDOW).astype(np.uint8))
    channels = [0, 2]

    def objective(values):
        return values[500:1500].float().sum(0).log().mean()

    gradient = input_gradient(network, codes, "toy", OutputType.RNA_SEQ, channels, objective)
    assert gradient.shape == (TINY_WINDOW, 4) and float(gradient.abs().sum()) > 0
    generator = torch.Generator().manual_seed(0)
    direction = gradient / gradient.norm() + 0.1 * torch.randn(gradient.shape, generator=generator) / 128
    sides = []
    for step in (1e-2, -1e-2):
        moved = (one_hot(codes) + step * direction)[None]
        with torch.no_grad():
            sides.append(
                float(objective(network.differentiable(moved, "toy", OutputType.RNA_SEQ, channels)[0]))
            )
    slope = (sides[0] - sides[1]) / 2e-2
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=0.02)


def test_differentiable_predictions_are_the_predictions(tiny):
    codes = torch.from_numpy(np.random.default_rng(2).integers(0, 4, (1, TINY_WINDOW)).astype(np.uint8))
    for network in (tiny, BothStrands(tiny)):
        plain = network.predict(codes, "toy", outputs=[OutputType.RNA_SEQ])[OutputType.RNA_SEQ]["1bp"]
        found = network.differentiable(one_hot(codes), "toy", OutputType.RNA_SEQ, [0, 2])
        torch.testing.assert_close(found, plain[..., [0, 2]], rtol=1e-4, atol=1e-5)


def test_recomputed_activations_give_the_same_gradient(tiny, monkeypatch):
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 4, TINY_WINDOW).astype(np.uint8))
    asked = (tiny, codes, "toy", OutputType.RNA_SEQ, [0], lambda values: values[:900].sum().log())
    kept = input_gradient(*asked)
    monkeypatch.setattr("megabase.predictors.alphagenome.RECOMPUTED_WINDOW", 1)
    torch.testing.assert_close(input_gradient(*asked), kept, rtol=1e-5, atol=1e-8)


def test_an_ensemble_has_the_mean_gradient_of_its_members(tiny, tmp_path):
    other = load_predictor(make_model(tmp_path / "other", seed=5))
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 4, TINY_WINDOW).astype(np.uint8))
    asked = (codes, "toy", OutputType.RNA_SEQ, [0], lambda values: values[:900].sum().log())
    alone = [input_gradient(p, *asked) for p in (tiny, other)]
    both = input_gradient(EnsemblePredictor("pair", [tiny, other]), *asked)
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2, rtol=1e-5, atol=1e-8)
    assert len(networks_of(BothStrands(EnsemblePredictor("pair", [tiny, other])))) == 2
    with pytest.raises(ValueError, match="baseline has no gradients; wanted a teacher"):
        networks_of(SimpleNamespace(name="baseline"))


def test_tables_of_pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("#chrom\tstart\tend\tgene\tbiosample\tscore\nchr1\t5\t9\tA\tK562\t7\n")
    table = read_pairs(path)
    assert table.columns == ["chrom", "start", "end", "gene", "biosample"]  # an old score is made anew
    path.write_text("chrom\tstart\tend\tgene\n")
    with pytest.raises(FileError, match="columns biosample are missing, found chrom"):
        read_pairs(path)
    for row in ("chr1\t9\t5\tA\tK562", "chr1\tx\t5\tA\tK562", "chr1\t1\t5\t\tK562"):
        path.write_text(f"chrom\tstart\tend\tgene\tbiosample\nchr1\t1\t2\tB\tliver\n{row}\n")
        with pytest.raises(FileError, match="row 2 is"):
            read_pairs(path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(FileError, match="is no table"):
        read_pairs(tmp_path / "bad.parquet")
