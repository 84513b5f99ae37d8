"""Published tables as benchmarks read them, and the credible sets of the eQTL Catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from track_stand_ins import make_genome
from typer.testing import CliRunner

from megabase import cli
from megabase.benchmark.qtl import Source, place_variants, read_credible_sets
from megabase.files import FileError, read_tsv
from megabase.genome import Genome
from megabase.sequence import decode
from megabase.sources import eqtl_catalogue
from megabase.sources.ask import Answer
from megabase.sources.manifest import check_row
from megabase.sources.portals import Release, list_portal
from megabase.sources.tables.convert import convert_table


def _finucane(folder: Path, genome: Genome) -> Path:
    """A table of the Finucane lab of two tissues on the genome."""
    lines = ["variant_hg38\tmethod\ttissue\tgene\tpip\tbeta_marginal\tcs_id\tbeta_posterior\tstart"]
    for n in range(30):
        at = 500 + 9 * n
        ref = decode(genome.codes("chr1", at, at + 1))
        alt = "ACGT"[("ACGT".index(ref) + 2) % 4]
        tissue = "Lung" if n % 2 else "Liver"
        lines.append(f"chr1_{at + 1}_{ref}_{alt}_b38\tSUSIE\t{tissue}\tG{n}\t0.{n + 10}\t-0.5\t1\t0.1\t{at}")
    lines.append("chr1_501_N_A_b38\tSUSIE\tLung\tG1\t0.5\t1\t1\t0.1\t500")
    path = folder / "finucane.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_converted_table_is_what_benchmarks_read(tmp_path: Path) -> None:
    folder = make_genome(tmp_path)
    genome = Genome.open(folder)
    source = _finucane(tmp_path, genome)
    arguments = [
        "convert-table",
        "finucane",
        str(source),
        "-o",
        str(tmp_path / "out.tsv"),
        "--genome",
        str(folder),
    ]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert read_tsv(tmp_path / "out.tsv", "published_table").height == 30
    rejected = read_tsv(tmp_path / "out.rejected.tsv", "rejected")
    assert rejected.select("row", "reason").rows() == [(31, "allele_not_acgt")]
    rows = read_credible_sets(Source.parse(f"{tmp_path / 'out.tsv'}"))
    assert set(rows["tissue"]) == {"Lung", "Liver"} and rows["beta"].to_list() == [-0.5] * 30
    placed, problems = place_variants(rows, genome)
    assert placed.height == 30 and problems.is_empty(), "positions and alleles are the genome's"
    assert placed["position"].to_list() == [500 + 9 * n for n in range(30)]
    bytes_first = (tmp_path / "out.tsv").read_bytes()
    convert_table("finucane", [source], tmp_path / "out.tsv", genome_folder=folder)
    assert (tmp_path / "out.tsv").read_bytes() == bytes_first


def test_rows_without_a_posterior_are_no_credible_sets(tmp_path: Path) -> None:
    text = "variant_id\tgene_id\tslope\tpval_nominal\nchr1_11_C_T_b38\tG\t1\t1\n"
    (tmp_path / "Lung.txt").write_text(text)
    convert_table("gtex_v8_pairs_eqtl", [tmp_path / "Lung.txt"], tmp_path / "pairs.tsv")
    assert read_credible_sets(Source.parse(f"{tmp_path / 'pairs.tsv'}")).is_empty()


def test_nothing_is_written_of_a_table_of_another_genome(tmp_path: Path) -> None:
    source = _finucane(tmp_path, Genome.open(make_genome(tmp_path)))
    other = make_genome(tmp_path / "other", {"chr1": 9_000}, {"chr1": (400, 900)})
    with pytest.raises(FileError, match="do not fit genome"):
        convert_table("finucane", [source], tmp_path / "out.tsv", genome_folder=other)
    assert not list(tmp_path.glob("out*"))


def _asked(text: str, status: int = 200) -> Any:
    def ask(url: str, params: Iterable[tuple[str, Any]] = ()) -> Answer:
        assert url.endswith("/tabix/tabix_ftp_paths.tsv") and eqtl_catalogue.COMMIT in url
        return Answer(url, status, text.encode(), "2026-11-01T00:00:00Z")

    return ask


def test_the_catalogue_as_recorded(real_data: Path) -> None:
    text = (real_data / "portals/eqtl_catalogue/tabix_ftp_paths.tsv").read_text()
    listing = list_portal("eqtl-catalogue", _asked(text), Release("r"))
    table = pl.DataFrame(listing.rows)
    assert dict(table["target"].value_counts().iter_rows())["sqtl"] == 113
    assert table.height + len(listing.refused) == 758, "every dataset is listed or refused"
    row = next(row for row in listing.rows if row["accession"] == "QTD000116")
    assert row["url"] == (
        "https://ftp.ebi.ac.uk/pub/databases/spot/eQTL/susie/QTS000015/QTD000116/QTD000116.credible_sets.tsv.gz"
    )
    assert (row["ontology_curie"], row["biosample"], row["target"]) == ("UBERON:0001013", "adipose", "eqtl")
    for row in listing.rows:
        assert check_row({k: None if v is None else str(v) for k, v in row.items()}) is None
    assert {row["reason"] for row in listing.refused} == {"not used"}
    only = list_portal("eqtl-catalogue", _asked(text), Release("r", assays=("leafcutter",)))
    assert {row["target"] for row in only.rows} == {"sqtl"}


def test_a_catalogue_that_has_changed() -> None:
    with pytest.raises(FileError, match=r"no column study_label.*found study_id, dataset_id"):
        list_portal("eqtl-catalogue", _asked("study_id\tdataset_id\n"), Release("r"))
    with pytest.raises(FileError, match="HTTP 404; the table of files has moved"):
        list_portal("eqtl-catalogue", _asked("", 404), Release("r"))
