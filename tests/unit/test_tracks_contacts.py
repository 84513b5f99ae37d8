"""Contact maps: balancing, coarse-graining, observed over expected."""

from __future__ import annotations

from pathlib import Path

import cooler
import numpy as np
import pandas as pd
import pytest
from track_stand_ins import make_genome, row

from megabase.files import FileError, read_json
from megabase.seeds import generator
from megabase.settings.data import TrackSettings
from megabase.tracks import normalize_contacts
from megabase.tracks.contacts import LEVELS, coarse_grain

LENGTHS = {"chr1": 60_500, "chr2": 30_000}
BINS = {"chr1": 61, "chr2": 30}
ROW = row("m", "contact_maps", assay="Hi-C")
PLAIN = TrackSettings(contact_coarse_grain=False, contact_span=40_000)


def _counts(n: int, name: str) -> np.ndarray:
    """Symmetric counts that fall with distance."""
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    upper = np.triu(generator(0, "contacts", name).poisson(40 / (1 + distance)))
    return upper + np.triu(upper, 1).T


def _write_cool(path: Path, weights: np.ndarray | None = None) -> np.ndarray:
    """A .cool of 1 kb bins; returns the whole matrix [91, 91] (zero between chromosomes)."""
    matrix = np.zeros((91, 91), int)
    matrix[:61, :61], matrix[61:, 61:] = _counts(61, "chr1"), _counts(30, "chr2")
    bins = cooler.util.binnify(pd.Series({"1": 60_500, "chr2": 30_000}), 1_000)
    if weights is not None:
        bins["weight"] = weights
    first, second = np.nonzero(np.triu(matrix))
    pixels = pd.DataFrame({"bin1_id": first, "bin2_id": second, "count": matrix[first, second]})
    cooler.create_cooler(str(path), bins, pixels, ordered=True)
    return matrix


def _values(path: Path) -> np.ndarray:
    """float64 [91, 91] upper triangle of the written map, NaN where absent."""
    matrix = np.full((91, 91), np.nan)
    pixels = cooler.Cooler(str(path.parent / "contacts.cool")).pixels()[:]
    matrix[pixels["bin1_id"], pixels["bin2_id"]] = pixels["value"]
    return matrix


def test_log_observed_over_expected(tmp_path: Path) -> None:
    weights = generator(0, "weights").uniform(0.5, 2, 91)
    weights[[5, 70]] = np.nan
    counts = _write_cool(tmp_path / "m.cool", weights)
    genome = make_genome(tmp_path, LENGTHS)
    out = _values(normalize_contacts([ROW], [tmp_path / "m.cool"], genome, tmp_path / "out", PLAIN))
    balanced = counts * np.outer(weights, weights)
    chromosomes = (balanced[:61, :61], balanced[61:, 61:])
    diagonals = [np.concatenate([np.diagonal(part, d) for part in chromosomes]) for d in range(41)]
    profile = np.array([values[values > 0].mean() for values in diagonals])
    eps = profile.min()
    for i, j in ((0, 0), (3, 17), (20, 60), (61, 90), (63, 63), (62, 88)):
        wanted = np.log((balanced[i, j] + eps) / (profile[j - i] + eps))
        np.testing.assert_allclose(out[i, j], wanted, rtol=1e-9)
    assert np.isnan(out[5]).all() and np.isnan(out[:, 70]).all(), "bins lost in balancing are missing"
    assert np.isnan(out[0, 41]) and np.isnan(out[10, 65]), "too far, and between chromosomes"
    kept = np.isfinite(out[0, :41])
    assert kept.sum() == 40, "a pixel without contacts is measured"


def test_span_names_and_repeatable_bytes(tmp_path: Path) -> None:
    _write_cool(tmp_path / "m.cool", np.ones(91))
    genome = make_genome(tmp_path, LENGTHS)
    path = normalize_contacts(ROW, tmp_path / "m.cool", genome, tmp_path / "out", PLAIN)
    first = (tmp_path / "out/contacts.cool").read_bytes()
    normalize_contacts(ROW, tmp_path / "m.cool", genome, tmp_path / "out", PLAIN)
    assert (tmp_path / "out/contacts.cool").read_bytes() == first
    matrix = cooler.Cooler(str(tmp_path / "out/contacts.cool"))
    assert dict(matrix.chromsizes) == LENGTHS
    channel = read_json(path, "track")["channels"][0]
    assert (channel["name"], channel["strand"], channel["file"]) == ("CL:1 Hi-C", ".", "contacts.cool")


def test_balanced_here_when_the_file_is_not(tmp_path: Path) -> None:
    """A bias of each bin is taken out: the result is that of the unbiased map."""
    _write_cool(tmp_path / "m.cool")
    genome = make_genome(tmp_path, LENGTHS)
    out = _values(normalize_contacts(ROW, tmp_path / "m.cool", genome, tmp_path / "out", PLAIN))
    assert np.isfinite(out[:61, :61]).sum() > 500
    diagonal = [np.nanmean(np.diagonal(out, d)) for d in range(1, 10)]
    assert np.abs(diagonal).max() < 0.5, "no trend with distance is left"


def test_mcool_resolution(tmp_path: Path) -> None:
    _write_cool(tmp_path / "m.cool", np.ones(91))
    cooler.zoomify_cooler(
        str(tmp_path / "m.cool"), str(tmp_path / "m.mcool"), [1_000, 2_000], chunksize=10_000
    )
    genome = make_genome(tmp_path, LENGTHS)
    settings = TrackSettings(contact_resolution=2_000)
    path = normalize_contacts(ROW, tmp_path / "m.mcool", genome, tmp_path / "out", settings)
    assert read_json(path, "track")["resolution"] == 2_000
    with pytest.raises(FileError, match="wanted resolution 5000"):
        normalize_contacts(
            ROW, tmp_path / "m.mcool", genome, tmp_path / "o", TrackSettings(contact_resolution=5_000)
        )


def test_coarse_grain_keeps_dense_pixels_and_smooths_sparse_ones() -> None:
    size = 1 << LEVELS
    counts = np.zeros((size, size))
    counts[0, :2], counts[1, :2], counts[100, 100] = (5, 1), (1, 1), 7
    balanced = counts * 0.5
    balanced[3] = np.nan
    out = coarse_grain(balanced, counts, cutoff=3)
    assert out[0, 0] == 2.5 and out[100, 100] == 3.5, "enough counts: left as they are"
    assert out[0, 1] == out[1, 1] == 4 / 4, "mean of the block of 2 x 2, which has 8 counts"
    assert out[2, 1] == 4 / 12, "mean of the 12 measured pixels of the block of 4 x 4"
    assert np.isnan(out[3]).all() and np.isfinite(np.delete(out, 3, axis=0)).all()
    assert out[255, 0] == pytest.approx(7.5 / (256 * 255)), "nothing near: mean of the largest block"


def test_coarse_grain_is_symmetric_and_mean_preserving() -> None:
    counts = np.triu(generator(0, "grain").poisson(0.3, (512, 512))).astype(float)
    counts += np.triu(counts, 1).T
    out = coarse_grain(counts, counts, cutoff=3)
    np.testing.assert_array_equal(out, out.T)
    assert out[counts >= 3].tolist() == counts[counts >= 3].tolist()
    assert (out > 0).all()


def test_several_or_wrong_files(tmp_path: Path) -> None:
    genome = make_genome(tmp_path, LENGTHS)
    with pytest.raises(ValueError, match="one file is one track"):
        normalize_contacts([ROW, ROW], ["a.cool", "b.cool"], genome, tmp_path / "o", PLAIN)
    with pytest.raises(ValueError, match="wanted contact_maps"):
        normalize_contacts(row("a", "atac"), "a.cool", genome, tmp_path / "o", PLAIN)
    (tmp_path / "no.cool").write_text("text")
    with pytest.raises(FileError, match=r"no\.cool.*fetch it again"):
        normalize_contacts(ROW, tmp_path / "no.cool", genome, tmp_path / "o", PLAIN)
