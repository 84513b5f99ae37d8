"""What scoring whole projects takes: GPU hours, days on so many GPUs, storage, from rates and nothing else.

A rate is variants a second on one GPU. It is a measured one where `cost.variants_per_second` names it; else
operations by arithmetic over what the GPU is taken to do (`cost.scoring_tflop`, `cost.peak_tflops`,
`cost.share`). A new measurement changes one number of the config.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from megabase.config import Config, load_config
from megabase.packing import chunks_needed
from megabase.settings.run import CostSettings
from megabase.settings.scoring import ChunkSettings

GPUS = (1, 64, 1000)


@dataclass(frozen=True)
class Project:
    """Variants that somebody may want scored, and the placement of windows that suits their density."""

    name: str
    variants: int
    placement: str


PROJECTS = (
    Project("a person's genome", 5_000_000, "binned"),
    Project("gnomAD", 800_000_000, "tiled"),
    Project("every SNV of the human genome", 9_000_000_000, "tiled"),
)


@dataclass(frozen=True)
class Estimate:
    """One project: GPU hours, bytes of scores, and hours of the wall clock by number of GPUs."""

    project: Project
    rate: float
    gpu_hours: float
    storage: float
    wall_hours: dict[int, float]


def estimate_scoring(config: str | Path) -> str:
    """The table of docs/scaling.md for the rates of a config file; FileError for one that cannot be used."""
    settings: Config = load_config(yaml.safe_load(Path(config).read_text(encoding="utf-8")), config)
    return table(settings.cost, settings.chunks)


def scoring_rate(cost: CostSettings, placement: str) -> float:
    """Variants a second on one GPU: measured, or by arithmetic."""
    if placement in cost.variants_per_second:
        return cost.variants_per_second[placement]
    return cost.peak_tflops * cost.share / cost.scoring_tflop[placement]


def estimate(project: Project, cost: CostSettings, chunks: ChunkSettings) -> Estimate:
    """GPU hours with loading; a project has no use for more GPUs than it has chunks worth the loading."""
    rate = scoring_rate(cost, project.placement)
    hours = project.variants / rate / 3600
    wall = {}
    for gpus in GPUS:
        used = chunks_needed(project.variants, gpus, chunks)
        wall[gpus] = hours / used + chunks.load_seconds / 3600
    loading = chunks.load_share / (1 - chunks.load_share)  # at most: chunks are at least so large
    return Estimate(project, rate, hours * (1 + loading), project.variants * cost.bytes_per_variant, wall)


def table(cost: CostSettings, chunks: ChunkSettings) -> str:
    """The estimates as a table in Markdown, with a line that tells what they rest on."""
    heads = ["project", "variants", "placement", "variants/s", f"{cost.gpu} hours", "storage"]
    heads += [f"on {gpus:,} GPU{'s' * (gpus > 1)}" for gpus in GPUS]
    rows = [_cells(estimate(project, cost, chunks)) for project in PROJECTS]
    lines = [f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]]
    return "\n".join([*lines, "", *_basis(cost)])


def _cells(found: Estimate) -> list[str]:
    project = found.project
    return [
        project.name, f"{project.variants:,}", project.placement, f"{found.rate:.3g}",
        f"{found.gpu_hours:,.0f}", _size(found.storage), *(_time(h) for h in found.wall_hours.values()),
    ]  # fmt: skip


def _basis(cost: CostSettings) -> Iterator[str]:
    placements = dict.fromkeys(project.placement for project in PROJECTS)
    for placement in placements:
        if rate := cost.variants_per_second.get(placement):
            yield f"{placement}: {rate:g} variants/s, measured (cost.variants_per_second)."
            continue
        yield (
            f"{placement}: not measured; {cost.scoring_tflop[placement]:g} TFLOP a variant "
            f"(cost.scoring_tflop) at {cost.share:.0%} of {cost.peak_tflops:g} TFLOP/s."
        )


def _time(hours: float) -> str:
    if hours < 2:
        return f"{hours * 60:.0f} min"
    if hours < 72:
        return f"{hours:.0f} h"
    return f"{hours / 24:,.0f} days" if hours < 24 * 730 else f"{hours / 24 / 365:,.0f} years"


def _size(size: float) -> str:
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e6:.3g} MB"
