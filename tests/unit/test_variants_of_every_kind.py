"""From a VCF with variants of every kind to merged scores: nothing is lost, and every view names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scoring_stand_ins import make_world

from megabase.files import read_json, read_table
from megabase.genome import Genome
from megabase.haplotypes import list_haplotypes
from megabase.report.variant_page import explain
from megabase.scoring.chunks import score_variants
from megabase.scoring.explain import explain_variant, read_explanation
from megabase.scoring.query import query_scores
from megabase.scoring.store import merge_scores
from megabase.sequence import decode
from megabase.settings.run import ReportSettings
from megabase.settings.scoring import ScoringSettings
from megabase.split import split_variants
from megabase.variants import Variant, read_variants

SCORERS = ["dnase", "rna_seq", "contact_maps", "splice_junctions"]
SETTINGS = ScoringSettings(window=2048, batch_size=4, bins=10, scorers=SCORERS)
HEADER = """##fileformat=VCFv4.2
##contig=<ID=chr1>
##INFO=<ID=END,Number=1,Type=Integer,Description="e">
##FORMAT=<ID=GT,Number=1,Type=String,Description="g">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tME
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Genome]:
    """A genome, genes and an untrained network."""
    folder = tmp_path_factory.mktemp("kinds")
    return folder, make_world(folder)


def line(genome: Genome, position: int, alt: str, info: str = ".", genotype: str = "0|1") -> str:
    """A record; `t` in ALT is the base at the position, `s` another one."""
    base = decode(genome.codes("chr1", position - 1, position))
    other = "ACGT"["TGCA".index(base)]
    alt = alt.replace("t", base).replace("s", other)
    return f"chr1\t{position}\t.\t{base}\t{alt}\t.\t.\t{info}\tGT\t{genotype}\n"


def merged(world: tuple[Path, Genome], path: Path, text: str, **options) -> Path:
    """Scores of a VCF, from its text on."""
    folder, genome = world
    vcf, scores = path / "v.vcf", path / "scores"
    vcf.write_text(HEADER + text)
    paths = vcf, genome.folder, [path / "chunk.parquet"], path / "rejected.parquet"
    split_variants(*paths, max_allele=1000, window=SETTINGS.window, **options)
    haplotypes = None
    if options:
        haplotypes = path / "haplotypes.parquet"
        list_haplotypes(vcf, genome.folder, haplotypes, sample="ME", max_allele=1000)
    places = path / "chunk.parquet", folder / "model", folder / "genome", folder / "genes", path / "chunk"
    score_variants(*places, SETTINGS, haplotypes=haplotypes)
    merge_scores([path / "chunk"], path / "rejected.parquet", None, folder / "model", scores)
    return scores


def test_structural_variants_go_all_the_way(world: tuple[Path, Genome], tmp_path: Path) -> None:
    folder, genome = world
    alleles = {
        10_490: ("<DEL>", "END=10600"), 10_500: ("<DUP>", "END=10600"), 10_510: ("<INV>", "END=10700"),
        10_520: ("<INS>", "SEQ=ACGTAC"), 10_530: ("t[chr1:20000[", "."), 10_540: ("]chr2:100]CCt", "."),
        10_550: ("t.", "."), 10_560: ("<DEL>", "END=20000"), 10_570: ("<CNV>", "END=10600"),
        10_580: ("s", "."),
    }  # fmt: skip
    scores = merged(world, tmp_path, "".join(line(genome, p, *allele) for p, allele in alleles.items()))
    info = read_json(scores / "scores.json", "scores")
    assert (info["alleles_in"], info["scored"], info["rejected"]) == (10, 8, 2)
    rejected = read_table(scores / "rejected.parquet", "rejected")
    assert rejected["reason"].to_list() == ["allele_too_long", "symbolic_allele"]
    table = pl.concat([pl.read_parquet(p) for p in sorted((scores / "dnase").glob("*.parquet"))])
    for row in table.iter_rows(named=True):
        assert Variant.parse(row["variant_id"]).alt == row["alt"]
        assert np.isfinite(row["raw"]).all()
    assert records(scores) == table.select("chrom", "position", "ref", "alt").rows()
    again = pl.concat(
        [accepted for accepted, _ in read_variants(scores / "summary.vcf.gz", genome, max_allele=1000)]
    )
    assert again["variant_id"].to_list() == table["variant_id"].to_list()  # a summary is a VCF like any other
    for region, wanted in (("chr1:10650-10660", 1), ("chr1:10595-10599", 3), ("chr1:10601-10700", 1)):
        found = query_scores(scores, region=region, scorer="dnase")["variant_id"].unique()
        assert len(found) == wanted, region  # of those that begin before it, the events that reach it
    name = table["variant_id"][4]
    assert query_scores(scores, variant=name, scorer="dnase")["variant_id"].unique().to_list() == [name]
    chosen = table.filter(pl.col("alt").str.starts_with("<INV"))["variant_id"][0]
    models = folder / "model", folder / "genome", folder / "genes", None
    explain_variant(
        scores, *models, tmp_path / "e.npz", SETTINGS, ReportSettings(ism_width=4), variant=chosen
    )
    words = read_explanation(tmp_path / "e.npz")[1]["words"]
    assert "inversion of 190 bases" in words[0]
    explain(scores, chosen, *models[:2], tmp_path / "page.html", genes_folder=models[2], ism_width=4)
    assert "inversion of 190 bases" in (tmp_path / "page.html").read_text(encoding="utf-8")


def records(scores: Path) -> list[tuple]:
    """Places and alleles of the summary, as cyvcf2 reads them, with the end of a structural variant."""
    from cyvcf2 import VCF

    found = []
    for v in VCF(str(scores / "summary.vcf.gz")):
        (alt,), kind = v.ALT, v.INFO.get("SVTYPE")
        assert (kind is None) == (alt.isalpha()) and (v.INFO.get("END") is None) == (alt[0] != "<")
        found.append((v.CHROM, v.start, v.REF, f"<{kind}:END={v.INFO['END']}>" if alt[0] == "<" else alt))
    return found


def test_haplotypes_go_all_the_way(world: tuple[Path, Genome], tmp_path: Path) -> None:
    _, genome = world
    (tmp_path / "r.bed").write_text("chr1\t10400\t10800\tgene\n")
    text = line(genome, 10_490, "s", genotype="1|1") + line(genome, 10_600, "tACG", genotype="0|1")
    text += line(genome, 10_700, "s", genotype="0/1")
    options = {"sample": "ME", "haplotypes": True, "regions": tmp_path / "r.bed"}
    scores = merged(world, tmp_path, text, **options)
    info = read_json(scores / "scores.json", "scores")
    assert (info["scored"], info["rejected"]) == (5, 1)
    table = pl.concat([pl.read_parquet(p) for p in sorted((scores / "dnase").glob("*.parquet"))])
    assert [v[-2:] for v in table["variant_id"]] == ["@1", "@2", "@1", "@2", "@2"]
    raw = {row["variant_id"]: row["raw"] for row in table.iter_rows(named=True)}
    one, two = (v for k, v in raw.items() if k.startswith("chr1:10490:"))
    assert one != two  # the insertion of haplotype 2 lies beside it
    assert len(records(scores)) == 5
