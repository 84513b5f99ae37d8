"""Quality of normalized tracks: the figures, the verdicts, and what becomes of tracks that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from track_stand_ins import LENGTHS, make_genome, random_signal, row, write_bigwig

from megabase.files import FileError, read_json, read_table
from megabase.settings.data import QualitySettings, TrackSettings
from megabase.tracks import check_tracks, list_tracks, normalize_contacts, normalize_splicing, normalize_track
from megabase.tracks.agreement import Agreement, bin_means, summarize
from megabase.tracks.quality import read_quality, robust_scores

Signal = dict[str, np.ndarray]
LENIENT = QualitySettings(min_replicate_correlation=-1, min_strand_share=0)


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return make_genome(tmp_path)


def _group(
    folder: Path,
    genome: Path,
    rows: list[dict[str, Any]],
    signals: list[Signal],
    settings: TrackSettings | None = None,
    **beds: Path,
) -> Path:
    """Normalize one group of bigWigs; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_bigwig(folder / f"{r['accession']}.bw", s) for r, s in zip(rows, signals, strict=True)]
    normalize_track(rows, files, genome, folder / "out", settings or TrackSettings(), **beds)
    return folder / "out"


def _check(folders: list[Path], tmp_path: Path, settings: QualitySettings) -> dict[str, dict[str, Any]]:
    """Quality rows by name."""
    check_tracks(folders, "human", tmp_path / "quality.tsv", settings)
    return {r["name"]: r for r in read_quality(tmp_path / "quality.tsv").iter_rows(named=True)}


def test_figures_of_a_strand_pair(tmp_path: Path, genome: Path) -> None:
    plus, minus = random_signal("plus"), random_signal("minus", density=0.1)
    plus["chr2"][1_000:1_500] = np.nan
    (tmp_path / "regions.bed").write_text("chr1\t1000\t9000\nchr2\t0\t5003\n")
    rows = [row("a", "cage", strand="+"), row("b", "cage", strand="-")]
    folder = _group(tmp_path / "t", genome, rows, [plus, minus], regions=tmp_path / "regions.bed")
    found = _check([folder], tmp_path, QualitySettings())
    inside = {s: np.concatenate([x["chr1"][1000:], x["chr2"]]) for s, x in (("+", plus), ("-", minus))}
    totals = {s: float(np.nansum(v, dtype=np.float64)) for s, v in inside.items()}
    for strand, values in inside.items():
        one, known = found[f"CL:1 assay {strand}"], ~np.isnan(values)
        assert one["measured"] == totals[strand]
        np.testing.assert_allclose(one["total"], 1e8 * totals[strand] / sum(totals.values()), rtol=1e-6)
        np.testing.assert_allclose(one["covered"], np.mean(values[known] > 0), rtol=1e-7)
        np.testing.assert_allclose(one["missing"], np.mean(~known), atol=1e-8)
        np.testing.assert_allclose(one["masked"], 1_000 / sum(LENGTHS.values()), rtol=1e-7)
        np.testing.assert_allclose(one["largest"], np.nanmax(values) * 1e8 / sum(totals.values()), rtol=1e-6)
        np.testing.assert_allclose(one["strand_share"], totals["+"] / sum(totals.values()), rtol=1e-6)
        assert one["replicate_correlation"] is None and one["verdict"] == "pass"


def test_correlation_is_pearson_of_bin_means_and_names_the_worst(tmp_path: Path, genome: Path) -> None:
    base = {c: np.repeat(np.arange(1 + n // 500), 500)[:n].astype(np.float32) for c, n in LENGTHS.items()}
    noisy = {c: v[::-1].copy() for c, v in base.items()}
    signals = [base, {c: 3 * v + 1 for c, v in base.items()}, noisy]
    rows = [row(f"r{n}", "chip_tf", replicate=str(n)) for n in range(3)]
    folder = _group(tmp_path / "t", genome, rows, signals)
    one = _check([folder], tmp_path, QualitySettings())["CL:1 assay"]
    bins = [
        np.concatenate([v[: len(v) // 2048 * 2048].reshape(-1, 2048).mean(1) for v in s.values()])
        for s in signals
    ]
    r = np.corrcoef(bins)
    np.testing.assert_allclose(one["replicate_correlation"], (r.sum() - 3) / 6, atol=1e-6)
    np.testing.assert_allclose(one["worst_correlation"], (r[2, 0] + r[2, 1]) / 2, atol=1e-6)
    assert one["worst_replicate"] == "r2" and one["verdict"] == "flag"
    assert "correlation of r2 with its replicates" in one["reason"]


def test_agreement_of_parts_is_that_of_the_whole() -> None:
    values = np.random.default_rng(0).random((3, 50))
    values[1, 7] = np.nan
    whole, first, rest = (Agreement.of(3) for _ in range(3))
    whole.add(values)
    first.add(values[:, :20])
    rest.add(values[:, 20:])
    first.join(rest)
    kept = np.delete(values, 7, axis=1)
    np.testing.assert_allclose(first.correlations(), np.corrcoef(kept), atol=1e-9)
    np.testing.assert_allclose(whole.correlations(), np.corrcoef(kept), atol=1e-9)


def test_constant_replicate_has_no_correlation_and_counts_as_zero() -> None:
    agreement = Agreement.of(3)
    line = np.arange(10.0)
    agreement.add(np.array([line, 2 * line, np.full(10, 4.0)]))
    told = summarize(agreement.correlations(), ["a", "b", "c"])
    assert told == {"replicate_correlation": 0.333333, "worst_replicate": "c", "worst_correlation": 0.0}
    assert summarize(Agreement.of(1).correlations(), ["a"])["replicate_correlation"] is None


def test_bin_with_a_missing_base_is_missing() -> None:
    values = np.ones(3 * 2048 + 5)
    values[2048] = np.nan
    np.testing.assert_array_equal(bin_means(values), [1, np.nan, 1])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"min_measured": 1e9}, "measured signal .* at least 1e+09 wanted"),
        ({"min_covered": 0.9}, "share of bases with signal .* at least 0.9 wanted"),
        ({"max_missing": 0.01}, "share of bases missing at the source .* at most 0.01 wanted"),
        ({"min_strand_share": 0.4}, r"\+ strand holds 0.7.* of the pair, each at least 0.4 wanted"),
    ],
)
def test_every_threshold_tells_its_reason(
    tmp_path: Path, genome: Path, settings: dict[str, float], reason: str
) -> None:
    plus, minus = random_signal("plus"), random_signal("minus", density=0.1)
    plus["chr2"][1_000:1_500] = minus["chr2"][1_000:1_500] = np.nan
    rows = [row("a", "cage", strand="+"), row("b", "cage", strand="-")]
    folder = _group(tmp_path / "t", genome, rows, [plus, minus])
    assert {r["verdict"] for r in _check([folder], tmp_path, QualitySettings()).values()} == {"pass"}
    found = _check([folder], tmp_path, QualitySettings(**settings))["CL:1 assay +"]
    assert found["verdict"] == "flag"
    assert pl.Series([found["reason"]]).str.contains(reason.replace("e+", "e\\+"))[0], found["reason"]


def test_outlier_of_its_output_type(tmp_path: Path, genome: Path) -> None:
    folders = []
    for n in range(9):
        signal = {c: v * (1_000 if n == 4 else 1 + n / 20) for c, v in random_signal(str(n)).items()}
        rows = [row(f"r{n}", "chip_tf", target=f"T{n}")]
        folders.append(_group(tmp_path / f"t{n}", genome, rows, [signal]))
    found = _check(folders, tmp_path, QualitySettings())
    assert [name for name, r in found.items() if r["verdict"] == "flag"] == ["CL:1 assay T4"]
    assert found["CL:1 assay T4"]["outlier"] > 6 and found["CL:1 assay T4"]["outlier_in"] == "measured"
    few = _check(folders[2:], tmp_path, QualitySettings())
    assert few["CL:1 assay T4"]["outlier"] is None and few["CL:1 assay T4"]["verdict"] == "pass"


def test_robust_scores() -> None:
    scores = robust_scores(np.array([-1.0, 0, 1, 100]))
    np.testing.assert_allclose(scores[2] - scores[1], 0.67448975, rtol=1e-6)
    assert robust_scores(np.full(4, 3.0)).tolist() == [0] * 4
    assert robust_scores(np.array([1.0, 1, 1, 1, 2]))[-1] > 2


def test_flagged_tracks_are_excluded_with_their_partner_only_if_asked(tmp_path: Path, genome: Path) -> None:
    pair = [row("a", "cage", strand="+"), row("b", "cage", strand="-")]
    weak = {c: np.zeros(n, np.float32) for c, n in LENGTHS.items()}
    weak["chr1"][5] = 1
    folders = [
        _group(tmp_path / "pair", genome, pair, [random_signal("p"), weak]),
        _group(tmp_path / "good", genome, [row("c", "chip_tf")], [random_signal("c")]),
    ]
    only_covered = {"min_strand_share": 0, "min_covered": 0.01}
    flagged = _check(folders, tmp_path, QualitySettings(**only_covered))
    assert [r["verdict"] for r in flagged.values()] == ["pass", "flag", "pass"]
    table = list_tracks(folders, "human", tmp_path / "tracks.parquet", tmp_path / "quality.tsv")
    assert len(table) == 3, "a flag leaves a track where it is"

    excluded = _check(folders, tmp_path, QualitySettings(exclude=True, **only_covered))
    assert [r["verdict"] for r in excluded.values()] == ["excluded", "excluded", "pass"]
    assert excluded["CL:1 assay +"]["reason"].startswith("its strand partner: share of bases with signal")
    list_tracks(folders, "human", tmp_path / "tracks.parquet", tmp_path / "quality.tsv")
    assert read_table(tmp_path / "tracks.parquet", "tracks")["accessions"].to_list() == ["c"]


def test_failed_group_is_listed_where_asked_and_stops_the_job_where_not(tmp_path: Path, genome: Path) -> None:
    broken = write_bigwig(tmp_path / "x.bw", random_signal("x"))
    data = bytearray(broken.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(60)
    broken.write_bytes(data)
    rows = [row("x", "rna_seq")]
    with pytest.raises(FileError, match=r"x\.bw: damaged at chr\d:.*fetch it again"):
        normalize_track(rows, [broken], genome, tmp_path / "out", TrackSettings())
    assert not (tmp_path / "out").exists()
    normalize_track(rows, [broken], genome, tmp_path / "out", TrackSettings(keep_going=True))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["track.json"]
    assert read_json(tmp_path / "out/track.json", "track")["channels"] == []
    good = _group(tmp_path / "good", genome, [row("c", "chip_tf")], [random_signal("c")])
    found = _check([tmp_path / "out", good], tmp_path, QualitySettings())
    failed = next(r for r in found.values() if r["accessions"] == "x")
    assert failed["verdict"] == "failed" and "x.bw: damaged" in failed["reason"]
    assert failed["output_type"] == "rna_seq"
    assert len(list_tracks([tmp_path / "out", good], "human", tmp_path / "t.parquet")) == 1


def test_keep_going_does_not_hide_a_wrong_call(tmp_path: Path, genome: Path) -> None:
    with pytest.raises(ValueError, match="differ in output_type"):
        normalize_track(
            [row("a", "cage"), row("b", "dnase")], ["a.bw", "b.bw"], genome, tmp_path / "o",
            TrackSettings(keep_going=True),
        )  # fmt: skip


def test_contact_map_that_fails(tmp_path: Path, genome: Path) -> None:
    (tmp_path / "m.cool").write_text("no cooler")
    rows = [row("m", "contact_maps")]
    normalize_contacts(rows, [tmp_path / "m.cool"], genome, tmp_path / "m", TrackSettings(keep_going=True))
    found = _check([tmp_path / "m"], tmp_path, QualitySettings())
    assert found["CL:1 assay"]["verdict"] == "failed" and "m.cool" in found["CL:1 assay"]["reason"]


def test_splicing_figures(tmp_path: Path, genome: Path) -> None:
    one = "chr1\t101\t200\t1\t1\t1\t30\t0\t20\nchr1\t101\t300\t1\t1\t0\t10\t5\t20\n"
    two = "chr1\t101\t200\t1\t1\t1\t60\t0\t20\nchr2\t501\t600\t2\t2\t0\t20\t0\t20\n"
    files = [tmp_path / "1.SJ.out.tab", tmp_path / "2.SJ.out.tab"]
    for path, text in zip(files, (one, two), strict=True):
        path.write_text(text)
    rows = [row("a", "splice_junctions"), row("b", "splice_junctions", replicate="2")]
    normalize_splicing(rows, files, genome, tmp_path / "s", TrackSettings())
    table = check_tracks([tmp_path / "s"], "human", tmp_path / "quality.tsv", LENIENT)
    junctions = table.filter(pl.col("output_type") == "splice_junctions").to_dicts()
    assert [r["measured"] for r in junctions] == [100, 20]
    np.testing.assert_allclose([r["strand_share"] for r in junctions], 100 / 120, rtol=1e-7)
    expected = np.corrcoef(np.log1p([[30, 10, 0], [60, 0, 20]]))[0, 1]
    np.testing.assert_allclose(junctions[0]["replicate_correlation"], expected, atol=1e-6)
    usage = table.filter(pl.col("output_type") == "splice_site_usage").to_dicts()
    assert [r["covered"] for r in usage] == [1, 1]
    asked = QualitySettings(exclude=True, min_covered=1, min_measured=1e9)
    table = check_tracks([tmp_path / "s"], "human", tmp_path / "quality.tsv", asked)
    assert set(table["verdict"]) == {"flag", "pass"}, "tables of splicing are read as a whole"


def test_tracks_of_an_earlier_version_are_unknown(tmp_path: Path, genome: Path) -> None:
    folder = _group(tmp_path / "t", genome, [row("c", "chip_tf")], [random_signal("c")])
    (folder / "quality.json").unlink()
    assert _check([folder], tmp_path, QualitySettings())["CL:1 assay"]["verdict"] == "unknown"


def test_other_organism_is_refused(tmp_path: Path, genome: Path) -> None:
    folder = _group(tmp_path / "t", genome, [row("c", "chip_tf")], [random_signal("c")])
    with pytest.raises(FileError, match="is of human, wanted mouse"):
        check_tracks([folder], "mouse", tmp_path / "quality.tsv", QualitySettings())


def test_default_quality_settings_change_no_hash() -> None:
    assert TrackSettings().hash() == TrackSettings(quality=QualitySettings(), keep_going=False).hash()
    assert "quality" not in TrackSettings().model_dump() and "keep_going" not in TrackSettings().model_dump()
    assert TrackSettings().hash() == "20a599ff147b1e46a7ae6d0265e89e0b"  # before there was a quality section
