"""Scorers by name: the recommended set, the custom grammar and its errors."""

from __future__ import annotations

import polars as pl
import pytest
from scoring_stand_ins import ToyPredictor

from megabase.files import FileError
from megabase.scoring.annotation import Annotation
from megabase.scoring.scorers import RECOMMENDED, parse_scorer, parse_scorers, recommended, scorer_tracks
from megabase.spec import OutputType

TRACKS = ToyPredictor().tracks("toy")


def test_the_recommended_set_has_the_published_widths_and_signs():
    assert len(RECOMMENDED) == 19
    signed = {n for n, s in RECOMMENDED.items() if s.signed}
    assert signed == {"rna_seq", "cage", "procap", "dnase", "atac", "chip_histone", "chip_tf"}
    for name, scorer in RECOMMENDED.items():
        if scorer.part == "center":
            active = name.endswith("_active")
            assert scorer.width == (2001 if name.startswith("chip_histone") else 501)
            assert scorer.aggregation == ("active_sum" if active else "diff_log2_sum")
            assert scorer.resolution == (128 if name.startswith("chip") else 1)


def test_recommended_follows_the_tracks_and_the_annotation():
    everything = [s.name for s in recommended(TRACKS, has_genes=True, has_polya_sites=True)]
    assert everything == list(RECOMMENDED)
    without = {s.name for s in recommended(TRACKS, has_genes=True, has_polya_sites=False)}
    assert set(RECOMMENDED) - without == {"polyadenylation"}
    bare = {s.name for s in recommended(TRACKS, has_genes=False, has_polya_sites=False)}
    assert bare == {n for n, s in RECOMMENDED.items() if not s.has_genes}
    only = {OutputType.DNASE: TRACKS[OutputType.DNASE]}
    assert [s.name for s in recommended(only, has_genes=True, has_polya_sites=True)] == [
        "dnase",
        "dnase_active",
    ]


def test_custom_grammar():
    scorer = parse_scorer("dnase:center:2001:diff_log2_sum")
    assert (scorer.output_type, scorer.width, scorer.aggregation) == ("dnase", 2001, "diff_log2_sum")
    assert scorer.signed and not scorer.has_genes
    assert parse_scorer("rna_seq:center:none:active_mean").width is None
    gene = parse_scorer("cage:gene:lfc")
    assert gene.signed and gene.has_genes and gene.part == RECOMMENDED["rna_seq"].part
    assert gene.width is None and parse_scorer("cage:gene:lfc:none").width is None
    near = parse_scorer("splice_sites:gene:splicing:101")
    assert (near.part, near.width, near.signed) == (RECOMMENDED["splice_sites"].part, 101, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rna_sec", "nearest name: rna_seq"),
        ("dnaze:center:501:diff_mean", "nearest name: dnase"),
        ("dnase:center:501:diff_log_sum", "nearest name: diff_log2_sum"),
        ("dnase:center:wide:diff_mean", "wanted a number of bases"),
        ("dnase:center:0:diff_mean", "wanted a number of bases"),
        ("contact_maps:center:501:diff_mean", "needs a track output type"),
        ("chip_tf:gene:lfc", "needs a 1-bp output type"),
        ("rna_seq:gene:lfcs", "nearest name: lfc"),
        ("rna_seq:middle:501", "wanted output_type:center:width"),
        ("splice_sites:gene:splicing:0", "wanted a number of bases"),
        ("splice_sites:gene:splicing:101:max", "wanted output_type:center:width"),
    ],
)
def test_errors_name_what_was_wanted(text, message):
    with pytest.raises(ValueError, match=message):
        parse_scorer(text)


def test_a_named_scorer_that_cannot_run_is_an_error():
    only = {OutputType.DNASE: TRACKS[OutputType.DNASE]}
    with pytest.raises(ValueError, match="no tracks of atac"):
        parse_scorers(["atac"], only, has_genes=False, has_polya_sites=False)
    with pytest.raises(ValueError, match="needs a gene annotation"):
        parse_scorers(["dnase:gene:lfc"], only, has_genes=False, has_polya_sites=False)
    with pytest.raises(ValueError, match="leave nothing"):
        parse_scorers(["recommended"], {}, has_genes=False, has_polya_sites=False)
    found = parse_scorers(["recommended", "dnase", "dnase:center:9:diff_sum"], only,
                          has_genes=False, has_polya_sites=False)  # fmt: skip
    assert [s.name for s in found] == ["dnase", "dnase_active", "dnase:center:9:diff_sum"]


def test_tracks_of_sites_and_junctions():
    assert [r["strand"] for r in scorer_tracks(RECOMMENDED["splice_sites"], TRACKS)] == ["+", "+", "-", "-"]
    assert [r["strand"] for r in scorer_tracks(RECOMMENDED["splice_junctions"], TRACKS)] == [".", "."]
    assert len(scorer_tracks(RECOMMENDED["splice_site_usage"], TRACKS)) == 4


class _Tables:
    """Gene tables of two genes, the second on the - strand with two transcripts."""

    genes = pl.DataFrame({
        "gene_id": ["a", "b"], "gene_name": ["A", "B"], "gene_type": ["unknown", "unknown"],
        "chrom": ["c", "c"], "start": [10, 100], "end": [90, 400], "strand": ["+", "-"], "tss": [10, 399],
    })  # fmt: skip
    transcripts = pl.DataFrame({"gene_id": ["a", "b", "b"], "tss": [10, 399, 299]})
    exons = pl.DataFrame({
        "transcript_id": ["t1", "t1", "t2", "t2", "t3", "t3"], "gene_id": ["a", "a", "b", "b", "b", "b"],
        "start": [10, 60, 100, 350, 100, 250], "end": [30, 90, 150, 400, 150, 300],
    })  # fmt: skip


def test_annotation_from_tables():
    annotation = Annotation.from_tables(_Tables())
    plus, minus = annotation.genes
    assert [x.tolist() for x in plus.splice_sites()] == [[29], [60]]  # last and first exonic base
    assert [x.tolist() for x in minus.splice_sites()] == [[250, 350], [149, 149]]
    assert minus.exons.tolist() == [[100, 150], [250, 300], [350, 400]]
    assert [g.gene_id for g in annotation.starting_in("c", 290, 300)] == ["b"]
    assert annotation.starting_in("c", 300, 399) == []
    assert [g.gene_id for g in annotation.overlapping("c", 89, 101)] == ["a", "b"]
    assert annotation.overlapping("c", 90, 100) == [] and annotation.overlapping("elsewhere", 0, 9) == []
    assert annotation.coding(annotation.genes) == annotation.genes  # no gene types: all of them
    assert not annotation.has_polya_sites


def test_polyadenylation_sites_come_from_a_table(tmp_path):
    path = tmp_path / "sites.tsv"
    path.write_text("gene_id\tchrom\tposition\tstrand\na\tc\t89\t+\na\tc\t70\t+\na\tc\t70\t+\n")
    annotation = Annotation.from_tables(_Tables(), path)
    assert annotation.has_polya_sites and annotation.genes[0].polya_sites.tolist() == [70, 89]
    path.write_text("gene\tchrom\tposition\tstrand\n")
    with pytest.raises(FileError, match="columns gene_id are missing"):
        Annotation.from_tables(_Tables(), path)
