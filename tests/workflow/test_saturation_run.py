"""Every SNV of a BED through the whole workflow: from the checkout's rules to bigWigs and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyBigWig
import pytest
import scoring_run
import yaml
import zarr

pytestmark = pytest.mark.timeout(600)
BED = "chr1\t10400\t10412\tlocus\nchr1\t22000\t22008\n"
BASES = 20
TARGET = "results/saturation/locus/untrained"


def test_every_snv_of_a_bed_becomes_tracks(tmp_path: Path, root: Path) -> None:
    world = scoring_run.make_world(tmp_path / "world")
    folder = scoring_run.make_run(tmp_path / "run", world, root)
    (folder / "locus.bed").write_text(BED)
    path = folder / "config/run.yaml"
    values = yaml.safe_load(path.read_text())
    values["variants"] = {"locus": {"genome": "toy", "saturate": "locus.bed"}}
    values["scoring"] |= {
        "background": "locus",
        "placement": "tiled",
        "tile": 1024,
        "scorers": ["dnase", "rna_seq"],
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    command = ["snakemake", TARGET, "--configfile", "config/run.yaml", "--set-scatter", "variants=2"]
    text = scoring_run.run(folder, [*command, "--cores", "2"])
    assert text.count("rule write_saturation:") == 1

    rows = pl.read_parquet(folder / "results/scores/locus/untrained/dnase/part-*.parquet")
    assert rows.height == 3 * BASES and rows["variant_id"].n_unique() == 3 * BASES
    largest: dict[int, tuple[float, float, float]] = {}
    root_group = zarr.open_group(str(folder / TARGET / "scores.zarr"), mode="r")
    kept = {"raw": root_group["dnase/raw"][:], "quantile": root_group["dnase/quantile"][:]}
    places = sorted({int(p) for p in rows["position"]})
    assert kept["raw"].shape[:2] == (BASES, 4)
    for row in rows.iter_rows(named=True):
        at = (places.index(row["position"]), "ACGT".index(row["alt"]))
        for name, array in kept.items():
            np.testing.assert_array_equal(array[at], np.float32(row[name]))
        for raw, quantile in zip(row["raw"], row["quantile"], strict=True):
            found = (abs(quantile), abs(raw), raw)
            largest[row["position"]] = max(largest.get(row["position"], (-1.0, 0.0, 0.0)), found)
    assert np.isnan(kept["raw"]).any(-1).sum() == BASES  # the reference base of each
    with pyBigWig.open(str(folder / TARGET / "dnase.bw")) as track:
        for position, (*_, raw) in largest.items():
            assert track.values("chr1", position, position + 1) == pytest.approx([raw], rel=1e-6)
