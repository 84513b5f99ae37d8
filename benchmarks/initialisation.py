"""Whether the initial weights of the convolutions, which are not published, train: against other choices.

    python benchmarks/initialisation.py results --steps 150

Trains the demo's network on the tracks of a finished demo, with its settings but a shorter schedule, from
convolution weights of several deviations (in units of the chosen one, 1 / sqrt(fan in); 0: zeros, as the
released code of the publication holds them). Prints the training loss at the start and the end, the
validation loss, and, at published widths, how large the activations of the encoder's levels are at the start.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml

from megabase.biases import start_biases
from megabase.config import Config, load_config
from megabase.model import AlphaGenome, Sizes
from megabase.model.convolution import Conv1D, StandardizedConv1D
from megabase.seeds import torch_generator
from megabase.sequence import one_hot
from megabase.train import Setup, make_model, plan_of, set_up, train

DEVIATIONS = (0.0, 0.1, 1.0, 10.0)
BASES = 4096  # of the window whose activations are measured


def scale_convolutions(model: AlphaGenome, factor: float) -> None:
    """Multiply the weights of all convolutions."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (Conv1D, StandardizedConv1D)):
                module.w.mul_(factor)


def losses(setup: Setup, config: Config, steps: int, factor: float, seed: int) -> tuple[float, float, float]:
    """(first, last training loss, last validation loss); each training loss is the mean of ten steps."""
    settings = config.teachers.train.model_copy(
        update={"steps": steps, "warmup_steps": steps // 10, "validate_steps": steps, "log_steps": 10}
    )
    sizes = Sizes.preset(
        config.model.preset,
        channels=setup.channels.widths,
        dropout=settings.dropout,
        **config.model.overrides,
    )
    model = make_model(setup.channels, sizes, seed)
    scale_convolutions(model, factor)
    windows, held = (setup.windows(split, plan_of(settings, seed)) for split in ("train", "valid"))
    start_biases(model, (windows.batch(step) for step in range(16)))
    rows = train(
        model, windows.batch, lambda batch, _: batch, settings, seed=seed,
        validation=lambda: held.in_order(settings.validate_windows),
    )  # fmt: skip
    curve = [value for _, split, name, value in rows if (split, name) == ("train", "loss")]
    valid = [value for _, split, name, value in rows if (split, name) == ("valid", "loss")]
    return curve[0], curve[-1], valid[-1]


@torch.no_grad()
def activation_sizes() -> list[float]:
    """Root mean square of what the published network's encoder keeps at 1, 2, ..., 64 bp, in training."""
    model = AlphaGenome(Sizes.preset("alphagenome", {"contact_maps": 1})).train()
    codes = torch.randint(0, 4, (1, BASES), generator=torch_generator(0, "sizes"), dtype=torch.uint8)
    _, skips = model.encode(one_hot(codes))
    return [float(skip.square().mean().sqrt()) for skip in skips]


def main() -> None:
    """Print both tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("results", type=Path, help="folder of a finished demo")
    options.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    options.add_argument("--steps", type=int, default=150)
    options.add_argument("--seeds", type=int, default=2)
    given = options.parse_args()
    config = load_config(yaml.safe_load(given.config.read_text(encoding="utf-8")), given.config)
    setup = set_up(
        [given.results / "shards" / name for name in config.organisms],
        [given.results / "genome" / name for name in config.organisms],
        [given.results / "genome" / name / "genes" for name in config.organisms],
        given.results / "folds" / "intervals.parquet",
        organisms=config.organisms, scheme="all", folds=config.folds,
        max_shift=config.teachers.train.max_shift,
    )  # fmt: skip
    print("| deviation | seed | first loss | last loss | validation |\n|---|---|---|---|---|")
    for factor in DEVIATIONS:
        for seed in range(given.seeds):
            first, last, valid = losses(setup, config, given.steps, factor, seed)
            print(f"| {factor:g} | {seed} | {first:.1f} | {last:.1f} | {valid:.1f} |", flush=True)
    sizes = ", ".join(f"{size:.2f}" for size in activation_sizes())
    print(f"\nRoot mean square at 1, 2, ..., 64 bp before training, published widths: {sizes}")


if __name__ == "__main__":
    main()
