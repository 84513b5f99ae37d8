"""Variants of the human genome (GRCh38): gnomAD, ClinVar, the 1000 Genomes and dbSNP, as bgzip VCFs.

Whole files are large (gnomAD's genomes hundreds of GB): `megabase fetch-region` reads what is needed of them.
"""

from __future__ import annotations

import re
from typing import Any

from megabase.files import FileError
from megabase.sources.portals import Listing, Release
from megabase.sources.resources import Ask, manifest_row, read_resource

AUTOSOMES = tuple(f"chr{n}" for n in range(1, 23))
GNOMAD = "https://storage.googleapis.com/gcp-public-data--gnomad/release/4.1/vcf"
GNOMAD_SETS = ("genomes", "exomes", "joint")
CLINVAR = "https://ftp.ncbi.nlm.nih.gov/pub/clinvar/vcf_GRCh38"
THOUSAND = (
    "https://ftp.1000genomes.ebi.ac.uk/vol1/ftp/data_collections/1000G_2504_high_coverage/working/"
    "20220422_3202_phased_SNV_INDEL_SV"
)
DBSNP = "https://ftp.ncbi.nih.gov/snp/latest_release/VCF/GCF_000001405.40.gz"
DBSNP_BUILD = "b157"  # what lies at that address now; the MD5 that is listed tells when it moved on
_MD5 = re.compile(r"^([0-9a-f]{32})\b")


def list_gnomad(ask: Ask, release: Release) -> Listing:
    """gnomAD v4.1 sites: genomes, exomes and joint, a file a chromosome (24 of each). Nothing is asked.

    `release.assays` may name the sets. MD5 sums are known of the genomes alone; contigs are named `chr1`.
    """
    known = {row["file"]: row["md5"] for row in read_resource("gnomad_md5", ("file", "md5"))}
    base = (release.base_url or GNOMAD).rstrip("/")
    rows = []
    for name in (name for name in GNOMAD_SETS if release.wants("human", name)):
        for chrom in (*AUTOSOMES, "chrX", "chrY"):
            file = f"gnomad.{name}.v4.1.sites.{chrom}.vcf.bgz"
            url, licence = f"{base}/{name}/{file}", "CC0 1.0; cite Chen 2024"
            stem = file.removesuffix(".vcf.bgz")
            rows.append(_row("gnomad", stem, url, name, md5=known.get(file), licence=licence))
    return Listing(rows)


def list_clinvar(ask: Ask, release: Release) -> Listing:
    """ClinVar's newest weekly VCF, by its date: the file that does not change. Contigs are named `1`.

    The weeks that the portal still has are read from its folder; FileError where it lists none.
    """
    base = (release.base_url or CLINVAR).rstrip("/")
    answer = ask(f"{base}/weekly/")
    weeks = sorted(set(re.findall(r"clinvar_(\d{8})\.vcf\.gz", answer.body.decode("utf-8", "replace"))))
    if answer.status != 200 or not weeks:
        raise FileError(f"{answer.url}: HTTP {answer.status}, lists no clinvar_YYYYMMDD.vcf.gz; it has moved")
    url = f"{base}/weekly/clinvar_{weeks[-1]}.vcf.gz"
    md5, utc = _md5_beside(ask, url)
    licence = "public domain; cite Landrum 2018"
    return Listing(
        [_row("clinvar", f"clinvar_{weeks[-1]}", url, "clinvar", md5=md5, licence=licence, retrieved_utc=utc)]
    )


def list_1000genomes(ask: Ask, release: Release) -> Listing:
    """1000 Genomes at 30x (3,202 people), phased: a file a chromosome; that of X is the second version."""
    base = (release.base_url or THOUSAND).rstrip("/")
    rows = []
    for chrom in (*AUTOSOMES, "chrX"):
        version = ".v2" if chrom == "chrX" else ""
        stem = f"1kGP_high_coverage_Illumina.{chrom}.filtered.SNV_INDEL_SV_phased_panel{version}"
        licence = "open (IGSR); cite Byrska-Bishop 2022"
        rows.append(_row("1000genomes", stem, f"{base}/{stem}.vcf.gz", "phased genotypes", licence=licence))
    return Listing(rows)


def list_dbsnp(ask: Ask, release: Release) -> Listing:
    """dbSNP of GRCh38.p14, one file of 28 GB; contigs have RefSeq names (`import-aliases` makes the table).

    The address is that of the latest release: the MD5 that the portal states today pins it.
    """
    url = release.base_url or DBSNP
    md5, utc = _md5_beside(ask, url)
    name, licence = f"dbsnp.{DBSNP_BUILD}.GCF_000001405.40", "public domain; cite Sherry 2001"
    return Listing([_row("dbsnp", name, url, "dbsnp", md5=md5, licence=licence, retrieved_utc=utc)])


def _md5_beside(ask: Ask, url: str) -> tuple[str, str]:
    """(MD5 that the file `url` + `.md5` states, UTC of the answer)."""
    answer = ask(f"{url}.md5")
    match = _MD5.match(answer.body.decode("utf-8", "replace").strip())
    if answer.status != 200 or match is None:
        raise FileError(f"{answer.url}: HTTP {answer.status}, states no MD5; the portal has changed")
    return match[1], answer.retrieved_utc


def _row(portal: str, accession: str, url: str, assay: str, **values: Any) -> dict[str, Any]:
    return manifest_row(
        portal=portal, accession=accession, assay=assay, output_type="variants", organism="human",
        assembly="GRCh38", url=url, **values,
    )  # fmt: skip
