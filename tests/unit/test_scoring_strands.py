"""Averaging both strands: the strand that a sequence is read from must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scoring_stand_ins import ToyPredictor

from megabase.augment import reverse_contacts, reverse_sites, reverse_tracks, reverse_usage
from megabase.predictors.strands import BothStrands
from megabase.sequence import reverse_complement
from megabase.spec import TRACK_OUTPUTS, OutputType

PARTNERS = torch.tensor([[1, 0, 2]])


@pytest.fixture(scope="module")
def codes():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 5, (2, 4096)).astype(np.uint8))


@pytest.fixture(scope="module")
def both(codes):
    predictor = BothStrands(ToyPredictor())
    outputs = [o for o in OutputType if o is not OutputType.SPLICE_JUNCTIONS]
    return [predictor.predict(c, "toy", outputs=outputs) for c in (codes, reverse_complement(codes))]


@pytest.mark.parametrize("output", TRACK_OUTPUTS)
def test_tracks_of_the_other_strand_are_the_mirrored_ones(both, output):
    shift = 1 if output is OutputType.DNASE else 0
    for key in both[0][output]:
        moved = shift if key == "1bp" else 0
        mirrored = reverse_tracks(both[1][output][key], PARTNERS.expand(2, -1), shift=moved, missing=0.0)
        keep = slice(moved or None, None)
        torch.testing.assert_close(both[0][output][key][:, keep], mirrored[:, keep], rtol=1e-4, atol=1e-5)


def test_contacts_and_splicing_are_mirrored(both):
    for output, key, turn in (
        (OutputType.CONTACT_MAPS, "values", reverse_contacts),
        (OutputType.SPLICE_SITES, "probabilities", reverse_sites),
        (OutputType.SPLICE_SITE_USAGE, "probabilities", reverse_usage),
    ):
        torch.testing.assert_close(both[0][output][key], turn(both[1][output][key]), rtol=1e-4, atol=1e-5)


def test_junctions_keep_their_sites(codes):
    """The mean over strands of a junction is that of the same junction, read from either strand."""
    predictor = BothStrands(ToyPredictor())
    sites = torch.tensor([[[50, 900], [300, -1], [700, 1200], [100, 400]]]).expand(2, -1, -1)
    mirrored = torch.where(sites >= 0, 4095 - sites, sites)[:, [2, 3, 0, 1]]
    output = OutputType.SPLICE_JUNCTIONS
    a = predictor.predict(codes, "toy", outputs=[output], splice_positions=sites)[output]["values"]
    b = predictor.predict(reverse_complement(codes), "toy", outputs=[output], splice_positions=mirrored)
    swapped = torch.cat(b[output]["values"].chunk(2, -1)[::-1], -1)
    real = (sites[:, [0]][:, 0, :, None] >= 0) & (sites[:, [1]][:, 0, None, :] >= 0)
    torch.testing.assert_close(a[real][:, :2], swapped[real][:, :2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a[..., 2:], swapped[..., 2:], rtol=1e-4, atol=1e-5)


def test_the_mean_differs_from_one_strand(codes):
    single = ToyPredictor().predict(codes, "toy", outputs=[OutputType.CAGE])[OutputType.CAGE]["1bp"]
    mean = BothStrands(ToyPredictor()).predict(codes, "toy", outputs=[OutputType.CAGE])[OutputType.CAGE][
        "1bp"
    ]
    assert not torch.allclose(single, mean)
