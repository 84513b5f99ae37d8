"""Mutagenesis as a command: scores as of a VCF, the ALT sequence, what is chosen, files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from predict_stand_ins import make_model
from scoring_stand_ins import LENGTH, ToyPredictor, make_annotation, make_genome, some_variants

from megabase.files import FileError, read_json, read_tsv
from megabase.logos import ROW, logo_figure
from megabase.scoring.alternate import AlternateGenome, alternate_annotation, moved
from megabase.scoring.engine import Engine
from megabase.scoring.mutagenesis import Question, answer
from megabase.scoring.mutagenize import KIND, choose_channels, choose_gene, mutagenize
from megabase.scoring.scorers import RECOMMENDED
from megabase.sequence import encode
from megabase.settings.scoring import ScoringSettings
from megabase.variants import Variant, allele_codes

SETTINGS = ScoringSettings(window=4096, batch_size=8)
DNASE, RNA = RECOMMENDED["dnase"], RECOMMENDED["rna_seq"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutagenize")
    genome = make_genome(folder)
    scorers = [DNASE, RNA, RECOMMENDED["splice_junctions"], RECOMMENDED["splice_sites"]]
    engine = Engine(ToyPredictor(), genome, make_annotation(), scorers, SETTINGS)
    return SimpleNamespace(folder=folder, genome=genome, engine=engine)


def test_scores_are_those_of_the_variants(world):
    question = Question("chr1", 10_600, 10_603, DNASE, (0, 2), None)
    arrays, sequences = answer(world.engine, question, None)
    bases = world.genome.codes("chr1", 10_600, 10_603)
    assert sequences == {"ism": "".join("ACGT"[b] for b in bases)} and set(arrays) == {"ism", "scores"}
    for i, own in enumerate(bases):
        others = [b for b in range(4) if b != own]
        variants = [Variant("chr1", 10_600 + i, "ACGT"[own], "ACGT"[b]) for b in others]
        wanted = [float(s["dnase"].raw[0, [0, 2]].mean()) for s in world.engine.score(variants)]
        np.testing.assert_allclose(arrays["scores"][i, others], wanted, rtol=1e-4, atol=1e-6)
        assert np.isnan(arrays["scores"][i, own])
        assert arrays["ism"][i, own] == pytest.approx(-np.mean(wanted), abs=1e-6)


def test_a_gene_of_a_junction_scorer_is_read_by_its_largest_junction(world):
    scorer = RECOMMENDED["splice_junctions"]
    question = Question("chr1", 10_700, 10_701, scorer, (0, 1), "plus")
    arrays, _ = answer(world.engine, question, None)
    own = int(world.genome.codes("chr1", 10_700, 10_701)[0])
    other = (own + 1) % 4
    (scored,) = world.engine.score([Variant("chr1", 10_700, "ACGT"[own], "ACGT"[other])])
    rows = scored["splice_junctions"]
    mine = [float(raw.mean()) for g, raw in zip(rows.genes, rows.raw, strict=True) if g.gene_id == "plus"]
    assert arrays["scores"][0, other] == pytest.approx(max(mine), rel=1e-4)


@pytest.mark.parametrize(
    "index", [0, 1, 2, 3, 13]
)  # SNV, insertion, deletion, MNV with insertion, long deletion
def test_the_alternate_genome_is_the_alt_sequence(world, index):
    variant = some_variants(world.genome)[index]
    genome = AlternateGenome(world.genome, variant)
    start = variant.position - 100
    _, wanted = allele_codes(world.genome, variant, start, 400)
    assert np.array_equal(genome.codes("chr1", start, start + 400), wanted)
    for first in range(start, start + 200, 7):  # any cut
        assert np.array_equal(genome.codes("chr1", first, first + 50), wanted[first - start :][:50])
    assert genome.lengths["chr1"] == LENGTH + len(variant.alt) - len(variant.ref)
    assert np.array_equal(genome.codes("chr2", 0, 99), world.genome.codes("chr2", 0, 99))
    assert genome.organism == "toy"


def test_genes_lie_where_their_bases_are_on_the_alt_sequence(world):
    """The annotation's exons hold the same bases after an insertion before them."""
    variant = Variant("chr1", 9_900, "A", "ACCCCC")
    annotation = alternate_annotation(world.engine.annotation, variant)
    genome = AlternateGenome(world.genome, variant)
    plus = annotation.find("plus")[0]
    assert (plus.start, plus.end, plus.tss) == (9_000, 12_005, [9_000])
    assert plus.exons.tolist() == [[9_000, 9_200], [10_505, 10_705], [11_805, 12_005]]
    assert np.array_equal(genome.codes("chr1", 10_505, 10_705), world.genome.codes("chr1", 10_500, 10_700))
    deletion = Variant("chr1", 9_100, "A" * 200, "A")
    assert moved(np.array([9_100, 9_101, 9_200, 9_300, 9_400]), deletion).tolist() == [
        9_100, 9_101, 9_101, 9_101, 9_201,
    ]  # fmt: skip


def test_both_alleles_about_a_variant_mirror_its_score(world):
    """From ALT back to REF is minus the score of the variant, for a signed scorer that reads the place."""
    snv = some_variants(world.genome)[0]
    question = Question("chr1", snv.position, snv.position + 1, DNASE, (0,), None)
    arrays, sequences = answer(world.engine, question, snv)
    assert sequences["ism"] == snv.ref and sequences["ism_alt"] == snv.alt
    there, back = arrays["scores"][0, encode(snv.alt)[0]], arrays["scores_alt"][0, encode(snv.ref)[0]]
    assert there == pytest.approx(-back, abs=1e-5)


def test_what_is_chosen(world):
    rows = [{"name": "a", "biosample_name": "Liver", "ontology_curie": "X:1"}, {"name": "b"}, {"name": "c"}]
    assert choose_channels(rows, []) == (0, 1, 2)
    assert choose_channels(rows, ["c", "liver"]) == (0, 2) and choose_channels(rows, ["x:1"]) == (0,)
    with pytest.raises(ValueError, match="no track is of 'brain'; the scorer has Liver, b, c"):
        choose_channels(rows, ["brain"])
    place = ("chr1", 10_600, 10_601)
    assert choose_gene(world.engine, DNASE, place, None) is None
    assert choose_gene(world.engine, RNA, place, "PLUS") == "plus"
    with pytest.raises(ValueError, match=r"reads one gene: wanted one of those in reach \(PLUS, NONCODING\)"):
        choose_gene(world.engine, RECOMMENDED["splice_sites"], place, None)
    with pytest.raises(ValueError, match=r"in reach \(none\)"):
        choose_gene(world.engine, RNA, ("chr1", 20_000, 20_001), "plus")


def test_the_command_writes_its_files(world, tmp_path):
    model = make_model(tmp_path / "tiny")
    asked = (model, world.folder / "genome", tmp_path / "out", replace_window(SETTINGS))
    snv = some_variants(world.genome)[0]
    mutagenize(*asked, scorer="dnase", variant=snv.variant_id, width=4, tracks=["liver"])
    info = read_json(tmp_path / "out/mutagenesis.json", KIND)
    assert info["tracks"] == ["liver +", "liver -"] and info["end"] - info["start"] == 4
    with np.load(tmp_path / "out/mutagenesis.npz") as arrays:
        assert {k: v.shape for k, v in arrays.items()} == dict.fromkeys(
            ("ism", "ism_alt", "scores", "scores_alt"), (4, 4)
        )
        assert np.abs(arrays["ism"]).max() > 0
    table = read_tsv(tmp_path / "out/substitutions.tsv", KIND)
    assert table.height == 2 * 4 * 3
    assert table.filter(pl.col("allele") == "REF")["position"].min() == snv.position + 1 - 2
    assert (tmp_path / "out/logo.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "out/mutagenesis.npz").read_bytes()
    mutagenize(*asked, scorer="dnase", variant=snv.variant_id, width=4, tracks=["liver"])
    assert (tmp_path / "out/mutagenesis.npz").read_bytes() == before
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileError, match="holds no mutagenesis"):
        mutagenize(*asked[:2], tmp_path / "mine", asked[3], scorer="dnase", region="chr1:1-2")
    beyond, both = "not on a chromosome", "a region or a variant"
    for wrong, message in (
        ({"region": "chr1:1-99999999"}, beyond),
        ({"region": "chrQ:1-9"}, beyond),
        ({}, both),
        ({"region": "chr1:1-2", "variant": "chr1:1:A:C"}, both),
    ):
        with pytest.raises(ValueError, match=message):
            mutagenize(*asked[:2], tmp_path / "new", asked[3], scorer="dnase", **wrong)
    assert not (tmp_path / "new").exists()


def replace_window(settings: ScoringSettings) -> ScoringSettings:
    return settings.model_copy(update={"window": 2048})


def test_a_long_stretch_is_drawn_in_rows_of_one_scale():
    width = 2 * ROW + 5
    matrix = np.zeros((width, 4))
    matrix[:, 0] = np.linspace(-1, 2, width)
    figure = logo_figure([("REF", matrix, "A" * width)], 1000, "chr1", (1001, 1002))
    assert len(figure.axes) == 3
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert [round(axes.get_xlim()[0] + 0.5) for axes in figure.axes] == [1000, 1000 + ROW, 1000 + 2 * ROW]


def test_variants_of_the_engine_are_not_changed(world):
    """A stand-in for REF's engine is untouched by the ALT sequence's."""
    before = replace(world.engine.annotation.find("plus")[0])
    alternate_annotation(world.engine.annotation, Variant("chr1", 9_100, "A", "ACC"))
    after = world.engine.annotation.find("plus")[0]
    assert before.exons.tolist() == after.exons.tolist() and before.end == after.end
