"""eQTL Catalogue: the credible sets of each dataset, from the table of its files at a pinned commit."""

from __future__ import annotations

import io

import polars as pl

from megabase.files import FileError
from megabase.sources.portals import Listing, Release
from megabase.sources.resources import Ask, manifest_row

COMMIT = "f59d2bbbd072048172180434cf49680326dfbf72"  # the table on `master` changes
PATHS = (
    "https://raw.githubusercontent.com/eQTL-Catalogue/eQTL-Catalogue-resources/{}/tabix/tabix_ftp_paths.tsv"
)
TARGETS = {"ge": "eqtl", "leafcutter": "sqtl"}  # quantification methods that benchmarks read
WANTED = (
    "study_id", "dataset_id", "study_label", "tissue_id", "tissue_label", "condition_label", "quant_method",
    "ftp_cs_path",
)  # fmt: skip
LICENCE = "CC BY 4.0; cite Kerimov 2021, 2023 and the study"


def list_eqtl_catalogue(ask: Ask, release: Release) -> Listing:
    """A row a dataset of gene expression (`eqtl`) or leafcutter (`sqtl`): its SuSiE credible sets.

    `assay` is the quantification method, `experiment` the study's name and condition. Other methods are
    refused as `not_used`, and so is a dataset without credible sets. `release.base_url` is another address
    of the table of files. FileError where that table lacks a column.
    """
    answer = ask(release.base_url or PATHS.format(COMMIT))
    if answer.status != 200:
        raise FileError(f"{answer.url}: HTTP {answer.status}; the table of files has moved")
    table = pl.read_csv(io.BytesIO(answer.body), separator="\t", infer_schema_length=0)
    if missing := [column for column in WANTED if column not in table.columns]:
        raise FileError(f"{answer.url}: no column {', '.join(missing)}; found {', '.join(table.columns)}")
    listing = Listing()
    for row in table.select(WANTED).iter_rows(named=True):
        method, name = row["quant_method"], row["dataset_id"]
        what = {"portal": "eqtl_catalogue", "accession": name, "assay": method, "organism": "human",
                "output_type": "qtl", "experiment": f"{row['study_label']} {row['condition_label']}",
                "biosample": row["tissue_label"]}  # fmt: skip
        if method not in TARGETS:
            listing.refuse("not used", f"quantification {method}, wanted {' or '.join(TARGETS)}", **what)
        elif not row["ftp_cs_path"]:
            listing.refuse("no credible sets", "the table names no file", **what)
        elif release.wants("human", method):
            listing.rows.append(
                manifest_row(
                    **what, target=TARGETS[method], ontology_curie=curie(row["tissue_id"]), assembly="GRCh38",
                    url=row["ftp_cs_path"].replace("ftp://", "https://", 1), licence=LICENCE,
                    retrieved_utc=answer.retrieved_utc,
                )
            )  # fmt: skip
    return listing


def curie(term: str | None) -> str | None:
    """`UBERON:0001013` of `UBERON_0001013`."""
    return term.replace("_", ":", 1) if term else None
