"""Attention by torch.compile: the same numbers and gradients, and one error where it cannot be."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from parallel_stand_ins import small_model

from megabase.model import attention
from megabase.seeds import torch_generator
from megabase.settings.training import TrainSettings
from megabase.train import settings_of


def noise(*shape: int, name: str) -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(0, name))


def test_compiled_attention_is_the_same() -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch.compile needs a C++ compiler; install g++ to run this test")
    given = [noise(1, 32, 2, 8, name="q"), noise(1, 32, 8, name="k"), noise(1, 32, 6, name="v"),
             noise(1, 2, 2, 2, name="bias")]  # fmt: skip
    pull, found = noise(1, 32, 2, 6, name="y"), []
    for attend in (attention.attend, attention.compiled_attend()):
        inputs = [x.clone().requires_grad_() for x in given]
        y = attend(*inputs)
        found.append([y.detach(), *torch.autograd.grad((y * pull).sum(), inputs)])
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-5)


def test_without_a_compiler_there_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    attention.compiled_attend.cache_clear()
    model = small_model()
    model.compile_attention()
    sequence = torch.zeros(1, 2048, 4)
    with pytest.raises(ValueError, match=r"train\.compile.*no-such-compiler is not found"):
        model(sequence, torch.tensor([0]))
    model.compile_attention(False)
    assert model(sequence, torch.tensor([0]))
    attention.compiled_attend.cache_clear()


def test_it_is_a_setting_of_the_machine() -> None:
    assert settings_of(TrainSettings(compile=True)) == settings_of(TrainSettings())
