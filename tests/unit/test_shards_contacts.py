"""Contact maps in the store: any window equals the mean by area over single bases."""

from __future__ import annotations

from pathlib import Path

import cooler
import numpy as np
import pandas as pd
import pytest
from track_stand_ins import make_genome, row

from megabase.files import Stamp, write_json
from megabase.seeds import generator
from megabase.settings.data import ShardSettings
from megabase.shards import ShardStore, write_shards
from megabase.spec import PAIR
from megabase.tracks import list_tracks
from megabase.tracks.table import channel_row

LENGTHS = {"chr1": 150_300, "chr2": 41_000}


def _write_map(folder: Path, bin_size: int, span: int) -> dict[str, np.ndarray]:
    """A track folder with a map of random pixels, some missing; returns dense symmetric matrices."""
    bins = cooler.util.binnify(pd.Series(LENGTHS), bin_size)
    dense, tables, offset = {}, [], 0
    for chrom, length in LENGTHS.items():
        n = -(-length // bin_size)
        values = generator(0, "map", bin_size, chrom).standard_normal((n, n)).astype(np.float32)
        values = np.triu(values) + np.triu(values, 1).T
        values[n // 3] = values[:, n // 3] = np.nan
        distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        dense[chrom] = np.where(distance <= span, values, np.nan)
        first, second = np.nonzero(np.triu(~np.isnan(dense[chrom])))
        value = dense[chrom][first, second].astype(np.float64)
        tables.append(pd.DataFrame({"bin1_id": first + offset, "bin2_id": second + offset, "value": value}))
        offset += n
    folder.mkdir()
    options = {"columns": ["value"], "dtypes": {"value": np.float64}, "ordered": True}
    cooler.create_cooler(str(folder / "contacts.cool"), bins, pd.concat(tables), **options)
    channel = channel_row(
        [row(f"m{bin_size}", "contact_maps", assay=f"Hi-C {bin_size}")], ".", n_replicates=1
    )
    write_json({"channels": [channel | {"file": "contacts.cool"}]}, folder / "track.json", Stamp("track"))
    return dense


def _brute(dense: np.ndarray, bin_size: int, length: int, start: int, size: int) -> np.ndarray:
    """Mean over all pairs of single bases [Q, Q], by counting the bases of source bins in window bins."""
    bases = np.arange(start, start + size)
    inside = (bases >= 0) & (bases < length)
    share = np.zeros((size // PAIR, len(dense)))
    np.add.at(share, ((bases - start)[inside] // PAIR, bases[inside] // bin_size), 1)
    known = ~np.isnan(dense)
    with np.errstate(invalid="ignore"):
        return (share @ np.where(known, dense, 0) @ share.T) / (share @ known @ share.T)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_window_is_the_mean_by_area(tmp_path: Path, dtype: str) -> None:
    maps = {
        size: _write_map(tmp_path / f"m{size}", size, span)
        for size, span in ((1_000, 90), (2_000, 12), (5_000, 30))
    }
    genome = make_genome(tmp_path, LENGTHS)
    dirs = [tmp_path / f"m{size}" for size in maps]
    list_tracks(dirs, "human", tmp_path / "tracks.parquet")
    write_shards(tmp_path / "tracks.parquet", dirs, genome, tmp_path / "s", ShardSettings(dtype=dtype))
    store = ShardStore.open(tmp_path / "s")
    draws = generator(0, "windows")
    windows = [
        ("chr1", 0, 16_384),
        ("chr1", -5_000, 16_384),
        ("chr2", 30_000, 32_768),
        ("chr2", 41_000, 4_096),
    ]
    windows += [("chr1", int(draws.integers(-9_000, 150_000)), 8 * PAIR) for _ in range(15)]
    for chrom, start, size in windows:
        out = store.contacts(chrom, start, size)
        assert out.shape == (size // PAIR, size // PAIR, 3) and out.dtype == np.float32
        for channel, (bin_size, dense) in enumerate(maps.items()):
            wanted = _brute(dense[chrom], bin_size, LENGTHS[chrom], start, size)
            tolerance = 1e-5 if dtype == "float32" else 0.02
            np.testing.assert_allclose(
                out[:, :, channel], wanted, atol=tolerance, err_msg=f"{chrom}:{start} {bin_size}"
            )


def test_window_of_odd_length(tmp_path: Path) -> None:
    _write_map(tmp_path / "m", 1_000, 20)
    list_tracks([tmp_path / "m"], "human", tmp_path / "tracks.parquet")
    genome = make_genome(tmp_path, LENGTHS)
    write_shards(tmp_path / "tracks.parquet", [tmp_path / "m"], genome, tmp_path / "s", ShardSettings())
    with pytest.raises(ValueError, match="multiple of 2048"):
        ShardStore.open(tmp_path / "s").contacts("chr1", 0, 5_000)
