"""The network: published names, shapes of every output, and the invariants of its parts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from megabase.model import AlphaGenome, Sizes
from megabase.model.attention import attend
from megabase.model.convolution import StandardizedConv1D, standardized
from megabase.model.heads import choose_sites, junction_mask
from megabase.model.layers import RMSBatchNorm, gelu_sigmoid, rope_angles, rotate
from megabase.model.pair import central_mask_features, relative_shift
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, OutputType

CHANNELS = {
    "rna_seq": 4, "cage": 4, "procap": 2, "dnase": 3, "atac": 3, "chip_histone": 2, "chip_tf": 2,
    "contact_maps": 2, "splice_sites": 5, "splice_site_usage": 4, "splice_junctions": 4,
}  # fmt: skip


def tiny(**overrides: float | int) -> AlphaGenome:
    sizes = Sizes.preset("tiny", CHANNELS, **{"channels_step": 4, "max_sites": 8, **overrides})
    return AlphaGenome(sizes, seed=1).eval()


@pytest.fixture(scope="module")
def model() -> AlphaGenome:
    """A model whose running statistics fit its activations."""
    model = tiny(dropout=0.0).train()
    with torch.no_grad():
        for _ in range(40):
            model(dna(2048), ORGANISM)
    return model.eval()


def dna(length: int = 4096, batch: int = 2, seed: int = 0) -> torch.Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return one_hot(codes.to(torch.uint8))


ORGANISM = torch.tensor([0, 1])


def test_published_network_has_the_published_tensors(facts: Path) -> None:
    with torch.device("meta"):
        model = AlphaGenome(Sizes.preset("alphagenome"), seed=None)
    tree = json.loads((facts / "alphagenome_param_tree.json").read_text())
    found = {f"alphagenome/{k.replace('.', '/')}": list(v.shape) for k, v in model.named_parameters()}
    buffers = {
        f"alphagenome/{k.replace('.', '/')}": list(v.shape)
        for k, v in model.named_buffers()
        if not k.startswith("track_means.")
    }
    assert found == tree["params"]
    assert buffers == tree["state"]
    assert sum(p.numel() for p in model.parameters()) == 450_452_613
    assert (len(found), len(buffers)) == (589, 81)


def test_presets_are_as_large_as_they_say() -> None:
    count = {
        name: sum(p.numel() for p in AlphaGenome(Sizes.preset(name, CHANNELS), seed=None).parameters())
        for name in ("tiny", "small")
    }
    assert 500_000 < count["tiny"] < 750_000
    assert 20e6 < count["small"] < 40e6


@torch.no_grad()
def test_every_output_has_its_shape(model: AlphaGenome) -> None:
    predictions = model(dna(), ORGANISM)
    shapes = {o: {k: tuple(v.shape) for k, v in p.items()} for o, p in predictions.items()}
    for output_type in (
        OutputType.RNA_SEQ,
        OutputType.CAGE,
        OutputType.PROCAP,
        OutputType.DNASE,
        OutputType.ATAC,
    ):
        p = CHANNELS[output_type]
        assert shapes[output_type] == {"scaled_1bp": (2, 4096, p), "scaled_128bp": (2, 32, p)}
    for output_type in (OutputType.CHIP_HISTONE, OutputType.CHIP_TF):
        assert shapes[output_type] == {"scaled_128bp": (2, 32, 2)}
    assert shapes[OutputType.CONTACT_MAPS] == {"values": (2, 2, 2, 2)}
    assert shapes[OutputType.SPLICE_SITES] == {"logits": (2, 4096, 5), "probabilities": (2, 4096, 5)}
    assert shapes[OutputType.SPLICE_SITE_USAGE] == {"logits": (2, 4096, 4), "probabilities": (2, 4096, 4)}
    junctions = {"values": (2, 8, 8, 4), "positions": (2, 4, 8), "mask": (2, 8, 8, 4)}
    assert shapes[OutputType.SPLICE_JUNCTIONS] == junctions
    assert all(torch.isfinite(v.float()).all() for p in predictions.values() for v in p.values())
    assert all(
        (p["scaled_128bp"] >= 0).all()
        for o, p in predictions.items()
        if o in (OutputType.RNA_SEQ, OutputType.CHIP_TF)
    )


@torch.no_grad()
def test_a_requested_output_equals_the_same_output_among_all(model: AlphaGenome) -> None:
    everything = model(dna(), ORGANISM)
    for output_type in CHANNELS:
        alone = model(dna(), ORGANISM, outputs=[output_type])
        assert list(alone) == [output_type]
        for key, value in alone[OutputType(output_type)].items():
            torch.testing.assert_close(value, everything[OutputType(output_type)][key])


@torch.no_grad()
def test_decoder_runs_only_for_1bp_outputs(model: AlphaGenome, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("decoder was called")

    monkeypatch.setattr(model.sequence_decoder, "forward", refuse)
    model(dna(), ORGANISM, outputs=[OutputType.CHIP_TF, OutputType.CONTACT_MAPS])
    with pytest.raises(AssertionError, match="decoder was called"):
        model(dna(), ORGANISM, outputs=[OutputType.ATAC])


@torch.no_grad()
def test_examples_of_a_batch_do_not_see_each_other(model: AlphaGenome) -> None:
    x = dna()
    both = model(x, ORGANISM, outputs=[OutputType.ATAC, OutputType.CONTACT_MAPS])
    second = model(x[1:], ORGANISM[1:], outputs=[OutputType.ATAC, OutputType.CONTACT_MAPS])
    torch.testing.assert_close(both[OutputType.ATAC]["scaled_1bp"][1:], second[OutputType.ATAC]["scaled_1bp"])
    other = model(x[1:], ORGANISM[:1], outputs=[OutputType.ATAC])
    assert not torch.allclose(other[OutputType.ATAC]["scaled_1bp"], second[OutputType.ATAC]["scaled_1bp"])


@torch.no_grad()
def test_contact_maps_are_symmetric(model: AlphaGenome) -> None:
    values = model(dna(8192), ORGANISM, outputs=[OutputType.CONTACT_MAPS])[OutputType.CONTACT_MAPS]["values"]
    torch.testing.assert_close(values, values.transpose(1, 2))


@torch.no_grad()
def test_activations_follow_the_input_dtype(model: AlphaGenome) -> None:
    full = model(dna(), ORGANISM, outputs=[OutputType.ATAC, OutputType.CONTACT_MAPS])
    half = model(dna().bfloat16(), ORGANISM, outputs=[OutputType.ATAC, OutputType.CONTACT_MAPS])
    assert half[OutputType.ATAC]["scaled_1bp"].dtype == torch.bfloat16
    difference = half[OutputType.ATAC]["scaled_1bp"].float() - full[OutputType.ATAC]["scaled_1bp"]
    assert difference.abs().mean() < 0.1 * full[OutputType.ATAC]["scaled_1bp"].mean()


@torch.no_grad()
def test_junctions_of_padding_are_zero_and_padding_changes_nothing(model: AlphaGenome) -> None:
    positions = torch.tensor([[[5, 900, -1], [40, -1, -1], [7, 8, -1], [-1, -1, -1]]]).repeat(2, 1, 1)
    found = model(dna(), ORGANISM, outputs=[OutputType.SPLICE_JUNCTIONS], splice_positions=positions)
    values, mask = found[OutputType.SPLICE_JUNCTIONS]["values"], found[OutputType.SPLICE_JUNCTIONS]["mask"]
    assert mask[0, :, :, 0].tolist() == [[True, False, False], [True, False, False], [False] * 3]
    assert not mask[..., 2:].any()  # no acceptor on the - strand
    assert (values[~mask] == 0).all() and (values[mask] > 0).any()
    shorter = model(
        dna(), ORGANISM, outputs=[OutputType.SPLICE_JUNCTIONS], splice_positions=positions[:, :, :2]
    )
    torch.testing.assert_close(values[:, :2, :2], shorter[OutputType.SPLICE_JUNCTIONS]["values"])


def test_sites_are_chosen_above_the_threshold_in_order() -> None:
    probabilities = torch.zeros(1, 10, 5)
    probabilities[0, [7, 2, 4], 0] = torch.tensor([0.9, 0.5, 0.3])
    probabilities[0, 3, 2] = 0.1
    assert choose_sites(probabilities, 2, 0.1)[0].tolist() == [[2, 7], [-1, -1], [-1, -1], [-1, -1]]
    assert choose_sites(probabilities, 99, 0.1)[0, 0].tolist() == [2, 4, 7] + [-1] * 7
    assert junction_mask(torch.tensor([[[1], [2], [3], [-1]]]), 2)[0, 0, 0].tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_same_seed_same_weights_and_no_weight_depends_on_other_heads() -> None:
    first, again, other = tiny(), tiny(), AlphaGenome(tiny().sizes, seed=2)
    fewer = AlphaGenome(Sizes.preset("tiny", {"atac": 3}, channels_step=4), seed=1).state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert name not in fewer or torch.equal(value, fewer[name])
    assert not torch.equal(first.embed.embeddings, other.embed.embeddings)


def test_initial_values_are_the_papers() -> None:
    state = tiny().state_dict()
    assert all(v == pytest.approx(0.9) for k, v in state.items() if k.endswith("residual_scale"))
    assert all((v == 0).all() for k, v in state.items() if k.endswith(("learnt_scale", ".b", ".bias")))
    weight = state["transformer_tower.mlp_block.linear.w"]
    assert weight.std().item() == pytest.approx(1 / math.sqrt(weight.shape[0]), rel=0.1)


def test_every_parameter_learns() -> None:
    model = tiny().train()
    positions = torch.arange(12).view(1, 4, 3).repeat(2, 1, 1) * 300
    predictions = model(dna(), ORGANISM, splice_positions=positions)
    predictions[OutputType.SPLICE_JUNCTIONS].pop("mask")
    weighted = [
        (v * torch.randn(v.shape, generator=torch.Generator().manual_seed(3))).sum()
        for p in predictions.values() for k, v in p.items() if k not in ("positions", "probabilities")
    ]  # fmt: skip
    torch.stack(weighted).sum().backward()
    still = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_batch_norm_uses_the_batch_in_training_and_the_average_after() -> None:
    norm = RMSBatchNorm(3)
    x = torch.randn(4, 50, 3) * torch.tensor([1.0, 2.0, 3.0]) + 1
    square = x.square().mean((0, 1))
    torch.testing.assert_close(norm(x), x / torch.sqrt(square + 1e-5))
    average = 0.9 + 0.1 * square
    torch.testing.assert_close(norm.var_ema.view(-1), average)
    torch.testing.assert_close(norm.eval()(x), x / torch.sqrt(average + 1e-5))
    torch.testing.assert_close(norm(x.transpose(1, 2), axis=1).transpose(1, 2), norm(x))


def test_batch_norm_gradient_passes_through_the_statistics() -> None:
    norm = RMSBatchNorm(3).double()
    norm.scale.data.uniform_(0.5, 2.0)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(2, 3, 1, dtype=torch.float64, requires_grad=True)

    def call(x: torch.Tensor, shift: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return norm(x, axis=1, slope=1.7, shift=shift)

    assert torch.autograd.gradcheck(call, (x, shift, norm.scale, norm.offset))
    assert torch.autograd.gradcheck(lambda x: norm(x.transpose(1, 2)), (x,))


def test_batch_norm_gradient_equals_that_of_the_plain_formula() -> None:
    norm = RMSBatchNorm(3)
    norm.scale.data.uniform_(0.5, 2.0)
    weight = torch.randn(4, 3, 50)
    fast, plain = (torch.linspace(-1, 2, 600).view(4, 3, 50).clone().requires_grad_() for _ in range(2))
    (norm(fast, axis=1) * weight).sum().backward()
    square = plain.square().mean((0, 2), keepdim=True)
    (plain * norm.scale.view(1, 3, 1) / torch.sqrt(square + 1e-5) * weight).sum().backward()
    torch.testing.assert_close(fast.grad, plain.grad, rtol=1e-4, atol=1e-5)


def test_standardized_weights_have_unit_fan_in_variance() -> None:
    conv = StandardizedConv1D(6, 3, 5)
    torch.nn.init.normal_(conv.w, 2.0, 0.3)
    weight = standardized(conv.w, conv.scale)
    assert weight.mean((0, 1)).abs().max() < 1e-6
    torch.testing.assert_close((weight.square().mean((0, 1)) * 30), torch.ones(3))
    conv.w.data.zero_()
    assert torch.isfinite(standardized(conv.w, conv.scale)).all()


def test_gelu_is_the_sigmoid_form() -> None:
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(gelu_sigmoid(x), x * torch.sigmoid(1.702 * x))


def test_rotary_products_depend_on_distance_alone() -> None:
    q, k = torch.randn(16), torch.randn(16)

    def product(i: int, j: int) -> float:
        cos, sin = rope_angles(torch.tensor([i, j]), 16, 8192)
        return float((rotate(q, cos[0], sin[0]) * rotate(k, cos[1], sin[1])).sum())

    assert product(3, 10) == pytest.approx(product(53, 60), abs=1e-4)
    assert product(0, 0) == pytest.approx(float((q * k).sum()), abs=1e-5)
    assert product(3, 10) != pytest.approx(product(3, 11), abs=1e-4)


def test_relative_shift_reads_the_distance_key_minus_query() -> None:
    length = 5
    by_distance = torch.arange(-length, length).float().expand(1, 1, length, 2 * length)
    distance = relative_shift(by_distance)[0, 0]
    assert torch.equal(distance, torch.arange(5.0)[None, :] - torch.arange(5.0)[:, None])


def test_mask_features_do_not_depend_on_the_window() -> None:
    long, short = central_mask_features(8, 64, 512), central_mask_features(2, 64, 512)
    assert torch.equal(long[6:10], short)
    assert (short[2, :32] == 1).all() and (short[2, 32:] == 0).all()  # distance 0
    assert torch.equal(short[1, 32:], -short[1, :32])  # distance -1


def test_soft_cap_holds_after_the_bias() -> None:
    """A bias of +-1e4 counts as +-5, so attention cannot become one-hot."""
    q, k = torch.zeros(1, 32, 4, 16), torch.zeros(1, 32, 16)
    v = torch.zeros(1, 32, 24)
    v[0, :16] = 1
    bias = torch.full((1, 4, 2, 2), -1e4)
    bias[..., 0] = 1e4
    share = math.exp(5) / (math.exp(5) + math.exp(-5))
    torch.testing.assert_close(attend(q, k, v, bias), torch.full((1, 32, 4, 24), share))


def test_unscale_inverts_the_scaling_by_organism() -> None:
    model = tiny()
    means = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, float("nan"), 0.0, 8.0]])
    model.set_track_means(OutputType.RNA_SEQ, means)
    assert model.track_mean(OutputType.RNA_SEQ)[1].tolist() == [5.0, 1.0, 1.0, 8.0]
    scaled = {"scaled_1bp": torch.full((2, 256, 4), 4.0), "scaled_128bp": torch.full((2, 2, 4), 20.0)}
    out = model.unscale(
        {OutputType.RNA_SEQ: scaled, OutputType.SPLICE_SITES: {"logits": scaled["scaled_1bp"]}}, ORGANISM
    )
    assert out[OutputType.RNA_SEQ]["1bp"][1, 0, 3].item() == pytest.approx(8 * 4 ** (4 / 3))
    assert out[OutputType.RNA_SEQ]["128bp"][0, 0, 1].item() == pytest.approx(2 * 128 * 22.5 ** (4 / 3))
    assert list(out[OutputType.SPLICE_SITES]) == ["logits"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(dna(4096)[:, :100], ORGANISM), "multiple of 2048"),
        (lambda m: m(dna(), ORGANISM[:1]), r"wanted \[2\]"),
        (lambda m: m(dna(), ORGANISM, outputs=["nonsense"]), "nonsense"),
        (lambda m: m.set_track_means(OutputType.ATAC, torch.ones(2, 9)), r"wanted \(2, 3\)"),
        (lambda m: m.set_track_means(OutputType.SPLICE_SITES, torch.ones(2, 5)), "no such track head"),
        (lambda m: Sizes.preset("huge"), "presets are"),
        (lambda m: Sizes.preset("tiny", {"atak": 3}), "atak"),
        (lambda m: Sizes.preset("tiny", CHANNELS, chanels=3), "chanels"),
        (lambda m: Sizes.preset("tiny", {"splice_junctions": 3}), "even"),
        (lambda m: Sizes.preset("tiny", {"splice_sites": 4}), "must be 5"),
        (lambda m: Sizes.preset("tiny", CHANNELS, tower_blocks=0), "tower_blocks"),
    ],
)
def test_bad_calls_say_what_is_wrong(model: AlphaGenome, call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model)


def test_missing_heads_are_named() -> None:
    model = AlphaGenome(Sizes.preset("tiny", {"atac": 2, "splice_junctions": 2}, channels_step=4)).eval()
    with pytest.raises(ValueError, match=r"no head for .*cage"):
        model(dna(), ORGANISM, outputs=[OutputType.CAGE])
    with pytest.raises(ValueError, match="pass splice_positions"):
        model(dna(), ORGANISM)
    assert set(model(dna(), ORGANISM, outputs=[OutputType.ATAC])) == {OutputType.ATAC}


def test_every_output_type_has_a_head_of_the_published_name(model: AlphaGenome) -> None:
    assert list(model.head) == [OUTPUTS[o].published_head for o in OutputType]
