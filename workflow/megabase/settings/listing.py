"""How `megabase list-sources` chooses files of portals; read by that command, not by the workflow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from megabase.settings.section import Positive, Section


class ListingSettings(Section):
    """Which tables hold the rules, and what happens where a portal does not tell (docs/listing.md)."""

    assay_rules: str = Field("resources/assay_rules.tsv", description="table of files and limits by assay")
    audit_rules: str = Field("resources/audit_rules.tsv", description="table of audits: refused or accepted")
    priority_rules: str = Field("resources/priority_rules.tsv", description="table of priorities in a group")
    unknown: Literal["refuse", "accept"] = Field(
        "refuse",
        description="a file whose read length or FRiP the portal does not tell, where there is a limit",
    )
    assemblies: dict[str, str] = Field(
        {"human": "GRCh38", "mouse": "mm10"},
        description="organism: assembly of its files, as ENCODE writes it",
    )
    species: dict[str, str] = Field(
        {"human": "Homo sapiens", "mouse": "Mus musculus"},
        description="organism: scientific name of its samples, as ENCODE writes it",
    )
    map_assemblies: dict[str, str] = Field(
        {"human": "GRCh38", "mouse": "GRCm38"},
        description="organism: assembly of its contact maps, as 4DN writes it",
    )
    contact_maps: str = Field(
        "resources/contact_maps.tsv", description="table of the contact maps that the portal `4dn` lists"
    )
    batch: Positive = Field(50, le=50, description="objects that are asked for in one request")
