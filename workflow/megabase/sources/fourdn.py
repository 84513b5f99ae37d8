"""4D Nucleome: contact maps (.mcool) by accession, or all of an assembly; the published maps as a preset.

The portal answers an empty search with HTTP 404 and `@graph: []`, ends pages of `from` silently at 10,000
hits, and asks for a login at its download addresses; `open_data_url` needs none. So accessions are asked for
in batches, and the address is that of the open bucket (4dn-dcic/fourfront, search.py and types/file.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.settings.listing import ListingSettings
from megabase.sources.answers import RETRY_STATUS, Broken, retry_after
from megabase.sources.ask import Answer
from megabase.sources.client import Client, tried_again
from megabase.sources.portals import Listing, Release
from megabase.sources.resources import FOLDER, Ask, manifest_row, read_resource
from megabase.spec import OutputType

SEARCH = "https://data.4dnucleome.org/search/"
BUCKET = "https://4dn-open-data-public.s3.amazonaws.com/fourfront-webprod"
ATTEMPTS = 3  # to see whether a file is there
FOLDERS = ("wfoutput", "files")  # of the bucket: what a pipeline made, what a lab submitted
BATCH = 100  # accessions of one question
WINDOW = 10_000  # hits that the portal's search can count
MIN_SIZE = 7_740_000_000  # bytes of the smallest map that AlphaGenome used (Methods, contact maps)
ASSEMBLIES = ListingSettings().map_assemblies
TABLE = FOLDER / "contact_maps.tsv"  # of the published maps
LICENCE = "4DN: released data are free to use; cite Dekker 2017 and Reiff 2022"
PORTAL = "4dnucleome"  # as the published track tables call it
FIELDS = (
    "accession", "uuid", "status", "genome_assembly", "file_format.file_format", "file_size", "md5sum",
    "open_data_url", "track_and_facet_info.experiment_type", "track_and_facet_info.biosource_name",
    "track_and_facet_info.dataset", "source_experiment_sets.accession",
)  # fmt: skip
PRESET = ("organism", "channel", "accession", "biosample", "ontology_curie", "assay")


def list_4dn(ask: Ask, release: Release) -> Listing:
    """The published maps of the release's organisms (`published_maps`), of the assays that it wants."""
    given = release.settings
    names = release.organisms or tuple(given.map_assemblies)
    rows = published_maps(
        ask, organisms=names, url=_search(release), assemblies=given.map_assemblies, table=given.contact_maps
    )
    return Listing([row for row in rows if release.wants(row["organism"], _plain(row))])


def list_4dn_all(ask: Ask, release: Release) -> Listing:
    """Every large map of the release's organisms (`large_maps`), of the assays that it wants."""
    known = release.settings.map_assemblies
    wanted = {name: known[name] for name in release.organisms or known if name in known}
    rows = large_maps(ask, assemblies=wanted, url=_search(release))
    return Listing([row for row in rows if release.wants(row["organism"], _plain(row))])


def _search(release: Release) -> str:
    return f"{release.base_url.rstrip('/')}/search/" if release.base_url else SEARCH


def _plain(row: Mapping[str, Any]) -> str:
    """Assay of a row without the accession behind it."""
    return str(row["assay"]).removesuffix(f" {row['accession']}")


def published_maps(
    ask: Ask,
    *,
    organisms: Sequence[str] = tuple(ASSEMBLIES),
    exists: Callable[[str], bool] | None = None,
    url: str = SEARCH,
    assemblies: Mapping[str, str] = ASSEMBLIES,
    table: str | Path = TABLE,
) -> list[dict[str, Any]]:
    """Manifest rows of the published 28 human and 8 mouse maps, in channel order, as the portal has them now.

    Term, biosample and assay are those of the published track table (`resources/contact_maps.tsv`, or another
    `table`), with the accession behind the assay: one file is one track. assemblies: by organism. FileError
    where the portal lacks one or withdrew it.
    """
    table = Path(table)
    wanted = [row for row in read_resource(table.stem, PRESET, table.parent) if row["organism"] in organisms]
    found = {
        item["accession"]: (item, at) for item, at in files_of(ask, [r["accession"] for r in wanted], url)
    }
    check_all_there([row["accession"] for row in wanted], {name: item for name, (item, _) in found.items()})
    rows = []
    for preset in wanted:
        item, at = found[preset["accession"]]
        row = row_of(item, at, exists or is_there, assemblies)
        if row["organism"] != preset["organism"]:
            raise FileError(
                f"{SEARCH}: {row['accession']} is of {row['assembly']}, wanted a map of {preset['organism']}"
            )
        named = {"biosample": preset["biosample"], "ontology_curie": preset["ontology_curie"]}
        rows.append(row | named | {"assay": f"{preset['assay']} {row['accession']}"})
    return rows


def large_maps(
    ask: Ask,
    *,
    assemblies: Mapping[str, str] = ASSEMBLIES,
    min_size: int = MIN_SIZE,
    exists: Callable[[str], bool] | None = None,
    url: str = SEARCH,
) -> list[dict[str, Any]]:
    """Manifest rows of every released .mcool of these assemblies of at least `min_size` bytes, by accession.

    assemblies: by organism. The portal tells no ontology term of a file: rows have the name of the biosample,
    `ontology_curie` is unknown. FileError where the portal counts more maps than it can list.
    """
    wanted = tuple(assemblies.values())
    names = [name for assembly in wanted for name in _accessions(ask, assembly, min_size, url)]
    rows = [row_of(item, at, exists or is_there, assemblies) for item, at in files_of(ask, names, url)]
    kept = [r for r in rows if r["status"] == "released" and r["assembly"] in wanted]
    LOGGER.info("4DN: %d maps of %d bytes or more, %d are released", len(names), min_size, len(kept))
    return sorted(kept, key=lambda row: (row["organism"], row["accession"]))


def _accessions(ask: Ask, assembly: str, min_size: int, url: str) -> list[str]:
    """Accessions of all large maps of an assembly."""
    question = [
        ("type", "FileProcessed"), ("file_type", "contact matrix"), ("file_format.file_format", "mcool"),
        ("genome_assembly", assembly), ("status", "released"), ("format", "json"), ("limit", "all"),
        ("field", "accession"), ("field", "file_size"),
    ]  # fmt: skip
    answer = ask(url, question)
    items = graph_of(answer)
    total = answer.json().get("total", len(items))
    if len(items) != total or total >= WINDOW:
        raise FileError(
            f"{answer.url}: {len(items)} of {total} maps; the search cannot list them all: name their "
            "accessions, or ask again"
        )
    return sorted(item["accession"] for item in items if (item.get("file_size") or 0) >= min_size)


def files_of(ask: Ask, accessions: Sequence[str], url: str = SEARCH) -> Iterator[tuple[dict[str, Any], str]]:
    """(file as the portal tells it, UTC of the answer) of those accessions that the portal knows."""
    for start in range(0, len(accessions), BATCH):
        batch = accessions[start : start + BATCH]
        question = [("type", "FileProcessed"), ("format", "json"), ("limit", "all")]
        question += [("accession", name) for name in batch] + [("field", field) for field in FIELDS]
        answer = ask(url, question)
        for item in graph_of(answer):
            if item.get("accession") in batch:
                yield item, answer.retrieved_utc


def graph_of(answer: Answer) -> list[dict[str, Any]]:
    """Hits of a search; none for the portal's 404 with an empty `@graph`. FileError for an answer without."""
    body = answer.json()
    graph = body.get("@graph") if isinstance(body, dict) else None
    if not isinstance(graph, list) or (answer.status == 404 and graph):
        raise FileError(f"{answer.url}: HTTP {answer.status} and no list `@graph`; the portal has changed")
    return graph


def check_all_there(accessions: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> None:
    """FileError that names the accessions which the portal does not have, or not as released .mcool files."""
    problems = [f"{name} is not there" for name in accessions if name not in found]
    for name, item in found.items():
        kind = item.get("file_format")
        kind = kind.get("file_format") if isinstance(kind, Mapping) else None
        if item.get("status") != "released":
            problems.append(f"{name} is {item.get('status')}")
        elif kind and kind != "mcool":
            problems.append(f"{name} is a {kind} file")
    if problems:
        raise FileError(
            f"{SEARCH}: {'; '.join(problems)}; wanted released .mcool files: look the accession up on the "
            "portal, and name the one that took its place"
        )


def row_of(
    item: Mapping[str, Any],
    retrieved_utc: str,
    exists: Callable[[str], bool],
    assemblies: Mapping[str, str] = ASSEMBLIES,
) -> dict[str, Any]:
    """Manifest row of a file as the portal tells it. assemblies: by organism."""
    name, assembly = item["accession"], item.get("genome_assembly")
    organisms = {known: organism for organism, known in assemblies.items()}
    if assembly not in organisms:
        raise FileError(f"{SEARCH}: {name} is of assembly {assembly}; known: {', '.join(organisms)}")
    about = item.get("track_and_facet_info") or {}
    sets = item.get("source_experiment_sets") or []
    return manifest_row(
        portal=PORTAL, accession=name, output_type=str(OutputType.CONTACT_MAPS),
        experiment=next((s.get("accession") for s in sets if isinstance(s, Mapping)), None),
        assay=f"{about.get('experiment_type') or 'Hi-C'} {name}", organism=organisms[assembly],
        assembly=assembly, biosample=about.get("biosource_name"), strand=".", replicate="1",
        url=item.get("open_data_url") or open_url(item, exists), md5=item.get("md5sum"),
        size=item.get("file_size"), status=item.get("status"), licence=LICENCE,
        retrieved_utc=retrieved_utc,
    )  # fmt: skip


def open_url(item: Mapping[str, Any], exists: Callable[[str], bool]) -> str:
    """Address in the open bucket of a file of which the portal tells none: where it is there."""
    if not item.get("uuid"):
        raise FileError(f"{SEARCH}: {item['accession']} has neither open_data_url nor uuid; it is not open")
    urls = [f"{BUCKET}/{folder}/{item['uuid']}/{item['accession']}.mcool" for folder in FOLDERS]
    for url in urls:
        if exists(url):
            return url
    raise FileError(f"{item['accession']}: neither {' nor '.join(urls)} is there; the file is not open")


def is_there(url: str) -> bool:
    """Whether a public address answers; its body is not read."""

    def ask() -> bool:
        with Client() as client, client.get(url) as response:
            if response.status_code in RETRY_STATUS:
                raise Broken(f"HTTP {response.status_code}", retry_after(response))
            return response.status_code == 200

    return tried_again(ask, url, attempts=ATTEMPTS, backoff=1.0)
