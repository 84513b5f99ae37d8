"""The models that the timings compare: each function builds one and returns what is timed.

An implementation is `build(job) -> run`, where `run()` does one forward pass, or one forward and backward
pass, and returns nothing. It is called in an interpreter of its own, which needs to hold that implementation
alone (and torch): nothing here imports megabase but `megabase` itself. Add yours to `IMPLEMENTATIONS`.

All are given the same: published widths and numbers of tracks, random weights, one human sequence, splice
sites at the same places (-1 behind them, up to 512 of a class, as the published model pads them). A forward
pass ends with predictions in the units of the tracks, as users get them. A training step is the forward pass
in training mode and the gradient of the mean squares of all scaled predictions, without an optimizer: the
implementations' own losses differ, their networks do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

Run = Callable[[], None]
PADDED_SITES = 512  # sites of a class in the published junction head
JUNCTIONS = "splice_junctions"


@dataclass(frozen=True)
class Job:
    """What is timed. channels: number of tracks by megabase's name of the output type."""

    task: str  # forward, train_step
    length: int
    channels: dict[str, int]
    sites: int  # splice sites of each class in the window
    device: str = "cpu"
    precision: str = "float32"
    recompute: int = 0  # megabase alone: levels up to this many bases a position are recomputed backwards
    preset: str = "alphagenome"  # others know no other; a test of this harness takes `tiny`

    @property
    def training(self) -> bool:
        """Whether gradients are wanted."""
        return self.task == "train_step"

    @property
    def junctions(self) -> bool:
        """Whether the junction head is among the heads."""
        return JUNCTIONS in self.channels

    def sequence(self) -> torch.Tensor:
        """One-hot float32 [1, S, 4]."""
        generator = torch.Generator().manual_seed(0)
        codes = torch.randint(0, 4, (1, self.length), generator=generator)
        return torch.nn.functional.one_hot(codes, 4).float().to(self.device)

    def positions(self) -> torch.Tensor:
        """Splice sites int64 [1, 4, PADDED_SITES], ascending, -1 behind the last."""
        found = torch.full((1, 4, PADDED_SITES), -1)
        for kind in range(4):
            at = torch.linspace(100 + kind, self.length - 100 + kind, self.sites).long()
            found[0, kind, : self.sites] = at
        return found.to(self.device)


def floats(values: Any, skipped: tuple[str, ...] = ()) -> Iterator[torch.Tensor]:
    """All floating-point tensors in nested dictionaries, but those under a key in `skipped`."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key not in skipped:
                yield from floats(value, skipped)
    elif isinstance(values, torch.Tensor) and values.is_floating_point():
        yield values


def backward(model: torch.nn.Module, predictions: Any, skipped: tuple[str, ...] = ()) -> None:
    """Gradients of the summed mean squares of `predictions`."""
    model.zero_grad(set_to_none=True)
    torch.stack([x.float().square().mean() for x in floats(predictions, skipped)]).sum().backward()


def megabase(job: Job) -> Run:
    """This project's model."""
    from megabase.memory import give_back_holes, keep_large_blocks
    from megabase.model import AlphaGenome, Sizes
    from megabase.spec import OutputType

    channels = {OutputType(name): n for name, n in job.channels.items()}
    model = AlphaGenome(Sizes.preset(job.preset, channels=channels, dropout=0.0)).to(job.device)
    model.train(job.training)
    model.keep_constants(not job.training)  # as a predictor does
    model.recompute(job.recompute)
    if job.device == "cpu":
        keep_large_blocks()  # as the commands do
    x = job.sequence().to(getattr(torch, job.precision))
    organism = torch.zeros(1, dtype=torch.int64, device=job.device)
    sites = {"splice_positions": job.positions()} if job.junctions else {}

    def forward() -> None:
        with torch.inference_mode():
            model.unscale(model(x, organism, **sites), organism)

    def train_step() -> None:
        model.zero_grad(set_to_none=True)
        give_back_holes()  # as a step of training does
        backward(model, model(x, organism, **sites), skipped=("probabilities",))

    return train_step if job.training else forward


NAMES_PT = {"splice_sites": "splice_sites_classification", "splice_site_usage": "splice_sites_usage",
            JUNCTIONS: "splice_sites_junction"}  # fmt: skip


def alphagenome_pt(job: Job) -> Run:
    """`alphagenome-pt` 1.0.0."""
    from alphagenome_pt import AlphaGenome, DataBatch, Metadata, deepmind_config

    heads: dict[str, dict[str, Any]] = {}
    for name, n in job.channels.items():
        if name == JUNCTIONS:
            heads[NAMES_PT[name]] = {"num_tissues": [n // 2, n // 2]}
            continue
        heads[NAMES_PT.get(name, name)] = {
            "num_tracks": [n, n], "means": [[1.0] * n] * 2, "track_mask": [[True] * n] * 2,
        }  # fmt: skip
    metadata = Metadata({"organisms": ["human", "mouse"], "heads": heads})
    metadata.make_all_masks()
    policy = "float32" if job.precision == "float32" else "deepmind"
    config = deepmind_config(metadata, dtype_policy=policy)
    config.sync_bn = False
    model = AlphaGenome(config).to(job.device).train(job.training)
    organism = torch.zeros(1, dtype=torch.int64, device=job.device)
    sites = {"splice_site_positions": job.positions()} if job.junctions else {}
    batch = DataBatch(dna_sequence_one_hot=job.sequence(), organism_index=organism, **sites)

    def forward() -> None:
        with torch.inference_mode():
            model.predict(batch)

    def train_step() -> None:
        found = model(batch, mode="predict")
        scaled = {
            head: {k: v for k, v in values.items() if k.startswith("scaled_") or k == "logits"} or values
            for head, values in found.items()
        }
        backward(model, scaled)

    return train_step if job.training else forward


def alphagenome_pytorch(job: Job) -> Run:
    """`alphagenome-pytorch` 0.3.1."""
    from alphagenome_pytorch import AlphaGenome
    from alphagenome_pytorch.config import DtypePolicy

    half = job.precision == "bfloat16"
    policy = DtypePolicy.mixed_precision() if half else DtypePolicy.default()
    model = AlphaGenome(num_organisms=2, dtype_policy=policy).to(job.device).train(job.training)
    organism = torch.zeros(1, dtype=torch.int64, device=job.device)
    x, heads = job.sequence(), tuple(job.channels)
    sites = {"splice_site_positions": job.positions()} if job.junctions else {}

    def forward() -> None:
        with torch.inference_mode():
            model.predict(x, organism, heads=heads, **sites)

    def train_step() -> None:
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
            found = model(x, organism, heads=heads, return_scaled_predictions=True, **sites)
        backward(model, found, skipped=("probs", "predictions"))

    return train_step if job.training else forward


IMPLEMENTATIONS: dict[str, Callable[[Job], Run]] = {
    "megabase": megabase,
    "alphagenome-pt": alphagenome_pt,
    "alphagenome-pytorch": alphagenome_pytorch,
}
