"""A chunk, a model, a genome and genes of different origins are refused, each with what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from scoring_stand_ins import ToyPredictor, make_genome, some_variants, write_variants

from megabase.files import FileError, Stamp, hash_path, read_table, write_table
from megabase.genome import Genome, prepare_genome
from megabase.scoring.belonging import check_belonging
from megabase.variants import Variant


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture()
def chunk(tmp_path: Path, genome: Genome) -> Path:
    return write_variants(some_variants(genome), tmp_path / "chunk.parquet")


def check(chunk: Path, genome: Genome, genes: Path | None = None) -> None:
    check_belonging(chunk, read_table(chunk, "variants"), genome, genes, ToyPredictor())


def test_what_belongs_together_passes(tmp_path: Path, chunk: Path, genome: Genome) -> None:
    check(chunk, genome, tmp_path)
    check(write_variants([], tmp_path / "none.parquet"), genome)


def test_another_genome_is_refused(tmp_path: Path, chunk: Path, genome: Genome) -> None:
    for text, name in ((">chr1\n" + "ACGT" * 10_000, "other"), (">chr7\nACGT", "lacking")):
        (tmp_path / "g.fa").write_text(text + "\n")
        other = prepare_genome(tmp_path / "g.fa", tmp_path / name, organism="toy", name=name)
        with pytest.raises(FileError, match=f"genome {name}, as .* was split on another genome"):
            check(chunk, other)


def test_another_organism_is_refused(tmp_path: Path, chunk: Path) -> None:
    (tmp_path / "g.fa").write_text(">chr1\nACGT\n")
    other = prepare_genome(tmp_path / "g.fa", tmp_path / "o", organism="yeast", name="sacCer3")
    with pytest.raises(FileError, match="sacCer3 is of organism yeast, model toy was made for toy"):
        check(chunk, other)


def test_genes_of_another_genome_are_refused(tmp_path: Path, chunk: Path, genome: Genome) -> None:
    table = read_table(chunk, "variants")
    own = hash_path(genome.folder / "sequence.json")
    for digest, fits in ((own, True), ("0" * 32, False)):
        write_table(table, tmp_path / "genes.parquet", Stamp("genes", inputs={"sequence.json": digest}))
        if fits:
            check(chunk, genome, tmp_path)
        else:
            with pytest.raises(
                FileError, match=r"made for another genome than toy .* run prepare-genes again"
            ):
                check(chunk, genome, tmp_path)


def test_every_kind_of_variant_has_its_reference(tmp_path: Path, genome: Genome) -> None:
    base = "ACGT"[genome.codes("chr1", 50, 51)[0]]
    event = Variant("chr1", 50, base, "<DEL:END=90>")
    check(write_variants([event], tmp_path / "event.parquet"), genome)
