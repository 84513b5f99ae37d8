"""Genomes, gene models, alias tables, blacklists and folds: the rows of `resources/references.tsv`."""

from __future__ import annotations

from typing import Any

from megabase.sources.portals import Listing, Release
from megabase.sources.resources import Ask, manifest_row, read_resource

COLUMNS = (
    "name", "portal", "organism", "assembly", "role", "url", "md5", "size", "licence", "citation",
)  # fmt: skip


def list_references(ask: Ask, release: Release) -> Listing:
    """A row a reference of the release's organisms, whatever its assays; nothing is asked.

    The names are those that `config/alphagenome.yaml` uses: GENCODE v46 and vM23 with the FASTA that the
    publication names (GRCh38.p13, GRCm38.p6). MD5 sums and sizes are those that are known.
    """
    wanted = release.organisms or ("human", "mouse")
    return Listing([row_of(row) for row in read_resource("references", COLUMNS) if row["organism"] in wanted])


def row_of(reference: dict[str, str]) -> dict[str, Any]:
    """Manifest row of a row of the table."""
    return manifest_row(
        portal=reference["portal"], accession=reference["name"], output_type=reference["role"],
        organism=reference["organism"], assembly=reference["assembly"], url=reference["url"],
        md5=reference["md5"] or None, size=int(reference["size"]) if reference["size"] else None,
        licence=f"{reference['licence']}; cite {reference['citation']}",
    )  # fmt: skip
