"""The one training loop, and teachers: models that learn the measured tracks in it.

A run that is killed at any time and started again ends with the same bytes as one that was left alone: the
batch of a step, its augmentation and its dropout depend on the seed and the step alone, and the rolling
checkpoint holds everything else. Throughput is told in the log only, because it differs between runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch

from megabase.batches import Batch, PackedBatch, Plan, Windows
from megabase.biases import start_biases
from megabase.channels import Channels
from megabase.examples import Source, pieces
from megabase.files import FileError, Stamp, hash_json, hash_path, read_table, write_tsv
from megabase.folds import held_out
from megabase.genome import Genes, Genome, Interval
from megabase.loading import read_ahead
from megabase.logs import Waiting, progress
from megabase.model import AlphaGenome, Sizes, save_model
from megabase.optimise import batch_loss, check_schedule, make_optimizer, repeatable, train_step
from megabase.parallel import SINGLE, Layout, attach, check_sizes
from megabase.parallel.processes import joined
from megabase.rolling import Progressed, RollingCheckpoint, Row
from megabase.shards import ShardStore
from megabase.spec import OUTPUTS, Kind

if TYPE_CHECKING:
    from megabase.settings.data import FoldSettings
    from megabase.settings.training import ModelSettings, TrainSettings

ALL_FOLDS = "all"  # the scheme of the student, its teachers and the plain baselines
TargetsOf = Callable[[Batch, int], Batch]  # batch and step -> the batch that is learned


def mean_rows(step: int, split: str, values: list[dict[str, float]]) -> list[Row]:
    """Rows of the loss curve at `step`: the mean of every quantity over the steps or batches that had it."""
    names = list(dict.fromkeys(name for value in values for name in value))
    found = {name: [value[name] for value in values if name in value] for name in names}
    return [(step, split, name, math.fsum(v) / len(v)) for name, v in found.items()]


@torch.no_grad()
def validation_rows(
    model: AlphaGenome, batches: Iterable[Batch], settings: TrainSettings, step: int
) -> list[Row]:
    """Rows of split `valid`: mean losses over unaugmented batches, in evaluation mode.

    With many ranks, `batches` are those of `Windows.in_order(limit, layout)`; every rank gets all rows.
    """
    layout = model.layout
    model.eval()
    attach(model, layout.window)
    device = next(model.parameters()).device
    values = []
    for batch in batches:
        loss, parts = batch_loss(model, batch.to(device), settings)
        values.append({"loss": float(loss), **{f"loss/{name}": float(v) for name, v in parts.items()}})
    attach(model, layout)
    dealt = layout.everyone(values)[:: layout.sequence_ranks]
    count = sum(len(found) for found in dealt)
    return mean_rows(step, "valid", [dealt[i % len(dealt)][i // len(dealt)] for i in range(count)])


def train(
    model: AlphaGenome,
    next_batch: Callable[[int], Batch | PackedBatch],
    targets_of: TargetsOf,
    settings: TrainSettings,
    *,
    seed: int,
    what: str = "training",
    rolling: RollingCheckpoint | None = None,
    validation: Callable[[], Iterable[Batch]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Row]:
    """Train `model` in place for `settings.steps` steps and return the rows of its loss curve.

    next_batch(step) is the batch of a step and depends on nothing else; targets_of(batch, step) makes of it
    the batch that is learned, on the model's device. rolling: where checkpoints are kept, every
    `settings.checkpoint_seconds` of `clock`. validation(): batches of the validation loss. With many ranks
    (the model's layout), batches are this rank's share, and the first rank writes the checkpoints.
    """
    check_schedule(settings)
    layout, waiting = model.layout, Waiting(what)
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, settings)
    done = rolling.load(model, optimizer, layout) if rolling else Progressed()
    saved = clock()
    with progress(settings.steps, what, "steps", done.step) as shown:
        while done.step < settings.steps:
            with waiting:
                batch = next_batch(done.step)
            batch = targets_of(batch.to(device), done.step)
            done.pending.append(train_step(model, optimizer, batch, settings, step=done.step, seed=seed))
            done.step += 1
            shown.advance(note=f"loss {done.pending[-1]['loss']:.4g}")
            _record(done, model, settings, validation)
            due = clock() - saved >= settings.checkpoint_seconds or done.step == settings.steps
            if rolling and layout.leader and due:
                rolling.save(model, optimizer, done)
                saved = clock()
    if rolling:
        rolling.finish()
    return done.rows


def _record(
    done: Progressed,
    model: AlphaGenome,
    settings: TrainSettings,
    validation: Callable[[], Iterable[Batch]] | None,
) -> None:
    """Add the rows that are due after `done.step` steps."""
    last = done.step == settings.steps
    if last or done.step % settings.log_steps == 0:
        done.rows += mean_rows(done.step, "train", done.pending)
        done.pending.clear()
    if validation and (last or done.step % settings.validate_steps == 0):
        done.rows += validation_rows(model, validation(), settings, done.step)


def open_sources(
    shards: Sequence[str | Path],
    genomes: Sequence[str | Path],
    genes: Sequence[str | Path | None] | None,
    organisms: Sequence[str],
) -> list[Source]:
    """Sources in model index order from folders in any order; an organism without shards is an error.

    genes: gene folders in the order of `genomes` (None where a genome has none).
    """
    stores = {store.organism: store for store in map(ShardStore.open, shards)}
    opened = [Genome.open(folder) for folder in genomes]
    by_organism = {g.organism: (g, f) for g, f in zip(opened, genes or [None] * len(opened), strict=True)}
    for organism in organisms:
        if organism not in stores or organism not in by_organism:
            raise FileError(
                f"organism {organism}: shards are given for {sorted(stores)} and genomes for "
                f"{sorted(by_organism)}; give both for every organism of {list(organisms)}"
            )
    return [
        Source(
            name,
            i,
            by_organism[name][0],
            stores[name],
            Genes.open(f) if (f := by_organism[name][1]) else None,
        )
        for i, name in enumerate(organisms)
    ]


def split_windows(
    intervals: pl.DataFrame, sources: Sequence[Source], scheme: str, folds: FoldSettings, max_shift: int
) -> dict[str, dict[str, list[Interval]]]:
    """`{split: {organism: windows}}` of a scheme: train, valid, test, scheme.

    `test` are the reserved folds, the same windows for every model; where no fold is reserved, the test folds
    of the scheme. `scheme` are the scheme's test folds that are not reserved. Held-out windows that touch a
    training window moved by up to `max_shift` are in no split.
    """
    if scheme not in folds.schemes:
        raise ValueError(f"scheme {scheme!r} is not in folds.schemes: {', '.join(folds.schemes)}")
    chosen = folds.schemes[scheme]
    own = [fold for fold in chosen.test if fold not in folds.reserved]
    tests = {"test": list(folds.reserved) or own, "scheme": own if folds.reserved else []}
    splits: dict[str, dict[str, list[Interval]]] = {}
    for source in sources:
        for split, names in tests.items():
            dealt = chosen.model_copy(update={"test": names})
            kept_out = [*folds.reserved, *chosen.test]
            train, valid, test = held_out(intervals, dealt, kept_out, source.organism, max_shift)
            for name, table in (("train", train), ("valid", valid), (split, test)):
                splits.setdefault(name, {})[source.organism] = _intervals(table)
    return splits


def _intervals(table: pl.DataFrame) -> list[Interval]:
    return [Interval(*row) for row in table.select("chrom", "start", "end").iter_rows()]


def make_model(channels: Channels, sizes: Sizes, seed: int) -> AlphaGenome:
    """A fresh network for these channels; track means are the tracks' nonzero_mean (1 where missing)."""
    model = AlphaGenome(sizes, seed=seed)
    for output in channels.widths:
        if OUTPUTS[output].kind is Kind.TRACKS:
            model.set_track_means(output, torch.from_numpy(channels.means(output)))
    return model


def plan_of(settings: TrainSettings, seed: int) -> Plan:
    """The draws of a training run."""
    return Plan(
        seed=seed,
        batch_size=settings.batch_size,
        max_shift=settings.max_shift,
        reverse_complement=settings.reverse_complement,
        max_sites=settings.max_sites,
        weights=settings.organism_weights or None,
    )


def track_tables(channels: Channels) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """JSON-ready track rows by organism and output type."""
    return {o: {str(k): rows for k, rows in channels.tracks[o].items()} for o in channels.organisms}


def describe(
    name: str, channels: Channels, *, scheme: str, seed: int, window: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What `model.json` tells beside the sizes: names, seed, settings, and the tracks of every organism."""
    return {
        "name": name, "predictor": "alphagenome", "scheme": scheme, "seed": seed, "window": window,
        "organisms": list(channels.organisms), "settings": dict(settings), "tracks": track_tables(channels),
    }  # fmt: skip


def input_hashes(
    shards: Sequence[str | Path],
    genomes: Sequence[str | Path],
    genes: Sequence[str | Path | None] | None,
    others: Mapping[str, str | Path],
) -> dict[str, str]:
    """Hashes of what a model is made from. A store is known by its stamped description, not its gigabytes."""
    files = [Path(f) / "store.json" for f in shards] + [Path(f) / "sequence.json" for f in genomes]
    files += [Path(f) / "genes.parquet" for f in genes or [] if f]
    named = {"/".join(path.parts[-3:]): path for path in files}
    return {name: hash_path(path) for name, path in {**named, **others}.items()}


@dataclass(frozen=True)
class Setup:
    """What teachers and students of one scheme share before the first step."""

    sources: list[Source]
    channels: Channels
    splits: dict[str, dict[str, list[Interval]]]
    inputs: dict[str, str]

    def windows(
        self, split: str, plan: Plan, *, targets: bool = True, opened: bool = False
    ) -> Windows | None:
        """Windows of a split; None where it has none. opened: they are unpacked on the device."""
        found = self.splits.get(split, {})
        if not any(found.values()):
            return None
        return Windows(self.sources, found, plan, self.channels, targets=targets, opened=opened)


def set_up(
    shards: Sequence[str | Path],
    genomes: Sequence[str | Path],
    genes: Sequence[str | Path | None] | None,
    intervals: str | Path,
    *,
    organisms: Sequence[str],
    scheme: str,
    folds: FoldSettings,
    max_shift: int,
    window: int | None = None,
) -> Setup:
    """Open the inputs of a training run and deal its windows, or pieces of `window` bases, to splits."""
    sources = open_sources(shards, genomes, genes, organisms)
    table = read_table(intervals, "intervals")
    splits = split_windows(table, sources, scheme, folds, max_shift)
    return Setup(
        sources=sources,
        channels=Channels(tuple(organisms), {s.organism: s.tracks for s in sources}),
        splits={
            split: {organism: pieces(found, window) for organism, found in dealt.items()}
            for split, dealt in splits.items()
        },
        inputs=input_hashes(shards, genomes, genes, {"intervals": intervals}),
    )


def run(
    setup: Setup,
    model: AlphaGenome,
    targets_of: TargetsOf,
    settings: TrainSettings,
    output: Path,
    description: Mapping[str, Any],
    *,
    measured: bool,
    threads: int | None,
    layout: Layout = SINGLE,
) -> Path:
    """Train `model` on the training windows and write its folder. measured: targets are read from the store.

    description: the `info` of `model.json`; together with the hashes of the inputs it says whether a rolling
    checkpoint belongs to this run. With many ranks, `targets_of` gets whole windows where not measured.
    """
    check_sizes(layout, batch_size=settings.batch_size, window=int(description["window"]))
    attach(model, layout)
    seed = int(description["seed"])
    plan = plan_of(settings, seed)
    on_device = next(model.parameters()).device.type != "cpu"
    windows = setup.windows("train", plan, targets=measured, opened=on_device)
    if windows is None:
        raise ValueError(f"scheme {description['scheme']!r} leaves no training window; look at folds.schemes")
    held = setup.windows("valid", plan)
    info = {**description, "config_hash": hash_json(description["settings"]), "inputs": setup.inputs}
    ranks = f"{layout.data_ranks} x {layout.sequence_ranks}"
    rolling = RollingCheckpoint(f"{output}.checkpoint", hash_json(info), ranks)
    if not layout.single:
        info["ranks"] = f"{ranks} (data x sequence)"
    read = partial(windows.packed, layout=layout)
    with repeatable(threads), read_ahead(read, settings.steps, settings.read_threads) as next_batch:
        rows = train(
            model, next_batch, targets_of, settings, seed=seed, what=output.name, rolling=rolling,
            validation=(lambda: held.in_order(settings.validate_windows, layout)) if held else None,
        )  # fmt: skip
    if layout.leader:
        _write(model, rows, output, info)
        rolling.clear()
    return output


def _write(model: AlphaGenome, rows: list[Row], output: Path, info: dict[str, Any]) -> None:
    """The files of a trained model."""
    table = pl.DataFrame(rows, schema=["step", "split", "quantity", "value"], orient="row")
    write_tsv(table, output / "training.tsv", Stamp("training", info["config_hash"], info["inputs"]))
    save_model(output, model.cpu(), info)


def settings_of(settings: TrainSettings) -> dict[str, Any]:
    """Settings as told in `model.json`: what decides the result, not how many ranks or what memory."""
    told = settings.model_dump(
        mode="json", exclude={"sequence_ranks", "recompute_bases", "compile", "read_threads"}
    )
    return {k: v for k, v in told.items() if (k, v) != ("spread", "none")}  # as before there was one


def train_teacher(
    shards: Sequence[str | Path],
    genomes: Sequence[str | Path],
    genes: Sequence[str | Path | None] | None,
    intervals: str | Path,
    output_dir: str | Path,
    scheme: str,
    seed: int,
    settings: TrainSettings,
    model_settings: ModelSettings,
    fold_settings: FoldSettings,
    organisms: Sequence[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> Path:
    """Train one teacher and write `model.safetensors`, `model.json` and `training.tsv` into `output_dir`.

    Windows of the scheme's training folds; the loss curve's split `valid` is its validation folds. Rolling
    checkpoints stand in `{output_dir}.checkpoint` until the run has ended. genes: gene folders in the order
    of `genomes`. threads: intra-operation threads (default OMP_NUM_THREADS). Under torchrun, its processes
    train together (docs/architecture.md, Many processes). Errors: ValueError on a loss that is not finite
    (with the windows), on unknown schemes, on ranks that do not divide batch or window; FileError on inputs
    that cannot be used.
    """
    check_schedule(settings)
    output = Path(output_dir)
    setup = set_up(
        shards, genomes, genes, intervals,
        organisms=organisms, scheme=scheme, folds=fold_settings, max_shift=settings.max_shift,
        window=settings.window,
    )  # fmt: skip
    description = describe(
        output.name, setup.channels, scheme=scheme, seed=seed, window=settings.window or fold_settings.window,
        settings={"train": settings_of(settings), "model": model_settings.model_dump(mode="json")},
    )  # fmt: skip
    sizes = Sizes.preset(
        model_settings.preset,
        channels=setup.channels.widths,
        **{"n_organisms": len(organisms), "dropout": settings.dropout} | model_settings.overrides,
    )
    model = make_model(setup.channels, sizes, seed)
    windows = setup.windows("train", plan_of(settings, seed))
    if windows and settings.bias_windows:
        batches = math.ceil(settings.bias_windows / settings.batch_size)
        start_biases(model, (windows.batch(step) for step in range(batches)))
    with joined(device, settings.sequence_ranks) as (layout, own):
        return run(
            setup, model.to(own), lambda batch, _: batch, settings, output, description,
            measured=True, threads=threads, layout=layout,
        )  # fmt: skip
