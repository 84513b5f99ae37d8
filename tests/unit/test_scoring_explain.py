"""The explanation of one variant: the right variant, arrays as agreed, a matrix that means what it says."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from scoring_stand_ins import (
    ToyPredictor,
    make_annotation,
    make_genome,
    some_variants,
    write_rejected,
    write_variants,
)

from megabase.files import FileError, Stamp
from megabase.scoring.calibration import calibrate_scores
from megabase.scoring.chunks import raw_matrix, score_chunk
from megabase.scoring.engine import Engine
from megabase.scoring.explain import Choice, choose_effect, explain
from megabase.scoring.mutagenesis import contribution_matrix, mutate
from megabase.scoring.observed import observed_tracks
from megabase.scoring.scorers import RECOMMENDED
from megabase.scoring.store import merge_scores
from megabase.scoring.words import describe
from megabase.settings.scoring import ScoringSettings
from megabase.spec import OutputType
from megabase.variants import Variant

SETTINGS = ScoringSettings(window=4096, batch_size=8, bins=50)
WIDTH = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    genome = make_genome(folder)
    scorers = [RECOMMENDED[n] for n in ("rna_seq", "dnase", "cage", "splice_sites")]
    engine = Engine(ToyPredictor(), genome, make_annotation(), scorers, SETTINGS)
    table = write_variants(some_variants(genome), folder / "variants.parquet")
    score_chunk(engine, table, folder / "chunk", Stamp("chunk"))
    calibrate_scores([folder / "chunk"], folder / "model", SETTINGS)
    rejected = write_rejected(folder / "rejected.parquet")
    merge_scores([folder / "chunk"], rejected, folder / "model", None, folder / "scores")
    return SimpleNamespace(folder=folder, genome=genome, engine=engine)


def _choice(name: str, variant: Variant, gene: str | None = None, channel: int = 0) -> Choice:
    return Choice(variant.variant_id, RECOMMENDED[name], channel, gene, gene, 0.5, 0.99)


def test_the_largest_quantile_of_expression_or_accessibility_is_chosen(world):
    choice = choose_effect(world.folder / "scores")
    assert choice.scorer.name in ("rna_seq", "dnase")
    largest = max(
        np.nanmax(
            np.abs(raw_matrix(pl.read_parquet(world.folder / f"scores/{n}/part-*.parquet"), "quantile"))
        )
        for n in ("rna_seq", "dnase")
    )
    assert abs(choice.quantile) == pytest.approx(largest)
    wanted = some_variants(world.genome)[10].variant_id
    assert choose_effect(world.folder / "scores", wanted).variant_id == wanted
    with pytest.raises(FileError, match="of chr9:1:A:C"):
        choose_effect(world.folder / "scores", "chr9:1:A:C")


@pytest.mark.parametrize("index", [0, 1, 2])  # an SNV, an insertion, a deletion
def test_arrays_are_as_agreed(world, index):
    variant = some_variants(world.genome)[index]
    arrays, info = explain(world.engine, _choice("dnase", variant, channel=1), variant, None, WIDTH)
    shapes = {"dnase": (4096, 3), "chip_tf": (32, 3), "contact_maps": (2, 2, 2), "splice_sites": (4096, 5),
              "splice_site_usage": (4096, 3)}  # fmt: skip
    for name, shape in shapes.items():
        for allele in ("ref", "alt"):
            values = arrays[f"{allele}/{name}"]
            assert values.shape == shape and values.dtype == np.float32 and np.isfinite(values).all()
    assert arrays["ism"].shape == arrays["ism_alt"].shape == (WIDTH, 4)
    assert info["tracks"]["dnase"][0]["name"] == info["track"] == "dnase 1"
    assert info["ism"]["end"] - info["ism"]["start"] == WIDTH
    assert info["ism"]["start"] <= variant.position < info["ism"]["end"]
    assert {g["gene_id"] for g in info["genes"]} == {"plus", "minus", "noncoding"}
    assert info["junctions"] and {"donor", "acceptor", "strand", "biosample", "ref", "alt"} == set(
        info["junctions"][0]
    )
    assert len(info["words"]) == 4
    before = np.abs(arrays["ref/dnase"] - arrays["alt/dnase"]).max(1).nonzero()[0]
    offset = variant.position - info["window"]["start"]
    assert before.min() >= offset - 40  # nothing changes far to the left of the variant


def test_alt_lies_on_the_positions_of_ref(world):
    """After an insertion the prediction downstream is the same, once it is laid on REF."""
    variant = some_variants(world.genome)[1]
    arrays, info = explain(world.engine, _choice("dnase", variant), variant, None, 2)
    after = slice(variant.position - info["window"]["start"] + 50, 4000)
    np.testing.assert_allclose(arrays["ref/dnase"][after], arrays["alt/dnase"][after], atol=1e-5)


def test_mutagenesis_agrees_with_scoring_each_substitution(world):
    """The matrix entry at the variant's own position comes from the three scores of that position."""
    variant = some_variants(world.genome)[0]
    arrays, info = explain(world.engine, _choice("dnase", variant), variant, None, WIDTH)
    row = variant.position - info["ism"]["start"]
    others = [b for b in "ACGT" if b != variant.ref]
    scored = world.engine.score([Variant("chr1", variant.position, variant.ref, b) for b in others])
    scores = {b: float(s["dnase"].raw[0, 0]) for b, s in zip(others, scored, strict=True)}
    mean = sum(scores.values()) / 3
    wanted = [scores.get(b, 0.0) - mean for b in "ACGT"]
    np.testing.assert_allclose(arrays["ism"][row], wanted, atol=1e-5)
    swapped = (
        arrays["ism_alt"][row]["ACGT".index(variant.ref)] - arrays["ism_alt"][row]["ACGT".index(variant.alt)]
    )
    assert swapped == pytest.approx(-scores[variant.alt], abs=1e-5)  # from ALT back to REF


@pytest.mark.parametrize(
    ("index", "name", "channel", "gene"),
    [(0, "dnase", 1, None), (1, "dnase", 1, None), (2, "cage", 1, None), (0, "rna_seq", 0, "plus")],
)
def test_mutagenesis_is_that_of_whole_windows_about_the_variant(world, index, name, channel, gene):
    """An SNV, an insertion and a deletion on both alleles; all substitutions in the window of the variant."""
    variant = some_variants(world.genome)[index]
    arrays, info = explain(world.engine, _choice(name, variant, gene, channel), variant, None, WIDTH)
    (case,), codes = world.engine.cases([variant])
    span = info["ism"]["start"] - case.start, info["ism"]["end"] - case.start
    for key, allele in (("ism", case.ref_index), ("ism_alt", case.alt_index)):
        wanted = mutate(world.engine, RECOMMENDED[name], channel, gene, case, codes[allele], span, Variant,
                        on_alternate=key == "ism_alt")  # fmt: skip
        assert np.abs(wanted).max() > 1e-4
        np.testing.assert_allclose(arrays[key], wanted, atol=1e-5)


def test_gene_mutagenesis_reads_its_gene(world):
    variant = some_variants(world.genome)[0]
    plus, _ = explain(world.engine, _choice("rna_seq", variant, "plus", 0), variant, None, 4)
    other, _ = explain(world.engine, _choice("rna_seq", variant, "noncoding", 0), variant, None, 4)
    assert np.abs(plus["ism"]).max() > 0 and not np.allclose(plus["ism"], other["ism"])


def test_contribution_matrix_convention():
    scores = np.array([[9.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0], [np.nan, 9.0, 1.0, 1.0]])
    matrix = contribution_matrix(scores, np.array([0, 4, 1]), signed=True)
    assert matrix[0].tolist() == [-2.0, -1.0, 0.0, 1.0]
    assert (matrix[1:] == 0).all()
    assert contribution_matrix(scores, np.array([0, 4, 1]), signed=False)[0, 0] == 2.0


def test_words_say_direction_size_place_and_rank(world):
    variant = Variant("chr1", 10_600, "C", "G")
    genes = world.engine.annotation.overlapping("chr1", 8000, 12_000)
    track = {"name": "t", "biosample_name": "liver"}
    up = Choice(variant.variant_id, RECOMMENDED["dnase"], 0, None, None, 1.0, 0.998, 20_000)
    words = describe(variant, up, track, genes, "student", 16_384)
    assert (
        "chr1:10,601 C>G, a single-nucleotide variant, raises predicted chromatin accessibility" in words[0]
    )
    assert "liver to 2.00 times that of REF" in words[0]
    assert "about 20 of the 20,000 common background variants score as high" in words[1]
    rare = describe(variant, replace(up, background=400), track, genes, "student", 16_384)
    assert "fewer than one of the 400 common background variants" in rare[1]  # no finer than was measured
    assert "exon of PLUS, 99 bases from the nearest annotated splice site" in words[2]
    down = Choice("", RECOMMENDED["rna_seq"], 0, "plus", "PLUS", float(np.log(0.5)), None)
    insertion = Variant("chr1", 8500, "C", "CAA")
    words = describe(insertion, down, track, genes, "student", 16_384)
    deletion = Variant("chr1", 8500, "CA", "C")
    assert "a deletion of 1 base," in describe(deletion, down, track, genes, "student", 16_384)[0]
    assert "an insertion of 2 bases, lowers predicted RNA-seq coverage over the exons of PLUS" in words[0]
    assert "0.50 times" in words[0] and "not calibrated" in words[1]
    assert words[2] == "The nearest gene is PLUS; the variant lies 500 bases upstream of it."
    assert "No annotated gene" in describe(insertion, down, track, [], "student", 10)[2]


class _Store:
    """Two DNase channels in another order than the model's, usage at one site, contacts of one channel."""

    has_splicing = True

    def channels(self, output):
        names = {"dnase": ["b", "a"], "splice_site_usage": ["u"], "contact_maps": ["c"]}.get(output, [])
        return pl.DataFrame({"name": names}, schema={"name": pl.String})

    def runs(self, output, chrom, start, end):
        from megabase.shards import Runs

        return Runs(np.array([0, 1, 2]), np.full(2, end - start), np.array([2.0, 1.0], np.float32))

    def contacts(self, chrom, start, length):
        return np.full((length // 2048, length // 2048, 1), 7, np.float32)

    def splicing(self, chrom, start, length, max_sites):
        classes = np.full(length, 4, np.int8)
        classes[0], classes[5] = -1, 0
        return SimpleNamespace(classes=classes, usage=(np.array([5]), np.array([[0.25]], np.float32)))


def test_observed_tracks_are_matched_by_name():
    rows = {
        OutputType.DNASE: [{"name": "a"}, {"name": "gone"}, {"name": "b"}],
        OutputType.ATAC: [{"name": "x"}],
        OutputType.CONTACT_MAPS: [{"name": "c"}],
        OutputType.SPLICE_SITES: [{"name": str(i)} for i in range(5)],
        OutputType.SPLICE_SITE_USAGE: [{"name": "u"}],
    }
    found = observed_tracks(_Store(), rows, "chr1", 0, 4096)
    assert OutputType.ATAC not in found
    dnase = found[OutputType.DNASE]
    assert (dnase[:, 0] == 1).all() and np.isnan(dnase[:, 1]).all() and (dnase[:, 2] == 2).all()
    assert found[OutputType.CONTACT_MAPS].shape == (2, 2, 1)
    sites = found[OutputType.SPLICE_SITES]
    assert np.isnan(sites[0]).all() and sites[5].tolist() == [1, 0, 0, 0, 0] and sites[6, 4] == 1
    usage = found[OutputType.SPLICE_SITE_USAGE]
    assert usage[5, 0] == 0.25 and usage.sum() == 0.25


def test_explaining_twice_gives_the_same_arrays(world):
    variant = some_variants(world.genome)[2]
    first, _ = explain(world.engine, _choice("rna_seq", variant, "plus"), variant, None, 4)
    second, _ = explain(world.engine, _choice("rna_seq", variant, "plus"), variant, None, 4)
    assert first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)
    assert torch.from_numpy(first["ism_alt"]).isfinite().all()
