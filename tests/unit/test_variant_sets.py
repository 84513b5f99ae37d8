"""Files of public variants: which there are, and what pins them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from megabase.files import FileError
from megabase.sources.ask import Answer
from megabase.sources.manifest import check_row, raw_path
from megabase.sources.portals import Release, list_portal

UTC = "2026-11-01T00:00:00Z"
MD5 = "0123456789abcdef" * 2
WEEKS = (
    '<a href="clinvar_20261018.vcf.gz">x</a> <a href="clinvar_20261025.vcf.gz">x</a> '
    '<a href="clinvar_20261025.vcf.gz.md5">x</a> <a href="clinvar_20260104_papu.vcf.gz">x</a>'
)


def answers(**bodies: str) -> Callable[..., Answer]:
    """Answers by the end of the address."""

    def ask(url: str, params: Iterable[tuple[str, Any]] = ()) -> Answer:
        found = next((body for end, body in bodies.items() if url.rstrip("/").endswith(end)), None)
        return Answer(url, 404 if found is None else 200, (found or "").encode(), UTC)

    return ask


def _valid(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        assert check_row({k: None if v is None else str(v) for k, v in row.items()}) is None, row
        assert row["output_type"] == "variants" and row["assembly"] == "GRCh38" and "cite" in row["licence"]
    assert len({row["accession"] for row in rows}) == len(rows)
    return rows


def test_gnomad_by_set_and_chromosome(real_data: Path) -> None:
    rows = _valid(list_portal("gnomad", answers(), Release("r")).rows)
    assert len(rows) == 72
    by_name = {row["accession"]: row for row in rows}
    assert by_name["gnomad.joint.v4.1.sites.chrX"]["url"] == (
        "https://storage.googleapis.com/gcp-public-data--gnomad/release/4.1/vcf/joint/"
        "gnomad.joint.v4.1.sites.chrX.vcf.bgz"
    )
    recorded = (
        (real_data / "portals/fantom5_genomes/gnomad_v4.1_genomes_md5.tsv").read_text().splitlines()[1:]
    )
    stated = dict(line.split("\t") for line in recorded)
    mine = {f"{r['accession']}.vcf.bgz": r["md5"] for r in rows if r["assay"] == "genomes"}
    assert mine == stated and len(mine) == 24
    assert all(row["md5"] is None for row in rows if row["assay"] != "genomes")
    assert len(list_portal("gnomad", answers(), Release("r", assays=("exomes",))).rows) == 24
    assert raw_path(rows[0]).name.endswith(".vcf.bgz")


def test_clinvar_is_pinned_to_a_week() -> None:
    ask = answers(
        **{"weekly": WEEKS, "clinvar_20261025.vcf.gz.md5": f"{MD5}  /path/clinvar_20261025.vcf.gz\n"}
    )
    row = _valid(list_portal("clinvar", ask, Release("r")).rows)[0]
    assert row["url"].endswith("/vcf_GRCh38/weekly/clinvar_20261025.vcf.gz") and row["md5"] == MD5
    assert (row["accession"], row["retrieved_utc"]) == ("clinvar_20261025", UTC)
    with pytest.raises(FileError, match="lists no clinvar_YYYYMMDD"):
        list_portal("clinvar", answers(weekly="<html>moved</html>"), Release("r"))
    with pytest.raises(FileError, match="states no MD5"):
        list_portal("clinvar", answers(weekly=WEEKS), Release("r"))


def test_thousand_genomes_have_a_second_x() -> None:
    rows = _valid(list_portal("1000genomes", answers(), Release("r")).rows)
    assert len(rows) == 23
    urls = [row["url"] for row in rows]
    assert sum(url.endswith(".v2.vcf.gz") for url in urls) == 1
    assert any("chrX.filtered.SNV_INDEL_SV_phased_panel.v2.vcf.gz" in url for url in urls)


def test_dbsnp_is_pinned_by_what_the_portal_states() -> None:
    row = _valid(
        list_portal("dbsnp", answers(**{"40.gz.md5": f"{MD5}  GCF_000001405.40.gz"}), Release("r")).rows
    )[0]
    assert row["md5"] == MD5 and row["accession"] == "dbsnp.b157.GCF_000001405.40"
    with pytest.raises(FileError, match="HTTP 404, states no MD5"):
        list_portal("dbsnp", answers(), Release("r"))
