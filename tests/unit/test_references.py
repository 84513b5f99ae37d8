"""References of a release, and other names of chromosomes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from megabase import cli
from megabase.files import FileError
from megabase.genome import Genome, prepare_genome, read_aliases
from megabase.sources.aliases import chromosome_lengths, import_aliases
from megabase.sources.manifest import check_row
from megabase.sources.portals import Release, list_portal

ALIAS = (
    "# ucsc\tassembly\tgenbank\tncbi\trefseq\nchr1\t1\tCM000663.2\t1\tNC_000001.11\n"
    "chrM\tMT\tJ01415.2\tMT\tNC_012920.1\nchrUn_X\tHSCHRUN\tKI1.1\t\tNT_1.1\nchr9\t9\tCM9\t9\tNC9\n"
)
REPORT = (
    "# Assembly name:  GRCh38.p14\n# Sequence-Name\tSequence-Role\tAssigned-Molecule\t"
    "Assigned-Molecule-Location/Type\tGenBank-Accn\tRelationship\tRefSeq-Accn\tAssembly-Unit\tSequence-Length\t"
    "UCSC-style-name\r\n"
    "1\tassembled-molecule\t1\tChromosome\tCM000663.2\t=\tNC_000001.11\tPrimary Assembly\t12\tchr1\r\n"
    "HSCHR1_R\tunlocalized-scaffold\t1\tChromosome\tKI270706.1\t=\tna\tPrimary\t5\tchr1_KI_random\r\n"
)
FASTA = ">chr1 one\nACGTAC\nGTACGT\n>chrM\nACG\n>chrUn_X\nAC\n"


def _asks_nothing(*_: object) -> None:
    raise AssertionError("nothing is asked")


def test_the_references_of_the_published_config(root: Path) -> None:
    rows = {row["accession"]: row for row in list_portal("references", _asks_nothing, Release("r")).rows}
    for row in rows.values():
        assert check_row({k: None if v is None else str(v) for k, v in row.items()}) is None, row
        assert row["licence"] and "cite" in row["licence"]
    genomes = yaml.safe_load((root / "config/alphagenome.yaml").read_text())["genomes"]
    for genome in genomes.values():
        assert rows[genome["fasta"]]["output_type"] == "genome"
        assert rows[genome["genes"]]["output_type"] == "genes"
    assert rows["hg38.fa"]["size"] == 983_659_424
    assert {row["output_type"] for row in rows.values()} == {
        "genome",
        "genes",
        "aliases",
        "regions",
        "splits",
    }
    mouse = list_portal("references", _asks_nothing, Release("r", organisms=("mouse",))).rows
    assert mouse and {row["organism"] for row in mouse} == {"mouse"}


def test_aliases_of_ucsc_make_a_genome_know_other_names(tmp_path: Path) -> None:
    (tmp_path / "alias.txt").write_text(ALIAS)
    (tmp_path / "g.fa").write_text(FASTA)
    arguments = [
        "import-aliases",
        str(tmp_path / "alias.txt"),
        str(tmp_path / "g.fa"),
        "-o",
        str(tmp_path / "a.tsv"),
    ]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    lengths = {"chr1": 12, "chrM": 3, "chrUn_X": 2}
    table = read_aliases(tmp_path / "a.tsv", lengths)
    assert table["NC_000001.11"] == "chr1" and table["MT"] == "chrM" and table["NT_1.1"] == "chrUn_X"
    assert "NC9" not in table
    prepare_genome(tmp_path / "g.fa", tmp_path / "g", organism="human", name="g", aliases=tmp_path / "a.tsv")
    genome = Genome.open(tmp_path / "g")
    assert [genome.resolve(name) for name in ("CM000663.2", "NC_012920.1", "HSCHRUN")] == [
        "chr1",
        "chrM",
        "chrUn_X",
    ]


def test_a_fasta_of_any_naming(tmp_path: Path) -> None:
    (tmp_path / "alias.txt").write_text(ALIAS)
    (tmp_path / "sizes").write_text("NC_000001.11\t12\nNC_012920.1\t3\n")
    found = import_aliases(tmp_path / "alias.txt", tmp_path / "sizes", tmp_path / "a.tsv")
    assert found["chr1"] == found["1"] == found["CM000663.2"] == "NC_000001.11"
    assert (tmp_path / "a.tsv").read_text().startswith("#megabase {")


def test_an_assembly_report(tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text(REPORT)
    (tmp_path / "g.fa.gz").write_bytes(gzip.compress(b">chr1\nACGTACGTACGT\n>chr1_KI_random\nACGTA\n"))
    assert chromosome_lengths(tmp_path / "g.fa.gz") == {"chr1": 12, "chr1_KI_random": 5}
    found = import_aliases(tmp_path / "report.txt", tmp_path / "g.fa.gz", tmp_path / "a.tsv")
    assert found == {
        "1": "chr1", "CM000663.2": "chr1", "NC_000001.11": "chr1",
        "HSCHR1_R": "chr1_KI_random", "KI270706.1": "chr1_KI_random",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("alias", "sizes", "message"),
    [
        (REPORT, "chr1\t13\n", "chr1 has 12 bases, 13 in .*take the table of the FASTA's assembly"),
        (ALIAS, "scaffold_1\t5\n", "none of its names is in"),
        (ALIAS, "chr1\t5\nNC_000001.11\t5\n", "are one sequence there, and several in"),
        (ALIAS + "chr9\t1\n", "chr1\t5\nchr9\t6\n", "line 6: 1 stands for chr1 and chr9|several in"),
        (ALIAS, "chr1 5\n", "wanted a FASTA, .fai or sizes"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, alias: str, sizes: str, message: str) -> None:
    (tmp_path / "alias.txt").write_text(alias)
    (tmp_path / "sizes").write_text(sizes)
    with pytest.raises(FileError, match=message):
        import_aliases(tmp_path / "alias.txt", tmp_path / "sizes", tmp_path / "a.tsv")
    assert not (tmp_path / "a.tsv").exists()
