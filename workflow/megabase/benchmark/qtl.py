"""Readers of fine-mapped QTLs: eQTL Catalogue SuSiE credible sets, by column name.

The Catalogue's header differs from its own documentation, so columns are found by name. A variant is written
`chr1_108004887_G_T` (1-based, the effect allele is ALT); a variant with several rsIDs has several rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from megabase.files import FileError
from megabase.sequence import decode, encode
from megabase.spec import QTL_COLUMNS, UNKNOWN_BASE

if TYPE_CHECKING:
    from megabase.genome import Genome

REQUIRED = ("gene_id", "variant", "pip", "beta")
REJECTED = {
    "table": pl.String, "row": pl.Int64, "variant": pl.String, "group": pl.String,
    "reason": pl.String, "detail": pl.String,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """One input table of a benchmark: its path, the tissue that it measured, the tissue's ontology term."""

    path: Path
    tissue: str = ""
    ontology_curie: str = ""

    @classmethod
    def parse(cls, text: str) -> Source:
        """A source from `path`, `path=tissue` or `path=tissue=ontology_curie`."""
        path, _, rest = str(text).partition("=")
        tissue, _, curie = rest.partition("=")
        return cls(Path(path), tissue.strip(), curie.strip())


def gene_key(column: str) -> pl.Expr:
    """Gene identifier without the version of an Ensembl identifier (`ENSG00000000003.15` -> without `.15`).

    A `_PAR_Y` suffix is kept, because that gene is another place; other naming schemes are left as they are.
    """
    return pl.col(column).str.replace(r"^(ENS[A-Z]*G\d{11})\.\d+", "${1}")


def read_credible_sets(source: Source) -> pl.DataFrame:
    """Rows of a SuSiE credible-set table: `row, gene_id, variant, pip, beta, tissue, ontology_curie`.

    Plain or gzip TSV, or a table of QTL_COLUMNS that `megabase convert-table` wrote, whose own tissues count
    where it has any. `row` is the 1-based data row. FileError on a missing column or an unreadable number.
    """
    try:
        table = pl.read_csv(source.path, separator="\t", infer_schema_length=0, comment_prefix="#megabase")
    except (pl.exceptions.PolarsError, FileNotFoundError) as error:
        raise FileError(f"{source.path}: cannot be read as a tab-separated table ({error})") from error
    converted = set(QTL_COLUMNS) <= set(table.columns)
    if converted:
        table = _as_credible_sets(table)
    missing = [c for c in REQUIRED if c not in table.columns]
    if missing:
        raise FileError(
            f"{source.path}: no column {', '.join(missing)}; found {', '.join(table.columns)}; "
            "wanted an eQTL Catalogue SuSiE credible-set table"
        )
    named = table.select("tissue", "ontology_curie") if converted else None
    table = table.select(REQUIRED).with_row_index("row", offset=1)
    numbers = [pl.col(c).cast(pl.Float64, strict=False).alias(c) for c in ("pip", "beta")]
    parsed = table.with_columns(*numbers, pl.col("row").cast(pl.Int64))
    _refuse_bad_numbers(source, table, parsed)
    tissue = pl.lit(source.tissue or source.path.name.split(".")[0])
    curie = pl.lit(source.ontology_curie)
    if named is None:
        return parsed.with_columns(tissue=tissue, ontology_curie=curie)
    return pl.concat([parsed, named], how="horizontal").with_columns(
        pl.coalesce("tissue", tissue), pl.coalesce("ontology_curie", curie)
    )


def _as_credible_sets(table: pl.DataFrame) -> pl.DataFrame:
    """The columns of credible sets of a table of QTL_COLUMNS, of the rows that tell gene, PIP and effect."""
    table = table.drop_nulls(["gene_id", "pip", "effect"])
    at = pl.col("position").cast(pl.Int64) + 1
    variant = pl.format("{}_{}_{}_{}", "chrom", at, "ref", "alt")
    return table.with_columns(variant=variant, beta=pl.col("effect"))


def _refuse_bad_numbers(source: Source, raw: pl.DataFrame, parsed: pl.DataFrame) -> None:
    bad = parsed.filter(pl.col("pip").is_null() | ~pl.col("pip").is_between(0, 1))
    if bad.height:
        row = int(bad["row"][0])
        found = raw.filter(pl.col("row") == row)["pip"][0]
        raise FileError(
            f"{source.path}: row {row}: pip is {found!r}, wanted a number from 0 to 1; correct the table"
        )


def split_variants(table: pl.DataFrame) -> pl.DataFrame:
    """Adds `name, position (0-based), ref, alt` from `variant`; null where it is not chrom_pos_ref_alt."""
    parts = pl.col("variant").str.extract_groups(
        r"^(?P<name>.+)_(?P<at>\d+)_(?P<ref>[A-Za-z]+)_(?P<alt>[A-Za-z]+)$"
    )
    return (
        table.with_columns(parts.alias("parts"))
        .unnest("parts")
        .with_columns(
            position=pl.col("at").cast(pl.Int64) - 1,
            ref=pl.col("ref").str.to_uppercase(),
            alt=pl.col("alt").str.to_uppercase(),
        )
        .drop("at")
    )


def variant_problem(genome: Genome, name: str | None, position: int, ref: str, alt: str) -> tuple[str, str]:
    """(reason, detail) why a variant cannot be used on `genome`; two empty strings if it can."""
    if name is None:
        return "malformed", "wanted chrom_position_ref_alt with alleles of letters"
    chrom = genome.resolve(name)
    if chrom is None:
        return "contig_unknown", f"{name} is not a chromosome of genome {genome.name}"
    if set(ref + alt) - set("ACGT"):
        return "allele_not_acgt", f"alleles {ref}>{alt}"
    if ref == alt:
        return "ref_equals_alt", f"alleles {ref}>{alt}"
    if position < 0 or position + len(ref) > genome.lengths[chrom]:
        return "off_contig", f"{chrom} has {genome.lengths[chrom]} bases"
    found = genome.codes(chrom, position, position + len(ref))
    if (found == encode(ref)).all():
        return "", ""
    return "ref_mismatch", _mismatch_detail(found, genome, chrom, position, alt)


def _mismatch_detail(found, genome: Genome, chrom: str, position: int, alt: str) -> str:
    """What the genome has instead of REF, and a hint where the two alleles look exchanged."""
    text = f"genome has {decode(found)}"
    if (
        UNKNOWN_BASE not in found
        and (genome.codes(chrom, position, position + len(alt)) == encode(alt)).all()
    ):
        text += "; ALT is what the genome has: REF and ALT may be exchanged, and with them the effect's sign"
    return text


def place_variants(table: pl.DataFrame, genome: Genome) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows on the genome with `variant_id, chrom, position, ref, alt`, rejected rows with `reason, detail`).

    table: `variant` and whatever else. Each distinct variant is looked up once.
    """
    distinct = split_variants(table.select("variant").unique(maintain_order=True))
    problems = [
        variant_problem(genome, name, position, ref, alt)
        for name, position, ref, alt in distinct.select("name", "position", "ref", "alt").iter_rows()
    ]
    chroms = [None if n is None else genome.resolve(n) for n in distinct["name"]]
    distinct = distinct.with_columns(
        chrom=pl.Series(chroms, dtype=pl.String),
        reason=pl.Series([p[0] for p in problems], dtype=pl.String),
        detail=pl.Series([p[1] for p in problems], dtype=pl.String),
    ).with_columns(variant_id=variant_id())
    joined = table.join(distinct.drop("name"), on="variant", how="left", maintain_order="left")
    return (
        joined.filter(pl.col("reason") == "").drop("reason", "detail"),
        joined.filter(pl.col("reason") != ""),
    )


def variant_id() -> pl.Expr:
    """`chrom:position+1:ref:alt` from the columns of a variant."""
    return pl.format("{}:{}:{}:{}", "chrom", pl.col("position") + 1, "ref", "alt")


def strongest(table: pl.DataFrame) -> pl.DataFrame:
    """One row a variant, gene and tissue: of several (rsIDs, credible sets, traits) that of largest PIP."""
    keys = ["variant_id", "gene_id", "tissue"]
    ordered = table.sort([*keys, "pip", "row"], descending=[False, False, False, True, False])
    return ordered.unique(keys, keep="first", maintain_order=True)


def rejected_rows(table: pl.DataFrame, source: str, group: str = "tissue") -> pl.DataFrame:
    """The rejected table's columns, from rows with `row, variant, reason, detail` and a group column."""
    return table.select(
        table=pl.lit(source),
        row=pl.col("row").cast(pl.Int64),
        variant=pl.col("variant"),
        group=pl.col(group),
        reason=pl.col("reason"),
        detail=pl.col("detail"),
    ).cast(REJECTED)
