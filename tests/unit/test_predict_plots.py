"""What the plot of a prediction shows: tracks and genes, chosen and placed before they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scoring_stand_ins import ToyPredictor, make_genome, some_variants

from megabase.genes import prepare_genes
from megabase.genome import Genome, Interval
from megabase.predict import Predictor
from megabase.predict.plots import LANES, choose_lanes, gene_models, most_telling, region_figure
from megabase.style import png

REGION = Interval("chr1", 9_000, 12_000)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    model = ToyPredictor()
    model.max_sites = 12
    return Predictor(model)


def test_most_telling_tracks() -> None:
    ref = np.array([[1.0, 100, 0, 5], [2, 100, 0, 5]])
    assert most_telling([ref], 2) == [1, 3]
    alt = ref + np.array([[0, 2, 0, 20], [0, 0, 0, 0]])
    assert most_telling([ref, alt], 1) == [3]  # a larger share of its signal than the 2 of 100
    assert most_telling([ref, alt], 9) == [0, 1, 2, 3]
    assert most_telling([ref[:0]], 1) == [0]  # nothing to tell them apart by


def test_lanes_of_a_region_lie_where_its_values_do(predictor: Predictor, genome: Genome) -> None:
    found = predictor.predict_interval(Interval("chr1", 8192, 8192 + 4096), genome)
    cut = [{o: p.crop(REGION.start, REGION.end) for o, p in found.items()}]
    lanes, left_out = choose_lanes(cut)
    assert len(lanes) <= LANES and len(lanes) + left_out == 7 * 3 + 1 + 4
    for lane, offset in lanes:
        assert lane.alt is None and offset == cut[0][lane.output_type].interval.start <= REGION.start
        assert offset + len(lane.ref) * lane.bases >= REGION.end
    sites = next(lane for lane, _ in lanes if lane.output_type == "splice_sites")
    np.testing.assert_array_equal(sites.ref, cut[0]["splice_sites"].values[:, :4].max(1))
    only, left_out = choose_lanes([{"atac": cut[0]["atac"]}])
    assert len(only) == 3 and left_out == 0


def test_lanes_of_a_variant_have_both_alleles(predictor: Predictor, genome: Genome) -> None:
    found = predictor.predict_variant(some_variants(genome)[0], genome, outputs=["atac"])
    lanes, _ = choose_lanes([found.reference, found.alternate])
    for channel, (lane, _) in enumerate(lanes):
        np.testing.assert_array_equal(lane.ref, found.reference["atac"].values[:, channel])
        np.testing.assert_array_equal(lane.alt, found.alternate["atac"].values[:, channel])


@pytest.mark.parametrize("outputs", [None, ["contact_maps"], ["splice_junctions"], ["chip_tf"]])
def test_any_choice_of_outputs_can_be_drawn(
    predictor: Predictor, genome: Genome, outputs: list[str] | None, tmp_path: Path
) -> None:
    rows = [
        (9001, 9200, "+", "a"),
        (11_801, 12_000, "+", "a"),
        (10_001, 13_000, "-", "b"),
        (500, 600, "+", "c"),
    ]
    text = "".join(
        f'chr1\ttoy\texon\t{a}\t{b}\t.\t{s}\t.\tgene_id "{g}"; transcript_id "t{g}";\n' for a, b, s, g in rows
    )
    (tmp_path / "genes.gtf").write_text(text)
    genes = prepare_genes(tmp_path / "genes.gtf", genome.folder, tmp_path / "genes")
    models = gene_models(genes, REGION)
    assert [(g["gene_id"], g["exons"]) for g in models] == [
        ("a", [(9000, 9200), (11_800, 12_000)]), ("b", [(10_000, 13_000)]),
    ]  # fmt: skip
    variant = some_variants(genome)[1]
    found = predictor.predict_variant(variant, genome, outputs=outputs)
    both = {"ref": found.reference, "alt": found.alternate}
    for alleles, what, shown in ((both, variant, genes), ({"": found.reference}, None, None)):
        figure = region_figure(alleles, REGION, model="toy", variant=what, genes=shown)
        assert png(figure).startswith(b"\x89PNG")
        name = f"chr1:{variant.position + 1:,} {variant.ref}>{variant.alt}   " if what else ""
        assert figure.get_suptitle() == f"{name}chr1:9,001–12,000   predicted by toy"
