"""What inference keeps between passes: constants of the weights, and Winograd's form of wide convolutions."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parallel_stand_ins import run_ranks, small_model

from megabase.model import winograd
from megabase.model.constants import Constants
from megabase.model.convolution import StandardizedConv1D
from megabase.parallel import SINGLE, Layout, attach
from megabase.seeds import torch_generator
from megabase.sequence import one_hot


def noise(*shape: int, name: str = "x") -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(0, "constants", name, *map(str, shape)))


def test_the_three_matrices_are_a_correlation() -> None:
    inputs, weights, outputs = winograd.matrices()
    x, g = np.arange(1.0, 9.0) ** 2, np.array([3.0, -1.0, 4.0, 1.0, -5.0])
    found = outputs @ ((weights @ g) * (inputs @ x))
    assert found == pytest.approx(np.correlate(x, g, mode="valid"), rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 256, 320, 2048), (2, 300, 256, 64), (3, 256, 256, 4)])
def test_winograd_is_the_convolution(shape: tuple[int, int, int, int]) -> None:
    batch, n_in, n_out, length = shape
    x, weight, bias = noise(batch, n_in, length), noise(n_out, n_in, 5, name="w"), noise(n_out, name="b")
    weight = weight / (5 * n_in) ** 0.5
    assert winograd.suits(x, n_out, 5)
    found = winograd.correlate(winograd.padded(x), winograd.transform(weight), bias)
    exact = F.conv1d(x.double(), weight.double(), bias.double(), padding=2)
    assert found.shape == exact.shape
    assert float((found - exact).abs().max() / exact.std()) < 2e-5
    assert float((found - exact).square().mean().sqrt() / exact.std()) < 3e-6


@pytest.mark.parametrize("shape", [(1, 5, 3, 8), (2, 3, 4, 16)])
def test_gradients_are_those_of_the_convolution(shape: tuple[int, int, int, int]) -> None:
    batch, n_in, n_out, length = shape
    given = [noise(batch, n_in, length + 4), noise(n_out, n_in, 5, name="w"), noise(n_out, name="b")]
    x, weight, bias = (value.double().requires_grad_() for value in given)
    pull = noise(batch, n_out, length, name="y").double()
    exact = F.conv1d(x, weight, bias)
    wanted = torch.autograd.grad((exact * pull).sum(), (x, weight, bias))
    with torch.no_grad():
        torch.testing.assert_close(winograd.correlate(x, winograd.transform(weight), bias), exact)
        found = winograd.gradients(pull, x, weight)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other)


def test_a_long_window_is_convolved_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = noise(2, 3, 76).double(), noise(4, 3, 5, name="w").double(), noise(4, name="b").double()
    pull = noise(2, 4, 72, name="y").double()
    whole = winograd.correlate(x, winograd.transform(weight), bias), *winograd.gradients(pull, x, weight)
    monkeypatch.setattr(winograd, "LEAST_TILES", 5)
    monkeypatch.setattr(winograd, "STRETCH", 1)
    parts = winograd.correlate(x, winograd.transform(weight), bias), *winograd.gradients(pull, x, weight)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


def test_only_wide_float32_convolutions_of_width_5_on_cpus_take_it() -> None:
    assert winograd.suits(noise(1, 256, 8), 256, 5)
    assert not winograd.suits(noise(1, 255, 8), 256, 5)
    assert not winograd.suits(noise(1, 256, 8), 255, 5)
    assert not winograd.suits(noise(1, 256, 6), 256, 5)
    assert not winograd.suits(noise(1, 256, 8), 256, 3)
    assert not winograd.suits(noise(1, 256, 8).bfloat16(), 256, 5)
    assert not winograd.suits(noise(1, 256, 8).to("meta"), 256, 5)


def wide_convolution() -> StandardizedConv1D:
    layer = StandardizedConv1D(256, 256, 5)
    with torch.no_grad():
        layer.w.copy_(noise(5, 256, 256))
        layer.bias.copy_(noise(256))
    return layer


def test_kept_weights_change_with_the_weights() -> None:
    layer, x = wide_convolution(), noise(1, 256, 64)
    plain = layer(x, 0.5).detach()
    layer.constants.keep(True)
    layer(x, 0.5)  # with gradients: not kept
    assert layer.constants.value is None
    with torch.no_grad():
        torch.testing.assert_close(layer(x, 0.5), plain, rtol=0, atol=1e-4)
        kept = layer.constants.value
        layer(x, 0.5)
        assert layer.constants.value is kept
        torch.testing.assert_close(layer(x, 1.0) - layer.bias[:, None], 2 * (plain - layer.bias[:, None]),
                                   rtol=0, atol=1e-4)  # fmt: skip
        layer.scale.mul_(3.0)
        torch.testing.assert_close(layer(x, 0.5) - layer.bias[:, None], 3 * (plain - layer.bias[:, None]),
                                   rtol=0, atol=1e-4)  # fmt: skip
        layer.load_state_dict(wide_convolution().state_dict())
        torch.testing.assert_close(layer(x, 0.5), plain, rtol=0, atol=1e-4)
    copied = copy.deepcopy(layer)
    assert copied.constants is not layer.constants and copied.constants.value is None


def test_nothing_is_kept_of_weights_without_versions() -> None:
    with torch.inference_mode():
        layer = wide_convolution()
        layer.constants.keep(True)
        x = noise(1, 256, 64)
        first = layer(x)
        layer.bias.add_(1.0)
        layer.w.mul_(0.0)
        assert torch.equal(layer(x), layer.bias[:, None].expand_as(first))


def split_convolution(layout: Layout) -> list[torch.Tensor]:
    """A wide convolution of this rank's part: output, and gradients of the input and the weights."""
    layer = wide_convolution()
    attach(layer, layout)
    x = noise(1, 256, 64)[..., layout.part(64)].requires_grad_()
    y = layer(x)
    (y * noise(1, 256, 64, name="y")[..., layout.part(64)]).sum().backward()
    with torch.no_grad():
        layer.constants.keep(True)
        torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-4)
    return [y.detach(), x.grad, layer.w.grad]


def test_a_window_that_is_split_over_ranks_has_no_seam(tmp_path: Path) -> None:
    wanted = split_convolution(SINGLE)
    found = run_ranks(split_convolution, 2, 2, tmp_path)
    for index in (0, 1):
        joined = torch.cat([part[index] for part in found], -1)
        torch.testing.assert_close(joined, wanted[index], rtol=1e-4, atol=1e-4)
    summed = found[0][2] + found[1][2]
    assert float((summed - wanted[2]).norm() / wanted[2].norm()) < 1e-5


def test_nothing_is_kept_unless_asked() -> None:
    made = []
    constants = Constants()

    def make() -> torch.Tensor:
        made.append(1)
        return torch.zeros(1)

    weight = torch.zeros(2)
    with torch.no_grad():
        for on, total in ((False, 2), (True, 3)):
            constants.keep(on)
            constants.get(("key",), (weight,), make)
            constants.get(("key",), (weight,), make)
            assert len(made) == total
        constants.get(("other key",), (weight,), make)
        weight.add_(1)
        constants.get(("other key",), (weight,), make)
    assert len(made) == 5


def test_a_model_that_keeps_constants_predicts_the_same_bytes() -> None:
    model = small_model().eval()  # too narrow for Winograd's form: only the standardized weights are kept
    codes = torch.randint(0, 4, (1, 4096), generator=torch_generator(0, "codes"), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = model(one_hot(codes), torch.tensor([1]))
        model.keep_constants()
        for _ in range(2):
            found = model(one_hot(codes), torch.tensor([1]))
            for output, values in wanted.items():
                for name, value in values.items():
                    assert torch.equal(found[output][name], value), (output, name)
    assert sum(m.constants.value is not None for m in model.modules() if hasattr(m, "constants")) > 20


LARGE_BLOCKS = """
import resource, sys
from megabase.memory import keep_large_blocks
import torch
done = keep_large_blocks() if sys.argv[1] == "keep" else False
for _ in range(20):
    torch.ones(40_000_000)  # 160 MB are 39,062 pages
print(int(done), resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_blocks_are_reused() -> None:
    def run(how: str) -> tuple[int, int]:
        command = [sys.executable, "-c", LARGE_BLOCKS, how]
        done, faults = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return int(done), int(faults)

    (done, kept), (_, given_back) = run("keep"), run("give back")
    if not done:
        pytest.skip("NOT GLIBC: its allocator cannot be told to keep large blocks")
    assert kept < 0.8 * given_back
