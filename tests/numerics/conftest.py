"""The published network with parameters drawn by rule from their names; see the references' README."""

from __future__ import annotations

import gc
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from megabase import memory
from megabase.model import AlphaGenome, Sizes, from_haiku
from megabase.model.checkpoint import load_tensors


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter by its published name."""
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(f"public:{name}".encode())))
    x = generator.standard_normal(shape, dtype=np.float32)
    last = name.rsplit("/", 1)[-1]
    if last == "w":
        fan_in = shape[0] * shape[1] if name.endswith("conv1_d/w") else shape[-2]
        return np.float32(0.05 if "/head/" in name else 1) * x / np.float32(np.sqrt(fan_in))
    if last == "var_ema":
        return 1 + np.float32(0.25) * np.abs(x)
    return (1 if last in ("scale", "residual_scale") else 0) + np.float32(0.1) * x


@pytest.fixture(scope="package")
def room() -> Iterator[None]:
    """Memory that is reused while these tests last, as in the commands, and given back for others."""
    memory.keep_large_blocks()
    yield
    gc.collect()
    memory.give_back_holes(0)


@pytest.fixture(scope="package")
def model(facts: Path, room: None) -> AlphaGenome:
    tree = json.loads((facts / "alphagenome_param_tree.json").read_text())
    params, state = ({k: draw(k, tuple(v)) for k, v in tree[part].items()} for part in ("params", "state"))
    tensors = from_haiku(params, state)
    with torch.device("meta"):
        model = AlphaGenome(Sizes.preset("alphagenome"), seed=None)
    for name, value in model.named_buffers():
        if name.startswith("track_means."):
            tensors[name] = torch.ones(value.shape)
    load_tensors(model, tensors, "parameters by rule")
    return model.eval()
