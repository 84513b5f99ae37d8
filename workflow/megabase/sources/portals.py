"""The portals that a release is listed from, one line each; what a listing is given and gives back."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from megabase.files import FileError
from megabase.settings.listing import ListingSettings
from megabase.sources.ask import Asker

# Name on the command line: (module, function `list_x(ask, release) -> Listing`), imported when asked for.
PORTALS: dict[str, tuple[str, str]] = {
    "encode": ("megabase.sources.encode", "list_encode"),
    "4dn": ("megabase.sources.fourdn", "list_4dn"),
    "gtex": ("megabase.sources.gtex", "list_gtex"),
    "tables": ("megabase.sources.tables.registry", "list_tables"),
    "eqtl-catalogue": ("megabase.sources.eqtl_catalogue", "list_eqtl_catalogue"),
    "references": ("megabase.sources.references", "list_references"),
    "gnomad": ("megabase.sources.variant_sets", "list_gnomad"),
    "clinvar": ("megabase.sources.variant_sets", "list_clinvar"),
    "1000genomes": ("megabase.sources.variant_sets", "list_1000genomes"),
    "dbsnp": ("megabase.sources.variant_sets", "list_dbsnp"),
    "fantom5": ("megabase.sources.fantom", "list_fantom"),
    "4dn-all": ("megabase.sources.fourdn", "list_4dn_all"),
}
REFUSED_COLUMNS = (
    "portal", "experiment", "accession", "assay", "output_type", "organism", "biosample", "reason", "detail",
)  # fmt: skip


@dataclass(frozen=True)
class Release:
    """What to list: organisms and assays (none: all that a portal has rules for), and how to choose.

    base_url: address to ask instead of the portal's own (a mirror, a test); none: the portal's own.
    """

    name: str
    organisms: tuple[str, ...] = ()
    assays: tuple[str, ...] = ()
    base_url: str | None = None
    settings: ListingSettings = field(default_factory=ListingSettings)

    def wants(self, organism: str, assay: str) -> bool:
        """Whether files of an organism and assay are to be listed."""
        return organism in (self.organisms or (organism,)) and assay in (self.assays or (assay,))


@dataclass
class Listing:
    """What a portal has: rows of MANIFEST_COLUMNS to use, and of REFUSED_COLUMNS with the reason of each.

    A refused row without an accession is a whole experiment; `reason` is one of a few words that a summary
    counts by, `detail` what was found and wanted.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, reason: str, detail: str, **what: Any) -> None:
        """Add a refused experiment or file; `what`: other columns of REFUSED_COLUMNS."""
        self.refused.append({**dict.fromkeys(REFUSED_COLUMNS), **what, "reason": reason, "detail": detail})


def list_portal(name: str, ask: Asker, release: Release) -> Listing:
    """The listing of one portal, its rows in an order that depends on them alone."""
    found = listing_function(name)(ask, release)
    return Listing(sorted(found.rows, key=row_order), sorted(found.refused, key=_refused_order))


def listing_function(name: str) -> Callable[[Asker, Release], Listing]:
    """The function that lists a portal; FileError for a portal that is not known, with the nearest name."""
    if name not in PORTALS:
        near = difflib.get_close_matches(name, PORTALS, n=1, cutoff=0.0)[0]
        raise FileError(f"portal {name!r} is not known; nearest: {near} (known: {', '.join(PORTALS)})")
    module, function = PORTALS[name]
    return getattr(import_module(module), function)


def row_order(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Key that manifest rows are sorted by: groups stay together, strands of a replicate side by side."""
    columns = ("portal", "organism", "output_type", "assay", "ontology_curie", "biosample", "target",
               "experiment", "replicate", "strand", "accession")  # fmt: skip
    return tuple(str(row.get(column) or "") for column in columns)


def _refused_order(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row.get(column) or "") for column in REFUSED_COLUMNS)
