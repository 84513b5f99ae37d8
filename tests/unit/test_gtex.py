"""GTEx by recount3: addresses by its rule, samples by its tables."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from megabase.files import FileError
from megabase.predictors.metadata import read_metadata
from megabase.sources import gtex
from megabase.sources.ask import Answer
from megabase.sources.groups import track_groups
from megabase.sources.manifest import check_row, raw_path
from megabase.sources.portals import Release, list_portal

UTC = "2026-11-01T00:00:00Z"
PROJECTS = (
    "rail_id\texternal_id\tstudy\tproject\torganism\n"
    "1\tGTEX-1117F-2926-SM-5GZYI.1\tSKIN\tSKIN\thuman\n2\tGTEX-X-1-SM-ABCDE.1\tBONE\tBONE_MARROW\thuman\n"
)
SKIN = (
    "rail_id\texternal_id\tstudy\tSUBJID\tSAMPID\tSMTS\tSMTSD\tSMAFRZE\n"
    "1\tGTEX-1117F-2926-SM-5GZYI.1\tSKIN\tGTEX-1117F\ta\tSkin\tSkin - Not Sun Exposed (Suprapubic)\tRNASEQ\n"
    "2\tGTEX-1117F-3026-SM-5GZYJ.1\tSKIN\tGTEX-1117F\tb\tSkin\tSkin - Sun Exposed (Lower leg)\tRNASEQ\n"
    "3\tGTEX-1117F-3126-SM-5GZYK.1\tSKIN\tGTEX-1117F\tc\tSkin\tSkin - Sun Exposed (Lower leg)\tRNASEQ\n"
    "4\tGTEX-111YS-2426-SM-5GZZQ.1\tSKIN\tGTEX-111YS\td\tSkin\tSkin - Sun Exposed (Lower leg)\tRNASEQ\n"
    "5\tGTEX-111YS-9926-SM-5GZZR.1\tSKIN\tGTEX-111YS\te\tSkin\tCells - Cultured fibroblasts\tEXCLUDE\n"
)
MARROW = (
    "rail_id\texternal_id\tstudy\tsubjid\tsampid\tsmtsd\tsmafrze\n"
    "9\tK-562-SM-26GMQ.1\tBONE\tK-562\tx\tCells - Leukemia cell line (CML)\tRNASEQ\n"
)


class Bucket:
    """Answers from a table of files by the end of their addresses."""

    def __init__(self, **changed: str) -> None:
        self.files = {"recount_project": PROJECTS, "SKIN": SKIN, "BONE_MARROW": MARROW} | changed
        self.asked: list[str] = []

    def __call__(self, url: str, params: Iterable[tuple[str, Any]] = ()) -> Answer:
        self.asked.append(url)
        name = url.rsplit("/", 1)[1].removesuffix(".MD.gz").split(".")[-1]
        if name not in self.files:
            return Answer(url, 404, b"", UTC)
        return Answer(url, 200, gzip.compress(self.files[name].encode()), UTC)


@pytest.mark.parametrize("base", gtex.MIRRORS)
def test_the_rule_of_addresses(base: str) -> None:
    url = gtex.bigwig_url("SKIN", "GTEX-1117F-2926-SM-5GZYI.1", base)
    assert url == (
        f"{base}/human/data_sources/gtex/base_sums/IN/SKIN/YI/"
        "gtex.base_sums.SKIN_GTEX-1117F-2926-SM-5GZYI.1.ALL.bw"
    )
    assert "/EL/BLOOD_VESSEL/" in gtex.bigwig_url("BLOOD_VESSEL", "GTEX-1117F-2926-SM-5GZYI.1", base)


@pytest.mark.parametrize(
    ("sample", "folder"),
    [("GTEX-A-SM-1a2b3.1", "B3"), ("GTEX-A-SM-XYZ9.12", "Z9"), ("K-562-SM-26GMQ.1", "MQ")],
)
def test_the_folder_is_the_two_letters_before_the_dot(sample: str, folder: str) -> None:
    assert gtex.bigwig_url("P", sample).split("/")[-2] == folder


@pytest.mark.parametrize("sample", ["GTEX-1117F-2926-SM-5GZYI", "", "a/b.1", "GTEX-1.x"])
def test_a_name_that_recount3_does_not_have(sample: str) -> None:
    with pytest.raises(ValueError, match="external_id"):
        gtex.bigwig_url("SKIN", sample)


def test_samples_of_the_freeze_one_an_individual_and_tissue() -> None:
    bucket = Bucket()
    listing = list_portal("gtex", bucket, Release("r"))
    signal = [row for row in listing.rows if row["output_type"] == "rna_seq"]
    assert sorted((row["accession"], row["replicate"], row["experiment"]) for row in signal) == [
        ("GTEX-1117F-2926-SM-5GZYI.1", "GTEX-1117F", "Skin_Not_Sun_Exposed_Suprapubic"),
        ("GTEX-1117F-3026-SM-5GZYJ.1", "GTEX-1117F", "Skin_Sun_Exposed_Lower_leg"),
        ("GTEX-111YS-2426-SM-5GZZQ.1", "GTEX-111YS", "Skin_Sun_Exposed_Lower_leg"),
    ]
    first = next(row for row in signal if row["accession"] == "GTEX-1117F-2926-SM-5GZYI.1")
    assert first["ontology_curie"] == "UBERON:0036149" and first["biosample"] == "suprapubic skin"
    assert (first["strand"], first["assay"], first["assembly"]) == (".", "polyA plus RNA-seq", "GRCh38")
    assert first["retrieved_utc"] == UTC and first["md5"] is None
    assert {row["accession"]: row["reason"] for row in listing.refused} == {
        "GTEX-1117F-3126-SM-5GZYK.1": "second sample", "GTEX-111YS-9926-SM-5GZZR.1": "not analysed",
        "K-562-SM-26GMQ.1": "tissue unknown",
    }  # fmt: skip
    assert bucket.asked[0].endswith("/gtex/metadata/gtex.recount_project.MD.gz")
    assert bucket.asked[2].endswith("/gtex/metadata/IN/SKIN/gtex.gtex.SKIN.MD.gz")


def test_rows_are_those_of_a_manifest() -> None:
    listing = list_portal("gtex", Bucket(), Release("r"))
    for row in listing.rows:
        assert check_row({key: None if value is None else str(value) for key, value in row.items()}) is None
    groups = track_groups(listing.rows, "human", "rna_seq")
    assert {len(rows) for rows in groups.values()} == {1, 2} and len(groups) == 2
    junctions = {row["accession"]: row for row in listing.rows if row["output_type"] == "splice_junctions"}
    assert set(junctions) == {"SKIN.MM", "SKIN.RR", "SKIN.ID", "SKIN.MD"}, "none of a project without samples"
    assert junctions["SKIN.MM"]["url"] == (
        f"{gtex.BASE}/human/data_sources/gtex/junctions/IN/SKIN/gtex.junctions.SKIN.UNIQUE.MM.gz"
    )
    assert raw_path(junctions["SKIN.MM"]).name.endswith(".MM.gz")
    assert raw_path(junctions["SKIN.MD"]).name.endswith(".MD.gz")


def test_only_what_is_wanted_is_asked() -> None:
    bucket = Bucket()
    for release in (Release("r", organisms=("mouse",)), Release("r", assays=("DNase-seq",))):
        assert not list_portal("gtex", bucket, release).rows
    assert bucket.asked == []
    list_portal("gtex", bucket, Release("r", base_url="http://mirror/"))
    assert bucket.asked[0].startswith("http://mirror/human/data_sources/gtex/metadata/")


def test_tables_that_are_not_what_they_should_be() -> None:
    with pytest.raises(FileError, match=r"no column smafrze; found rail_id, .*other; wanted a metadata"):
        list_portal("gtex", Bucket(SKIN=SKIN.replace("SMAFRZE", "OTHER")), Release("r"))
    with pytest.raises(FileError, match="HTTP 404; try a mirror"):
        bucket = Bucket()
        del bucket.files["SKIN"]
        list_portal("gtex", bucket, Release("r"))
    with pytest.raises(FileError, match="not a table of recount3"):
        gtex.metadata_table(gzip.compress(b"a\tb\n" * 999)[:-20], ("x",), "m")


@pytest.mark.parametrize(
    ("detail", "tissue"),
    [
        ("Adipose - Visceral (Omentum)", "Adipose_Visceral_Omentum"),
        ("Brain - Spinal cord (cervical c-1)", "Brain_Spinal_cord_cervical_c-1"),
        ("Brain - Nucleus accumbens (basal ganglia)", "Brain_Nucleus_accumbens_basal_ganglia"),
        ("Cells - EBV-transformed lymphocytes", "Cells_EBV-transformed_lymphocytes"),
        ("Esophagus - Gastroesophageal Junction", "Esophagus_Gastroesophageal_Junction"),
        ("Whole Blood", "Whole_Blood"),
    ],
)
def test_tissues_as_file_names_have_them(detail: str, tissue: str) -> None:
    assert gtex.tissue_of(detail) == tissue and tissue in gtex.tissue_terms()


def test_the_terms_are_the_published_ones(real_data: Path) -> None:
    path = "portals/benchmarks/alphagenome/OutputMetadataResponse_ORGANISM_HOMO_SAPIENS.textproto.gz"
    tracks = read_metadata(real_data / path, "human").tracks["rna_seq"]
    published = {
        track["name"].removeprefix(f"{track['ontology_curie']} gtex ").removesuffix(f" {gtex.ASSAY}"): track
        for track in tracks
        if track["data_source"] == "gtex"
    }
    terms = gtex.tissue_terms()
    assert set(terms) == set(published) and len(terms) == 54
    for tissue, track in published.items():
        assert terms[tissue]["ontology_curie"] == track["ontology_curie"]
        assert terms[tissue]["biosample"] == track["biosample_name"]
        assert (track["strand"], track["assay"], track["life_stage"]) == (".", gtex.ASSAY, "adult")
