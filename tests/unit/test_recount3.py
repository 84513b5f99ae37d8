"""Junctions of recount3 and of GTEx's own table, pooled by tissue."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from track_stand_ins import make_genome, row

from megabase.files import FileError, read_json, read_table
from megabase.genome import Genome
from megabase.seeds import generator
from megabase.settings.data import TrackSettings
from megabase.tracks import normalize_splicing, recount3
from megabase.tracks.gct import ANNOTATED_ONLY, read_gct
from megabase.tracks.recount3 import read_recount3, sample_totals

RR = (
    "chromosome\tstart\tend\tlength\tstrand\tannotated\tleft_motif\tright_motif\n"
    "chr1\t101\t200\t100\t+\t1\tGT\tAG\nchr1\t101\t300\t200\t+\t0\tGT\tAG\n"
    "chr1\t401\t500\t100\t?\t0\tNN\tNN\nchrUn\t1\t9\t9\t+\t0\tGT\tAG\nchr2\t11\t60\t50\t-\t1\tCT\tAC\n"
)
ID = "rail_id\n7\n5\n9\n"
MM = (
    "%%MatrixMarket matrix coordinate integer general\n% a note\n5 3 8\n"
    "1 1 10\n1 2 1\n1 3 4\n2 1 3\n3 1 99\n4 2 99\n5 2 6\n5 3 2\n"
)
GROUPS = {"7": "skin", "9": "skin", "5": "lung", "1": "elsewhere"}
PLAIN = TrackSettings(junction_clip_percentile=100.0)


def _files(folder: Path, packed: bool = True, **texts: str) -> list[Path]:
    paths = []
    for kind, text in {"MM": MM, "RR": RR, "ID": ID, **texts}.items():
        path = folder / f"P.{kind}.gz"
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        paths.append(path)
    return paths


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    return Genome.open(make_genome(tmp_path / "g"))


@pytest.mark.parametrize("packed", [True, False])
def test_counts_are_added_up_by_group(tmp_path: Path, genome: Genome, packed: bool) -> None:
    found = read_recount3(*_files(tmp_path, packed), GROUPS, genome)
    assert found["skin"].rows() == [
        ("chr1", 100, 200, "+", 14.0), ("chr1", 100, 300, "+", 3.0), ("chr2", 10, 60, "-", 2.0),
    ]  # fmt: skip
    assert found["lung"].rows() == [("chr1", 100, 200, "+", 1.0), ("chr2", 10, 60, "-", 6.0)]
    assert found["elsewhere"].is_empty(), "a group without a column here"


def test_a_sample_may_be_a_group_of_its_own(tmp_path: Path, genome: Genome) -> None:
    found = read_recount3(*_files(tmp_path), {"7": "7", "9": "9"}, genome)
    assert [found[name]["count"].to_list() for name in ("7", "9")] == [[10.0, 3.0], [4.0, 2.0]]


def test_weights_make_means_of_reads_per_million(tmp_path: Path, genome: Genome) -> None:
    files = _files(tmp_path)
    totals = sample_totals(files[0], files[2])
    assert totals == {"7": 112.0, "5": 106.0, "9": 6.0}
    found = read_recount3(*files, GROUPS, genome, weights={"7": 1e6 / 112 / 2, "9": 1e6 / 6 / 2})
    assert found["skin"]["count"][0] == pytest.approx(1e6 * (10 / 112 + 4 / 6) / 2)


def test_blocks_change_nothing(tmp_path: Path, genome: Genome, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = generator(0, "recount3")
    dense = draws.poisson(0.4, (40, 30)) * draws.integers(1, 9, (40, 30))
    rows, columns = np.nonzero(dense)
    text = "".join(f"{r + 1} {c + 1} {dense[r, c]}\n" for r, c in zip(rows, columns, strict=True))
    introns = RR.splitlines()[0] + "\n" + "".join(f"chr1\t{n + 1}\t{n + 50}\t50\t+\n" for n in range(40))
    introns = introns.replace("\tannotated\tleft_motif\tright_motif", "")
    header = f"%%MatrixMarket matrix coordinate integer general\n40 30 {len(rows)}\n"
    names = [str(n) for n in range(30)]
    files = _files(tmp_path, MM=header + text, RR=introns, ID="rail_id\n" + "\n".join(names) + "\n")
    groups = {name: "ab"[int(name) % 2] for name in names}
    wanted = {g: dense[:, [n for n in range(30) if "ab"[n % 2] == g]].sum(1) for g in "ab"}
    for block, many in ((1 << 22, 1 << 22), (20, 3)):
        monkeypatch.setattr(recount3, "BLOCK", block)
        monkeypatch.setattr(recount3, "MANY", many)
        found = read_recount3(*files, groups, genome)
        for group, sums in wanted.items():
            table = found[group].sort("start")
            assert table["count"].to_list() == sums[sums > 0].tolist()
            assert table["start"].to_list() == np.flatnonzero(sums).tolist()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"MM": MM.replace("5 2 6\n", "")}, "7 entries, it says 8: it is cut short"),
        ({"MM": MM.replace("5 3 8", "6 3 8")}, "6 introns x 3 samples, the files beside it have 5 x 3"),
        ({"MM": MM.replace("1 3 4", "1 4 4")}, "entry 3 is of row 1, column 4; the matrix is 5 x 3"),
        ({"MM": MM.replace("1 3 4", "1 3")}, "has not three numbers"),
        ({"MM": MM.replace("1 3 4", "1 3 x")}, "cannot be read as a matrix"),
        ({"MM": "a\tb\n"}, "wanted %%MatrixMarket"),
        ({"ID": "1\n2\n3\n"}, "wanted `rail_id`"),
        ({"ID": "rail_id\n7\n7\n9\n"}, "there twice"),
        ({"ID": "rail_id\n2\n3\n4\n"}, "none of its 3 samples is in the sample table"),
        ({"RR": RR.replace("strand", "sense")}, "no column strand; found chromosome, start"),
        ({"RR": RR.replace("\t101\t200", "\t0\t200")}, "row 1: 0-200; wanted 1 <= start <= end"),
        ({"RR": RR.replace("\t101\t200", "\tx\t200")}, "cannot be read as introns"),
        ({"RR": RR.replace("\nchr", "\nscaffold")}, "none of them is in the genome"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, genome: Genome, texts: dict[str, str], message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_recount3(*_files(tmp_path, **texts), GROUPS, genome)


def test_a_matrix_that_broke_off(tmp_path: Path, genome: Genome) -> None:
    files = _files(tmp_path)
    files[0].write_bytes(files[0].read_bytes()[:-12])
    with pytest.raises(FileError, match=r"cannot be read as a matrix|cut short"):
        read_recount3(*files, GROUPS, genome)


MD = (
    "rail_id\texternal_id\tstudy\tSUBJID\tSMTSD\tSMAFRZE\n"
    "7\ta.1\tS\tA\tLung\tRNASEQ\n5\tb.1\tS\tB\tThyroid\tRNASEQ\n9\tc.1\tS\tC\tLung\tRNASEQ\n"
)


def test_a_project_is_a_biosample_a_tissue(tmp_path: Path) -> None:
    files = _files(tmp_path, MD=MD)
    rows = [
        row(f"P.{kind}", "splice_junctions", experiment="P", ontology_curie="", biosample="", assay="RNA")
        for kind in ("MM", "RR", "ID", "MD")
    ]
    path = normalize_splicing(rows, files, make_genome(tmp_path), tmp_path / "out", PLAIN)
    table = read_table(path.parent / "junctions.parquet", "junctions")
    assert set(table["biosample"]) == {"UBERON:0008952 RNA", "UBERON:0002046 RNA"}
    lung = table.filter(pl.col("biosample") == "UBERON:0008952 RNA").sort("chrom", "acceptor")
    np.testing.assert_allclose(lung["count"] / lung["count"].sum(), [14 / 19, 3 / 19, 2 / 19])
    channels = read_json(path, "track")["channels"]
    assert {c["biosample_name"] for c in channels} == {"upper lobe of left lung", "thyroid gland"}
    with pytest.raises(FileError, match="GTEx project P: no MD file"):
        normalize_splicing(rows[:3], files[:3], make_genome(tmp_path), tmp_path / "o", PLAIN)


GCT = "#1.2\n3\t2\nName\tDescription\tS1\tS2\n"
V8 = GCT + "chr1_101_200\tENSG1.5\t3\t4\nchr1_301_400\tENSG2.1\t0\t1\nchr2_11_60\tENSG9.1\t5\t5\n"
V10 = GCT + "chr1:101-200:+\tENSG1.5\t3\t4\nchr1:301-400:-\tENSG2.1\t0\t1\nchr2:11-60:-\tENSG9\t5\t5\n"


def test_gct_of_both_releases(tmp_path: Path, genome: Genome, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "v8.gct").write_text(V8)
    (tmp_path / "v10.gct.gz").write_bytes(gzip.compress(V10.encode()))
    strands, groups = {"ENSG1": "+", "ENSG2": "-"}, {"S1": "skin", "S2": "skin", "S3": "lung"}
    found = read_gct(tmp_path / "v8.gct", groups, genome, strands)
    assert found["skin"].rows() == [("chr1", 100, 200, "+", 7.0), ("chr1", 300, 400, "-", 1.0)]
    assert found["lung"].is_empty() and ANNOTATED_ONLY not in caplog.text
    assert "1 introns of unknown chromosome or strand left out" in caplog.text
    one = read_gct(tmp_path / "v10.gct.gz", {"S1": "skin"}, genome)["skin"]
    assert one.rows() == [("chr1", 100, 200, "+", 3.0), ("chr2", 10, 60, "-", 5.0)]
    assert ANNOTATED_ONLY in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (V8, "has no strand; give the strands of genes"),
        (V10.replace("#1.2", "#1.3"), "wanted a GCT"),
        (V10.replace("chr1:301-400:-", "junction2"), "line 5: intron 'junction2', wanted chr1_12058_12178"),
        (V10.replace("3\t2", "4\t2", 1), "3 introns, it says 4: it is cut short"),
        (V10.replace("\t5\t5", "\t5"), "line 6: 3 fields, wanted 4"),
        (V10.replace("S1\tS2", "S2\tS2"), "named twice"),
        (V10.replace("S1\tS2", "S4\tS5"), "none of its 2 samples"),
    ],
)
def test_gct_that_is_none(tmp_path: Path, genome: Genome, text: str, message: str) -> None:
    (tmp_path / "x.gct").write_text(text)
    with pytest.raises(FileError, match=message):
        read_gct(tmp_path / "x.gct", {"S1": "skin", "S2": "skin"}, genome)


def test_the_recorded_head_of_the_release(real_data: Path, tmp_path: Path, genome: Genome) -> None:
    head = (real_data / "portals/gtex/v10_junctions_head.gct").read_text()
    (tmp_path / "head.gct").write_text(head.replace("392955\t", "1\t"))
    sample = "GTEX-1117F-0005-SM-HL9SH"
    found = read_gct(tmp_path / "head.gct", {sample: "blood"}, genome)
    assert found["blood"].is_empty(), "its one intron has no reads"
    with pytest.raises(FileError, match="1 introns, it says 392955"):
        read_gct(real_data / "portals/gtex/v10_junctions_head.gct", {sample: "blood"}, genome)
