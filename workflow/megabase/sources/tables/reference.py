"""Whether a table of variants is of this genome: names, REF, positions, and which allele the genome has."""

from __future__ import annotations

from collections import Counter

import polars as pl

from megabase.files import FileError
from megabase.genome import Genome
from megabase.sequence import decode
from megabase.sources.tables.columns import REJECTED, Table

MOST = 0.5  # share of wrong rows from which the table, and not the row, is wrong
FEW = 10  # rows that are too few to tell
_REASONS = ("contig_unknown", "off_contig", "ref_mismatch")


def check_reference(table: Table, genome: Genome, *, exchange: bool = False) -> Table:
    """The table with `chrom` in the genome's names, and rows rejected whose REF is not what the genome has.

    Names are matched by alias (`1`, `chr1`, RefSeq). exchange: a row whose ALT, and not REF, is what the
    genome has gets its alleles exchanged and its effect's sign turned (tables that name alleles in another
    order); else it is rejected with that hint. FileError where more than half of the rows do not fit: the
    table is of another assembly, or its positions are one off, which the message says where it is so.
    """
    rows = table.rows.with_row_index("_n")
    variants = rows.select("chrom", "position", "ref", "alt").unique(maintain_order=True)
    found = [_look(genome, *variant, exchange=exchange) for variant in variants.iter_rows()]
    schema = {"_chrom": pl.String, "reason": pl.String, "detail": pl.String}
    variants = pl.concat([variants, pl.DataFrame(found, schema=schema, orient="row")], how="horizontal")
    rows = rows.join(variants, on=["chrom", "position", "ref", "alt"], how="left", maintain_order="left")
    wrong = rows.filter(pl.col("reason").is_in(_REASONS))
    if rows.height >= FEW and wrong.height > MOST * rows.height:
        raise FileError(_of_another_genome(rows, wrong, genome))
    turned = pl.col("reason") == "exchange"
    kept = rows.filter(~pl.col("reason").is_in(_REASONS)).with_columns(
        chrom=pl.col("_chrom"),
        ref=pl.when(turned).then("alt").otherwise("ref"),
        alt=pl.when(turned).then("ref").otherwise("alt"),
        effect=pl.when(turned).then(-pl.col("effect")).otherwise("effect"),
    )
    place = [pl.col(c).cast(pl.String) for c in ("chrom", "_at", "ref", "alt")]
    bad = wrong.with_columns(_at=pl.col("position") + 1).with_columns(
        variant=pl.concat_str(place, separator=":")
    )
    bad = bad.select(list(REJECTED)).cast(REJECTED)
    return Table(kept.select(table.rows.columns), pl.concat([table.rejected, bad]))


def _look(
    genome: Genome, name: str, position: int, ref: str, alt: str, *, exchange: bool
) -> tuple[str | None, str, str]:
    """(chromosome, reason, detail) of a variant; the reason is empty where it fits, or `exchange`."""
    chrom = genome.resolve(name)
    if chrom is None:
        return None, "contig_unknown", f"{name} is not a chromosome of genome {genome.name}"
    if position + len(ref) > genome.lengths[chrom]:
        return chrom, "off_contig", f"{chrom} has {genome.lengths[chrom]} bases"
    if _at(genome, chrom, position, len(ref)) == ref:
        return chrom, "", ""
    detail = f"genome has {_at(genome, chrom, position, len(ref))}"
    if _at(genome, chrom, position, len(alt)) != alt:
        return chrom, "ref_mismatch", detail
    if exchange:
        return chrom, "exchange", ""
    return chrom, "ref_mismatch", f"{detail}: ALT is what the genome has, the alleles may be exchanged"


def _at(genome: Genome, chrom: str, position: int, length: int) -> str:
    return decode(genome.codes(chrom, position, position + length))


def _of_another_genome(rows: pl.DataFrame, wrong: pl.DataFrame, genome: Genome) -> str:
    """What is wrong with most of a table."""
    counts = Counter(wrong["reason"])
    first = wrong.row(0, named=True)
    source, share = first["source"], f"{wrong.height} of {rows.height} rows do not fit genome {genome.name}"
    hint = "the table is of another assembly: take that of this genome, or lift it over"
    if counts["contig_unknown"] == wrong.height:
        hint = f"{first['detail']}: give the genome `aliases`"
    known = wrong.filter(pl.col("reason") == "ref_mismatch")
    for shift, words in ((1, "too small: the file counts from 0"), (-1, "too large")):
        fits = [
            _at(genome, chrom, position + shift, len(ref)) == ref
            for chrom, position, ref in known.select("_chrom", "position", "ref").iter_rows()
        ]
        if fits and sum(fits) > 0.9 * len(fits):
            hint = f"positions are one base {words}"
    exchanged = known["detail"].str.contains("exchanged").sum()
    if known.height and exchanged > MOST * known.height:
        hint = "REF and ALT are exchanged in most of them: exchange the alleles, and the effects' sign"
    return f"{source}: {share} ({dict(counts)}; first: row {first['row']}, {first['detail']}); {hint}"
