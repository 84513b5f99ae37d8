"""The demo's files as a portal has them: objects of ENCODE and 4DN, and a user's table of what neither gives.

Made from the rows of the demo's own manifest. Accessions are numbered in the order of the demo's, so that
files of a group stand in the same order under either name. Three objects are there to be refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portal.server import Portal

SPECIES = {"alpha": "Demo alpha", "beta": "Demo beta"}
PLUS, MINUS, BOTH = (
    f"{words}signal of unique reads" for words in ("plus strand ", "minus strand ", "")
)  # fmt: skip
_FOLD = "fold change over control"
OUTPUT_TYPES = {  # output type and strand here: file format and output type of ENCODE
    ("dnase", "."): ("bam", "alignments"), ("atac", "."): ("bam", "alignments"),
    ("chip_tf", "."): ("bigWig", _FOLD), ("chip_histone", "."): ("bigWig", _FOLD),
    ("rna_seq", "+"): ("bigWig", PLUS), ("rna_seq", "-"): ("bigWig", MINUS),
    ("rna_seq", "."): ("bigWig", BOTH),
    ("procap", "+"): ("bigWig", PLUS), ("procap", "-"): ("bigWig", MINUS),
}  # fmt: skip
MAPS = "contact_maps"
Item = dict[str, Any]
Row = Mapping[str, str]


@dataclass
class Offer:
    """What a portal was given of the demo.

    paths: path on the portal by accession of the demo. names: accession of a portal by that of the demo.
    own: rows of the user's table. maps: rows of the table of contact maps. refused: (experiment, accession
    or empty) -> reason.
    """

    paths: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    own: list[dict[str, str]] = field(default_factory=list)
    maps: list[dict[str, str]] = field(default_factory=list)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)


def offer_demo(portal: Portal, rows: Iterable[Row], folder: Path) -> Offer:
    """Serve the files of `rows` (a manifest's), which lie in `folder`, and describe them."""
    offer, experiments = Offer(), {}
    ordered = sorted(rows, key=lambda row: row["accession"])
    for number, row in enumerate(ordered):
        name = Path(row["url"]).name
        body = (folder / name).read_bytes()
        sums = {"md5": hashlib.md5(body).hexdigest(), "size": len(body)}
        given = f"{number:06d}"
        if (row["output_type"], row["strand"]) in OUTPUT_TYPES:
            accession = f"ENCFF{given}"
        elif row["output_type"] == MAPS:
            accession = f"4DNFI{given}"
        else:
            accession = row["accession"]
        extension = name.partition(".")[2]
        path = f"/2021/05/05/{given}/{accession}.{extension}"
        url = portal.file(path, body)
        offer.paths[row["accession"]], offer.names[row["accession"]] = path, accession
        if accession.startswith("ENCFF"):
            number_of = experiments.setdefault(row["experiment"], f"{len(experiments):03d}")
            portal.items([_file(accession, number_of, row, url, sums)])
        elif accession.startswith("4DNFI"):
            portal.items([_map(accession, row, url, sums)])
            offer.maps.append(_published(accession, row, len(offer.maps)))
        else:
            offer.own.append({**row, "url": url, "md5": sums["md5"], "size": str(sums["size"])})
    for name, number_of in experiments.items():
        members = [row for row in ordered if row["experiment"] == name]
        files = [offer.names[row["accession"]] for row in members]
        portal.items(_experiment(number_of, members[0], files))
    _add_refused(portal, offer, ordered, experiments)
    return offer


def _experiment(number: str, row: Row, files: Iterable[str], **more: Any) -> list[Item]:
    """An Experiment, its default Analysis with these files, and the reads that they were made from."""
    sample = {"life_stage": row["life_stage"], "organism": {"scientific_name": SPECIES[row["organism"]]}}
    assembly = row["assembly"]
    experiment = {
        "@type": ["Experiment", "Dataset", "Item"], "accession": f"ENCSR000{number}", "status": "released",
        "assay_title": row["assay"], "assembly": [assembly], "biosample_summary": row["biosample"],
        "biosample_ontology": {"term_id": row["ontology_curie"], "term_name": row["biosample"],
                               "classification": "primary cell"},
        "default_analysis": f"/analyses/ENCAN000{number}/",
        "replicates": [{"biological_replicate_number": 1, "library": {"biosample": sample}}],
    }  # fmt: skip
    if row["target"]:
        experiment["target"] = {"label": row["target"]}
    analysis = {
        "@type": ["Analysis", "Item"], "@id": f"/analyses/ENCAN000{number}/", "status": "released",
        "accession": f"ENCAN000{number}", "assembly": assembly,
        "files": [{"accession": name} for name in files],
    }  # fmt: skip
    reads = {
        "@type": ["File", "Item"], "accession": f"ENCFFREADS{number}", "status": "released",
        "dataset": f"/experiments/ENCSR000{number}/", "file_format": "fastq", "output_type": "reads",
        "biological_replicates": [1, 2], "read_length": 100, "run_type": "paired-ended",
    }  # fmt: skip
    return [experiment | more, analysis, reads]


def _file(accession: str, number: str, row: Row, url: str, sums: Mapping[str, Any], **more: Any) -> Item:
    """A File of the experiment of a number; alignments tell their enrichment, as the portal's do."""
    file_format, output_type = OUTPUT_TYPES[row["output_type"], row["strand"]]
    replicate = int(row["replicate"])
    item = {
        "@type": ["File", "Item"], "accession": accession, "dataset": f"/experiments/ENCSR000{number}/",
        "status": "released", "file_format": file_format, "output_type": output_type,
        "assembly": row["assembly"], "biological_replicates": [replicate],
        "technical_replicates": [f"{replicate}_1"], "date_created": "2021-05-05T10:00:00.000000+00:00",
        "file_size": sums["size"], "md5sum": sums["md5"], "cloud_metadata": {"url": url},
    }  # fmt: skip
    if file_format == "bam":
        item |= {"mapped_read_length": 100, "quality_metrics": [{"spot1_score": 0.3, "frip": 0.3}]}
    return item | more


def _map(accession: str, row: Row, url: str, sums: Mapping[str, Any]) -> Item:
    """A contact map of 4DN in its open bucket."""
    return {
        "@type": ["FileProcessed", "File", "Item"], "accession": accession, "uuid": f"uuid-{accession}",
        "status": "released", "genome_assembly": row["assembly"], "file_format": {"file_format": "mcool"},
        "file_type": "contact matrix", "file_size": sums["size"], "md5sum": sums["md5"],
        "open_data_url": url, "source_experiment_sets": [{"accession": "4DNES000000"}],
        "track_and_facet_info": {"experiment_type": row["assay"], "biosource_name": row["biosample"]},
    }  # fmt: skip


def _published(accession: str, row: Row, channel: int) -> dict[str, str]:
    """The row of a contact map in the table of the maps that are listed."""
    columns = ("organism", "biosample", "ontology_curie", "assay")
    named = {name: row[name] for name in columns} | {"accession": accession, "channel": str(channel)}
    return {name: named[name] for name in (
        "organism", "channel", "accession", "biosample", "ontology_curie", "assay")}  # fmt: skip


def _add_refused(portal: Portal, offer: Offer, rows: Iterable[Row], experiments: Mapping[str, str]) -> None:
    """A revoked file, a file of an older analysis, and an experiment with an ERROR audit, of each organism.

    None of them lies on the portal: who asks for one is answered with 404.
    """
    sums = {"md5": "0" * 32, "size": 1}
    for count, organism in enumerate(SPECIES):
        of = [row for row in rows if row["organism"] == organism and row["replicate"] == "1"]
        alignments = next(row for row in of if row["output_type"] == "dnase")
        signal = next(row for row in of if row["output_type"] == "chip_tf")
        mark = next(row for row in of if row["output_type"] == "chip_histone")
        revoked, older, audited = (f"ENCFFBAD{count}{letter}" for letter in "ROA")
        url, number = f"{portal.url}/refused", f"9{count:02d}"
        of_reads, of_signal = (experiments[row["experiment"]] for row in (alignments, signal))
        audit = {"ERROR": [{"category": "extremely low read depth"}]}
        portal.items([
            _file(revoked, of_reads, alignments, f"{url}/{revoked}.bam", sums, status="revoked"),
            _file(older, of_signal, signal, f"{url}/{older}.bigWig", sums),
            _file(audited, number, mark, f"{url}/{audited}.bigWig", sums),
            *_experiment(number, mark, [audited], audit=audit, target={"label": "H3K9me3"}),
        ])  # fmt: skip
        offer.refused |= {
            (f"ENCSR000{of_reads}", revoked): "status", (f"ENCSR000{of_signal}", older): "other analysis",
            (f"ENCSR000{number}", audited): "audit", (f"ENCSR000{number}", ""): "no file",
        }  # fmt: skip
