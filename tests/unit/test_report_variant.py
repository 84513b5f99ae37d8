"""One variant's page: the right numbers, sentences that say what they mean, one file without the network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scoring_stand_ins import (
    ToyPredictor,
    make_annotation,
    make_genome,
    some_variants,
    write_rejected,
    write_variants,
)

from megabase.files import FileError, Stamp, write_json
from megabase.report import variant_page
from megabase.report.explanation import Explanation
from megabase.report.figures_variant import effect_rows, forest_figure, tissue_figure
from megabase.report.sections_variant import Subject, _where, build_sections, summary_section, trust_section
from megabase.report.variant_effects import Effects
from megabase.report.variant_words import (
    certainty_sentence,
    control_sentence,
    modality_sentences,
    rarity,
    rarity_text,
    representation_sentence,
    size_text,
    substitution_sentence,
)
from megabase.scoring.calibration import calibrate_scores
from megabase.scoring.chunks import raw_matrix, score_chunk
from megabase.scoring.controls import shift_controls
from megabase.scoring.engine import Engine
from megabase.scoring.explain import Choice, explain
from megabase.scoring.scorers import RECOMMENDED
from megabase.scoring.store import merge_scores
from megabase.settings.scoring import ScoringSettings
from megabase.style import png
from megabase.variants import Variant

SETTINGS = ScoringSettings(window=4096, batch_size=8, bins=50)


@pytest.fixture(scope="module", autouse=True)
def _coarse():
    """Figures at a fifth of their resolution: what they show is not looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("megabase.style.DPI", 32)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    genome = make_genome(folder)
    engine = Engine(ToyPredictor(), genome, make_annotation(), list(RECOMMENDED.values()), SETTINGS)
    variants = some_variants(genome)
    table = write_variants(variants, folder / "variants.parquet")
    score_chunk(engine, table, folder / "chunk", Stamp("chunk"))
    calibrate_scores([folder / "chunk"], folder / "model", SETTINGS)
    rejected = write_rejected(folder / "rejected.parquet")
    merge_scores([folder / "chunk"], rejected, folder / "model", None, folder / "scores")
    merge_scores([folder / "chunk"], rejected, None, None, folder / "raw")
    return SimpleNamespace(folder=folder, genome=genome, engine=engine, variants=variants)


def _subject(world, index: int, folder: str = "scores") -> Subject:
    variant = world.variants[index]
    effects = Effects.read(world.folder / folder, variant.variant_id)
    choice = effects.choice()
    arrays, info = explain(world.engine, choice, variant, None, 4)
    return Subject(effects, choice, Explanation(info, arrays))


def _row(**values) -> dict:
    known = dict.fromkeys(
        ("gene_name", "gene_id", "target", "quantile", "spread", "representation", "change")
    )
    usual = {"scorer": "rna_seq", "output_type": "rna_seq", "signed": True, "raw": 1.0}
    usual |= {"biosample_name": "liver", "track_name": "liver 1", "track_strand": "."}
    return known | usual | values


def test_effects_are_the_numbers_of_the_store(world):
    variant = world.variants[0].variant_id
    effects = Effects.read(world.folder / "scores", variant)
    assert effects.model == "toy" and effects.window == 4096 and effects.background == len(world.variants)
    assert not effects.table["scorer"].str.contains("active").any()
    for name in ("dnase", "rna_seq", "splice_sites"):
        part = pl.read_parquet(world.folder / f"scores/{name}/part-*.parquet")
        part = part.filter(pl.col("variant_id") == variant)
        largest = np.nanmax(np.abs(raw_matrix(part, "quantile")))
        best = effects.strongest(["scorer"]).filter(pl.col("scorer") == name).row(0, named=True)
        assert abs(best["quantile"]) == pytest.approx(largest)
        where = part.filter(pl.col("gene_id").eq_missing(pl.lit(best["gene_id"])))
        assert raw_matrix(where)[0, best["channel"]] == pytest.approx(best["raw"])
        base = {"dnase": 2.0, "rna_seq": np.e}.get(name)
        assert (
            best["change"] is None if base is None else best["change"] == pytest.approx(base ** best["raw"])
        )


def test_the_explained_effect_is_the_largest_or_the_one_asked_for(world):
    effects = Effects.read(world.folder / "scores", world.variants[0].variant_id)
    choice = effects.choice()
    usable = effects.table.filter(pl.col("scorer").is_in(["splice_junctions", "contact_maps"]).not_())
    usable = usable.filter(~pl.col("scorer").is_in(["composite_splicing", "polyadenylation"]))
    assert abs(choice.quantile) >= usable["quantile"].abs().max() - 1e-3
    asked = (
        effects.choice("splice_sites", "MINUS") if _has(effects, "minus") else effects.choice("splice_sites")
    )
    assert asked.scorer.name == "splice_sites"
    assert effects.choice("rna_seq", "PLUS").gene_id == "plus"
    with pytest.raises(ValueError, match="no score of scorer contact_maps"):
        effects.choice("contact_maps")
    with pytest.raises(ValueError, match="no score of gene nobody"):
        effects.choice(None, "nobody")


def _has(effects: Effects, gene: str) -> bool:
    return effects.table.filter(pl.col("scorer") == "splice_sites", pl.col("gene_id") == gene).height > 0


def test_a_variant_that_the_store_lacks_is_an_error(world):
    with pytest.raises(FileError, match="no score of chr1:7:A:C"):
        Effects.read(world.folder / "scores", "chr1:7:A:C")
    with pytest.raises(FileError, match=r"no scores\.json there; wanted a folder written by merge-scores"):
        Effects.read(world.folder / "nowhere", "chr1:7:A:C")
    with pytest.raises(ValueError, match="'chr1:7' is not chrom:position:ref:alt"):
        Effects.read(world.folder / "scores", "chr1:7")
    variant = world.variants[0]
    loose = f" chr1:{variant.position + 1:,}:{variant.ref.lower()}:{variant.alt.lower()}"
    assert Effects.read(world.folder / "scores", loose).variant_id == variant.variant_id


@pytest.mark.parametrize("index", [1, 10])  # an insertion, an SNV far from genes
def test_sections_of_the_page(world, index):
    sections = {s.anchor: s for s in build_sections(_subject(world, index))}
    assert {"summary", "tissues", "locus", "bases", "trust"} <= set(sections)
    assert ("splicing" in sections) is (index != 10)  # no gene there
    names = [b.name for s in sections.values() for b in s.blocks if b.kind == "picture"]
    assert names == ["tissues", "tracks", "locus", "locus_zoom", "mutagenesis"]
    table = next(b for b in sections["tissues"].blocks if b.kind == "table")
    assert len(table.rows) >= 7 and all(len(row) == len(table.columns) for row in table.rows)


def test_scores_without_quantiles_make_a_page_that_says_so(world):
    subject = _subject(world, 0, "raw")
    assert not subject.effects.calibrated
    assert "not calibrated" in " ".join(trust_section(subject).blocks[0].lines)
    assert png(tissue_figure(subject.effects)).startswith(b"\x89PNG")
    told = " ".join(summary_section(subject).blocks[2].lines)
    assert "common variants" not in told and "nothing unusual" not in told


def test_places_of_genes_are_those_of_the_words():
    gene = {"start": 100, "end": 200, "strand": "+", "exons": [[100, 120], [180, 200]]}
    assert (
        _where(gene, 90, 96) == "5 bp upstream"
        and _where(gene | {"strand": "-"}, 90, 96) == "5 bp downstream"
    )
    assert _where(gene, 99, 100) == "1 bp upstream" and _where(gene, 200, 201) == "1 bp downstream"
    assert _where(gene, 119, 121) == "in an exon" and _where(gene, 150, 151) == "in an intron"
    assert _where(None, 0, 1) == ""


def test_a_spread_is_told_and_drawn(world):
    subject = _subject(world, 0)
    table = subject.effects.table.with_columns(
        spread=pl.lit(0.5, pl.Float32), representation=pl.lit(0.7, pl.Float32)
    )
    effects = replace(subject.effects, table=table)
    name, gene = subject.choice.scorer.name, subject.choice.gene_id
    assert png(forest_figure(effects, name, gene, "t")) != png(
        forest_figure(subject.effects, name, gene, "t")
    )
    text = " ".join(trust_section(replace(subject, effects=effects)).blocks[0].lines)
    assert "differ about this score by 0.5" in text and "well represented in the training data (0.70" in text


def test_the_map_has_a_row_for_each_of_the_most_affected_genes(world):
    effects = Effects.read(world.folder / "scores", world.variants[0].variant_id)
    rows = effect_rows(effects)
    assert rows.filter(pl.col("scorer") == "rna_seq")["part"].unique().sort().to_list() == [
        "NONCODING",
        "PLUS",
    ]
    cells = rows.filter(pl.col("scorer") == "dnase", pl.col("biosample") == "cell 0")
    both = effects.table.filter(pl.col("scorer") == "dnase", pl.col("biosample_name") == "cell 0")
    assert cells.height == 1 and both.height == 2
    assert abs(cells["quantile"][0]) == both["quantile"].abs().max()


def test_rarity_is_the_share_of_common_variants_beyond():
    assert rarity(0.98, True, 0) == pytest.approx(2)  # 1% on its side
    assert rarity(-0.98, True, 0) == pytest.approx(2)
    assert rarity(0.99, False, 0) == pytest.approx(2)
    assert rarity(0.99999, False, 0) == 5
    assert rarity(0.99999, True, 99) == pytest.approx(2)  # 99 variants cannot tell more
    assert rarity(0.0, False, 99) == 0


def test_sentences(world):
    effects = Effects.read(world.folder / "scores", world.variants[0].variant_id)
    many = replace(effects, background=300_000)
    assert rarity_text(_row(quantile=0.996), many) == "as extreme as 1 in 500 common variants"
    assert rarity_text(_row(quantile=0.9999), replace(effects, background=20)).startswith(
        "more extreme than all 20"
    )
    assert rarity_text(_row(quantile=0.99999), many) == "more extreme than 1 in 50,000 common variants"
    assert rarity_text(_row(quantile=0.1), many) == "within the range of common variants"
    assert rarity_text(_row(), many) == ""
    assert (
        size_text(0.72, -1.0) == "−28%"
        and size_text(1.018, 1.0) == "+1.8%"
        and size_text(None, 0.25) == "0.25"
    )
    assert size_text(3.14, 1.0) == "3.1×" and size_text(0.99999, -1.0) == "0%"
    told = modality_sentences(effects)
    assert [t.split(":")[0] for t in told] == [
        "Gene expression", "Transcription initiation", "Chromatin accessibility at the variant",
        "Histone marks at the variant", "Binding of transcription factors at the variant", "Splicing",
        "Polyadenylation", "Contacts of chromatin",
    ]  # fmt: skip
    assert "tell no spread" in certainty_sentence(_row())
    assert "2.0 times that: they agree on its direction" in certainty_sentence(_row(spread=0.5))
    assert "no agreement" in certainty_sentence(_row(spread=0.8))
    assert "that there is one" in certainty_sentence(_row(spread=0.1, signed=False))
    assert representation_sentence(_row()) is None
    assert "hardly represented" in representation_sentence(_row(representation=0.1))


def test_an_indel_is_compared_with_others_of_its_length(world):
    """Off the exons, on the same side of the gene, of the same change in length; none for other variants."""
    insertion = Variant("chr1", 8_000, "A", "ACC")
    choice = Choice("", RECOMMENDED["rna_seq"], 0, "plus", "PLUS", 0.5, None)
    scored = []

    def score(variants):
        scored.extend(variants)
        return Engine.score(world.engine, variants)

    engine = SimpleNamespace(score=score, annotation=world.engine.annotation, genome=world.genome)
    values = shift_controls(engine, choice, insertion)
    assert 3 < len(values) <= len(scored)  # some windows do not reach the gene
    assert np.median(np.abs(values)) < 1e-6  # a network of short reach moves with its sequence
    for variant in scored:
        assert len(variant.alt) - len(variant.ref) == 2 and variant.position < 9_000
        assert (
            variant.ref == "ACGT"[int(world.genome.codes("chr1", variant.position, variant.position + 1)[0])]
        )
    deletion, before = replace(insertion, ref="ACC", alt="A"), len(scored)
    shift_controls(engine, choice, deletion)
    assert all(len(v.ref) == 3 and len(v.alt) == 1 for v in scored[before:])
    assert shift_controls(engine, choice, replace(insertion, alt="C")) == []
    assert shift_controls(engine, replace(choice, scorer=RECOMMENDED["dnase"]), insertion) == []
    assert control_sentence([], 1.0) is None
    assert "much of it may come from moving" in control_sentence([0.1, -0.6, float("nan")], 1.0)
    assert "lies within that: much of it" in control_sentence([2.0], 1.0)
    assert "is 10.0 times the largest." in control_sentence([0.1, -0.05], -1.0)


def test_single_substitutions_and_the_effect():
    """The matrix holds, at the base itself, minus the mean effect of its three substitutions."""
    effects = np.array([[0, 0, 0, 0], [0, -1.0, -1.0, -1.0], [0, 0.1, 0.1, 0.1], [0, 0, 0, 0]])
    matrix = effects - effects.sum(1, keepdims=True) / 3
    assert "none matters more" in substitution_sentence(matrix, "AAAA", -1.0, (1, 2))
    assert "A base 2 bp from the variant matters more" in substitution_sentence(matrix, "AAAA", 0.5, (3, 4))
    assert "2.0 times the effect" in substitution_sentence(matrix, "AAAA", 0.5, (3, 4))
    assert "more than 10.0%" in substitution_sentence(matrix, "AAAA", -10.0, (1, 2))
    assert substitution_sentence(matrix, "AAAA", 0.0, (1, 2)) is None
    assert substitution_sentence(matrix, "NNNN", 1.0, (1, 2)) is None


def test_the_page_is_one_file_and_the_same_twice(world, tmp_path, monkeypatch):
    write_json({"info": {"name": "toy"}}, tmp_path / "model/model.json", Stamp("model"))
    found = _subject(world, 0).explanation
    monkeypatch.setattr(variant_page.scored, "open_engine", lambda *_, **__: world.engine)
    monkeypatch.setattr(variant_page.scored, "explain", lambda *_, **__: (found.arrays, found.info))
    variant = world.variants[0].variant_id
    asked = (world.folder / "scores", variant, tmp_path / "model", Path())
    variant_page.explain(*asked, tmp_path / "a.html", figures=tmp_path / "figures")
    variant_page.explain(*asked, tmp_path / "b.html")
    text = (tmp_path / "a.html").read_text()
    assert text == (tmp_path / "b.html").read_text()
    assert f"<h1>{variant}</h1>" in text and "<script" not in text
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", text) == []
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5


def test_a_model_that_did_not_score_is_refused(world, tmp_path):
    write_json({"info": {"name": "other"}}, tmp_path / "other/model.json", Stamp("model"))
    with pytest.raises(FileError, match="is model other, the scores are of toy"):
        variant_page.explain(
            world.folder / "scores",
            world.variants[0].variant_id,
            tmp_path / "other",
            Path(),
            tmp_path / "p.html",
        )
