"""A portal on this machine is listed: what is chosen, and why everything else is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from portal_stand_ins import Portal, alignments, analysis, experiment, file, reads, serving

from megabase.files import FileError
from megabase.settings.listing import ListingSettings
from megabase.sources.ask import Asker
from megabase.sources.encode import LICENCE
from megabase.sources.groups import track_groups
from megabase.sources.portals import Listing, Release, list_portal, listing_function

PLUS, MINUS = (f"{strand} strand signal of unique reads" for strand in ("plus", "minus"))
Item = dict[str, Any]


@pytest.fixture(autouse=True)
def in_the_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of rules are named by paths in the checkout."""
    monkeypatch.chdir(root)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def stranded(number: str, dataset: str = "ENCSR000AAA", **more: Any) -> list[Item]:
    """Both strands of one replicate, and its reads; `number` two characters that tell the files apart."""
    replicate = {"biological_replicates": more.pop("replicates", [1])}
    return [
        file(f"ENCFF0{number}P", dataset, output_type=PLUS, **replicate, **more),
        file(f"ENCFF0{number}M", dataset, output_type=MINUS, **replicate, **more),
        reads(f"ENCFF0{number}R", dataset, **replicate),
    ]


def whole(experiments: list[Item], files: list[Item], **more: Any) -> dict[str, list[Item]]:
    """Objects of a portal whose default analyses hold all the files of their experiments."""
    analyses = [
        analysis(
            one["default_analysis"].split("/")[2],
            *(f["accession"] for f in files if one["accession"] in f["dataset"]), **more,
        )
        for one in experiments
    ]  # fmt: skip
    return {"Experiment": experiments, "Analysis": analyses, "File": files}


def listed(objects: dict[str, list[Item]], *assays: str, **settings: Any) -> Listing:
    with serving(**objects) as portal, Asker(attempts=1, backoff=0.01) as ask:
        given = ListingSettings(**({"assemblies": {"human": "GRCh38"}} | settings))
        return list_portal("encode", ask, Release("r", (), assays, portal.url, given))


def why(listing: Listing) -> dict[str, str]:
    """Reason by accession of the file, or of the experiment where no file is named."""
    return {one["accession"] or one["experiment"]: one["reason"] for one in listing.refused}


def test_a_row_tells_what_the_portal_tells() -> None:
    found = listed(whole([experiment()], stranded("01", supersedes=["/files/ENCFF000OLD/"])))
    plus, minus = found.rows
    assert found.refused == [
        one for one in found.refused if one["reason"] == "not found" and one["assay"] == "PRO-cap"
    ]
    assert {name: plus[name] for name in plus if name not in ("retrieved_utc",)} == {
        "portal": "encode", "accession": "ENCFF001P", "experiment": "ENCSR000AAA", "assay": "total RNA-seq",
        "output_type": "rna_seq", "organism": "human", "assembly": "GRCh38", "biosample": "liver",
        "ontology_curie": "UBERON:0002107", "life_stage": "adult", "strand": "+", "replicate": "1",
        "target": None, "md5": f"{int('01P', 36):032x}", "size": 1000, "status": "released",
        "url": "https://encode-public.s3.amazonaws.com/2021/01/01/u/ENCFF001P.bigWig",
        "licence": LICENCE, "supersedes": "ENCFF000OLD",
    }  # fmt: skip
    assert (minus["accession"], minus["strand"], minus["replicate"]) == ("ENCFF001M", "-", "1")
    assert plus["retrieved_utc"].endswith("Z")


def test_what_is_asked() -> None:
    """Experiments by assay; analyses and files in batches of at most 50, with their fields."""
    experiments = [experiment(f"ENCSR000{n:03d}") for n in range(120)]
    files = [one for n, e in enumerate(experiments) for one in stranded(f"{n:03d}", e["accession"])]
    objects = whole(experiments, files)
    with serving(**objects) as portal, Asker() as ask:
        settings = ListingSettings(assemblies={"human": "GRCh38"})
        found = list_portal("encode", ask, Release("r", (), ("total RNA-seq",), portal.url, settings))
        asked = portal.asked
    assert len(found.rows) == 240 and not found.refused
    kinds = [dict(pairs)["type"] for _, pairs in asked]
    assert kinds == ["Experiment", *["Analysis", "File"] * 3]
    for kind, (path, pairs) in zip(kinds, asked, strict=True):
        assert path == "/search/" and ("limit", "all") in pairs and ("format", "json") in pairs
        name = {"Analysis": "accession", "File": "dataset"}.get(kind)
        assert name is None or 20 <= sum(key == name for key, _ in pairs) <= 50
    fields = {value for _, pairs in asked for key, value in pairs if key == "field"}
    assert {"default_analysis", "files.accession", "cloud_metadata.url", "audit.ERROR.category"} <= fields
    assert ("status", "released") in asked[0][1] and ("assembly", "GRCh38") in asked[0][1]


def test_groups_are_term_by_assay_by_target_and_hold_both_strands() -> None:
    second = experiment("ENCSR000AAB")
    tissue = {"term_id": "UBERON:0002048", "term_name": "lung", "classification": "tissue"}
    other = experiment("ENCSR000AAC", biosample_ontology=tissue)
    files = [*stranded("01"), *stranded("02", "ENCSR000AAB"), *stranded("03", "ENCSR000AAC")]
    found = listed(whole([experiment(), second, other], files))
    groups = track_groups(found.rows, "human", "rna_seq")
    assert {name: [(row["accession"], row["strand"]) for row in rows] for name, rows in groups.items()} == {
        "UBERON-0002107.total-RNA-seq": [
            ("ENCFF001M", "-"), ("ENCFF001P", "+"), ("ENCFF002M", "-"), ("ENCFF002P", "+")],
        "UBERON-0002048.total-RNA-seq": [("ENCFF003M", "-"), ("ENCFF003P", "+")],
    }  # fmt: skip
    for rows in groups.values():
        pairs: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            pairs.setdefault((row["experiment"], row["replicate"]), set()).add(row["strand"])
        assert all(strands == {"+", "-"} for strands in pairs.values())


def chip(accession: str, target: str = "CTCF", assay: str = "TF ChIP-seq", **more: Any) -> Item:
    return experiment(accession, **({"assay_title": assay, "target": {"label": target}} | more))


def fold_change(
    accession: str, dataset: str, replicates: list[int], frip: float = 0.2, **more: Any
) -> list[Item]:
    """Fold change and p-value (with the portal's favour) of replicates, their peaks with FRiP, and reads."""
    number, given = accession[-2:], {"biological_replicates": replicates} | more
    return [
        file(accession, dataset, output_type="fold change over control", **given),
        file(f"ENCFF7{number}V", dataset, output_type="signal p-value", preferred_default=True, **given),
        file(f"ENCFF7{number}K", dataset, output_type="IDR thresholded peaks", file_format="bed",
             quality_metrics=[{"@type": ["ChipPeakEnrichmentQualityMetric"], "frip": frip}], **given),
        reads(f"ENCFF7{number}R", dataset, biological_replicates=replicates[:1]),
    ]  # fmt: skip


def test_chip_is_fold_change_of_all_replicates_together() -> None:
    files = [
        *fold_change("ENCFF000AA1", "ENCSR000AAA", [1]), *fold_change("ENCFF000AA2", "ENCSR000AAA", [2]),
        *fold_change("ENCFF000AA3", "ENCSR000AAA", [1, 2]),
    ]  # fmt: skip
    found = listed(whole([chip("ENCSR000AAA")], files), "TF ChIP-seq")
    (row,) = found.rows
    assert (row["accession"], row["replicate"], row["target"]) == ("ENCFF000AA3", "1,2", "CTCF")
    assert why(found) == {"ENCFF000AA1": "not best", "ENCFF000AA2": "not best"}  # the p-value never counted


def test_a_modified_line_has_a_track_of_its_own_in_tf_chip_and_none_elsewhere() -> None:
    summary = "Homo sapiens K562 genetically modified (insertion) using CRISPR targeting H. sapiens CTCF"
    changed = {
        "biosample_summary": summary,
        "sample": {"genetic_modifications": ["/genetic-modifications/x/"]},
    }
    files = [
        *fold_change("ENCFF000AA1", "ENCSR000AAA", [1]), *fold_change("ENCFF000AA2", "ENCSR000AAB", [1]),
        *fold_change("ENCFF000AA3", "ENCSR000AAC", [1]),
    ]  # fmt: skip
    experiments = [chip("ENCSR000AAA"), chip("ENCSR000AAB", **changed),
                   chip("ENCSR000AAC", "H3K27ac", "Histone ChIP-seq", **changed)]  # fmt: skip
    found = listed(whole(experiments, files))
    how = "genetically modified (insertion) using CRISPR targeting H. sapiens CTCF"
    assert [row["assay"] for row in found.rows] == ["TF ChIP-seq", f"TF ChIP-seq {how}"]
    assert len(track_groups(found.rows, "human", "chip_tf")) == 2
    assert why(found)["ENCSR000AAC"] == "modified"


def test_open_chromatin_is_every_replicate_with_frip_and_length() -> None:
    dnase = experiment("ENCSR000AAA", assay_title="DNase-seq")
    spot = [{"spot1_score": 0.09}]
    files = [
        alignments("ENCFF000AA1", biological_replicates=[1]),
        alignments("ENCFF000AA2", biological_replicates=[2]),
        alignments("ENCFF000AA3", biological_replicates=[3], quality_metrics=spot),
        alignments("ENCFF000AA4", biological_replicates=[4], mapped_read_length=35),
        alignments("ENCFF000AA5", biological_replicates=[1, 2]),
        alignments("ENCFF000AA6", biological_replicates=[5], quality_metrics=None),
        alignments("ENCFF000AA7", biological_replicates=[6], mapped_read_length=None, mapped_run_type=None),
    ]
    objects = whole([dnase], files)
    found = listed(objects, "DNase-seq")
    assert [(row["accession"], row["replicate"], row["strand"]) for row in found.rows] == [
        ("ENCFF000AA1", "1", "."), ("ENCFF000AA2", "2", "."),
    ]  # fmt: skip
    assert why(found) == {"ENCFF000AA3": "FRiP", "ENCFF000AA4": "read length", "ENCFF000AA5": "pooled",
                          "ENCFF000AA6": "FRiP", "ENCFF000AA7": "read length"}  # fmt: skip
    lenient = listed(objects, "DNase-seq", unknown="accept")
    assert {row["accession"] for row in lenient.rows} >= {"ENCFF000AA6", "ENCFF000AA7"}
    assert set(why(lenient)) == {"ENCFF000AA3", "ENCFF000AA4", "ENCFF000AA5"}


@pytest.mark.parametrize(("frip", "used"), [(0.011, True), (0.01, False)])
def test_good_enrichment_outweighs_a_bad_audit_of_chip(frip: float, used: bool) -> None:
    audited = chip("ENCSR000AAA", audit={"NOT_COMPLIANT": [{"category": "severe bottlenecking"}]})
    files = fold_change("ENCFF000AA1", "ENCSR000AAA", [1], frip)
    found = listed(whole([audited], files), "TF ChIP-seq")
    assert bool(found.rows) is used
    if not used:
        (one,) = (one for one in found.refused if one["accession"])
        assert one["reason"] == "audit"
        assert one["detail"] == "NOT_COMPLIANT: severe bottlenecking; and 0.01, wanted more than 0.01"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"control_type": "input library"}, "control"),
        ({"sample": {"treatments": [{"treatment_term_name": "ethanol"}]}}, "treated"),
        ({"sample": {"phase": "G1b"}}, "cell cycle"),
        ({"sample": {"synchronization": "nocodazole"}}, "cell cycle"),
        ({"perturbed": True}, "perturbed"),
        ({"biosample_summary": "K562 stably expressing C-terminal eGFP-tagged JUN"}, "modified"),
        ({"sample": {"organism": {"scientific_name": "Mus musculus"}}}, "organism"),
        ({"biosample_ontology": {"term_name": "liver"}}, "no term"),
        ({"replicates": []}, "no sample"),
        ({"default_analysis": None}, "no analysis"),
        ({"default_analysis": "/analyses/ENCAN0ZZZ/"}, "no analysis"),
    ],
)
def test_experiments_that_cannot_be_used(more: dict[str, Any], reason: str) -> None:
    objects = whole([experiment()], stranded("01"))
    objects["Experiment"] = [experiment(**more)]
    found = listed(objects, "total RNA-seq")
    assert found.rows == [] and why(found) == {"ENCSR000AAA": reason}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"status": "revoked"}, "status"),
        ({"assembly": "hg19"}, "assembly"),
        ({"date_created": "2019-12-31T23:59:59.000000+00:00"}, "old"),
        ({"cloud_metadata": None}, "no url"),
        ({"cloud_metadata": {"url": "https://encode-private.s3.amazonaws.com/x.bigWig"}}, "no url"),
        ({"restricted": True}, "no url"),
        ({"no_file_available": True}, "no url"),
    ],
)
def test_files_that_cannot_be_used(more: dict[str, Any], reason: str) -> None:
    found = listed(whole([experiment()], stranded("01", **more)), "total RNA-seq")
    assert found.rows == []
    assert why(found) == {"ENCFF001P": reason, "ENCFF001M": reason, "ENCSR000AAA": "no file"}


def test_a_lone_strand_is_refused_and_the_whole_replicate_taken() -> None:
    files = [*stranded("01"), *stranded("02", replicates=[2])]
    files[0] |= {"status": "archived"}
    found = listed(whole([experiment()], files), "total RNA-seq")
    assert [row["accession"] for row in found.rows] == ["ENCFF002P", "ENCFF002M"]
    assert why(found) == {"ENCFF001P": "status", "ENCFF001M": "lone strand"}


def test_an_analysis_of_another_assembly_or_withdrawn_is_not_used() -> None:
    objects = whole([experiment()], stranded("01"), assembly="hg19")
    assert why(listed(objects, "total RNA-seq")) == {"ENCSR000AAA": "assembly"}
    objects = whole([experiment()], stranded("01"), status="revoked")
    assert why(listed(objects, "total RNA-seq")) == {"ENCSR000AAA": "no analysis"}


def test_calculated_fields_may_be_missing() -> None:
    """Of the experiment: summary, audit, perturbed; of a file: quality metrics, MD5, run type, replicates."""
    bare = experiment(biosample_summary=None)
    files = stranded("01")
    for one in files:
        for name in ("technical_replicates", "biological_replicates", "md5sum", "file_size", "run_type"):
            one.pop(name, None)
    found = listed(whole([bare], files), "total RNA-seq", unknown="accept")
    assert [(row["accession"], row["replicate"], row["md5"], row["size"]) for row in found.rows] == [
        ("ENCFF001P", None, None, None), ("ENCFF001M", None, None, None),
    ]  # fmt: skip


def test_of_a_group_only_the_best_experiments_are_averaged() -> None:
    """Audits before endedness before life stage; each that is left out is told what the others have."""
    warned = {"audit": {"WARNING": [{"category": "mild to moderate bottlenecking"}]}}
    experiments = [
        experiment("ENCSR000AA1"), experiment("ENCSR000AA2", sample={"life_stage": "child"}),
        experiment("ENCSR000AA3", **warned), experiment("ENCSR000AA4"), experiment("ENCSR000AA5"),
    ]  # fmt: skip
    files = [one for n in range(1, 6) for one in stranded(f"0{n}", f"ENCSR000AA{n}")]
    next(one for one in files if one["accession"] == "ENCFF004R")["run_type"] = "single-ended"
    found = listed(whole(experiments, files), "total RNA-seq")
    assert {row["experiment"] for row in found.rows} == {"ENCSR000AA1", "ENCSR000AA5"}
    told = {one["experiment"]: (one["reason"], one["detail"]) for one in found.refused}
    assert told == {
        "ENCSR000AA2": ("priority", "life_stage child; the group has adult"),
        "ENCSR000AA3": ("priority", "audit WARNING; the group has PASS"),
        "ENCSR000AA4": ("priority", "endedness single-ended; the group has paired-ended"),
    }


def test_procap_is_the_published_list(root: Path) -> None:
    procap = experiment("ENCSR072YCM", assay_title="PRO-cap", default_analysis=None)
    files = [
        file("ENCFF000AA1", "ENCSR072YCM", output_type="plus strand signal"),
        file("ENCFF000AA2", "ENCSR072YCM", output_type="minus strand signal"),
        file("ENCFF000AA3", "ENCSR072YCM", output_type="plus strand signal of all reads"),
    ]
    other = experiment("ENCSR999ZZZ", assay_title="PRO-cap")
    found = listed({"Experiment": [procap, other], "File": files}, "PRO-cap")
    assert [(row["accession"], row["strand"]) for row in found.rows] == [
        ("ENCFF000AA1", "+"),
        ("ENCFF000AA2", "-"),
    ]
    reasons = why(found)
    assert reasons.pop("ENCFF000AA3") == "not best" and len(reasons) == 5
    assert set(reasons.values()) == {"not found"} and "ENCSR801ECP" in reasons


def test_the_same_answers_give_the_same_rows_in_any_order() -> None:
    files = [*stranded("01"), *stranded("02", "ENCSR000AAB")]
    experiments = [experiment(), experiment("ENCSR000AAB")]
    one = listed(whole(experiments, files))
    two = listed(whole(experiments[::-1], files[::-1]))
    strip = [[row | {"retrieved_utc": ""} for row in found.rows] for found in (one, two)]
    assert strip[0] == strip[1] and one.refused == two.refused


@pytest.fixture
def portal() -> Iterator[Portal]:
    with serving(**whole([experiment()], stranded("01"))) as running:
        yield running


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((200, b"<html><title>Maintenance</title>", "text/html"), "a web page instead of JSON"),
        ((404, b'{"status": "error", "code": 404}', "application/json"), "HTTP 404 without a list of hits"),
        ((200, b'{"@graph": [{"acc', "application/json"), "JSON that ends early"),
        ((403, b"{}", "application/json"), "HTTP 403"),
    ],
)
def test_an_answer_that_is_none_stops_the_listing(portal: Portal, fault: tuple, message: str) -> None:
    portal.faults = [fault]
    with Asker(attempts=1) as ask, pytest.raises(FileError, match=rf"/search/\?type=Experiment.*{message}"):
        list_portal("encode", ask, Release("r", ("human",), ("total RNA-seq",), portal.url))


def test_organisms_and_assays_that_are_not_asked_for_are_not_listed(portal: Portal) -> None:
    with Asker() as ask:
        list_portal("encode", ask, Release("r", ("mouse",), ("DNase-seq", "ATAC-seq"), portal.url))
    assert [dict(pairs)["assay_title"] for _, pairs in portal.asked] == ["DNase-seq", "ATAC-seq"]
    assert {dict(pairs)["assembly"] for _, pairs in portal.asked} == {"mm10"}


def test_an_unknown_portal_names_the_nearest() -> None:
    with pytest.raises(FileError, match="portal 'encod' is not known; nearest: encode"):
        listing_function("encod")


def test_tables_of_ones_own_change_the_rules(tmp_path: Path, root: Path) -> None:
    bad = experiment(audit={"NOT_COMPLIANT": [{"category": "insufficient read depth"}]})
    objects = whole([bad], stranded("01"))
    assert listed(objects, "total RNA-seq").rows
    mine = tmp_path / "audits.tsv"
    shutil.copy(root / "resources/audit_rules.tsv", mine)
    with mine.open("a") as handle:
        handle.write("NOT_COMPLIANT\tinsufficient read depth\trefuse\tof our own\n")
    found = listed(objects, "total RNA-seq", audit_rules=str(mine))
    assert found.rows == [] and why(found)["ENCFF001P"] == "audit"


def test_organisms_and_their_species_are_settings(root: Path, tmp_path: Path) -> None:
    text = (root / "resources/assay_rules.tsv").read_text()
    (tmp_path / "rules.tsv").write_text(text.replace("\thuman|mouse\t", "\tzebrafish\t"))
    sample = {"organism": {"scientific_name": "Danio rerio"}}
    objects = whole(
        [experiment(assembly=["GRCz11"], sample=sample)], stranded("01", assembly="GRCz11"), assembly="GRCz11"
    )
    given = {"assemblies": {"zebrafish": "GRCz11"}, "assay_rules": str(tmp_path / "rules.tsv")}
    found = listed(objects, "total RNA-seq", species={"zebrafish": "Danio rerio"}, **given)
    assert {(row["organism"], row["assembly"]) for row in found.rows} == {("zebrafish", "GRCz11")}
    assert len(found.rows) == 2
    with pytest.raises(FileError, match="'zebrafish' is not of human, mouse; name it in `species`"):
        listed(objects, "total RNA-seq", **given)
