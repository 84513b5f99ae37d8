"""GTEx v8 RNA-seq: coverage (bigWig) of every sample and junctions of every tissue, as recount3 aligned them.

The portal of GTEx itself offers no coverage. Addresses follow recount3's rule: project `SKIN` lies in the
folder of its last two letters, a sample in that of the two letters before its dot (LieberInstitute/recount3,
locate_url.R). MD5 sums are not published.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from megabase.files import FileError
from megabase.sources.ask import Answer
from megabase.sources.portals import Listing, Release
from megabase.sources.resources import Ask, manifest_row, read_resource
from megabase.spec import OutputType

BASE = "https://recount-opendata.s3.amazonaws.com/recount3/release"  # a plain bucket: sizes, ranges, no login
MIRRORS = (BASE, "http://duffel.rail.bio/recount3", "https://data.idies.jhu.edu/recount3/data")
PORTAL = "gtex"
ASSAY = "polyA plus RNA-seq"
ASSEMBLY = "GRCh38"
LICENCE = "GTEx open access; recount3 CC BY 4.0; cite GTEx 2020 and Wilks 2021"
USED = "RNASEQ"  # of SMAFRZE: the samples of the v8 analysis freeze, 17,382 in 54 tissues
TISSUES = ("tissue", "ontology_curie", "biosample")
JUNCTION_FILES = ("MM", "RR", "ID")  # counts (Matrix Market), introns, samples
_SAMPLE = re.compile(r"[A-Za-z0-9-]*?([A-Za-z0-9]{2})\.\d+")


def list_gtex(ask: Ask, release: Release) -> Listing:
    """A bigWig of each sample, and the junction files and sample table of each project.

    Samples are those of the analysis freeze (SMAFRZE is RNASEQ; the publication says "used for GTEx eQTL
    analysis", which 5 of its 54 tissues are too small for, so the freeze is what all 54 share). A sample is
    one individual (`replicate` is the subject) of one of the 54 tissues; its terms are the published ones.
    """
    listing = Listing()
    if not release.wants("human", ASSAY):
        return listing
    base = (release.base_url or BASE).rstrip("/")
    tissues = tissue_terms()
    projects = _table(
        ask(f"{base}/human/data_sources/gtex/metadata/gtex.recount_project.MD.gz"), ("project",)
    )
    for project in sorted(set(projects["project"])):
        answer = ask(f"{project_url(project, 'metadata', base)}/gtex.gtex.{project}.MD.gz")
        rows = list(_samples(answer, project, tissues, base, listing))
        listing.rows += rows
        if rows:
            listing.rows += junction_rows(project, base, answer.retrieved_utc)
    return listing


def tissue_terms() -> dict[str, dict[str, str]]:
    """Rows of `resources/gtex_tissues.tsv` by tissue: the term and biosample of the published tracks."""
    return {row["tissue"]: row for row in read_resource("gtex_tissues", TISSUES)}


def tissue_of(detail: str) -> str:
    """`Adipose_Visceral_Omentum` of `Adipose - Visceral (Omentum)`: a tissue's name in GTEx's file names."""
    return re.sub(r"[\s()]+", " ", detail.replace(" - ", " ")).strip().replace(" ", "_")


def project_url(project: str, kind: str, base: str = BASE) -> str:
    """Folder of a project's files of a kind: `metadata`, `base_sums` or `junctions`."""
    return f"{base}/human/data_sources/gtex/{kind}/{project[-2:]}/{project}"


def bigwig_url(project: str, sample: str, base: str = BASE) -> str:
    """Address of a sample's coverage; ValueError for a name without the aligner's `.1` behind it."""
    match = _SAMPLE.fullmatch(sample)
    if match is None:
        raise ValueError(f"sample {sample!r}; wanted recount3's external_id, such as GTEX-1117F-...-5GZYI.1")
    folder = f"{project_url(project, 'base_sums', base)}/{match[1].upper()}"
    return f"{folder}/gtex.base_sums.{project}_{sample}.ALL.bw"


def junction_rows(project: str, base: str, retrieved_utc: str) -> Iterator[dict[str, Any]]:
    """Rows of a project's junction files (uniquely mapped reads) and of the table of its samples.

    A project has all samples of an organ, a file the columns of all its tissues: which column is of which
    tissue the sample table tells (`megabase.tracks.recount3`).
    """
    folder = project_url(project, "junctions", base)
    urls = {kind: f"{folder}/gtex.junctions.{project}.UNIQUE.{kind}.gz" for kind in JUNCTION_FILES}
    urls["MD"] = f"{project_url(project, 'metadata', base)}/gtex.gtex.{project}.MD.gz"
    for kind, url in urls.items():
        yield manifest_row(
            portal=PORTAL, accession=f"{project}.{kind}", experiment=project, assay=ASSAY, organism="human",
            output_type=str(OutputType.SPLICE_JUNCTIONS), assembly=ASSEMBLY, life_stage="adult", url=url,
            licence=LICENCE, retrieved_utc=retrieved_utc,
        )  # fmt: skip


def _samples(
    answer: Answer, project: str, tissues: Mapping[str, Mapping[str, str]], base: str, listing: Listing
) -> Iterator[dict[str, Any]]:
    """Rows of a project's samples; what is not used goes to `listing.refused` with its reason."""
    table = _table(answer, ("smtsd", "smafrze", "subjid")).sort("sample")
    seen: set[tuple[str, str]] = set()
    for sample in table.iter_rows(named=True):
        tissue = tissue_of(sample["smtsd"] or "")
        who = {"portal": PORTAL, "accession": sample["sample"], "experiment": project, "assay": ASSAY,
               "organism": "human", "output_type": str(OutputType.RNA_SEQ), "biosample": tissue}  # fmt: skip
        if sample["smafrze"] != USED:
            listing.refuse("not analysed", f"SMAFRZE is {sample['smafrze']}, wanted {USED}", **who)
        elif tissue not in tissues:
            listing.refuse("tissue unknown", f"{sample['smtsd']} is none of the 54 tissues", **who)
        elif (sample["subjid"], tissue) in seen:
            listing.refuse("second sample", f"of {sample['subjid']}; the first one is used", **who)
        else:
            seen.add((sample["subjid"], tissue))
            yield manifest_row(**who) | {
                "biosample": tissues[tissue]["biosample"], "experiment": tissue, "assembly": ASSEMBLY,
                "ontology_curie": tissues[tissue]["ontology_curie"], "life_stage": "adult", "strand": ".",
                "replicate": sample["subjid"], "url": bigwig_url(project, sample["sample"], base),
                "licence": LICENCE, "retrieved_utc": answer.retrieved_utc,
            }  # fmt: skip


def _table(answer: Answer, columns: Iterable[str]) -> pl.DataFrame:
    """A metadata table of recount3: `sample` (external_id) and `columns`, by name in any case."""
    if answer.status != 200:
        raise FileError(f"{answer.url}: HTTP {answer.status}; try a mirror ({', '.join(MIRRORS)})")
    return metadata_table(answer.body, columns, answer.url)


def metadata_table(body: bytes, columns: Iterable[str], name: str) -> pl.DataFrame:
    """Strings of a recount3 metadata table (TSV, plain or gzip): `sample`, `rail_id` and `columns`.

    Names of columns are matched in any case; `sample` is `external_id` or, in older tables, `run_acc`.
    FileError names the column that is missing, and what was found.
    """
    try:
        text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        table = pl.read_csv(text, separator="\t", infer_schema_length=0, quote_char=None)
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        raise FileError(f"{name}: not a table of recount3 ({error}); ask again") from error
    table = table.rename({column: column.lower() for column in table.columns})
    key = next((column for column in ("external_id", "run_acc") if column in table.columns), "external_id")
    wanted = {"sample": key, "rail_id": "rail_id"} | {column: column for column in columns}
    missing = [column for column in wanted.values() if column not in table.columns]
    if missing:
        raise FileError(
            f"{name}: no column {', '.join(missing)}; found {', '.join(table.columns)}; "
            "wanted a metadata table of recount3"
        )
    return table.select(**{new: pl.col(old) for new, old in wanted.items()})
