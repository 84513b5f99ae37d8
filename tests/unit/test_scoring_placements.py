"""How much scores depend on where the window lies."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scoring_stand_ins import ToyPredictor, make_annotation, make_genome, some_variants, write_variants

from megabase.files import read_tsv
from megabase.scoring import placements
from megabase.scoring.placement import check_placement, place_window
from megabase.scoring.rows import Rows
from megabase.scoring.scorers import RECOMMENDED
from megabase.settings.scoring import ScoringSettings
from megabase.variants import Variant


def test_windows_lie_where_their_placement_says() -> None:
    for position in (0, 127, 128, 5_000, 70_001):
        variant = Variant("chr1", position, "A", "C")
        assert place_window(variant, "centered", 4096, 0) == position - 2048
        bin_ = position // 128 * 128
        assert place_window(variant, "binned", 4096, 0) == bin_ + 64 - 2048
        tile = position // 1024 * 1024
        assert place_window(variant, "tiled", 4096, 1024) == tile + 512 - 2048


@pytest.mark.parametrize(
    ("placement", "window", "tile", "message"),
    [("middle", 4096, 128, "placement is 'middle'"), ("binned", 3000, 0, "multiple of 2048"),
     ("tiled", 4096, 100, "tile is 100"), ("tiled", 4096, 8192, "up to the window, 4096")],
)  # fmt: skip
def test_windows_that_cannot_be(placement, window, tile, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_placement(placement, window, tile)


def test_scores_of_the_same_rows_are_compared() -> None:
    """Rows are matched by gene; what one placement alone has, and what is NaN, is left out."""
    a, b, c = (SimpleNamespace(gene_id=name) for name in "abc")
    one = Rows(torch.tensor([[1.0, 2.0], [3.0, torch.nan]]), [a, b])
    other = Rows(torch.tensor([[5.0, 5.0], [4.0, 6.0], [1.5, 2.5]]), [c, b, a])
    assert placements.matched(one, other).tolist() == [[1.0, 2.0, 3.0], [1.5, 2.5, 4.0]]
    scored = {"x": [{"s": one}, {"s": one}], "y": [{"s": other}, {"s": other}]}
    (row,) = placements.compared(scored, "x", "y")
    assert row[:5] == ("s", "x", "y", 2, 6)
    assert row[5] == pytest.approx(np.corrcoef([1, 2, 3], [1.5, 2.5, 4])[0, 1]) and row[7] == 0.5


def test_a_local_model_minds_no_placement(tmp_path, monkeypatch) -> None:
    """Predictions of the stand-in depend on 31 bases: scores around the variant are those of any window."""
    genome, scorers = make_genome(tmp_path), [RECOMMENDED[name] for name in ("dnase", "rna_seq", "chip_tf")]
    chunk = write_variants(some_variants(genome)[:8], tmp_path / "variants.parquet")
    monkeypatch.setattr(
        placements, "open_scoring", lambda *_: (ToyPredictor(), genome, make_annotation(), scorers)
    )
    (tmp_path / "model.json").write_text("{}")
    settings = ScoringSettings(window=4096, compare=5)  # the tile of long windows is shortened
    placements.compare_placements(
        [chunk], tmp_path, tmp_path / "genome", None, tmp_path / "out.tsv", settings
    )
    table = read_tsv(tmp_path / "out.tsv", "placements")
    assert table.height == 9 and set(table["first"]) | set(table["second"]) == {"centered", "binned", "tiled"}
    dnase = table.filter(scorer="dnase")
    assert dnase["variants"].to_list() == [5, 5, 5] and (dnase["difference"] < 1e-4).all()
    assert (dnase["pearson"] > 0.9999).all() and (dnase["size"] > 0.01).all()
    assert (table.filter(scorer="chip_tf")["pearson"] < 0.9999).any()  # its bins of 128 move with the window
