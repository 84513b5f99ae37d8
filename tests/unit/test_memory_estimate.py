"""Peak memory of a training step, counted on tensors without values."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from memory import GB, Living, estimate

from megabase.model import Sizes
from megabase.settings.training import TrainSettings

TINY = Sizes.preset("tiny", channels={"rna_seq": 3, "dnase": 2, "contact_maps": 1, "splice_sites": 5,
                                      "splice_site_usage": 4, "splice_junctions": 4})  # fmt: skip


def test_storages_count_from_their_making_to_their_end() -> None:
    with Living() as living:
        x = torch.zeros(1000)
        view = x[:10]
        y = x + 1
        del x
        assert living.now == 8000 and view is not None
        del view, y
        assert living.now == 0 and living.peak == 8000


def test_recomputing_takes_less_and_a_longer_window_more() -> None:
    plain = estimate(TINY, 8192, TrainSettings(), 8)
    less = estimate(TINY, 8192, TrainSettings(recompute_bases=128), 8)
    longer = estimate(TINY, 16384, TrainSettings(), 8)
    assert less.step < 0.8 * plain.step < 0.5 * longer.step
    assert plain.optimizer == less.optimizer == longer.optimizer
    assert plain.step > plain.constant > plain.optimizer / 2


@pytest.mark.parametrize(("length", "most"), [(131_072, 24), (1_048_576, 80)])
def test_the_published_network_trains_on_one_device(length: int, most: int) -> None:
    """An eighth is left for what the allocator and the libraries take."""
    settings = TrainSettings(precision="bfloat16", recompute_bases=128, gene_loss_weight=0.1)
    assert estimate(Sizes.preset("alphagenome"), length, settings, 512).total < 0.875 * most * GB
