"""FANTOM5 CAGE: transcription start sites (CTSS) of untreated samples, hCAGE and LQhCAGE.

The portal is a tree of folders. Its files are named in percent-encoded words (`%20`), so that their addresses
are encoded twice (`%2520`): an address is taken from the folder's page as it stands there, byte for byte. A
folder has a table of its samples (SDRF), whose columns are read by name.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.sources.ask import Answer
from megabase.sources.portals import Listing, Release
from megabase.sources.resources import Ask, manifest_row
from megabase.spec import OutputType

BASE = "https://fantom.gsc.riken.jp/5/datafiles/reprocessed"
PHASES = {"human": "hg38_v9", "mouse": "mm10_v9"}  # `latest` moves, and so it is no release
SAMPLES = ("cell_line", "primary_cell", "tissue")  # time courses and fractions are treated or parts of cells
ASSAYS = ("hCAGE", "LQhCAGE")
SPECIES = {"human": "Homo sapiens", "mouse": "Mus musculus"}
LICENCE = "CC BY 4.0; cite FANTOM Consortium 2014, Noguchi 2017"
PORTAL = "fantom"  # as the published track tables call it
# What the name of a treated sample says; and of one that is no single biosample.
TREATED = re.compile(
    r"treat|stimulat|infect|induc|exposed|response to|differentiation|knock|siRNA|transfect|\d+hr\b"
    r"|\bday\d\d",
    re.I,
)
MIXED = re.compile(r"universal|XpressRef|mixture", re.I)
_REPLICATE = re.compile(
    r"(?:,\s*|\s+)((?:biol_|tech_|biological |technical )?(?:rep|replicate)\s*\d+|donor\s*\d+\w*|pool\s*\d+)"
    r"\s*(?=,|$|\()",
    re.I,
)
_FILE = re.compile(
    r"(?P<name>.+)\.(?P<library>CNhs\d+)\.(?P<extract>[\w-]+)\.(?P<assembly>[a-z]+\d+)\.nobarcode"
)
_CURIE = re.compile(r"\b(?:UBERON|CL|CLO|EFO|BTO):\d{7}\b")


def list_fantom(ask: Ask, release: Release) -> Listing:
    """A CTSS file (both strands) of each untreated sample of the release's organisms.

    Replicates are the libraries of one biosample: the sample's name without donor or replicate. Its ontology
    term is that of the SDRF where a column has one; else it is unknown, and the name groups them. Refused are
    treated samples, mixtures of RNAs, and files that the SDRF does not know. `release.base_url` is another
    address of a phase (`.../hg38_v9`): not of hg19 or mm9, and not `latest`.
    """
    listing = Listing()
    for organism, phase in PHASES.items():
        assays = [assay for assay in ASSAYS if release.wants(organism, assay)]
        url = (release.base_url or f"{BASE}/{phase}").rstrip("/")
        if assays and release.base_url and not _is_of(url, organism):
            continue
        for assay in assays:
            check_phase(url)
            for kind in SAMPLES:
                _list_folder(ask, f"{url}/basic/{organism}.{kind}.{assay}/", organism, assay, listing)
    if not listing.rows and any(release.wants(o, a) for o in PHASES for a in ASSAYS):
        raise FileError(f"{release.base_url or BASE}: no CTSS files; the portal has moved or changed")
    return listing


def check_phase(url: str) -> None:
    """FileError for the address of an old assembly, or of a phase that moves."""
    if re.search(r"hg19|mm9", url):
        raise FileError(f"{url}: is of an old assembly; wanted hg38 or mm10 (`reprocessed`)")
    if "latest" in url:
        raise FileError(f"{url}: `latest` moves; name a phase, such as {PHASES['human']}")


def _is_of(url: str, organism: str) -> bool:
    return PHASES[organism].split("_")[0] in url or not re.search(r"hg\d+|mm\d+", url)


def _list_folder(ask: Ask, folder: str, organism: str, assay: str, listing: Listing) -> None:
    """Add a folder's samples; a folder that is not there has none."""
    page = ask(folder)
    if page.status == 404:
        LOGGER.info("%s: not there", folder)
        return
    names = links(page)
    tables = [name for name in names if re.fullmatch(r"00_.*assay_sdrf[^/]*\.txt", name)]
    known = samples_of(ask(f"{folder}{tables[-1]}"), organism) if tables else None
    if known is None:
        LOGGER.warning("%s: has no table of samples; the names of files tell them", folder)
    for name in names:
        if name.endswith(".ctss.bed.gz"):
            _add(name, folder, organism, assay, known, page.retrieved_utc, listing)


def links(page: Answer) -> list[str]:
    """Names that a folder's page links to, as they stand there: still encoded, each once, in its order."""
    found = re.findall(r'href="([^"?/]+)"', page.body.decode("utf-8", "replace"))
    return list(dict.fromkeys(html.unescape(name) for name in found))


def samples_of(answer: Answer, organism: str) -> dict[str, dict[str, str]]:
    """Samples of an SDRF by library (`CNhs...`): `name` and, where a column has one, `ontology_curie`.

    A column's name may be there several times: the first one counts. FileError for a missing column, or a
    table of another species.
    """
    if answer.status != 200:
        raise FileError(f"{answer.url}: HTTP {answer.status}; the table of samples cannot be read")
    lines = answer.body.decode("utf-8-sig", "replace").splitlines()
    header = lines[0].split("\t") if lines else []
    wanted = {"library": "Library Name", "name": "Comment [sample_name]", "species": "Comment [organism]"}
    if missing := [column for column in wanted.values() if column not in header]:
        raise FileError(
            f"{answer.url}: no column {', '.join(missing)}; found {', '.join(header)}; wanted an SDRF"
        )
    places = {key: header.index(column) for key, column in wanted.items()}
    found = {}
    for line in lines[1:]:
        fields = line.split("\t")
        if len(fields) <= max(places.values()):
            continue
        row = {key: fields[place] for key, place in places.items()}
        if row["species"] and row["species"] != SPECIES[organism]:
            raise FileError(
                f"{answer.url}: {row['library']} is of {row['species']}, wanted {SPECIES[organism]}"
            )
        term = _CURIE.search(" ".join(fields))
        found[row["library"]] = {"name": row["name"], "ontology_curie": term[0] if term else ""}
    return found


def _add(
    name: str, folder: str, organism: str, assay: str, known: dict[str, dict[str, str]] | None, utc: str,
    listing: Listing,
) -> None:  # fmt: skip
    """Add the row of a file, or what is wrong with it."""
    match = _FILE.match(unquote(unquote(name)))
    what: dict[str, Any] = {"portal": PORTAL, "assay": assay, "organism": organism,
                            "output_type": str(OutputType.CAGE)}  # fmt: skip
    if match is None:
        listing.refuse("name unknown", f"{folder}{name}: wanted sample.CNhs00000.library.hg38", **what)
        return
    library = match["library"]
    sample = (known or {}).get(library, {})
    full = sample.get("name") or match["name"]
    what |= {"accession": library, "experiment": library, "biosample": biosample_of(full)}
    assembly = PHASES[organism].split("_")[0]
    if match["assembly"] != assembly:
        listing.refuse("other assembly", f"{match['assembly']}, wanted {assembly}", **what)
    elif known is not None and not sample:
        listing.refuse("not in table", f"{library} is not in the table of samples", **what)
    elif TREATED.search(full):
        listing.refuse("treated", full, **what)
    elif MIXED.search(full):
        listing.refuse("mixture", full, **what)
    else:
        listing.rows.append(
            manifest_row(
                **what, assembly=assembly, ontology_curie=sample.get("ontology_curie") or None,
                life_stage=life_stage_of(full), replicate="1", url=f"{folder}{name}", licence=LICENCE,
                retrieved_utc=utc,
            )
        )  # fmt: skip


def biosample_of(name: str) -> str:
    """Name of a sample without its donor, pool or replicate."""
    return _REPLICATE.sub("", name).strip(" ,")


def life_stage_of(name: str) -> str | None:
    """Life stage that a sample's name tells, if any."""
    words: Iterator[str] = (stage for stage in ("adult", "fetal", "newborn", "neonate", "embryo", "infant"))
    return next((stage for stage in words if re.search(rf"\b{stage}\b", name, re.I)), None)
