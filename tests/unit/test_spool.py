"""A variant set of any size is split in bounded memory, into the same files as a small one."""

from __future__ import annotations

import hashlib
import random
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from megabase import spool
from megabase.genome import prepare_genome
from megabase.packing import Packing
from megabase.records import ACCEPTED_SCHEMA, GIVEN_SCHEMA
from megabase.sequence import decode
from megabase.settings.scoring import ChunkSettings
from megabase.split import dealt, split_variants
from megabase.variants import read_variants

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
SWAP = {"A": "C", "C": "G", "G": "T", "T": "A"}
PACKING = Packing(ChunkSettings(load_seconds=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A genome of two chromosomes, and a VCF of it in no order, with duplicates and bad records."""
    made = tmp_path_factory.mktemp("spool")
    rng = np.random.default_rng(5)
    texts = {name: decode(rng.integers(0, 4, 6_000).astype(np.uint8)) for name in ("chr2", "chr1")}
    (made / "g.fa").write_text("".join(f">{name}\n{text}\n" for name, text in texts.items()))
    prepare_genome(made / "g.fa", made / "genome", organism="toy", name="toy")
    lines = []
    for name, text in texts.items():
        for at in rng.choice(6_000, 900, replace=False).tolist():
            ref = text[at].lower() if at % 5 == 0 else text[at]
            alts = SWAP[text[at]] if at % 3 else f"{SWAP[text[at]]},{text[at]}AC,{SWAP[text[at]]}"
            lines.append(f"{name.removeprefix('chr')}\t{at + 1}\tid{at}\t{ref}\t{alts}\t.\t.\t.\n")
        lines.append(f"{name}\t9999\t.\tA\tC\t.\t.\t.\n")
    lines += lines[10:200:7]
    random.Random(3).shuffle(lines)
    (made / "in.vcf").write_text(HEADER + "".join(lines))
    return made


def split(folder: Path, output: Path, **more: object) -> dict[str, str]:
    """Split into five chunks; hashes of all files."""
    outputs = [output / f"{i}-of-5.parquet" for i in range(1, 6)]
    split_variants(folder / "in.vcf", folder / "genome", outputs, output / "rejected.parquet",
                   max_allele=50, packing=PACKING, **more)  # fmt: skip
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(output.iterdir())}


@pytest.mark.parametrize("more", [{}, {"max_variants": 700, "seed": 4}])
@pytest.mark.parametrize(("held", "stretch"), [(300, 1 << 10), (1_000, 384), (100, 1 << 24)])
def test_files_do_not_depend_on_what_is_held(folder, tmp_path, monkeypatch, held, stretch, more) -> None:
    wanted = split(folder, tmp_path / "whole", **more)
    monkeypatch.setattr("megabase.split.read_variants", partial(read_variants, batch=250))
    monkeypatch.setattr(spool, "HELD", held)
    monkeypatch.setattr(spool, "STRETCH", stretch)
    wrote = []
    write = spool.Spool._write
    monkeypatch.setattr(spool.Spool, "_write", lambda self: (wrote.append(self._rows), write(self)))
    found = split(folder, tmp_path / "spooled", **more)
    assert wrote and found == wanted and set(wanted) == {
        *(f"{i}-of-5.parquet" for i in range(1, 6)), "rejected.parquet", "split.json"
    }  # fmt: skip


def test_duplicates_are_rejected_as_the_file_wrote_them(folder, tmp_path) -> None:
    split(folder, tmp_path)
    rejected = pl.read_parquet(tmp_path / "rejected.parquet")
    accepted = pl.concat([pl.read_parquet(tmp_path / f"{i}-of-5.parquet") for i in range(1, 6)])
    assert rejected["record"].is_sorted() and accepted["variant_id"].n_unique() == accepted.height
    again = rejected.filter(reason="duplicate")
    lines = [line.split("\t") for line in (folder / "in.vcf").read_text().splitlines()[2:]]
    for row in again.iter_rows(named=True):
        chrom, position, name, ref, alts = lines[row["record"] - 1][:5]
        assert (row["chrom"], row["position"], row["source_id"], row["ref"]) == (
            chrom, int(position) - 1, name, ref
        )  # fmt: skip
        assert row["alt"] in alts.split(",") and row["detail"].endswith("was read before")
    first = accepted.filter(pl.col("variant_id").is_in(again["detail"].str.split(" ").list.first().implode()))
    earlier = {row["variant_id"]: row["record"] for row in first.iter_rows(named=True)}
    for row in again.iter_rows(named=True):
        assert earlier[row["detail"].split(" ")[0]] <= row["record"]
    assert again["ref"].str.to_lowercase().eq(again["ref"]).any()  # lower case, as written


def test_a_spool_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(spool, "HELD", 1)
    row = ("chr1:5:A:C", "chr1", 4, "A", "C", None, 1, 1, "chr1", None, None)
    table = pl.DataFrame([row], schema=ACCEPTED_SCHEMA | GIVEN_SCHEMA, orient="row")
    (tmp_path / ".spool").mkdir()
    (tmp_path / ".spool" / "0.parquet").touch()  # of a killed run
    with pytest.raises(ZeroDivisionError), spool.Spool(tmp_path / ".spool", {"chr1": 0}) as held:
        held.add(table)
        held.add(table)
        assert held.sort().height == 1 and held.height == 1
        assert pl.concat(held.blocks())["variant_id"].to_list() == ["chr1:5:A:C"]
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_rows_are_dealt_over_blocks() -> None:
    blocks = [pl.DataFrame({"x": range(a, b)}) for a, b in ((0, 3), (3, 3), (3, 8), (8, 9))]
    found = [table["x"].to_list() for table in dealt(blocks, [0, 2, 7, 7, 9])]
    assert found == [[0, 1], [2, 3, 4, 5, 6], [], [7, 8]]
    assert [t.height for t in dealt([], [0, 0, 0])] == [0, 0]


def test_a_subset_is_taken_over_blocks() -> None:
    blocks = [pl.DataFrame({"x": range(a, b)}) for a, b in ((0, 3), (3, 3), (3, 8))]
    assert [t["x"].to_list() for t in spool.subset(blocks, [0, 2, 3, 7])] == [[0, 2], [], [3, 7]]
