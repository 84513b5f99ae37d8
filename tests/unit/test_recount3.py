"""Junctions of recount3, a sample at a time, and of GTEx's own table, pooled by tissue."""

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
from megabase.tracks.recount3 import TissueCounts, read_recount3

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


def _by_sample(counts: TissueCounts) -> dict[str, list[tuple]]:
    """INTRON and count of each sample."""
    table = pl.concat([counts.read(chrom) for chrom in sorted(counts.chromosomes)]).sort(
        "chrom", "start", "end"
    )
    parts = {name: table.filter(pl.col("sample") == n).drop("sample") for n, name in enumerate(counts.names)}
    return {name: part.rows() for name, part in parts.items()}


@pytest.mark.parametrize("packed", [True, False])
def test_counts_of_each_sample_by_group(tmp_path: Path, genome: Genome, packed: bool) -> None:
    found = read_recount3(*_files(tmp_path, packed), GROUPS, genome, tmp_path / "counts")
    assert _by_sample(found["skin"]) == {
        "7": [("chr1", 100, 200, "+", 10), ("chr1", 100, 300, "+", 3)],
        "9": [("chr1", 100, 200, "+", 4), ("chr2", 10, 60, "-", 2)],
    }
    assert _by_sample(found["lung"]) == {"5": [("chr1", 100, 200, "+", 1), ("chr2", 10, 60, "-", 6)]}
    assert set(found) == {"skin", "lung"}, "a group without a column here is none"
    assert found["lung"].read("chr7").is_empty()


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
    for block in (1 << 22, 20):
        monkeypatch.setattr(recount3, "BLOCK", block)
        found = read_recount3(*files, groups, genome, tmp_path / f"counts-{block}")
        for group, counts in found.items():
            members = [n for n in range(30) if "ab"[n % 2] == group]
            assert list(counts.names) == [str(n) for n in members]
            again = np.zeros((40, len(members)), np.int64)
            table = counts.read("chr1")
            again[table["start"].to_numpy(), table["sample"].to_numpy()] = table["count"].to_numpy()
            np.testing.assert_array_equal(again, dense[:, members])


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
        read_recount3(*_files(tmp_path, **texts), GROUPS, genome, tmp_path / "counts")


def test_a_matrix_that_broke_off(tmp_path: Path, genome: Genome) -> None:
    files = _files(tmp_path)
    files[0].write_bytes(files[0].read_bytes()[:-12])
    with pytest.raises(FileError, match=r"cannot be read as a matrix|cut short"):
        read_recount3(*files, GROUPS, genome, tmp_path / "counts")


MD = (
    "rail_id\texternal_id\tstudy\tSUBJID\tSMTSD\tSMAFRZE\n"
    "7\ta.1\tS\tA\tLung\tRNASEQ\n5\tb.1\tS\tB\tThyroid\tRNASEQ\n9\tc.1\tS\tC\tLung\tRNASEQ\n"
)


def _project(folder: Path, **texts: str) -> tuple[list[dict], list[Path]]:
    """Manifest rows and files of a project of three individuals in two tissues."""
    rows = [
        row(f"P.{kind}", "splice_junctions", experiment="P", ontology_curie="", biosample="", assay="RNA")
        for kind in ("MM", "RR", "ID", "MD")
    ]
    return rows, _files(folder, **({"MD": MD} | texts))


def test_a_project_is_a_biosample_a_tissue(tmp_path: Path) -> None:
    rows, files = _project(tmp_path)
    (tmp_path / ".scratch-out" / "project-0").mkdir(parents=True)  # a killed run left it
    path = normalize_splicing(rows, files, make_genome(tmp_path), tmp_path / "out", PLAIN)
    table = read_table(path.parent / "junctions.parquet", "junctions")
    assert set(table["biosample"]) == {"UBERON:0008952 RNA", "UBERON:0002046 RNA"}
    lung = table.filter(pl.col("biosample") == "UBERON:0008952 RNA").sort("chrom", "acceptor")
    mean = np.array([(10 / 13 + 4 / 6) / 2, 3 / 13 / 2, 2 / 6 / 2])  # each individual counts the same
    np.testing.assert_allclose(lung["count"] / lung["count"].sum(), mean)
    usage = read_table(path.parent / "usage.parquet", "usage").filter(
        pl.col("biosample") == "UBERON:0008952 RNA"
    )
    acceptor = usage.filter((pl.col("position") == 200) & (pl.col("strand") == "+"))["usage"].item()
    assert acceptor == pytest.approx((10 / 13 + 1) / 2), "the mean over individuals"
    channels = read_json(path, "track")["channels"]
    assert {c["biosample_name"] for c in channels} == {"upper lobe of left lung", "thyroid gland"}
    assert {c["biosample_name"]: c["n_replicates"] for c in channels} == {
        "upper lobe of left lung": 2, "thyroid gland": 1,
    }  # fmt: skip
    assert not list(tmp_path.glob(".scratch*")), "counts of individuals are laid aside only for a while"
    with pytest.raises(FileError, match="GTEx project P: no MD file"):
        normalize_splicing(rows[:3], files[:3], make_genome(tmp_path), tmp_path / "o", PLAIN)


def test_the_published_filter_sees_individuals(tmp_path: Path) -> None:
    """Junction 2 is read often in one of ten individuals alone, however many reads the tissue has of it."""
    n = 11
    entries = [(1, c, 5) for c in range(1, n + 1)] + [(2, 1, 900)] + [(5, 1, 40), (5, 2, 40)]
    text = "".join(f"{r} {c} {v}\n" for r, c, v in entries)
    names = [str(100 + k) for k in range(n)]
    head = MD.splitlines()[0]
    metadata = head + "\n" + "".join(f"{x}\ta.1\tS\tA\tLung\tRNASEQ\n" for x in names)
    rows, files = _project(
        tmp_path, MD=metadata, ID="rail_id\n" + "\n".join(names) + "\n",
        MM=f"%%MatrixMarket matrix coordinate integer general\n5 {n} {len(entries)}\n{text}",
    )  # fmt: skip
    settings = TrackSettings(junction_clip_percentile=100.0, junction_filters={"human": "gtex"})
    genome = make_genome(tmp_path)
    path = normalize_splicing(rows, files, genome, tmp_path / "out", settings)
    table = read_table(path.parent / "junctions.parquet", "junctions")
    assert table.select("donor", "acceptor").rows() == [(99, 200)], (
        "the others are not read in most individuals"
    )
    pooled = normalize_splicing(rows, files, genome, tmp_path / "all", PLAIN)
    assert read_table(pooled.parent / "junctions.parquet", "junctions").height == 3


def test_an_individual_without_kept_reads_is_told_or_left_out(tmp_path: Path) -> None:
    rows, files = _project(
        tmp_path, MM=MM.replace("5 3 8", "5 3 6").replace("1 2 1\n", "").replace("5 2 6\n", "")
    )
    genome = make_genome(tmp_path)
    with pytest.raises(FileError, match="5: no read on any kept junction; leave the file out"):
        normalize_splicing(rows, files, genome, tmp_path / "out", PLAIN)
    assert not (tmp_path / "out").exists()
    path = normalize_splicing(
        rows, files, genome, tmp_path / "o", PLAIN.model_copy(update={"keep_going": True})
    )
    told = read_json(path, "track")
    assert [f["accessions"] for f in told["failed"]] == ["5"]
    assert {c["biosample_name"] for c in told["channels"]} == {"upper lobe of left lung"}


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
