"""Readers of published tables: columns by name, positions, alleles, and what they refuse."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from pathlib import Path

import polars as pl
import pytest

from megabase.files import FileError
from megabase.sources.manifest import check_row
from megabase.sources.portals import PORTALS, Release, list_portal
from megabase.sources.references import COLUMNS
from megabase.sources.resources import read_resource
from megabase.sources.tables import reading
from megabase.sources.tables.columns import REJECTED, SCHEMA
from megabase.sources.tables.evaluations import NAMES
from megabase.sources.tables.registry import TABLES, read_published
from megabase.spec import QTL_COLUMNS

CATALOGUE = (
    "molecular_trait_id\tgene_id\tcs_id\tvariant\trsid\tcs_size\tpip\tpvalue\tbeta\tse\n"
    "T1\tG1\tT1_L1\tchr1_1001_G_T\trs1\t2\t0.9\t1e-9\t0.5\t0.1\n"
    "T1\tG1\tT1_L1\tchr1_1001_G_T\trs2\t2\t0.9\t1e-9\t0.5\t0.1\n"
    "T1\tG1\tT1_L1\tchrX_1_GA_G\trs3\t2\t0.1\t1e-9\t-0.2\t0.1\n"
    "T1\tG1\tT1_L1\tchr1_7_G_<DEL>\trs4\t2\t0.1\t1e-9\t-0.2\t0.1\n"
    "T1\tG1\tT1_L1\tchr1_9_G_T\trs5\t2\t1.2\t1e-9\t-0.2\t0.1\n"
    "T1\tG1\tT1_L1\tchr1_9_G_T\trs5\t2\thigh\t1e-9\t-0.2\t0.1\n"
    "T1\tG1\tT1_L1\tchr1_9_G_G\trs5\t2\t0.2\t1e-9\t-0.2\t0.1\n"
)


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.credible_sets.tsv", "a.credible_sets.tsv.gz"])
def test_a_bad_row_costs_that_row(tmp_path: Path, name: str) -> None:
    table = read_published("eqtl_catalogue", [_write(tmp_path, name, CATALOGUE)], tissue="lung")
    assert table.rows.columns[: len(QTL_COLUMNS)] == list(QTL_COLUMNS)
    assert dict(table.rows.select(QTL_COLUMNS).schema) == SCHEMA and dict(table.rejected.schema) == REJECTED
    first, second = table.rows.to_dicts()
    assert (first["chrom"], first["position"], first["ref"], first["alt"]) == ("chr1", 1000, "G", "T")
    assert (first["gene_id"], first["tissue"], first["effect"], first["pip"]) == ("G1", "lung", 0.5, 0.9)
    assert (first["set_id"], first["source_id"], first["trait"]) == ("T1_L1", "rs1", "T1")
    assert (second["chrom"], second["position"], second["ref"], second["row"]) == ("chrX", 0, "GA", 3)
    assert table.rejected.select("row", "reason").rows() == [
        (2, "duplicate"), (4, "malformed"), (5, "pip_not_0_to_1"), (6, "not_a_number"), (7, "ref_equals_alt"),
    ]  # fmt: skip


def test_tissues_from_names_of_files(tmp_path: Path) -> None:
    one = read_published("eqtl_catalogue", [_write(tmp_path, "QTD000116.credible_sets.tsv", CATALOGUE)])
    assert set(one.rows["tissue"]) == {"QTD000116"}


def test_parquet_and_archives(tmp_path: Path) -> None:
    frame = pl.DataFrame({
        "phenotype_id": ["ENSG1.5"] * 2, "gene_name": ["a", "a"], "variant_id": ["chr2_11_A_C_b38"] * 2,
        "pip": [0.5, 0.25], "af": [0.1, 0.1], "cs_id": [1, 2], "cs_size": [3, 3],
    })  # fmt: skip
    with tarfile.open(tmp_path / "susie.tar", "w") as archive:
        for name in ("x/Lung.v11.eQTLs.SuSiE_summary.parquet", "x/Liver.v11.eQTLs.SuSiE_summary.parquet"):
            body = io.BytesIO()
            frame.write_parquet(body)
            member = tarfile.TarInfo(name)
            member.size = body.tell()
            body.seek(0)
            archive.addfile(member, body)
        archive.addfile(tarfile.TarInfo("x/README.txt"))
    table = read_published("gtex_v11_susie_eqtl", [tmp_path / "susie.tar"])
    assert sorted(set(table.rows["tissue"])) == ["Liver", "Lung"] and table.rows.height == 4
    assert table.rows["gene_id"].to_list() == ["ENSG1.5"] * 4 and table.rows["effect"].null_count() == 4
    assert sorted(set(table.rows["set_id"])) == ["ENSG1.5:1", "ENSG1.5:2"]
    with_afc = frame.with_columns(afc=pl.lit(-1.5), gene_id=pl.lit("ENSG9.1"))
    with_afc.write_parquet(tmp_path / "Skin.v10.parquet")
    table = read_published("gtex_v10_susie_eqtl", [tmp_path / "Skin.v10.parquet"])
    assert table.rows["effect"].to_list() == [-1.5, -1.5] and set(table.rows["gene_id"]) == {"ENSG9.1"}
    introns = frame.with_columns(phenotype_id=pl.lit("chr2:5:9:clu_1_+:ENSG7.2"))
    introns.write_parquet(tmp_path / "Skin.v11.parquet")
    table = read_published("gtex_v11_susie_sqtl", [tmp_path / "Skin.v11.parquet"])
    assert set(table.rows["gene_id"]) == {"ENSG7.2"} and "chr2:5:9:clu_1_+:ENSG7.2:1" in set(
        table.rows["set_id"]
    )
    with pytest.raises(FileError, match=r"no member that ends in CaVEMaN\.txt\.gz"):
        read_published("gtex_v8_caveman", [tmp_path / "susie.tar"])


def test_significant_pairs_of_genes_and_introns(tmp_path: Path) -> None:
    text = (
        "variant_id\tphenotype_id\ttss_distance\tslope\tpval_nominal\n"
        "chr1_64764_C_T_b38\tchr1:15947:16607:clu_40980:ENSG00000227232.5\t5\t-0.7\t1e-8\n"
    )
    path = _write(tmp_path, "Lung.v8.sqtl_signifpairs.txt.gz", text)
    row = read_published("gtex_v8_pairs_sqtl", [path]).rows.row(0, named=True)
    assert (row["gene_id"], row["tissue"], row["effect"]) == ("ENSG00000227232.5", "Lung", -0.7)
    assert row["set_id"] == "chr1:15947:16607:clu_40980:ENSG00000227232.5" and row["p_value"] == 1e-8
    wrong = _write(tmp_path, "x.txt", text.replace("phenotype_id", "trait"))
    with pytest.raises(FileError, match="no column gene_id or phenotype_id; found variant_id, trait"):
        read_published("gtex_v8_pairs_sqtl", [wrong])


def test_caveman_names_alleles_and_caviar_does_not(tmp_path: Path, real_data: Path) -> None:
    text = "TISSUE\tGENE\teQTL\tCHROM\tPOS\tProbability\nLung\tG1\tchr1_101_A_T_b38\tchr1\t101\t0.4\n"
    row = read_published("gtex_v8_caveman", [_write(tmp_path, "c.txt", text)]).rows.row(0, named=True)
    assert (row["position"], row["alt"], row["tissue"], row["pip"]) == (100, "T", "Lung", 0.4)
    with pytest.raises(FileError, match=r"names no alleles \(1_161274374\), as CAVIAR does"):
        read_published("gtex_v8_caviar", [real_data / "portals/gtex/v8_caviar_sample.tsv"])


def test_dapg_has_a_row_a_signal(tmp_path: Path) -> None:
    text = "chr1\t13550\tchr1_13550_G_A_b38\tG\tA\tENSG1.2:1@Lung=0.5[0.9:3]|ENSG2.1:2@Liver=0.125[1:9]|\n"
    table = read_published("gtex_v8_dapg", [_write(tmp_path, "GTEx_v8.CS95.txt.gz", text)])
    found = table.rows.select("position", "gene_id", "tissue", "pip", "set_id").rows()
    assert found == [
        (13549, "ENSG1.2", "Lung", 0.5, "ENSG1.2:1"),
        (13549, "ENSG2.1", "Liver", 0.125, "ENSG2.1:2"),
    ]
    with pytest.raises(FileError, match="wanted gene@tissue=PIP"):
        read_published("gtex_v8_dapg", [_write(tmp_path, "x.txt", "chr1\t1\tv\tG\tA\tother\n")])
    with pytest.raises(FileError, match="2 columns, wanted chrom, at"):
        read_published("gtex_v8_dapg", [_write(tmp_path, "y.txt", "chr1\t1\n")])


def test_recorded_heads_of_real_files(real_data: Path) -> None:
    portals = real_data / "portals"
    row = read_published(
        "eqtl_catalogue", [portals / "eqtl_catalogue/credible_sets_sample.tsv"]
    ).rows.to_dicts()[0]
    assert (row["chrom"], row["position"], row["ref"], row["alt"]) == ("chr1", 108_004_886, "G", "T")
    assert row["pip"] == pytest.approx(0.0197781278649429) and row["effect"] == 0.767387
    for name in ("v8_signif_pairs_sample.tsv", "v8_egenes_sample.tsv"):
        table = read_published("gtex_v8_pairs_eqtl", [portals / "gtex" / name], tissue="Lung").rows
        first = table.row(0, named=True)
        assert (first["position"], first["ref"], first["alt"]) == (64_763, "C", "T")
        assert (first["gene_id"], first["effect"]) == ("ENSG00000227232.5", 0.586346)
    path = portals / "benchmarks/traitgym_finucane_gtex_finemap_head.tsv"
    row = read_published("finucane", [path]).rows.row(0, named=True)
    assert (row["chrom"], row["position"], row["alt"]) == ("chr1", 13_549, "A")
    assert (row["tissue"], row["gene_id"], row["set_id"]) == (
        "Adipose_Subcutaneous",
        "ENSG00000177757.2",
        "FINEMAP:1",
    )
    assert row["effect"] == 0.322529 and row["posterior"] == pytest.approx(0.000121241)


def test_chromatin_qtls_real_and_with_effects(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "portals/benchmarks/chrombpnet_variants"
    table = read_published(
        "caqtl_african", [folder / "caqtls.african.lcls.benchmarking.subset.tsv"], tissue="LCL"
    )
    assert table.rows.height == 10 and table.rejected.is_empty()
    first = table.rows.row(0, named=True)
    assert (first["position"], first["ref"], first["alt"]) == (976_214, "A", "G")
    assert (first["source_id"], first["effect"], first["tissue"]) == ("rs7417106", None, "LCL")
    text = (
        "chr_hg38\tpos_hg38\tallele1\tallele2\tIsUsed\tlabel\tobs.beta\trsid\n"
        "chr1\t11\tA\tG\tTrue\t1\t0.25\trs1\nchr1\t12\tA\tG\tFalse\t1\t0.5\trs2\nchr1\t13\tA\tG\tTrue\t-1\t-2\trs3\n"
    )
    table = read_published("chromatin_qtls", [_write(tmp_path, "q.tsv", text)])
    assert table.rows.select("position", "label", "effect").rows() == [(10, 1, 0.25), (12, 0, -2.0)]
    assert table.rejected.select("row", "reason").rows() == [(2, "not_used")]
    with pytest.raises(FileError, match=r"no column var.pos_hg38 or pos_hg38; found chr_hg38, pos, "):
        read_published("chromatin_qtls", [_write(tmp_path, "r.tsv", text.replace("pos_hg38", "pos"))])


def test_evaluations_read_targets_and_never_predictions(tmp_path: Path) -> None:
    frame = pl.DataFrame({
        "variant_id": ["chr1:1001:G>T", "chr1:2001:A>C"], "target": [1.5, -0.5], "prediction": [9.0, 9.0],
        "borzoi_score": [9.0, 9.0], "tissue": ["Lung", "Liver"], "gene_id": ["G1", "G2"],
    })  # fmt: skip
    frame.write_ipc(tmp_path / "a.feather", compression="zstd")
    table = read_published("alphagenome:eqtl_variant_borzoi_coefficient_human", [tmp_path / "a.feather"])
    assert table.rows.select("chrom", "position", "ref", "alt", "effect", "tissue").rows() == [
        ("chr1", 1000, "G", "T", 1.5, "Lung"), ("chr1", 2000, "A", "C", -0.5, "Liver"),
    ]  # fmt: skip
    assert not any("9.0" in str(value) for row in table.rows.rows() for value in row)
    places = frame.drop("variant_id").with_columns(
        chromosome=pl.lit("1"), position=pl.Series([5, 6]), ref=pl.lit("A"), alt=pl.lit("C"),
        target=pl.Series([True, False]),
    )  # fmt: skip
    places.write_ipc(tmp_path / "b.feather", compression="uncompressed")
    table = read_published("alphagenome:clinvar_noncoding", [tmp_path / "b.feather"])
    assert table.rows.select("position", "label").rows() == [(4, 1), (5, 0)]
    frame.drop("variant_id").write_ipc(tmp_path / "c.feather")
    with pytest.raises(
        FileError, match=r"no column chromosome or .*found target, tissue, gene_id; wanted the targets"
    ):
        read_published("alphagenome:mfass_splicing", [tmp_path / "c.feather"])
    with pytest.raises(FileError, match=r"found .*variant_id.*wanted the targets"):
        frame.drop("target").write_ipc(tmp_path / "d.feather")
        read_published("alphagenome:mfass_splicing", [tmp_path / "d.feather"])


def test_blocks_of_text_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table is read a block at a time; what is below the least PIP is never kept."""
    lines = [f"T\tG{n}\tc\tchr1_{n + 1}_A_C\trs{n}\t2\t{n / 200}\t1\t0.5\t1" for n in range(200)]
    path = _write(tmp_path, "x.tsv.gz", "\n".join([CATALOGUE.splitlines()[0], *lines]))
    wanted = read_published("eqtl_catalogue", [path])
    assert wanted.rows.height == 200 and wanted.rows["row"].to_list() == list(range(1, 201))
    for block in (1, 50, 1_000):
        monkeypatch.setattr(reading, "BLOCK", block)
        assert read_published("eqtl_catalogue", [path]).rows.equals(wanted.rows)
    few = read_published("eqtl_catalogue", [path], min_pip=0.9).rows
    assert few["row"].to_list() == list(range(181, 201)) and few["pip"].min() == 0.9
    with pytest.raises(FileError, match="table mfass: takes no min_pip"):
        read_published("mfass", [path], min_pip=0.9)


def test_mfass(tmp_path: Path) -> None:
    text = (
        "id\tchr\tsnp_position_hg38_1based\tref_allele\talt_allele\tstrand\tv2_dpsi\tstrong_lof\tcategory\n"
        "e1_1\tchr1\t101\tA\tG\t+\t-0.75\tTRUE\tmutant\ne1_2\tchr1\t102\tC\tT\t+\t0.01\tFALSE\tmutant\n"
        "e1_0\tchr1\tNA\tNA\tNA\t+\tNA\tNA\tnatural\n"
    )
    table = read_published("mfass", [_write(tmp_path, "snv.txt", text)])
    assert table.rows.select("position", "effect", "label").rows() == [(100, -0.75, 1), (101, 0.01, 0)]
    assert table.rejected["reason"].to_list() == ["malformed"]


VCF = (
    "##fileformat=VCFv4.1\n##reference=GRCh38\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    "1\t101\t11\tA\tG\t.\t.\tCLNSIG=Pathogenic;CLNREVSTAT=criteria_provided,_single_submitter;GENEINFO=ABC:1;"
    "MC=SO:0001574|splice_acceptor_variant\n"
    "1\t102\t12\tC\tT\t.\t.\tCLNSIG=Benign/Likely_benign;"
    "CLNREVSTAT=criteria_provided,_multiple_submitters,_no_conflicts\n"
    "1\t103\t13\tC\tT\t.\t.\tCLNSIG=Benign;CLNREVSTAT=no_assertion_criteria_provided\n"
    "1\t104\t14\tC\tT\t.\t.\tCLNSIG=Uncertain_significance;CLNREVSTAT=reviewed_by_expert_panel\n"
    "1\t105\t15\tC\t.\t.\t.\tCLNSIG=Benign;CLNREVSTAT=reviewed_by_expert_panel\n"
)


def test_clinvar(tmp_path: Path) -> None:
    path = _write(tmp_path, "clinvar.vcf.gz", VCF)
    table = read_published("clinvar", [path])
    assert table.rows.select("chrom", "position", "label", "stars", "gene", "consequence").rows() == [
        ("1", 100, 1, 1, "ABC", "splice_acceptor_variant"), ("1", 101, 0, 2, None, None),
    ]  # fmt: skip
    assert table.rejected.select("row", "reason").rows() == [(5, "allele_not_acgt")]
    assert read_published("clinvar", [path], min_stars=0).rows.height == 3
    with pytest.raises(FileError, match="no classified variant of 5 or more stars"):
        read_published("clinvar", [path], min_stars=5)
    other = _write(tmp_path, "b37.vcf", VCF.replace("GRCh38", "GRCh37"))
    with pytest.raises(FileError, match="wanted ClinVar's vcf_GRCh38"):
        read_published("clinvar", [other])
    path.write_bytes(gzip.compress((VCF * 200).encode())[:-30])
    with pytest.raises(FileError, match="cannot be read as a VCF"):
        read_published("clinvar", [path])


def test_mpra(real_data: Path, tmp_path: Path) -> None:
    table = read_published("mpra", [real_data / "mpra/elements.GRCh38.tsv.gz"])
    assert table.rows.height + table.rejected.height == 37_820
    reasons = dict(table.rejected["reason"].value_counts().iter_rows())
    assert reasons == {"allele_not_acgt": 4_580, "malformed": 11}, "deletions; rows of NA without a place"
    row = table.rows.filter(pl.col("source_id") == "BCL11A").row(0, named=True)
    assert (row["chrom"], row["position"], row["ref"], row["alt"]) == ("2", 60_494_939, "C", "A")
    assert row["effect"] == pytest.approx(-0.0497130135132598) and row["barcodes"] == 146
    header = "Chrom\tPos\tRef\tAlt\tBarcodes\tDNA\tRNA\tCoefficient\tpValue\tElement\tRelease\n"
    other = _write(tmp_path, "x.tsv", header + "2\t5\tC\tA\t1\t1\t1\t0.1\t0.5\tE\tGRCh37\n")
    with pytest.raises(FileError, match=r"rows of \['GRCh37'\], none of GRCh38"):
        read_published("mpra", [other])


def test_enhancer_pairs_are_what_scoring_reads(tmp_path: Path) -> None:
    from megabase.scoring.enhancers import read_pairs

    text = (
        "chrom\tchromStart\tchromEnd\tname\tEffectSize\tmeasuredGeneSymbol\tSignificant\tRegulated\tValidConnection"
        "\tCellType\nchr1\t10\t60\tp1\t-0.3\tABC\tTRUE\tTRUE\tTRUE\tK562\n"
        "chr1\t10\t60\tp2\t0.1\tDEF\tFALSE\tFALSE\tTRUE\tK562\nchr1\t10\t60\tp3\t0\tGHI\tFALSE\tFALSE\toverlaps\tK562\n"
        "chr1\tNA\tNA\tp4\t0\tGHI\tFALSE\tFALSE\tTRUE\tK562\n"
    )
    table = read_published("encode_re2g", [_write(tmp_path, "e.tsv", text)])
    assert table.rows.select("start", "end", "gene", "label").rows() == [
        (10, 60, "ABC", 1),
        (10, 60, "DEF", 0),
    ]
    assert table.rejected.select("row", "reason").rows() == [(3, "invalid_connection"), (4, "malformed")]
    table.rows.write_csv(tmp_path / "pairs.tsv", separator="\t")
    assert read_pairs(tmp_path / "pairs.tsv").height == 2


def test_polya_sites_are_what_scoring_reads(tmp_path: Path) -> None:
    from megabase.scoring.annotation import _read_polya_sites

    text = (
        "pas_id\tgene\tchrom\tposition_hg38\tstrand\tsite_type\n"
        "p1\tABC\tchr1\t101\t+\t3' most exon\np2\tABC\tchr1\t201\t+\tIntron\np3\tXYZ\tchr1\t301\t-\tIntron\n"
        "p4\tABC\tchr1\tNA\t+\tIntron\n"
    )
    path = _write(tmp_path, "polyadb.csv.gz", text)
    table = read_published("polya_db", [path], genes={"ABC": "ENSG1"})
    assert table.rows.select("gene_id", "position").rows() == [("ENSG1", 100), ("ENSG1", 200)]
    assert table.rejected.select("row", "reason").rows() == [(3, "no_gene"), (4, "malformed")]
    table.rows.write_csv(tmp_path / "sites.tsv", separator="\t")
    assert _read_polya_sites(tmp_path / "sites.tsv")["ENSG1"].tolist() == [100, 200]
    assert set(read_published("polya_db", [path]).rows["gene_id"]) == {"ABC", "XYZ"}


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("eqtl_catalogue", "molecular_trait_id\tgene_id\tcs_id\tvariant\tpip"),
        ("gtex_v10_susie_eqtl", "phenotype_id\tvariant_id"),
        ("gtex_v8_pairs_eqtl", "variant_id\tgene_id\tpval_nominal"),
        ("gtex_v8_caveman", "TISSUE\tGENE\tCHROM\tPOS"),
        ("finucane", "chromosome\tstart\tend\tvariant"),
        ("caqtl_african", "var.chr\tvar.pos_hg19"),
        ("mfass", "id\tchr\tsnp_position_hg37_1based"),
        ("mpra", "Chrom\tPos\tRef\tAlt"),
        ("encode_re2g", "chrom\tchromStart"),
        ("polya_db", "pas_id\tgene\tchrom\tposition_hg19\tstrand"),
    ],
)
def test_a_missing_column_is_named_with_what_was_found(tmp_path: Path, name: str, header: str) -> None:
    row = "\t".join(["1"] * len(header.split("\t")))
    with pytest.raises(FileError, match=r"no column .*; found .*; wanted") as caught:
        read_published(name, [_write(tmp_path, "x.tsv", f"{header}\n{row}\n")])
    assert ", ".join(header.split("\t")) in str(caught.value) and str(tmp_path / "x.tsv") in str(caught.value)


def test_another_assembly_is_told_by_its_name(tmp_path: Path) -> None:
    text = "variant_id\tgene_id\tslope\tpval_nominal\nchr1_64764_C_T_b37\tG\t1\t1\n"
    with pytest.raises(FileError, match="variants of GRCh37, wanted GRCh38"):
        read_published("gtex_v8_pairs_eqtl", [_write(tmp_path, "x.tsv", text)])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not found"):
        read_published("mfass", [tmp_path / "no.txt"])
    with pytest.raises(FileError, match="cannot be read as a table"):
        read_published("gtex_v10_susie_eqtl", [_write(tmp_path, "x.parquet", "PAR1 and no more")])
    with pytest.raises(FileError, match=r"cannot be read as a table|no column target"):
        read_published("alphagenome:mfass_splicing", [_write(tmp_path, "x.feather", "a\tb\n")])
    with pytest.raises(FileError, match="cannot be read as an archive"):
        read_published("gtex_v8_dapg", [_write(tmp_path, "x.tar", "text")])
    with pytest.raises(FileError, match="table 'mfas' is not known; nearest: mfass"):
        read_published("mfas", [])
    with pytest.raises(FileError, match=r"no file; it is at https://www.synapse.org"):
        read_published("caqtl_african", [])
    nothing = CATALOGUE.splitlines()[0] + "\n" + CATALOGUE.splitlines()[4] + "\n"
    with pytest.raises(FileError, match=r"none of its 1 rows can be used \(\{'malformed': 1\}\)"):
        read_published("eqtl_catalogue", [_write(tmp_path, "x.tsv", nothing)])


def test_every_table_tells_where_whose_and_on_which_terms() -> None:
    assert len([name for name in TABLES if name.startswith("alphagenome:")]) == len(NAMES) == 20
    for source in TABLES.values():
        assert source.urls and source.licence and source.citation and source.kind
        assert all(url.startswith("https://") for url in source.urls)
        assert callable(source.reader) and source.assembly == "GRCh38"
    assert all("CC BY-NC" in TABLES[f"alphagenome:{name}"].licence for name in NAMES)


def test_tables_are_listed_and_what_needs_a_login_is_told() -> None:
    listing = list_portal("tables", lambda *_: None, Release("r"))
    for row in listing.rows:
        assert check_row({k: None if v is None else str(v) for k, v in row.items()}) is None, row
    names = {row["accession"] for row in listing.rows}
    assert not {"clinvar", "eqtl_catalogue"} & names, "their own portals pin them"
    assert {"mfass", "encode_re2g", "polya_db", "alphagenome.mfass_splicing"} <= names
    refused = {row["accession"]: row for row in listing.refused}
    assert set(refused) == {"caqtl_african", "chromatin_qtls", "finucane"} and not names & set(refused)
    assert "synapse get syn64126781" in refused["caqtl_african"]["detail"]
    assert refused["finucane"]["reason"] == "needs login"


def test_the_page_of_portals_tells_every_source(root: Path) -> None:
    """docs/portals.md has a row a portal, table and reference, with its address, and every reason."""
    page = (root / "docs/portals.md").read_text(encoding="utf-8")
    for name in PORTALS:
        assert f"| `{name}` |" in page, name
    tables = page.split("## Published tables of variants")[1]
    for source in TABLES.values():
        assert f"`{source.name}`" in tables, source.name
        if not source.name.startswith("alphagenome:"):
            row = next(line for line in tables.splitlines() if line.startswith(f"| `{source.name}` |"))
            assert source.urls[0] in row and source.licence in row and source.citation in row
            assert (source.login or "no") in row
    for reference in read_resource("references", COLUMNS):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{reference['name']}` |"))
        assert reference["url"] in row and reference["licence"] in row
    package = root / "workflow/megabase/sources"
    files = [package / f"{name}.py" for name in ("gtex", "fantom", "eqtl_catalogue", "tables/registry")]
    reasons = {r for file in files for r in re.findall(r'refuse\(\s*"([a-z ]+)"', file.read_text())}
    assert {"not analysed", "treated", "not used", "needs login"} <= reasons
    assert all(f"`{reason}`" in page.split("## Why a row is not used")[1] for reason in reasons), reasons
