"""Options of scorers: widths of centre and gene scores, polyadenylation, junctions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scoring_stand_ins import ToyPredictor, make_annotation, make_genome

from megabase.scoring import formulas
from megabase.scoring.engine import Engine
from megabase.scoring.masks import centre_span, gene_masks
from megabase.scoring.scorers import parse_scorer
from megabase.spec import OutputType
from megabase.variants import Variant, allele_codes

WINDOW = 8192
POSITION = 10_600  # in an exon of `plus`, in `noncoding`; 100 bases from the end of the exon


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def variant(genome):
    own = int(genome.codes("chr1", POSITION, POSITION + 1)[0])
    return Variant("chr1", POSITION, "ACGT"[own], "ACGT"[(own + 1) % 4])


def _score(genome, variant, *names):
    scorers = [parse_scorer(name) for name in names]
    settings = SimpleNamespace(window=WINDOW, batch_size=2)
    return Engine(ToyPredictor(), genome, make_annotation(), scorers, settings).score([variant])[0]


def _predicted(genome, variant, output, key):
    pair = allele_codes(genome, variant, POSITION - WINDOW // 2, WINDOW)
    codes = torch.from_numpy(np.stack(pair))
    return ToyPredictor().predict(codes, "toy", outputs=[output])[output][key]


@pytest.mark.parametrize("width", [1, 11, 101, 1001, 10_001])
def test_a_splicing_score_of_a_width_reads_the_gene_body_around_the_variant(genome, variant, width):
    name = f"splice_site_usage:gene:splicing:{width}"
    rows = _score(genome, variant, name)[name]
    ref, alt = _predicted(genome, variant, OutputType.SPLICE_SITE_USAGE, "probabilities")
    change = (alt - ref).abs()
    middle = WINDOW // 2
    for gene, raw in zip(rows.genes, rows.raw, strict=True):
        start = POSITION - middle
        first = max(gene.start - start, middle - width // 2, 0)
        last = min(gene.end - start, middle - width // 2 + width, WINDOW)
        wanted = change[first:last].amax(0)
        seen = ~raw.isnan()
        assert seen.any()
        torch.testing.assert_close(raw[seen], wanted[seen], rtol=1e-4, atol=1e-6)


def test_exons_beyond_the_width_leave_no_score(genome, variant):
    names = [f"rna_seq:gene:lfc:{width}" for width in ("none", 501, 3)]
    found = _score(genome, variant, "rna_seq", *names)
    torch.testing.assert_close(found["rna_seq"].raw, found[names[0]].raw, equal_nan=True)
    for name in names[1:]:
        by_gene = {g.gene_id: raw for g, raw in zip(found[name].genes, found[name].raw, strict=True)}
        assert by_gene["plus"].isfinite().any() and by_gene["minus"].isnan().all()
    wide, narrow = (found[name] for name in names[:2])
    own = [[g.gene_id for g in rows.genes].index("plus") for rows in (wide, narrow)]
    assert not torch.allclose(wide.raw[own[0], 2], narrow.raw[own[1], 2])


def test_masks_of_several_genes_are_cut_at_the_width():
    spans = [torch.tensor([[0, 10], [15, 40]]), torch.tensor([[30, 31]])]
    mask = gene_masks(spans, 5, 30, (8, 26))
    assert mask[:, 0].nonzero()[:, 0].tolist() == list(range(10, 26))
    assert mask[:, 1].nonzero()[:, 0].tolist() == [25]


@pytest.mark.parametrize("width", [100_001, 200_001])
@pytest.mark.parametrize("resolution", [1, 128])
def test_the_widest_published_masks(width, resolution):
    """At the published window the whole mask is read; in a small one, what there is of it."""
    first, last = centre_span(2**19, 2**20 // resolution, width, resolution)
    bins = -(-width // resolution)
    assert (first, last) == (2**19 // resolution - bins // 2, 2**19 // resolution - bins // 2 + bins)
    assert centre_span(8192, 16_384 // resolution, width, resolution) == (0, 16_384 // resolution)


def test_polyadenylation_of_two_sites_is_symmetric_in_them():
    """With one proximal and one distal site the score is |log2 of the ratio of their ratios|."""
    ref = torch.ones(2000, 1)
    alt = ref.clone()
    alt[600:1000] = 4.0
    windows = formulas.polyadenylation_windows(torch.tensor([999, 1999]), "+")
    assert windows.tolist() == [[600, 1000], [1600, 2000]]
    assert formulas.polyadenylation_score(ref, alt, windows).tolist() == [2.0]
    assert formulas.polyadenylation_score(ref, alt, windows.flip(0)).tolist() == [2.0]
    minus = formulas.polyadenylation_windows(torch.tensor([600, 1600]), "-")
    assert minus.tolist() == windows.tolist()


def test_polyadenylation_needs_most_sites_of_a_gene_in_the_window(genome, variant):
    """Two sites, or at least 80% of them, must have their whole stretch of coverage in the window."""
    base = make_annotation()
    scorers = [parse_scorer("polyadenylation")]
    settings = SimpleNamespace(window=WINDOW, batch_size=2)
    far = POSITION + 100_000

    def genes_with(sites: list[int]) -> list[str]:
        gene = next(g for g in base.genes if g.gene_id == "plus")
        gene.polya_sites = np.array(sites)
        others = [g for g in base.genes if g.gene_id != "plus"]
        annotation = type(base)([gene, *others])
        rows = Engine(ToyPredictor(), genome, annotation, scorers, settings).score([variant])[0]
        return [g.gene_id for g in rows["polyadenylation"].genes]

    inside = [POSITION + 500 * i for i in range(1, 5)]
    assert "plus" in genes_with(inside) and "plus" in genes_with([*inside, far])  # 4 of 5
    assert "plus" not in genes_with([*inside[:3], far])  # 3 of 4
    assert "plus" not in genes_with([inside[0], far]) and "plus" not in genes_with(inside[:1])
