"""Which recorded file answers which request; the recordings are described in their own README files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Recorded:
    """One recorded answer: `query` empty stands for any query."""

    path: str
    query: str
    body: bytes
    status: int = 200
    kind: str = "application/json"


# Recorded whole answers by the target that was asked; ENCODE's own `@id` says the rest.
_ENCODE = "encode/real/recorded_2026-09-28_search_{}.json"
_SEARCHES = ("File_ENCSR098PTC", "Analysis_ENCAN263FQA")
_GTEX = "gtex/gtexr_fixtures/tests__testthat__gtex_query__gtexportal.org__api__v2{}.json"
_EQTL = "/eQTL-Catalogue/eQTL-Catalogue-resources/master"
_TABLES = {
    f"{_EQTL}/tabix/tabix_ftp_paths.tsv": "eqtl_catalogue/tabix_ftp_paths.tsv",
    f"{_EQTL}/data_tables/dataset_metadata_r7.tsv": "eqtl_catalogue/dataset_metadata_r7.tsv",
    f"{_EQTL}/data_tables/dataset_metadata_r8_beta.tsv": "eqtl_catalogue/dataset_metadata_r8_beta.tsv",
    f"{_EQTL}/data_tables/dataset_metadata_upcoming.tsv": "eqtl_catalogue/dataset_metadata_upcoming.tsv",
    "/metadata/": "encode/expected_metadata.tsv",
    "/batch_download/": "encode/expected_batch_download.tsv",
}


def recorded_answers(folder: Path) -> list[Recorded]:
    """The recorded answers of all portals under `folder` (data/portals)."""
    found = []
    for name in _SEARCHES:
        body = (folder / _ENCODE.format(name)).read_bytes()
        target = urlsplit(json.loads(body)["@id"])
        found.append(Recorded(target.path, target.query, body))
    none = (folder / "encode/real/no_results_body_HTTP404.json").read_bytes()
    found.append(Recorded("/search/", "type=File", none, status=404))
    for item in json.loads((folder / "encode/real/mirna_files_list.json").read_text()):
        found.append(Recorded(item["@id"], "", json.dumps(item).encode()))
    for part, path in (("", "/api/v2/"), ("__reference__geneSearch-84bc16", "/api/v2/reference/geneSearch")):
        found.append(Recorded(path, "", (folder / _GTEX.format(part)).read_bytes()))
    tables = ((path, (folder / name).read_bytes()) for path, name in _TABLES.items())
    found += [Recorded(path, "", body, kind="text/tab-separated-values") for path, body in tables]
    return found
