"""Steps of autograd that keep their input alone: the numbers of the chain that they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from megabase.model.convolution import ConvBlock, max_pool, standardized
from megabase.model.fused import ScaledSoftplus
from megabase.model.layers import GELU_SLOPE, gelu_sigmoid
from megabase.seeds import torch_generator

NARROW, WIDE = 6, 256  # channels: direct, and by Winograd's products


def noise(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=torch_generator(0, name))


def block_of(channels: int, width: int) -> ConvBlock:
    block = ConvBlock(channels, channels, width)
    for name, parameter in block.named_parameters():
        parameter.data.copy_(noise(*parameter.shape, name=name) * 0.3 + ("scale" in name))
    return block


def chain(block: ConvBlock, x: Tensor) -> Tensor:
    """The same block in torch's own operations, double precision."""
    norm = block.rms_batch_norm
    square = x.square().mean((0, 2)) if block.training else norm.var_ema.flatten().double()
    scale, offset = (value.flatten().double()[:, None] for value in (norm.scale, norm.offset))
    active = gelu_sigmoid(x * torch.rsqrt(square + 1e-5)[:, None] * scale + offset)
    if block.width == 1:
        return torch.einsum("io,bis->bos", block.linear.w.double(), active) + block.linear.b.double()[:, None]
    conv = block.standardized_conv1_d
    filters = standardized(conv.w.double(), conv.scale.double()).permute(2, 1, 0)
    return F.conv1d(active, filters, conv.bias.double(), padding=2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("channels", "width"), [(NARROW, 5), (NARROW, 1), (WIDE, 5)])
def test_a_block_and_its_gradients_are_those_of_the_chain(channels: int, width: int, training: bool) -> None:
    block = block_of(channels, width).train(training)
    x, pull = noise(2, channels, 64).requires_grad_(), noise(2, channels, 64, name="y")
    inputs = [x, *block.parameters()]
    found = block(x)
    wanted = chain(block, x.double())
    size = float(wanted.detach().abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 * size)
    ours = torch.autograd.grad((found * pull).sum(), inputs)
    theirs = torch.autograd.grad((wanted * pull).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - other).norm() / other.norm()) < 2e-5


def test_a_block_without_gradients_gives_the_same() -> None:
    block, x = block_of(WIDE, 5).eval(), noise(1, WIDE, 64)
    with torch.no_grad():
        plain = block(x)
    torch.testing.assert_close(block(x).detach(), plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("width", [5, 1])
def test_a_block_keeps_its_input_alone(width: int) -> None:
    block, x = block_of(NARROW, width), noise(1, NARROW, 64).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        block(x)
    own = {x.data_ptr(), *(p.data_ptr() for p in block.parameters())}
    assert [t.shape for t in kept if t.data_ptr() not in own and t.numel() > 2 * NARROW] == []


def test_bfloat16_blocks_train_their_float32_parameters() -> None:
    block, x = block_of(NARROW, 5), noise(1, NARROW, 64)
    exact = torch.autograd.grad(block(x).square().sum(), list(block.parameters()))
    rounded = torch.autograd.grad(block(x.bfloat16()).float().square().sum(), list(block.parameters()))
    for mine, other in zip(rounded, exact, strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - other).norm() / other.norm()) < 0.05


def test_pooling_takes_the_larger_and_of_equals_the_first() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0, 3.0, -1.0, -2.0]]], requires_grad=True)
    plain = x.detach().clone().requires_grad_()
    pull = torch.tensor([[[1.0, 10.0, 100.0]]])
    found, wanted = max_pool(x), F.max_pool1d(plain, 2)
    torch.testing.assert_close(found, wanted)
    (found * pull).sum().backward()
    (wanted * pull).sum().backward()
    torch.testing.assert_close(x.grad, plain.grad)


def test_softplus_with_a_gain_is_the_product() -> None:
    x, gain = noise(2, 8, 3).double().requires_grad_(), noise(2, 1, 3, name="g").double().requires_grad_()
    assert torch.autograd.gradcheck(ScaledSoftplus.apply, (x, gain))
    torch.testing.assert_close(ScaledSoftplus.apply(x, gain), F.softplus(x) * gain)


def test_the_slope_is_that_of_the_published_gelu() -> None:
    assert GELU_SLOPE == 1.702
