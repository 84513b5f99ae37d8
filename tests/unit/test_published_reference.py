"""Tables of variants against a genome: names, assembly, positions one off, exchanged alleles."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from track_stand_ins import make_genome

from megabase.files import FileError
from megabase.genome import Genome
from megabase.sequence import decode
from megabase.sources.tables.columns import REJECTED, SCHEMA, Table
from megabase.sources.tables.reference import check_reference


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    return Genome.open(make_genome(tmp_path))


def _table(genome: Genome, shift: int = 0, exchanged: bool = False, prefix: str = "chr") -> Table:
    """Forty variants whose REF is the genome's, `shift` bases away; the table counts rows from 1."""
    rows = []
    for n in range(40):
        chrom, at = f"chr{n % 2 + 1}", 100 + 7 * n
        ref = decode(genome.codes(chrom, at, at + 1))
        alt = "ACGT"[("ACGT".index(ref) + 1) % 4]
        ref, alt = (alt, ref) if exchanged else (ref, alt)
        name = chrom.replace("chr", prefix)
        place = {"chrom": name, "position": at + shift, "ref": ref, "alt": alt}
        rows.append({"source": "t", "row": n + 1, "effect": 0.5, "label": 1} | place)
    return Table(pl.DataFrame(rows, schema=SCHEMA), pl.DataFrame(schema=REJECTED))


@pytest.mark.parametrize("prefix", ["chr", ""])
def test_names_with_and_without_chr(genome: Genome, prefix: str) -> None:
    table = check_reference(_table(genome, prefix=prefix), genome)
    assert table.rows.height == 40 and set(table.rows["chrom"]) == {"chr1", "chr2"}
    assert table.rejected.is_empty() and table.rows.columns == list(SCHEMA)


def test_a_few_wrong_rows_cost_these_rows(genome: Genome) -> None:
    table = _table(genome)
    changes = [("chr9", 5), ("chr1", 8_999_999), ("chr1", None)]
    rows = table.rows.to_dicts()
    for row, (chrom, position) in zip(rows, changes, strict=False):
        row["chrom"], row["position"] = chrom, row["position"] if position is None else position
    rows[2]["ref"] = rows[2]["ref"] + "ACGTACGTTTGA"
    found = check_reference(Table(pl.DataFrame(rows, schema=SCHEMA), table.rejected), genome)
    assert found.rows.height == 37
    assert found.rejected.select("row", "reason").rows() == [
        (1, "contig_unknown"), (2, "off_contig"), (3, "ref_mismatch"),
    ]  # fmt: skip
    assert "chr9 is not a chromosome" in found.rejected["detail"][0]


@pytest.mark.parametrize(
    ("shift", "words"), [(-1, "one base too small: the file counts from 0"), (1, "one base too large")]
)
def test_positions_that_are_one_off(genome: Genome, shift: int, words: str) -> None:
    with pytest.raises(FileError, match=rf"rows do not fit genome toy .*ref_mismatch.*{words}"):
        check_reference(_table(genome, shift=shift), genome)


def test_another_assembly(genome: Genome) -> None:
    with pytest.raises(FileError, match="take that of this genome, or lift it over"):
        check_reference(_table(genome, shift=1_234), genome)
    with pytest.raises(FileError, match="give the genome `aliases`"):
        check_reference(_table(genome, prefix="NC_00000"), genome)


def test_exchanged_alleles_are_told_or_turned(genome: Genome) -> None:
    table = _table(genome, exchanged=True)
    with pytest.raises(FileError, match="REF and ALT are exchanged in most of them"):
        check_reference(table, genome)
    turned = check_reference(table, genome, exchange=True)
    assert turned.rows.height == 40 and set(turned.rows["effect"]) == {-0.5}
    straight = check_reference(_table(genome), genome).rows
    assert turned.rows.select("chrom", "position", "ref", "alt").equals(
        straight.select("chrom", "position", "ref", "alt")
    )
    assert set(turned.rows["label"]) == {1}, "a class has no direction"


def test_too_few_rows_to_blame_the_table(genome: Genome) -> None:
    table = _table(genome, shift=1_234)
    few = Table(table.rows.head(5), table.rejected)
    found = check_reference(few, genome)
    assert found.rows.height + found.rejected.height == 5 and found.rejected.height >= 2
