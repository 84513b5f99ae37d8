"""Head biases from the data: an untrained head gives the mean, and unseen channels stay reachable."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from megabase.biases import LEAST, RunningMean, inverse_softplus, start_biases, starting_bias
from megabase.model import AlphaGenome, Sizes
from megabase.spec import Kind, OutputType


def test_inverse_softplus_is_the_inverse() -> None:
    x = torch.linspace(-12, 12, 49, dtype=torch.float64)
    torch.testing.assert_close(inverse_softplus(F.softplus(x)), x)


@pytest.mark.parametrize("kind", [Kind.TRACKS, Kind.USAGE, Kind.CONTACTS])
def test_a_head_without_input_gives_the_mean(kind: Kind) -> None:
    mean = torch.tensor([0.001, 0.2, 0.7], dtype=torch.float64)
    bias = starting_bias(kind, mean)
    given = {
        Kind.TRACKS: lambda b: F.softplus(b) * math.log(2),
        Kind.USAGE: torch.sigmoid,
        Kind.CONTACTS: lambda b: b,
    }[kind](bias)
    torch.testing.assert_close(given, mean)


def test_classes_give_their_frequencies() -> None:
    mean = torch.tensor([0.1, 0.2, 0.0, 0.1, 0.6], dtype=torch.float64)
    given = starting_bias(Kind.SITES, mean).softmax(-1)
    torch.testing.assert_close(given, mean, atol=2 * LEAST, rtol=0)


def test_running_mean_leaves_out_what_is_missing_and_keeps_organisms_apart() -> None:
    running = RunningMean(2)
    running.add(torch.tensor([[[1.0], [torch.nan], [3.0]], [[10.0], [10.0], [10.0]]]), torch.tensor([0, 1]))
    running.add(torch.tensor([[[5.0], [5.0], [5.0]]]), torch.tensor([0]))
    torch.testing.assert_close(running.mean()[:, 0], torch.tensor([19 / 5, 10.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="no batches"):
        RunningMean(1).mean()


def test_start_biases_sets_every_head_at_its_resolutions() -> None:
    channels = {OutputType.DNASE: 2, OutputType.SPLICE_SITES: 5, OutputType.CONTACT_MAPS: 1}
    model = AlphaGenome(Sizes.preset("tiny", channels=channels, n_organisms=1), seed=0)
    model.set_track_means(OutputType.DNASE, torch.tensor([[2.0, 4.0]]))
    dnase = torch.zeros(1, 2048, 2)
    dnase[:, ::4] = 2.0  # a quarter of the bases: the mean in units of the non-zero mean is 0.25 and 0.125
    sites = torch.full((1, 2048), 4)
    sites[0, :512] = 0
    batch = SimpleNamespace(
        sequence=torch.zeros(1, 2048, dtype=torch.uint8),
        organism=torch.zeros(1, dtype=torch.long),
        targets={
            OutputType.DNASE: dnase,
            OutputType.SPLICE_SITES: sites,
            OutputType.CONTACT_MAPS: torch.full((1, 1, 1, 1), -0.5),
        },
    )
    start_biases(model, [batch])
    for resolution in (1, 128):
        bias = model.head_of(OutputType.DNASE).at(resolution).multi_organism_linear.b
        got = F.softplus(bias) * math.log(2)
        torch.testing.assert_close(got, torch.tensor([[0.25, 0.125]]))
    classes = model.head_of(OutputType.SPLICE_SITES).multi_organism_linear.b.softmax(-1)
    assert classes[0, 0].item() == pytest.approx(0.25, abs=1e-4)
    assert model.head_of(OutputType.CONTACT_MAPS).multi_organism_linear.b.item() == pytest.approx(-0.5)
