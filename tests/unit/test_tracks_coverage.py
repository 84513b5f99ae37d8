"""Normalization of coverage, starts and cut sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from track_stand_ins import LENGTHS, make_genome, random_signal, read_bigwig, row, write_bam, write_bigwig

from megabase.files import FileError, read_json
from megabase.settings.data import TrackSettings
from megabase.tracks import bigwig, normalize_track

Signal = dict[str, np.ndarray]
AS_MEASURED = TrackSettings(scale_to_total=False)


def _run(
    tmp_path: Path,
    rows: list[dict[str, Any]],
    signals: list[Signal],
    settings: TrackSettings | None = None,
    **beds: Path,
) -> tuple[dict[str, Signal], list[dict[str, Any]]]:
    """Written signal by file name, and channel rows, of a group of bigWigs."""
    genome = tmp_path / "genome"
    if not genome.exists():
        make_genome(tmp_path)
    files = [write_bigwig(tmp_path / f"raw{n}.bw", signal) for n, signal in enumerate(signals)]
    path = normalize_track(rows, files, genome, tmp_path / "out", settings or TrackSettings(), **beds)
    channels = read_json(path, "track")["channels"]
    return {c["file"]: read_bigwig(path.parent / c["file"]) for c in channels}, channels


def _sum(*signals: Signal) -> float:
    return sum(float(np.nansum(v, dtype=np.float64)) for signal in signals for v in signal.values())


def test_strand_pair_shares_one_scale(tmp_path: Path) -> None:
    plus, minus = random_signal("plus"), random_signal("minus", density=0.1)
    rows = [row("a", "cage", strand="+"), row("b", "cage", strand="-")]
    out, channels = _run(tmp_path, rows, [plus, minus])
    np.testing.assert_allclose(_sum(*out.values()), 1e8, rtol=1e-6)
    ratio = _sum(out["plus.bw"]) / _sum(out["minus.bw"])
    np.testing.assert_allclose(ratio, _sum(plus) / _sum(minus), rtol=1e-6)
    nonzero = [np.concatenate(list(s.values())) for s in out.values()]
    mean = np.mean([v[v > 0].mean(dtype=np.float64) for v in nonzero])
    for channel, name in zip(channels, out, strict=True):
        np.testing.assert_allclose(channel["nonzero_mean"], mean, rtol=1e-6)
        np.testing.assert_allclose(channel["total"], _sum(out[name]), rtol=1e-9)
    assert [c["name"] for c in channels] == ["CL:1 assay +", "CL:1 assay -"]
    assert [c["accessions"] for c in channels] == ["a", "b"]


@pytest.mark.parametrize("output_type", ["rna_seq", "atac", "chip_tf"])
def test_replicates_of_unequal_depth(tmp_path: Path, output_type: str) -> None:
    """RNA-seq: scaled, then averaged. ATAC: averaged, then scaled. ChIP: averaged as measured."""
    one, two = random_signal("one"), {c: 10 * v for c, v in random_signal("two").items()}
    rows = [row("a", output_type), row("b", output_type, replicate="2")]
    out, channels = _run(tmp_path, rows, [one, two])
    weights = {"rna_seq": (0.5e8 / _sum(one), 0.5e8 / _sum(two)), "chip_tf": (0.5, 0.5)}
    weight = weights.get(output_type, (1e8 / _sum(one, two),) * 2)
    for chrom, values in out["unstranded.bw"].items():
        np.testing.assert_allclose(values, weight[0] * one[chrom] + weight[1] * two[chrom], rtol=1e-6)
    assert channels[0]["n_replicates"] == 2 and channels[0]["accessions"] == "a,b"


def test_missing_is_absent_and_zero_is_explicit(tmp_path: Path) -> None:
    make_genome(tmp_path, n_runs={"chr2": (1_000, 1_040)})
    signal = random_signal("one")
    signal["chr1"][600:620] = np.nan
    (tmp_path / "regions.bed").write_text("chr1\t500\t8000\n2\t0\t5003\n")
    (tmp_path / "blacklist.bed").write_text("chr1\t700\t750\nchr1\t740\t800\n")
    beds = {"regions": tmp_path / "regions.bed", "blacklist": tmp_path / "blacklist.bed"}
    out, _ = _run(tmp_path, [row("a", "dnase")], [signal], **beds)
    missing = {c: np.zeros(n, bool) for c, n in LENGTHS.items()}
    for chrom, start, end in (
        ("chr1", 0, 500), ("chr1", 8000, 9000), ("chr1", 700, 800), ("chr1", 600, 620), ("chr2", 1000, 1040),
    ):  # fmt: skip
        missing[chrom][start:end] = True
    measured = {c: np.where(missing[c], np.nan, signal[c]) for c in LENGTHS}
    scale = 1e8 / _sum(measured)
    for chrom, values in out["unstranded.bw"].items():
        np.testing.assert_array_equal(np.isnan(values), missing[chrom])
        np.testing.assert_allclose(values, measured[chrom] * scale, rtol=1e-6)


def test_unmappable_and_blacklisted_bases_are_missing(tmp_path: Path) -> None:
    signal = random_signal("one")
    (tmp_path / "blacklist.bed").write_text("chr1\t700\t750\n")
    (tmp_path / "unmappable.bed").write_text("chr1\t740\t800\nchr1\t760\t770\nchr2\t0\t5\n")
    beds = {"blacklist": tmp_path / "blacklist.bed", "unmappable": tmp_path / "unmappable.bed"}
    out, _ = _run(tmp_path, [row("a", "rna_seq")], [signal], **beds)
    values = out["unstranded.bw"]
    assert np.flatnonzero(np.isnan(values["chr1"])).tolist() == list(range(700, 800))
    assert np.flatnonzero(np.isnan(values["chr2"])).tolist() == list(range(5))
    np.testing.assert_allclose(_sum(values), 1e8, rtol=1e-6)


def test_missing_in_one_replicate_is_the_mean_of_the_others(tmp_path: Path) -> None:
    one, two = random_signal("one"), random_signal("two")
    one["chr1"][10:20] = np.nan
    two["chr1"][15:30] = np.nan
    rows = [row("a", "chip_histone"), row("b", "chip_histone", replicate="2")]
    out, _ = _run(tmp_path, rows, [one, two])
    values = out["unstranded.bw"]["chr1"]
    np.testing.assert_allclose(values[10:15], two["chr1"][10:15])
    np.testing.assert_allclose(values[20:30], one["chr1"][20:30])
    assert np.isnan(values[15:20]).all() and not np.isnan(values[30:]).any()


def test_left_as_measured(tmp_path: Path) -> None:
    signal = random_signal("one")
    out, channels = _run(tmp_path, [row("a", "rna_seq")], [signal], AS_MEASURED)
    for chrom, values in out["unstranded.bw"].items():
        np.testing.assert_array_equal(values, signal[chrom])
    assert channels[0]["total"] == _sum(signal)


def test_minus_strand_drawn_below_zero(tmp_path: Path) -> None:
    plus, minus = random_signal("plus"), random_signal("minus")
    rows = [row("a", "procap", strand="+"), row("b", "procap", strand="-")]
    below = {c: -v for c, v in minus.items()}
    out, _ = _run(tmp_path, rows, [plus, below], AS_MEASURED)
    np.testing.assert_array_equal(out["minus.bw"]["chr1"], minus["chr1"])
    with pytest.raises(FileError, match=r"\['a'\].*strand \+ holds values from -8"):
        _run(tmp_path, rows, [below, plus], AS_MEASURED)


def test_bytes_do_not_depend_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, signal = [row("a", "chip_tf")], random_signal("one")
    _run(tmp_path, rows, [signal])
    first = (tmp_path / "out/unstranded.bw").read_bytes()
    monkeypatch.setattr(bigwig, "BLOCK", 977)
    _run(tmp_path, rows, [signal])
    assert (tmp_path / "out/unstranded.bw").read_bytes() == first


def test_bam_and_ctss_files(tmp_path: Path) -> None:
    genome = make_genome(tmp_path)
    bam = write_bam(tmp_path / "r.bam", [("chr1", 100, 150, 0, 9), ("chr2", 250, 300, 16, 9)])
    path = normalize_track([row("a", "atac")], [bam], genome, tmp_path / "atac", TrackSettings())
    values = read_bigwig(path.parent / "unstranded.bw")
    assert values["chr1"][104] == values["chr2"][295] == 5e7
    assert np.count_nonzero(values["chr1"]) == 1
    (tmp_path / "c.ctss.bed").write_text("chr1\t10\t11\tx\t3\t+\nchr2\t20\t21\tx\t1\t-\n")
    path = normalize_track(
        [row("a", "cage", strand="")], [tmp_path / "c.ctss.bed"], genome, tmp_path / "cage", TrackSettings()
    )
    assert read_bigwig(path.parent / "plus.bw")["chr1"][10] == np.float32(7.5e7)
    assert read_bigwig(path.parent / "minus.bw")["chr2"][20] == np.float32(2.5e7)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([row("a", "cage", strand="+")], FileError, r"\['a'\].*wanted \+ and - together"),
        ([row("a", "rna_seq"), row("b", "rna_seq")], FileError, "second file of strand"),
        ([row("a", "rna_seq"), row("b", "cage")], ValueError, "differ in output_type"),
        ([row("a", "contact_maps")], ValueError, "contact_maps is not a track"),
        ([row("a", "rna_seq", strand="plus")], FileError, "strand 'plus'"),
    ],
)
def test_rows_that_make_no_group(
    tmp_path: Path, rows: list[dict[str, Any]], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        _run(tmp_path, rows, [random_signal("one")] * len(rows))


def test_silent_and_unknown_files(tmp_path: Path) -> None:
    genome = make_genome(tmp_path)
    silent = {c: np.zeros(n, np.float32) for c, n in LENGTHS.items()}
    with pytest.raises(FileError, match=r"\['a'\]: no signal"):
        _run(tmp_path, [row("a", "atac")], [silent])
    for name, message in (("x.wig", "unknown format"), ("x.bam", "a BAM is read as cut sites")):
        (tmp_path / name).write_text("")
        with pytest.raises(FileError, match=message):
            normalize_track([row("a", "rna_seq")], [tmp_path / name], genome, tmp_path / "o", TrackSettings())
    assert not (tmp_path / "o").exists()
