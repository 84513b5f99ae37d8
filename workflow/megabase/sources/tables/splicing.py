"""Variants of splicing with a verdict: MFASS (a reporter assay) and ClinVar."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.sources.tables.chromatin import as_label
from megabase.sources.tables.columns import Table, finish
from megabase.sources.tables.reading import Part, pick

STARS = {
    "criteria_provided,_single_submitter": 1, "criteria_provided,_conflicting_classifications": 1,
    "criteria_provided,_conflicting_interpretations": 1,
    "criteria_provided,_multiple_submitters,_no_conflicts": 2, "reviewed_by_expert_panel": 3,
    "practice_guideline": 4,
}  # fmt: skip
_PATHOGENIC = {"Pathogenic", "Likely_pathogenic", "Pathogenic/Likely_pathogenic"}
_BENIGN = {"Benign", "Likely_benign", "Benign/Likely_benign"}


def read_mfass(part: Part, tissue: str = "") -> Table:
    """MFASS's `snv_data_clean.txt` on GRCh38: effect is the change of exon inclusion (`v2_dpsi`).

    label: 1 for a splice-disrupting variant (`strong_lof`: inclusion falls by half or more). Rows that are
    controls and no variants have no position, and are rejected.
    """
    names = {
        "chrom": "chr", "at": ("snp_position_hg38_1based",), "ref": "ref_allele", "alt": "alt_allele",
        "effect": "v2_dpsi", "label": "strong_lof?", "source_id": "id", "strand": "strand?",
    }  # fmt: skip
    table = pick(part, names, "MFASS's snv_data_clean.txt")
    table = table.with_columns(
        pl.col("at").str.replace(r"\.0$", ""), label=as_label(pl.col("label")),
        tissue=pl.lit(tissue or "HEK293T"),
    )  # fmt: skip
    return finish(table, "mfass", part, ["strand"])


def read_clinvar(part: Part, tissue: str = "", *, min_stars: int = 1) -> Table:
    """Classified variants of ClinVar's VCF (GRCh38): label 1 of (likely) pathogenic, 0 of (likely) benign.

    min_stars: review stars that a variant needs (AlphaGenome: one or more). Variants of another significance
    are no part of the table, and are counted in the log. `stars`, `gene` (`GENEINFO`) and `consequence`
    (`MC`, terms of all transcripts) stand behind the columns. FileError for a VCF of another assembly, or one
    that is cut short.
    """
    if not isinstance(part.data, Path):
        raise FileError(f"{part.name}: wanted a VCF file, not a member of an archive")
    rows, others = [], 0
    for record, fields in _records(part.data):
        info = dict(item.partition("=")[::2] for item in fields[7].split(";"))
        significance, stars = info.get("CLNSIG", ""), STARS.get(info.get("CLNREVSTAT", ""), 0)
        if significance not in _PATHOGENIC | _BENIGN or stars < min_stars:
            others += 1
            continue
        terms = ",".join(term.rpartition("|")[2] for term in info.get("MC", "").split(",") if term)
        gene, label = info.get("GENEINFO", "").split(":")[0] or None, int(significance in _PATHOGENIC)
        rows.append((record, *fields[:2], *fields[3:5], label, fields[2], gene, stars, terms or None))
    LOGGER.info("%s: %d variants classified, %d others left out", part.name, len(rows), others)
    names = ["row", "chrom", "at", "ref", "alt", "label", "source_id", "gene", "stars", "consequence"]
    if not rows:
        raise FileError(
            f"{part.name}: no classified variant of {min_stars} or more stars (CLNSIG, CLNREVSTAT)"
        )
    table = pl.DataFrame(rows, schema=names, orient="row")
    return finish(table, "clinvar", part, ["gene", "stars", "consequence"])


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number, fields) of the records of a VCF, plain or gzip."""
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    record, header = 0, False
    try:
        with gzip.open(path, "rt") if packed else path.open() as lines:
            for line in lines:
                if line.startswith("##reference=") and "GRCh37" in line:
                    raise FileError(f"{path}: {line.strip()}; wanted ClinVar's vcf_GRCh38")
                if line.startswith("#"):
                    header |= line.startswith("#CHROM")
                    continue
                record += 1
                fields = line.rstrip("\n").split("\t")
                if len(fields) < 8 or not header:
                    raise FileError(
                        f"{path}: record {record}: {len(fields)} fields, wanted a VCF; fetch it again"
                    )
                yield record, fields
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as a VCF ({error}); fetch it again") from error
