"""Peak memory of a training step of the published network, by arithmetic: no accelerator is needed.

    python benchmarks/memory.py --length 1048576 --recompute 128 --precision bfloat16

The whole step (forward, all losses, backward) runs on tensors without values; every storage is counted from
its making to its end. It is the sum of living tensors: what an allocator loses between them and what
libraries take for themselves comes on top. Targets stand dense on the device; junctions have `--sites` a
class.
"""

from __future__ import annotations

import argparse
import weakref
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from megabase.batches import Batch
from megabase.model import AlphaGenome, Sizes
from megabase.optimise import batch_loss
from megabase.settings.training import TrainSettings
from megabase.spec import OUTPUTS, PAIR, TOKEN, Kind, OutputType

GB = 1e9
GENES = 40  # of a window


class Living(TorchDispatchMode):
    """Bytes of all storages that were made under it and live, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """func(*args), its results counted."""
        found = func(*args, **(kwargs or {}))
        for value in tree_iter(found):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._ended, key, size)

    def _ended(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@dataclass(frozen=True)
class Estimate:
    """Bytes. constant: weights and targets; step: the peak of a step; optimizer: its two moments."""

    constant: int
    step: int
    optimizer: int

    @property
    def total(self) -> int:
        """Peak of a training."""
        return self.step + self.optimizer


def empty_batch(sizes: Sizes, length: int, sites: int) -> Batch:
    """One window with dense targets of every output type."""
    masks = {OutputType(o): torch.ones(1, n, dtype=torch.bool) for o, n in sizes.channels.items() if n}
    targets: dict[str, Tensor] = {}
    for output, mask in masks.items():
        spec, n = OUTPUTS[output], mask.shape[1]
        if spec.kind is Kind.CONTACTS:
            targets[output] = torch.zeros(1, length // PAIR, length // PAIR, n)
        elif spec.kind is Kind.SITES:
            targets[output] = torch.zeros(1, length, dtype=torch.int64)
        elif spec.kind is Kind.JUNCTIONS:
            targets[output] = torch.zeros(1, sites, sites, n)
        else:
            targets[output] = torch.zeros(1, length if 1 in spec.resolutions else length // TOKEN, n)
    if OutputType.SPLICE_JUNCTIONS in masks:
        targets["splice_positions"] = torch.zeros(1, 4, sites, dtype=torch.int64)
    tracks = masks[OutputType.RNA_SEQ].shape[1]
    genes = {
        "spans": torch.zeros(1, GENES, 2, dtype=torch.int32),
        "channels": torch.ones(1, GENES, tracks, dtype=torch.bool),
    }
    sequence, organism = torch.zeros(1, length, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    return Batch(sequence, organism, [], targets, masks, genes)


def estimate(sizes: Sizes, length: int, settings: TrainSettings, sites: int) -> Estimate:
    """Peak of one window's training step with these settings."""
    whole = mock.patch("megabase.model.heads.without_padding", lambda positions: positions)
    with whole, FakeTensorMode(allow_non_fake_inputs=True), Living() as living:  # no value can be looked at
        model = AlphaGenome(sizes, seed=None).train()
        batch = empty_batch(sizes, length, sites)
        constant = living.now
        loss, _ = batch_loss(model, batch, settings)
        loss.backward()
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        return Estimate(constant, living.peak, 2 * weights)


def main() -> None:
    """Print the estimate."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--length", type=int, default=1_048_576, help="window (bp)")
    options.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    options.add_argument("--recompute", type=int, default=128, help="train.recompute_bases")
    options.add_argument("--sites", type=int, default=512, help="splice sites of a class")
    options.add_argument("--preset", default="alphagenome")
    given = options.parse_args()
    settings = TrainSettings(precision=given.precision, recompute_bases=given.recompute)
    found = estimate(Sizes.preset(given.preset), given.length, settings, given.sites)
    print(f"{given.preset}, {given.length:,} bp, {given.precision}, recompute_bases {given.recompute}")
    print(
        f"weights and targets {found.constant / GB:.1f} GB, peak of a step {found.step / GB:.1f} GB, ", end=""
    )
    print(f"with the optimizer's moments {found.total / GB:.1f} GB")


if __name__ == "__main__":
    main()
