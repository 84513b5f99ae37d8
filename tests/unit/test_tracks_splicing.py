"""Splice sites, junctions and usage from STAR tables, usage tables and annotated introns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from track_stand_ins import make_genome, row

from megabase.files import FileError, read_json, read_table
from megabase.settings.data import TrackSettings
from megabase.tracks import normalize_splicing

SETTINGS = TrackSettings(junction_clip_percentile=100.0)
# one gene on +: exons end at 99 and start at 200, 300; the middle exon 200..249 may be skipped
STAR_1 = (
    "chr1\t101\t200\t1\t1\t1\t30\t0\t20\n"
    "chr1\t251\t300\t1\t1\t1\t20\t0\t20\n"
    "chr1\t101\t300\t1\t1\t0\t10\t5\t20\n"
)
STAR_2 = (
    "1\t101\t200\t1\t1\t1\t10\t0\t20\n"
    "chr1\t101\t300\t1\t1\t0\t30\t0\t20\n"
    "chr2\t501\t600\t2\t2\t0\t60\t0\t20\n"
)
USAGE = "chrom\tposition\tstrand\tusing\tskipping\n"


def _normalize(
    tmp_path: Path, files: list[tuple[str, str, dict[str, Any]]], settings: TrackSettings = SETTINGS
) -> tuple[dict[str, pl.DataFrame], list[dict[str, Any]]]:
    """Tables and channels made of `(file name, text, manifest values)`."""
    rows = [row(f"a{n}", values.pop("output_type"), **values) for n, (_, _, values) in enumerate(files)]
    paths = [tmp_path / f"{n}.{name}" for n, (name, _, _) in enumerate(files)]
    for path, (_, text, _) in zip(paths, files, strict=True):
        path.write_text(text)
    path = normalize_splicing(rows, paths, make_genome(tmp_path), tmp_path / "splicing", settings)
    tables = {
        kind: read_table(path.parent / f"{kind}.parquet", kind) for kind in ("sites", "usage", "junctions")
    }
    return tables, read_json(path, "track")["channels"]


def _star(text: str, **values: Any) -> tuple[str, str, dict[str, Any]]:
    return "SJ.out.tab", text, {"output_type": "splice_junctions", **values}


def test_sites_of_both_strands(tmp_path: Path) -> None:
    """Donor = last exonic base, acceptor = first; on the minus strand the right end is the donor."""
    tables, _ = _normalize(tmp_path, [_star(STAR_1 + STAR_2)])
    assert tables["sites"].rows() == [
        ("chr1", 99, "+", "donor"), ("chr1", 200, "+", "acceptor"), ("chr1", 249, "+", "donor"),
        ("chr1", 300, "+", "acceptor"), ("chr2", 499, "-", "acceptor"), ("chr2", 600, "-", "donor"),
    ]  # fmt: skip
    minus = tables["junctions"].filter(pl.col("strand") == "-").row(0, named=True)
    assert (minus["donor"], minus["acceptor"]) == (600, 499)


def test_counts_are_scaled_a_sample_then_averaged_then_divided_by_their_mean(tmp_path: Path) -> None:
    tables, channels = _normalize(tmp_path, [_star(STAR_1), _star(STAR_2, replicate="2")])
    counts = {(r["donor"], r["acceptor"]): r["count"] for r in tables["junctions"].iter_rows(named=True)}
    one, two = 1e6 / 60, 1e6 / 100
    mean = {
        (99, 200): (30 * one + 10 * two) / 2, (249, 300): 20 * one / 2,
        (99, 300): (10 * one + 30 * two) / 2, (600, 499): 60 * two / 2,
    }  # fmt: skip
    average = np.mean(list(mean.values()))
    assert counts.keys() == mean.keys()
    for key, value in mean.items():
        np.testing.assert_allclose(counts[key], value / average, rtol=1e-12)
    names = [(c["output_type"], c["name"], c["n_replicates"]) for c in channels]
    usage, junctions = "splice_site_usage", "splice_junctions"
    assert names == [(o, f"CL:1 assay {s}", 2) for o in (usage, junctions) for s in "+-"]


def test_usage_is_using_over_using_and_skipping(tmp_path: Path) -> None:
    tables, _ = _normalize(tmp_path, [_star(STAR_1)])
    usage = {r["position"]: r["usage"] for r in tables["usage"].iter_rows(named=True)}
    assert usage == {99: 1.0, 200: 30 / 40, 249: 20 / 30, 300: 1.0}


def test_usage_is_averaged_over_samples_with_reads(tmp_path: Path) -> None:
    tables, _ = _normalize(tmp_path, [_star(STAR_1), _star(STAR_2, replicate="2")])
    usage = {r["position"]: r["usage"] for r in tables["usage"].iter_rows(named=True)}
    np.testing.assert_allclose(usage[200], (30 / 40 + 10 / 40) / 2)
    np.testing.assert_allclose(usage[249], (20 / 30 + 0 / 30) / 2)
    assert usage[600] == 1.0, "the sample without reads there does not count"


def test_usage_table_goes_before_junctions(tmp_path: Path) -> None:
    table = USAGE + "chr1\t201\t+\t3\t1\nchr1\t101\t-\t9\t0\nchr1\t301\t+\t0\t0\n"
    ssu = ("ssu.tsv", table, {"output_type": "splice_site_usage"})
    tables, channels = _normalize(tmp_path, [_star(STAR_1), ssu])
    assert tables["usage"].rows() == [("chr1", 200, "+", "CL:1 assay", 0.75)]
    assert [c["accessions"] for c in channels] == ["a1", "a1", "a0", "a0"]


def test_min_reads_over_all_samples_and_clipping(tmp_path: Path) -> None:
    rare = "chr2\t701\t800\t1\t1\t0\t1\t9\t20\n"
    tables, _ = _normalize(tmp_path, [_star(STAR_1 + rare)])
    assert 699 not in tables["sites"]["position"].to_list()
    tables, _ = _normalize(
        tmp_path, [_star(STAR_1 + rare), _star(rare, biosample="b", ontology_curie="CL:2")]
    )
    assert 699 in tables["sites"]["position"].to_list()
    tables, _ = _normalize(tmp_path, [_star(STAR_1)], TrackSettings(junction_clip_percentile=50.0))
    counts = sorted(tables["junctions"]["count"])
    np.testing.assert_allclose(counts, np.array([10, 20, 20]) / np.mean([10, 20, 20]))


def test_normalized_counts_have_mean_one_and_a_ceiling(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).pareto(0.8, 2_000) + 2
    starts = [2 * n + 11 for n in range(len(draws))]
    rows = [f"chr1\t{s}\t{s + 40}\t1\t1\t1\t{int(c)}\t0\t20\n" for s, c in zip(starts, draws, strict=True)]
    tables, _ = _normalize(tmp_path, [_star("".join(rows))], TrackSettings())
    counts = tables["junctions"]["count"].to_numpy()
    np.testing.assert_allclose(counts.mean(), 1, rtol=1e-12)
    assert (counts > 0).all() and len(counts) == 2_000
    raw = np.floor(draws) * 1e6 / np.floor(draws).sum()
    ceiling = np.percentile(raw, 99.99)
    np.testing.assert_allclose(counts.max(), ceiling / np.minimum(raw, ceiling).mean(), rtol=1e-9)


def test_annotated_introns_are_sites_without_usage(tmp_path: Path) -> None:
    bed = "chr1\t100\t200\tA|mRNA|GT-AG\t0\t+\n1\t500\t600\tB\t0\t-\nchr1\t700\t720\ttP|tRNA|AA-TA\t0\t+\n"
    tables, channels = _normalize(tmp_path, [("introns.bed", bed, {"output_type": "splice_sites"})])
    assert tables["sites"].select("position", "strand", "kind").rows() == [
        (99, "+", "donor"), (200, "+", "acceptor"), (499, "-", "acceptor"), (600, "-", "donor"),
    ]  # fmt: skip
    assert channels == [] and len(tables["usage"]) == len(tables["junctions"]) == 0


def test_same_bytes_twice(tmp_path: Path) -> None:
    files = [_star(STAR_1), _star(STAR_2, replicate="2")]
    _normalize(tmp_path, [(n, t, dict(v)) for n, t, v in files])
    first = {p.name: p.read_bytes() for p in (tmp_path / "splicing").iterdir()}
    _normalize(tmp_path, files)
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "splicing").iterdir()}


@pytest.mark.parametrize(
    ("name", "text", "output_type", "message"),
    [
        (
            "SJ.out.tab",
            STAR_1 + "chr1\t0\t20\t1\t1\t1\t3\t0\t9\n",
            "splice_junctions",
            "row 4.*wanted 1 <= first",
        ),
        ("SJ.out.tab", "chr1\tx\t20\t1\t1\t1\t3\t0\t9\n", "splice_junctions", "nine integer columns"),
        (
            "SJ.out.tab",
            "chrX\t5\t20\t1\t1\t1\t3\t0\t9\n",
            "splice_junctions",
            "none of them is in the genome",
        ),
        ("SJ.out.tab", "chr1\t5\t9000\t1\t1\t1\t3\t0\t9\n", "splice_junctions", "off its chromosome of 9000"),
        ("ssu.tsv", "chrom\tposition\tusing\nchr1\t2\t3\n", "splice_site_usage", "lacks .*strand.*skipping"),
        (
            "ssu.tsv",
            USAGE + "chr1\t0\t+\t3\t1\n",
            "splice_site_usage",
            "row 2",
        ),
        ("i.bed", "chr1\t5\t20\tx\t0\t.\n", "splice_sites", r"row 1.*strand '\.'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, output_type: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        _normalize(tmp_path, [(name, text, {"output_type": output_type})])


def test_other_files_and_silent_samples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rna_seq is not a file of splicing"):
        _normalize(tmp_path, [("x.bw", "", {"output_type": "rna_seq"})])
    rare = "chr2\t701\t800\t1\t1\t0\t1\t9\t20\n"
    with pytest.raises(FileError, match="a1: no read on any kept junction"):
        _normalize(tmp_path, [_star(STAR_1), _star(rare, replicate="2")])


def test_sources_are_biosamples_of_their_own(tmp_path: Path) -> None:
    tables, channels = _normalize(tmp_path, [_star(STAR_1, portal="encode"), _star(STAR_2, portal="gtex")])
    names = ["CL:1 assay encode", "CL:1 assay gtex"]
    assert sorted(set(tables["junctions"]["biosample"])) == names
    assert [c["name"] for c in channels[:2]] == [f"{name} +" for name in names]
