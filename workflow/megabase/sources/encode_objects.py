"""Experiments and files as ENCODE describes them, with every calculated field optional.

The portal's objects are JSON of which any field may be missing (older objects, other pipelines); here they
become records in which unknown is empty or None. Field names: portals' schema of Experiment and File.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from megabase.files import hash_json

EXPERIMENT_FIELDS = (
    "accession", "status", "assay_title", "control_type", "perturbed", "target.label", "biosample_summary",
    "biosample_ontology.term_id", "biosample_ontology.term_name", "biosample_ontology.classification",
    "default_analysis", "audit.ERROR.category", "audit.NOT_COMPLIANT.category", "audit.WARNING.category",
    "replicates.biological_replicate_number", "replicates.library.treatments.treatment_term_name",
    "replicates.library.biosample.life_stage", "replicates.library.biosample.organism.scientific_name",
    "replicates.library.biosample.treatments.treatment_term_name", "replicates.library.biosample.phase",
    "replicates.library.biosample.synchronization",
    "replicates.library.biosample.subcellular_fraction_term_name",
    "replicates.library.biosample.genetic_modifications",
    "replicates.library.biosample.applied_modifications.@id",
)  # fmt: skip
FILE_FIELDS = (
    "accession", "status", "dataset", "file_format", "output_type", "assembly", "biological_replicates",
    "technical_replicates", "date_created", "file_size", "md5sum", "cloud_metadata.url", "no_file_available",
    "restricted", "derived_from", "mapped_read_length", "read_length", "mapped_run_type", "run_type",
    "quality_metrics.frip", "quality_metrics.FRiP", "quality_metrics.spot1_score", "supersedes",
)  # fmt: skip
AUDIT_LEVELS = ("ERROR", "NOT_COMPLIANT", "WARNING")  # that everybody may see, worst first
FRACTIONS_OF_READS = ("frip", "FRiP", "spot1_score")  # of ChIP-seq, ATAC-seq and DNase-seq pipelines
_LONGEST = 150  # characters of a modification that are kept as they are
_MODIFIED = ("genetically modified", "stably expressing", "transiently expressing", "expressing")


@dataclass(frozen=True)
class Experiment:
    """What decides on an experiment. `modification`: how its line was changed, in words; empty: not."""

    accession: str
    status: str = ""
    assay: str = ""
    control: str = ""
    curie: str = ""
    biosample: str = ""
    classification: str = ""
    target: str = ""
    analysis: str = ""  # accession of the default analysis
    life_stage: str = ""  # more than one: joined by commas
    species: tuple[str, ...] = ()
    sampled: bool = False  # whether the portal tells of its samples at all
    perturbed: bool = False
    modification: str = ""
    treatments: tuple[str, ...] = ()
    cell_cycle: tuple[str, ...] = ()
    fractions: tuple[str, ...] = ()
    audits: tuple[tuple[str, str], ...] = ()  # (level, category)


@dataclass(frozen=True)
class PortalFile:
    """What decides on a file; `sources` are the accessions that it was made from, `created` an ISO date."""

    accession: str
    dataset: str = ""
    status: str = ""
    file_format: str = ""
    output_type: str = ""
    assembly: str = ""
    replicates: tuple[int, ...] = ()
    technical: tuple[str, ...] = ()
    created: str = ""
    url: str = ""
    md5: str = ""
    size: int | None = None
    sources: tuple[str, ...] = ()
    read_length: int | None = None
    run_type: str = ""
    frip: float | None = None  # the best of its quality metrics, 0 to 1
    supersedes: tuple[str, ...] = ()


def values(item: Any, path: str) -> list[Any]:
    """What stands at a dotted path of an object, through lists at any depth, without null."""
    found = [item]
    for name in path.split("."):
        found = [one.get(name) for one in _flat(found) if isinstance(one, Mapping)]
    return list(_flat(found))


def _flat(items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        if isinstance(item, list | tuple):
            yield from _flat(item)
        elif item is not None:
            yield item


def accession_of(value: Any) -> str:
    """Accession of a link: `/files/ENCFF000AAA/`, the object itself, or an accession."""
    if isinstance(value, Mapping):
        value = value.get("accession") or value.get("@id") or ""
    return str(value).strip("/").rpartition("/")[2]


def experiment_of(item: Mapping[str, Any]) -> Experiment:
    """The record of an Experiment object."""
    sample = "replicates.library.biosample"
    summary = _text(item, "biosample_summary")
    modified = values(item, f"{sample}.genetic_modifications") + values(
        item, f"{sample}.applied_modifications"
    )
    return Experiment(
        accession=accession_of(item),
        status=_text(item, "status"),
        assay=_text(item, "assay_title"),
        control=_text(item, "control_type"),
        curie=_text(item, "biosample_ontology.term_id"),
        biosample=_text(item, "biosample_ontology.term_name"),
        classification=_text(item, "biosample_ontology.classification"),
        target=_text(item, "target.label"),
        analysis=next(map(accession_of, values(item, "default_analysis")), ""),
        life_stage=",".join(_distinct(values(item, f"{sample}.life_stage"))),
        species=_distinct(values(item, f"{sample}.organism.scientific_name")),
        sampled=bool(values(item, sample)),
        perturbed=True in values(item, "perturbed"),
        modification=modification_of(summary, bool(modified)),
        treatments=_distinct(
            [*values(item, f"{sample}.treatments"), *values(item, "replicates.library.treatments")]
        ),
        cell_cycle=_distinct([*values(item, f"{sample}.phase"), *values(item, f"{sample}.synchronization")]),
        fractions=_distinct(values(item, f"{sample}.subcellular_fraction_term_name")),
        audits=tuple(
            (level, str(category))
            for level in AUDIT_LEVELS
            for category in sorted(set(map(str, values(item, f"audit.{level}.category"))))
        ),
    )


def modification_of(summary: str, modified: bool) -> str:
    """How a line was modified, in the words of its summary (`genetically modified (insertion) using ...`).

    Empty where it was not. The words are what tells its track from that of the plain line, as in the
    published track table, where a modified line has a channel of its own.
    """
    start = _start_of_modification(summary)
    how = summary[start:] if start < len(summary) else "genetically modified" if modified else ""
    if len(how) > _LONGEST:  # it is part of a folder's name
        how = f"{how[:_LONGEST]} {hash_json(how)[:8]}"
    return how


def plain_assay(assay: str) -> str:
    """An assay without the words that tell how its line was modified."""
    return assay[: _start_of_modification(assay)].strip()


def _start_of_modification(text: str) -> int:
    return min((text.find(words) for words in _MODIFIED if words in text), default=len(text))


def file_of(item: Mapping[str, Any]) -> PortalFile:
    """The record of a File object; a file that the portal does not hand out has no URL."""
    withheld = True in values(item, "restricted") or True in values(item, "no_file_available")
    lengths = [*values(item, "mapped_read_length"), *values(item, "read_length")]
    fractions = [v for name in FRACTIONS_OF_READS for v in values(item, f"quality_metrics.{name}")]
    size = next(iter(values(item, "file_size")), None)
    return PortalFile(
        accession=accession_of(item),
        dataset=next(map(accession_of, values(item, "dataset")), ""),
        status=_text(item, "status"),
        file_format=_text(item, "file_format"),
        output_type=_text(item, "output_type"),
        assembly=_text(item, "assembly"),
        replicates=tuple(sorted({int(n) for n in values(item, "biological_replicates")})),
        technical=tuple(sorted({str(n) for n in values(item, "technical_replicates")})),
        created=_text(item, "date_created")[:10],
        url="" if withheld else _text(item, "cloud_metadata.url"),
        md5=_text(item, "md5sum"),
        size=None if size is None else int(size),
        sources=tuple(map(accession_of, values(item, "derived_from"))),
        read_length=int(lengths[0]) if lengths else None,
        run_type=next(map(str, [*values(item, "mapped_run_type"), *values(item, "run_type")]), ""),
        frip=max(map(float, fractions), default=None),
        supersedes=tuple(sorted(map(accession_of, values(item, "supersedes")))),
    )


def _text(item: Mapping[str, Any], path: str) -> str:
    return next(map(str, values(item, path)), "")


def _distinct(items: Iterable[Any]) -> tuple[str, ...]:
    """Names, each once, sorted: of strings, or of objects (the term's name, else their path)."""
    names = (
        str(item.get("treatment_term_name") or item.get("@id") or "unnamed") if isinstance(item, Mapping)
        else str(item)
        for item in items
    )  # fmt: skip
    return tuple(sorted(set(names)))
