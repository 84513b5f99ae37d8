"""A tiny network with random weights, variants of every kind, and how scores of the engine are compared."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scoring_stand_ins import make_annotation, make_genome, some_variants

from megabase.model import AlphaGenome, Sizes
from megabase.predictors import alphagenome, encodings
from megabase.predictors.alphagenome import AlphaGenomePredictor
from megabase.scoring.engine import Engine
from megabase.scoring.scorers import RECOMMENDED, parse_scorer
from megabase.sequence import decode, one_hot
from megabase.spec import OUTPUTS, OutputType
from megabase.variants import Variant

WINDOW = 4096
BLOCK = 8  # so that short windows have blocks of the genome, too
CUSTOM = ("dnase:center:none:l2_diff_log1p", "rna_seq:center:501:diff_mean", "atac:gene:splicing",
          "chip_tf:center:10001:diff_sum_log2")  # fmt: skip
PLACED = [("centered", 0), ("binned", 0), ("tiled", 1024), ("tiled", WINDOW)]


def make_predictor(seed: int = 0) -> AlphaGenomePredictor:
    """A tiny network of two organisms, with stranded and padded channels, whose weights are random."""
    strands = {o: "+-." for o in OUTPUTS} | {OutputType.SPLICE_SITES: "++--.", OutputType.CONTACT_MAPS: ".."}
    strands |= {OutputType.SPLICE_SITE_USAGE: "++--", OutputType.SPLICE_JUNCTIONS: "++--"}
    tracks = {
        o: [{"name": f"{o.value} {i}", "strand": s, "strand_partner": i} for i, s in enumerate(letters)]
        for o, letters in strands.items()
    }
    padding = {o: 0 if o is OutputType.SPLICE_SITES else 2 for o in tracks}
    model = AlphaGenome(Sizes.preset("tiny", {o: len(t) + padding[o] for o, t in tracks.items()}), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():  # untrained heads tell all alleles alike
            if name.startswith("head") and value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.15)
        sites = model.head_of(OutputType.SPLICE_SITES).multi_organism_linear
        sites.b[:, -1] = 4.0  # few positions are sites
        model.head_of(OutputType.SPLICE_JUNCTIONS).multi_organism_linear.w.mul_(0.1)  # counts above rounding
    by_organism = {g: {o.value: rows for o, rows in tracks.items()} for g in ("toy", "other")}
    info = {"name": f"tiny{seed}", "window": WINDOW, "organisms": list(by_organism), "tracks": by_organism}
    predictor = AlphaGenomePredictor(model, info)
    model.keep_constants()
    return predictor


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(encodings, "BLOCK", BLOCK)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_genome(tmp_path_factory.mktemp("genome"))


def every_kind(genome) -> list[Variant]:
    """`some_variants`, neighbours that share tiles, long indels, and alleles of one place."""
    rng = np.random.default_rng(11)
    found = some_variants(genome)

    def edit(position: int, ref_length: int, alt: str) -> Variant:
        ref = "".join("ACGTA"[c] for c in genome.codes("chr1", position, position + ref_length))
        return Variant("chr1", position, ref, alt if alt != ref else alt.translate({65: 67, 67: 65}))

    found += [edit(10_600 + 37 * i, 1, "ACGT"[i % 4]) for i in range(6)]
    found += [edit(11_500, 300, "A"), edit(11_600, 1, "A" + "".join(rng.choice(list("ACGT"), 500)))]
    found += [edit(9_100, 128, "A"), edit(12_000, 1, "A" + "C" * 128), edit(20_000, 40, "ACGT" * 10)]
    return list(dict.fromkeys(found))


def make_engine(predictor, genome, *, whole, placement="binned", tile=1024, batch=8, cache=1.0, scorers=None):
    settings = SimpleNamespace(
        window=WINDOW, batch_size=batch, placement=placement, tile=tile, cache=cache, whole_windows=whole
    )
    scorers = scorers or [*RECOMMENDED.values(), *(parse_scorer(c) for c in CUSTOM)]
    return Engine(predictor, genome, make_annotation(), scorers, settings)


def same_rows(a, b) -> bool:
    """Equal genes, junctions and missing values."""
    genes = [g and g.gene_id for g in a.genes] == [g and g.gene_id for g in b.genes]
    junctions = a.junctions is b.junctions or torch.equal(a.junctions, b.junctions)
    return genes and junctions and torch.equal(a.raw.isnan(), b.raw.isnan())


def errors(found, wanted) -> dict[str, np.ndarray]:
    """By scorer, of every row the largest difference and the largest score [N, 2].

    Which sites of a network without training reach the threshold, and which junction changes most, may turn
    on the last bit: rows of other junctions are left out, less than half.
    """
    every: dict[str, list] = {}
    other = 0
    for a, b in zip(found, wanted, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if name == "splice_junctions" and not same_rows(a[name], b[name]):
                other += 1
                continue
            assert same_rows(a[name], b[name]), name
            difference = (a[name].raw - b[name].raw).nan_to_num().abs().amax(-1)
            scale = b[name].raw.nan_to_num().abs().amax(-1)
            every.setdefault(name, []).append(torch.stack((difference, scale), -1).double().numpy())
    assert other <= 0.45 * len(found), other
    return {name: np.concatenate(rows) for name, rows in every.items()}


def assert_close(found, wanted) -> None:
    """Scores within 2e-4 of their row's largest, or of one unit: of predictions of thousands, 1e-7."""
    for name, rows in errors(found, wanted).items():
        assert (rows[:, 0] <= 2e-4 * np.maximum(rows[:, 1], 1)).all(), (name, rows)


@pytest.fixture
def exactly(monkeypatch):
    """Run something in float64, rounding nothing to float32 on the way but the scores."""

    def run(predictor, call):
        with monkeypatch.context() as patch:
            patch.setattr(alphagenome, "one_hot", lambda codes: one_hot(codes).double())
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            double = AlphaGenomePredictor(copy.deepcopy(predictor.model).double(), predictor.info)
            double.dtype = torch.float64
            return call(double)

    return run


def event(genome, position: int, alt: str) -> Variant:
    """A structural variant; `t` in ALT is the base of the genome."""
    base = decode(genome.codes("chr1", position, position + 1))
    return Variant("chr1", position, base, alt.replace("t", base))
