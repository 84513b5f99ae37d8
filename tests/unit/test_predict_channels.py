"""Only the channels asked for are computed, and they have the numbers that they have among all."""

from __future__ import annotations

import pytest
import torch

from megabase.model import AlphaGenome, Sizes
from megabase.model.heads import MultiOrganismLinear
from megabase.sequence import one_hot
from megabase.spec import OutputType

CHANNELS = {
    "rna_seq": 4, "cage": 4, "procap": 2, "dnase": 3, "atac": 3, "chip_histone": 2, "chip_tf": 2,
    "contact_maps": 3, "splice_sites": 5, "splice_site_usage": 4, "splice_junctions": 6,
}  # fmt: skip
CHOSEN = {
    OutputType.RNA_SEQ: [1, 3], OutputType.CHIP_TF: [1], OutputType.CONTACT_MAPS: [0, 2],
    OutputType.SPLICE_SITE_USAGE: [2], OutputType.SPLICE_JUNCTIONS: [1, 2, 5],
}  # fmt: skip
ORGANISM = torch.tensor([0, 1])
SITES = torch.tensor([[[10, 700], [300, 1500], [1200, 1900], [100, -1]]]).expand(2, -1, -1)


@pytest.fixture(scope="module")
def model() -> AlphaGenome:
    """A tiny network whose track means differ from 1."""
    model = AlphaGenome(Sizes.preset("tiny", CHANNELS, channels_step=4, max_sites=8), seed=1).eval()
    model.set_track_means(OutputType.RNA_SEQ, torch.arange(1.0, 9.0).view(2, 4))
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def dna() -> torch.Tensor:
    codes = torch.randint(0, 4, (2, 2048), generator=torch.Generator().manual_seed(0))
    return one_hot(codes.to(torch.uint8))


def test_chosen_channels_have_their_numbers(model: AlphaGenome, dna: torch.Tensor) -> None:
    chosen = {o: torch.tensor(c) for o, c in CHOSEN.items()}
    whole = model.unscale(model(dna, ORGANISM, splice_positions=SITES), ORGANISM)
    part = model(dna, ORGANISM, splice_positions=SITES, channels=chosen)
    part = model.unscale(part, ORGANISM, chosen)
    assert list(part) == list(whole)
    for output, values in whole.items():
        for key, value in values.items():
            if output in chosen and key != "positions":
                value = value[..., chosen[output]]
            torch.testing.assert_close(part[output][key], value, rtol=1e-5, atol=1e-6)


def test_junctions_of_one_strand_only(model: AlphaGenome, dna: torch.Tensor) -> None:
    output = OutputType.SPLICE_JUNCTIONS
    whole = model(dna, ORGANISM, outputs=[output], splice_positions=SITES)[output]
    part = model(
        dna, ORGANISM, outputs=[output], splice_positions=SITES, channels={output: torch.tensor([4])}
    )
    torch.testing.assert_close(part[output]["values"], whole["values"][..., [4]])
    assert torch.equal(part[output]["mask"], whole["mask"][..., [4]])


def test_a_product_is_as_wide_as_the_channels_asked_for(
    model: AlphaGenome, dna: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = []
    weights = MultiOrganismLinear.weights

    def seen(self: MultiOrganismLinear, channels: torch.Tensor | None = None) -> tuple:
        found = weights(self, channels)
        widths.append(found[1].shape[-1])
        return found

    monkeypatch.setattr(MultiOrganismLinear, "weights", seen)
    model(dna, ORGANISM, outputs=[OutputType.CAGE], channels={OutputType.CAGE: torch.tensor([2])})
    assert widths == [1, 1]  # at 1 bp and at 128 bp


def test_splice_site_classes_cannot_be_chosen(model: AlphaGenome, dna: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="the five classes share one softmax"):
        model(dna, ORGANISM, channels={OutputType.SPLICE_SITES: torch.tensor([0])})
