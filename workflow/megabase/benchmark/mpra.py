"""Reader of saturation-mutagenesis MPRAs (Kircher et al. 2019): one contig an element, as it was measured.

The genome of such a benchmark is the FASTA of the elements, prepared like any genome; a contig is named
`element|assembly|chrom:start-end` (0-based half-open). The table's positions are 1-based on the assembly.
Several experiments may share a sequence; each has its own contig, so that no measurement is pooled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from megabase.benchmark.qtl import REJECTED, Source, variant_id
from megabase.files import FileError
from megabase.sequence import decode

if TYPE_CHECKING:
    from megabase.genome import Genome

REQUIRED = ("Pos", "Ref", "Alt", "Barcodes", "Coefficient", "pValue", "Element", "Release")
_CONTIG = re.compile(r"^(?P<element>.+)\|(?P<release>[^|]+)\|(?P<chrom>.+):(?P<start>\d+)-(?P<end>\d+)$")

# Cell line that each element was measured in (Kircher et al. 2019, Nature Communications 10:3583, Table 1).
# The published tables name the element only. Matched against the biosamples of tracks.
CELL_LINES = {
    "F9": "HepG2", "FOXE1": "HeLa", "GP1BA": "HEL 92.1.7", "HBB": "HEL 92.1.7", "HBG1": "HEL 92.1.7",
    "HNF4A": "HEK293T", "LDLR": "HepG2", "LDLR.2": "HepG2", "MSMB": "HEK293T", "PKLR-24h": "K562",
    "PKLR-48h": "K562", "TERT-GAa": "SF7996", "TERT-GBM": "SF7996", "TERT-GSc": "SF7996",
    "TERT-HEK": "HEK293T", "BCL11A": "HEL 92.1.7", "IRF4": "SK-MEL-28", "IRF6": "HaCaT",
    "MYCrs6983267": "HEK293T", "MYCrs11986220": "LNCaP", "RET": "Neuro-2a", "SORT1": "HepG2",
    "SORT1.2": "HepG2", "SORT1-flip": "HepG2", "TCF7L2": "MIN6", "UC88": "Neuro-2a", "ZFAND3": "MIN6",
    "ZRSh-13": "NIH/3T3", "ZRSh-13h2": "NIH/3T3",
}  # fmt: skip


def element_contigs(genome: Genome) -> pl.DataFrame:
    """Contigs of an element genome: `chrom` (contig name), `element`, `release`, `start`, `length`.

    FileError if no contig is named `element|assembly|chrom:start-end`, or if a name and a length disagree.
    """
    rows = []
    for name, length in genome.lengths.items():
        match = _CONTIG.match(name)
        if match is None:
            continue
        start, end = int(match["start"]), int(match["end"])
        if end - start != length:
            raise FileError(
                f"genome {genome.name}: contig {name} has {length} bases, its name says {end - start}"
            )
        rows.append((name, match["element"], match["release"], start, length))
    if not rows:
        raise FileError(
            f"genome {genome.name}: no contig named `element|assembly|chrom:start-end` among "
            f"{', '.join(list(genome.lengths)[:3])}; wanted the FASTA of the MPRA's elements"
        )
    return pl.DataFrame(rows, schema=["chrom", "element", "release", "start", "length"], orient="row")


def read_mpra(source: Source, genome: Genome) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(measured variants, rejected rows) of one table.

    Accepted: `row, variant_id, chrom, position, ref, alt, element, effect, p_value, barcodes`; positions are
    0-based on the element's contig; `effect` is the table's log2 coefficient. A deletion, written `-`, is
    anchored at the base before it (at the base after it, where it is the contig's first), as VCF asks.
    """
    table = _parse(source)
    contigs = element_contigs(genome)
    joined = table.join(contigs, on=["element", "release"], how="left", maintain_order="left").with_columns(
        offset=pl.col("at") - 1 - pl.col("start")
    )
    checked = [_check(genome, **row) for row in joined.select(_CHECKED).iter_rows(named=True)]
    joined = joined.drop("ref", "alt").with_columns(
        reason=pl.Series([c[0] for c in checked], dtype=pl.String),
        detail=pl.Series([c[1] for c in checked], dtype=pl.String),
        position=pl.Series([c[2] for c in checked], dtype=pl.Int64),
        ref=pl.Series([c[3] for c in checked], dtype=pl.String),
        alt=pl.Series([c[4] for c in checked], dtype=pl.String),
    )
    accepted = joined.filter(pl.col("reason") == "").with_columns(variant_id=variant_id())
    accepted, repeated = _split_repeated(accepted)
    rejected = pl.concat([joined.filter(pl.col("reason") != ""), repeated], how="diagonal")
    return accepted.select(_ACCEPTED), _rejected(rejected, source)


_CHECKED = ("chrom", "offset", "length", "ref", "alt", "effect", "element", "release")
_ACCEPTED = (
    "row", "variant_id", "chrom", "position", "ref", "alt", "element", "effect", "p_value", "barcodes",
)  # fmt: skip


def _parse(source: Source) -> pl.DataFrame:
    table = pl.read_csv(source.path, separator="\t", infer_schema_length=0)
    missing = [c for c in REQUIRED if c not in table.columns]
    if missing:
        raise FileError(
            f"{source.path}: no column {', '.join(missing)}; found {', '.join(table.columns)}; "
            "wanted a saturation-mutagenesis table"
        )
    return table.with_row_index("row", offset=1).select(
        pl.col("row").cast(pl.Int64),
        at=pl.col("Pos").cast(pl.Int64, strict=False),
        ref=pl.col("Ref").str.to_uppercase(),
        alt=pl.col("Alt").str.to_uppercase(),
        barcodes=pl.col("Barcodes").cast(pl.Int64, strict=False),
        effect=pl.col("Coefficient").cast(pl.Float64, strict=False),
        p_value=pl.col("pValue").cast(pl.Float64, strict=False),
        element=pl.col("Element"),
        release=pl.col("Release"),
        variant=pl.format("{}:{}:{}:{}", pl.col("Element"), "Pos", "Ref", "Alt"),
    )


def _check(
    genome: Genome,
    *,
    chrom: str | None,
    offset: int | None,
    length: int | None,
    ref: str,
    alt: str,
    effect: float | None,
    element: str,
    release: str,
) -> tuple[str, str, int | None, str | None, str | None]:
    """(reason, detail, position, ref, alt) of one row; an empty reason where it is accepted."""
    if chrom is None or length is None:
        return "element_unknown", f"no contig of {element} on {release}", None, None, None
    if offset is None:
        return "no_position", "Pos is not a number", None, None, None
    if not 0 <= offset < length:
        return "off_contig", f"{offset} bases from the element's start, it has {length}", None, None, None
    if len(ref) != 1 or ref not in "ACGT" or len(alt) != 1 or alt not in "ACGT-" or ref == alt:
        return "allele_not_acgt", f"alleles {ref}>{alt}", None, None, None
    if effect is None or not np.isfinite(effect):
        return "no_effect", "Coefficient is not a number", None, None, None
    found = decode(genome.codes(chrom, offset, offset + 1))
    if found != ref:
        return "ref_mismatch", f"element has {found}, table has {ref}", None, None, None
    if alt != "-":
        return "", "", offset, ref, alt
    return "", "", *_anchored(genome, chrom, offset)


def _anchored(genome: Genome, chrom: str, offset: int) -> tuple[int, str, str]:
    """VCF position and alleles of the deletion of one base."""
    start = max(offset - 1, 0)
    both = decode(genome.codes(chrom, start, start + 2))
    return start, both, both[0] if offset else both[1]


def _split_repeated(accepted: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(first row of each variant, its later rows as rejected)."""
    first = accepted.unique("variant_id", keep="first", maintain_order=True)
    later = accepted.join(first.select("row"), on="row", how="anti", maintain_order="left")
    return first, later.with_columns(
        reason=pl.lit("duplicate"), detail=pl.lit("variant is in an earlier row")
    )


def _rejected(rows: pl.DataFrame, source: Source) -> pl.DataFrame:
    return rows.select(
        table=pl.lit(source.path.name),
        row="row",
        variant="variant",
        group="element",
        reason="reason",
        detail="detail",
    ).cast(REJECTED)
