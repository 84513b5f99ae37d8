"""Scores of the full-size network by reading, against two whole passes on the same windows.

The parameters are drawn by rule; the genome is random. Needs about 9 GB and two minutes.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from megabase.model import AlphaGenome
from megabase.predictors.alphagenome import AlphaGenomePredictor
from megabase.scoring.annotation import Annotation, GeneModel
from megabase.scoring.engine import Engine
from megabase.scoring.rows import Rows
from megabase.scoring.scorers import RECOMMENDED
from megabase.spec import OUTPUTS, OutputType
from megabase.variants import Variant

WINDOW, LENGTH = 16_384, 60_000
JUNCTIONS = 5e-4  # small counts are exponentials of sums of 768 products: their ratios tell less
RESOLVED = 1e-6  # of predictions of order one: what float32 tells after a hundred layers
LOGARITHMS = {
    name for name, s in RECOMMENDED.items() if s.aggregation in ("lfc", "diff_log2_sum", "abs_log", "ratio")
}


class RandomGenome:
    """One chromosome of random bases with a run of N."""

    organism, lengths = "human", {"chr1": LENGTH}

    def __init__(self) -> None:
        self.sequence = np.random.default_rng(8).integers(0, 4, LENGTH).astype(np.uint8)
        self.sequence[54_000:56_000] = 4

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        found = np.full(end - start, 4, np.uint8)
        a, b = max(start, 0), min(end, LENGTH)
        if a < b:
            found[a - start : b - start] = self.sequence[a:b]
        return found

    def variant(self, position: int, ref_length: int, inserted: str = "") -> Variant:
        """REF is the genome's; ALT its first base and what is inserted, or another base."""
        ref = "".join("ACGTN"[c] for c in self.codes("chr1", position, position + ref_length))
        own = ref[0] if ref_length > 1 or inserted else "ACGT"["CGTA".index(ref)]
        return Variant("chr1", position, ref, own + inserted)


def annotation() -> Annotation:
    """A gene of three exons on each strand."""

    def gene(name: str, start: int, strand: str) -> GeneModel:
        exons = start + np.array([[0, 150], [1_200, 1_400], [2_800, 3_000]])
        introns = np.stack([exons[:-1, 1], exons[1:, 0]], -1)
        sites = start + np.array([1_399, 2_999] if strand == "+" else [0, 1_200])
        tss = start if strand == "+" else start + 2_999
        return GeneModel(name, name, "protein_coding", "chr1", start, start + 3_000, strand, [tss], exons,
                         introns, sites)  # fmt: skip

    return Annotation([gene("a", 29_000, "+"), gene("b", 30_500, "-"), gene("c", 56_500, "-")])


@pytest.fixture(scope="module")
def predictor(model: AlphaGenome) -> AlphaGenomePredictor:
    counts = {o: n - n // 5 if n > 28 else n for o, n in model.sizes.channels.items()}
    counts[OutputType.SPLICE_JUNCTIONS] = model.sizes.channels[OutputType.SPLICE_JUNCTIONS]
    tracks = {}
    for output in OUTPUTS:
        strands = "++--." if output is OutputType.SPLICE_SITES else "." * counts[output]
        rows = [{"name": f"{output} {i}", "strand": s, "strand_partner": i} for i, s in enumerate(strands)]
        tracks[output.value] = rows
    info = {"name": "drawn", "window": WINDOW, "organisms": ["human", "mouse"],
            "tracks": {"human": tracks, "mouse": tracks}}  # fmt: skip
    model.keep_constants()
    yield AlphaGenomePredictor(model, info)
    model.keep_constants(False)


def common_junctions(one: Rows, other: Rows) -> tuple[Rows, Rows]:
    """The rows of junctions that both have, of which there are nearly all."""
    keys = [
        {(g.gene_id, *j): i for i, (g, j) in enumerate(zip(r.genes, r.junctions.tolist(), strict=True))}
        for r in (one, other)
    ]
    both = sorted(keys[0].keys() & keys[1].keys())
    assert len(both) >= 0.95 * max(map(len, keys)) > 0
    rows = [[found[key] for key in both] for found in keys]
    return tuple(
        Rows(r.raw[index], [r.genes[i] for i in index], r.junctions[index])
        for r, index in zip((one, other), rows, strict=True)
    )


@pytest.mark.parametrize(
    ("place", "ref_length", "inserted", "placement", "tile"),
    [
        (30_700, 1, "", "tiled", WINDOW),  # near the window's end
        (30_700, 1, "GATTACA", "binned", 0),
        (56_900, 5, "", "tiled", 8192),  # beside a run of N and the chromosome's end
    ],
    ids=["snv", "insertion", "deletion"],
)
def test_scores_equal_those_of_whole_passes(predictor, place, ref_length, inserted, placement, tile) -> None:
    """Within 1e-4 of the row's largest score; of a logarithm of a ratio, that the ratio is within 1e-4."""
    genome, scorers = RandomGenome(), list(RECOMMENDED.values())
    variant = genome.variant(place, ref_length, inserted)

    def score(*, whole: bool) -> dict:
        settings = SimpleNamespace(
            window=WINDOW, batch_size=2, placement=placement, tile=tile, cache=1.0, whole_windows=whole
        )
        return Engine(predictor, genome, annotation(), scorers, settings).score([variant])[0]

    wanted, found = score(whole=True), score(whole=False)
    wrong = []
    for name, rows in wanted.items():
        mine = found[name]
        if rows.junctions is not None:  # which of hundreds changes most may turn on the last bit
            mine, rows = common_junctions(mine, rows)
        assert [g and g.gene_id for g in mine.genes] == [g and g.gene_id for g in rows.genes], name
        assert torch.equal(mine.raw.isnan(), rows.raw.isnan()), name
        if not rows.raw.numel():
            continue
        difference = (mine.raw - rows.raw).nan_to_num().abs().amax(-1)
        size = rows.raw.nan_to_num().abs().amax(-1)
        share = JUNCTIONS if name == "splice_junctions" else 1e-4
        allowed = share * (size.clamp_min(1) if name in LOGARITHMS else size) + RESOLVED
        if bool((difference > allowed).any()):
            wrong.append(f"{name}: {float(difference.max()):.1e} of {float(size.min()):.1e}")
    assert wrong == []
