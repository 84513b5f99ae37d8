"""One forward pass of the full-size network against the published code's numbers, for both organisms.

The parameters are drawn by rule from their names, so nothing is downloaded; see the references' README.
Needs about 7 GB and half a minute.
"""

from __future__ import annotations

import resource
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from megabase.model import AlphaGenome
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS

KEYS = {
    "scaled_1bp": "scaled_predictions_1bp", "scaled_128bp": "scaled_predictions_128bp",
    "values": "predictions", "probabilities": "predictions", "logits": "logits",
    "mask": "splice_junction_mask", "positions": "splice_site_positions",
}  # fmt: skip
# Largest difference as a share of the output's range, and median relative difference.
TIGHT = (2e-5, 2e-5)
LOOSER = {
    "splice_sites_classification/predictions": (1e-4, 2e-5),
    "splice_sites_usage/predictions": (5e-4, 5e-4),  # stored as float16 by the published code
}
# bfloat16 against the published code's float32: largest difference as a share of the range, and correlation.
# One number of the type is exact to 4e-3; a hundred roundings in a row leave a few times that.
BFLOAT16 = {
    "128bp": (0.05, 0.9995),
    "contact": (0.02, 0.9999),
    "1bp": (0.1, 0.998),
    "probabilities": (0.3, 0.997),
}
MAX_GIGABYTES = 10


@pytest.fixture(scope="module")
def reference(references: Path) -> dict[str, np.ndarray]:
    with np.load(references / "alphagenome_forward.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def select(name: str, value: np.ndarray, length: int) -> np.ndarray:
    """The part of an output that the reference keeps."""
    if name.startswith("splice_sites_junction") and "positions" not in name:
        return value[::8, ::8, ::23]
    if value.shape[0] == length:
        return value[::11] if value.shape[1] <= 8 else value[::37, ::7]
    return value[:, ::5] if value.shape[0] == length // 128 else value


@torch.no_grad()
def run(
    model: AlphaGenome,
    codes: np.ndarray,
    organism: int,
    positions: np.ndarray,
    dtype: torch.dtype = torch.float32,
) -> dict[str, np.ndarray]:
    """All outputs and embeddings by published name, without the batch axis, computed in `dtype`."""
    sequence = one_hot(torch.from_numpy(codes))[None].to(dtype)
    sequence[:, 100:164] = 0
    index, wanted = torch.tensor([organism]), model.sizes.outputs()
    tokens, skips = model.encode(sequence)
    tokens, pair = model.transform(tokens, index)
    embeddings = model.embed_outputs(tokens, pair, skips, index, wanted)
    out = {
        "embeddings_1bp": embeddings.bp1, "embeddings_128bp": embeddings.bp128,
        "embeddings_pair": embeddings.pair,
    }  # fmt: skip
    predictions = model.predict_heads(embeddings, index, wanted, torch.from_numpy(positions)[None])
    for output_type, values in predictions.items():
        head = OUTPUTS[output_type].published_head
        out |= {f"{head}/{KEYS[key]}": value for key, value in values.items()}
    exact = (torch.bool, torch.int64)
    return {n: (v if v.dtype in exact else v.float())[0].numpy() for n, v in out.items()}


@pytest.mark.parametrize("kept", [False, True], ids=["as in training", "as in inference"])
@pytest.mark.parametrize("organism", [0, 1], ids=["human", "mouse"])
def test_forward_pass_equals_the_published_one(
    model: AlphaGenome, reference: dict[str, np.ndarray], organism: int, kept: bool
) -> None:
    model.keep_constants(kept)
    prefix = f"{organism}:"
    positions = reference[f"{prefix}splice_sites_junction/splice_site_positions"]
    found = run(model, reference["sequence"], organism, positions)
    wanted = {k.removeprefix(prefix): v for k, v in reference.items() if k.startswith(prefix)}
    assert set(found) == set(wanted)
    wrong = []
    for name, value in wanted.items():
        got = select(name, found[name], len(reference["sequence"]))
        assert got.shape == value.shape, name
        if value.dtype.kind in "bi":
            wrong += [name] if not np.array_equal(got, value) else []
            continue
        difference = np.abs(got - value)
        largest = difference.max() / (value.max() - value.min())
        median = np.median(difference[value != 0] / np.abs(value[value != 0]))
        limits = LOOSER.get(name, TIGHT)
        if largest > limits[0] or median > limits[1]:
            wrong.append(f"{name}: max {largest:.1e} of the range, median {median:.1e}")
    assert wrong == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 < MAX_GIGABYTES


def bounds(name: str) -> tuple[float, float]:
    """Those of an output in bfloat16."""
    if name in LOOSER:
        return BFLOAT16["probabilities"]
    if name.startswith("contact") or name == "embeddings_pair":
        return BFLOAT16["contact" if name.startswith("contact") else "128bp"]
    return BFLOAT16["128bp" if "128bp" in name else "1bp"]


class ProductsInFloat32(TorchDispatchMode):
    """Products of bfloat16 numbers summed in float32 and rounded once: what hardware for them does.

    A processor without such hardware takes hours for a forward pass that is a minute's work in float32.
    """

    PRODUCTS = (
        torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm, torch.ops.aten.baddbmm,
        torch.ops.aten.convolution,
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """The operation, a product of bfloat16 tensors by way of float32."""
        half = any(isinstance(x, torch.Tensor) and x.dtype == torch.bfloat16 for x in args)
        if func.overloadpacket not in self.PRODUCTS or not half:
            return func(*args, **(kwargs or {}))
        self.count += 1
        wide = [x.float() if isinstance(x, torch.Tensor) else x for x in args]
        return func(*wide, **(kwargs or {})).bfloat16()


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_products_by_way_of_float32_are_exact_sums_rounded_once() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=draw).bfloat16() for shape in ((40, 300), (300, 50)))
    with ProductsInFloat32() as mode:
        found = a @ b
    assert mode.count == 1 and found.dtype == torch.bfloat16
    exact = (a.double() @ b.double()).bfloat16()
    assert (found != exact).float().mean() < 0.01  # sums in float32 may fall on the other side of a tie


def test_bfloat16_is_within_its_bounds(model: AlphaGenome, reference: dict[str, np.ndarray]) -> None:
    model.keep_constants(False)
    positions = reference["0:splice_sites_junction/splice_site_positions"]
    with nullcontext() if native_bfloat16() else ProductsInFloat32():
        found = run(model, reference["sequence"], 0, positions, torch.bfloat16)
    wrong = []
    for name, value in reference.items():
        if not name.startswith("0:") or value.dtype.kind in "bi":
            continue
        got = select(name[2:], found[name[2:]], len(reference["sequence"]))
        largest = np.abs(got - value).max() / (value.max() - value.min())
        correlation = np.corrcoef(got.ravel(), value.ravel())[0, 1]
        most, least = bounds(name[2:])
        if not (largest <= most and correlation >= least):
            wrong.append(f"{name}: max {largest:.1e} of the range, correlation {correlation:.5f}")
    assert wrong == []
