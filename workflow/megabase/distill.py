"""Distillation: a student learns the predictions of frozen teachers on perturbed sequences.

Every step one teacher is drawn, so that over the steps the student sees the whole ensemble. On many ranks
each data rank has a teacher of its own: a fixed one where there are as many ranks as teachers, as published;
else the teachers rotate over the ranks, each used equally often, which is the same expectation. The teacher
reads the same mutated sequence as the student; its predictions, in the units of the tracks, go through the
same objective as measured targets do, with the same channel masks. Junctions are learned at the sites that
the teacher finds likeliest. With `spread: variance` the student also learns, by heads that change nothing
else of it, how far the teachers lie from it (`model/spread.py`). The loop is that of `megabase.train`; the
student has the teachers' sizes.
Source: AlphaGenome preprint, Methods, distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from megabase.augment import mutate
from megabase.batches import Batch, part
from megabase.channels import Channels
from megabase.files import FileError, hash_path
from megabase.model import AlphaGenome, Sizes, load_model
from megabase.model.checkpoint import load_card
from megabase.optimise import check_schedule
from megabase.parallel import SINGLE, Layout, attach
from megabase.parallel.processes import joined
from megabase.seeds import generator
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, Kind, OutputType
from megabase.train import Setup, describe, make_model, run, set_up, settings_of, track_tables

if TYPE_CHECKING:
    from megabase.settings.data import FoldSettings
    from megabase.settings.training import DistillSettings


def perturbed(codes: Tensor, settings: DistillSettings, seed: int, step: int, first: int = 0) -> Tensor:
    """Mutated copy of codes uint8 [B, S]; every row has its own generator, named by seed, step and row.

    first: number of the first row in the whole batch of the step.
    """
    rows = [
        mutate(
            row, generator(seed, "mutation", step, number),
            rate=settings.mutation_rate, structural_rate=settings.structural_rate,
            structural_max=settings.structural_max, structural_types=settings.structural_types,
        )
        for number, row in enumerate(codes.cpu().numpy(), first)
    ]  # fmt: skip
    return torch.stack([torch.from_numpy(row) for row in rows]).to(codes.device)


@torch.no_grad()
def teacher_targets(
    teacher: AlphaGenome, codes: Tensor, organism: Tensor, precision: str = "float32"
) -> dict[str, Any]:
    """Targets of the objective from a teacher: tracks by resolution, in the units of the tracks.

    Splice sites and usage are probabilities; junctions stand at the teacher's own sites, under
    `splice_positions`. (No inference mode: its tensors may not take part in the student's gradient.)
    """
    sequence = one_hot(codes).to(getattr(torch, precision))
    found = teacher.unscale(teacher(sequence, organism), organism)
    targets: dict[str, Any] = {}
    for output, values in found.items():
        kind = OUTPUTS[output].kind
        if kind is Kind.TRACKS:
            targets[output] = {r: values[f"{r}bp"] for r in OUTPUTS[output].resolutions}
        elif kind in (Kind.SITES, Kind.USAGE):
            targets[output] = values["probabilities"]
        else:
            targets[output] = values["values"].float()
        if output is OutputType.SPLICE_JUNCTIONS:
            targets["splice_positions"] = values["positions"]
    return targets


class Ensemble:
    """Frozen teachers as a source of targets: `targets_of` of the training loop.

    teachers: None for those that this rank never asks. resident: a network on the device into which the
    teacher of a step is copied; without it the teachers stand on the device themselves. The sequence ranks
    of a window run their teacher together. Given whole windows, it gives this rank's part.
    """

    def __init__(
        self,
        teachers: Sequence[AlphaGenome | None],
        settings: DistillSettings,
        seed: int,
        layout: Layout = SINGLE,
        resident: AlphaGenome | None = None,
    ) -> None:
        self.teachers, self.settings, self.seed, self.layout = teachers, settings, seed, layout
        self.resident, self.inside = resident, -1
        for teacher in (*teachers, resident):
            if teacher is not None:
                attach(teacher.eval().requires_grad_(False), layout.window)

    def chosen(self, step: int) -> int:
        """Number of the teacher of a step; depends on seed, step and data rank alone."""
        if self.layout.data_ranks == 1:
            return int(generator(self.seed, "teacher", step).integers(len(self.teachers)))
        return in_rotation(step, len(self.teachers), self.layout)

    def _teacher(self, number: int) -> AlphaGenome:
        if self.resident is None:
            return self.teachers[number]
        if self.inside != number:
            self.resident.load_state_dict(self.teachers[number].state_dict())
            self.inside = number
        return self.resident

    def __call__(self, batch: Batch, step: int) -> Batch:
        """The batch on mutated sequences with the teacher's predictions as targets."""
        codes = perturbed(batch.sequence, self.settings, self.seed, step, batch.first_row)
        own = part(replace(batch, sequence=codes), self.layout)
        teacher = self._teacher(self.chosen(step))
        targets = teacher_targets(teacher, own.sequence, own.organism, self.settings.precision)
        return replace(own, targets=targets)


def in_rotation(step: int, count: int, layout: Layout) -> int:
    """Number of a data rank's teacher of `count` in a step: all are used equally often."""
    return (layout.data_rank + step * layout.data_ranks) % count


def used_teachers(count: int, layout: Layout) -> list[int]:
    """Numbers of the teachers that this rank ever asks: all on one data rank, one where each has its own."""
    if layout.data_ranks == 1:
        return list(range(count))
    return sorted({in_rotation(step, count, layout) for step in range(count)})


def scheme_of(teachers: Sequence[str | Path]) -> str:
    """Fold scheme of the teachers; FileError unless there are some, all of one scheme."""
    if not teachers:
        raise FileError("no teacher given; wanted the folders of one or more trained teachers")
    schemes = {folder: load_card(folder)[1]["scheme"] for folder in teachers}
    first = schemes[teachers[0]]
    if other := next((folder for folder, scheme in schemes.items() if scheme != first), None):
        raise FileError(
            f"{other}: was trained by scheme {schemes[other]}, {teachers[0]} by {first}; what is held out "
            "from a student is what is held out from all its teachers, so give teachers of one scheme"
        )
    return first


def load_teachers(
    folders: Sequence[str | Path], channels: Channels, device: str, layout: Layout = SINGLE
) -> tuple[list[AlphaGenome | None], Sizes, dict[str, Any]]:
    """The teachers, None for those that this rank never asks; the sizes of all and the `info` of the first.

    FileError unless all have these organisms, tracks and sizes.
    """
    wanted, used = track_tables(channels), used_teachers(len(folders), layout)
    cards = [load_card(folder) for folder in folders]
    first = cards[0][0]
    for folder, (sizes, info) in zip(folders, cards, strict=True):
        if info["tracks"] != wanted or info["organisms"] != list(channels.organisms):
            raise FileError(f"{folder}: its tracks are not those of the shards; train the teacher again")
        if sizes != first:
            raise FileError(f"{folder}: its sizes differ from those of {folders[0]}; teachers must be alike")
    loaded = [load_model(f, device)[0] if n in used else None for n, f in enumerate(folders)]
    for teacher in filter(None, loaded):
        teacher.keep_constants()
    return loaded, first, cards[0][1]


def distill_student(
    teachers: Sequence[str | Path],
    shards: Sequence[str | Path],
    genomes: Sequence[str | Path],
    genes: Sequence[str | Path | None] | None,
    intervals: str | Path,
    output_dir: str | Path,
    seed: int,
    settings: DistillSettings,
    fold_settings: FoldSettings,
    organisms: Sequence[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> Path:
    """Distill one student and write `model.safetensors`, `model.json` and `training.tsv` into `output_dir`.

    teachers: model folders of one scheme; windows are that scheme's training windows, so what is held out
    from the teachers stays unseen by the student. Checkpoints and errors as in `train_teacher`.
    """
    check_schedule(settings)
    output, scheme = Path(output_dir), scheme_of(teachers)
    setup = set_up(
        shards, genomes, genes, intervals,
        organisms=organisms, scheme=scheme, folds=fold_settings, max_shift=settings.max_shift,
        window=settings.window,
    )  # fmt: skip
    window = settings.window or fold_settings.window
    with joined(device, settings.sequence_ranks) as (layout, own):
        return _distill(teachers, setup, output, seed, settings, scheme, window, own, threads, layout)


def _distill(
    teachers: Sequence[str | Path],
    setup: Setup,
    output: Path,
    seed: int,
    settings: DistillSettings,
    scheme: str,
    window: int,
    device: str,
    threads: int | None,
    layout: Layout,
) -> Path:
    several = device.startswith("cuda") and len(used_teachers(len(teachers), layout)) > 1
    home = "cpu" if several else device  # an ensemble waits in the memory of the host
    loaded, sizes, info = load_teachers(teachers, setup.channels, home, layout)
    setup.inputs.update({f"teacher/{Path(t).name}": hash_path(Path(t) / "model.json") for t in teachers})
    description = describe(
        output.name, setup.channels, scheme=scheme, seed=seed, window=window,
        settings={"distill": settings_of(settings), "model": info["settings"].get("model", {})},
    )  # fmt: skip
    own = replace(sizes, dropout=settings.dropout, spread=settings.spread == "variance")
    student = make_model(setup.channels, own, seed).to(device)
    if settings.start == "teacher":
        own_names, learned = student.state_dict(), load_model(teachers[0])[0].state_dict()
        student.load_state_dict(own_names | {k: v for k, v in learned.items() if k in own_names})
    resident = make_model(setup.channels, sizes, seed).to(device) if several else None
    for network in filter(None, (*loaded, resident)):
        network.compile_attention(settings.compile)
    targets_of = Ensemble(loaded, settings, seed, layout, resident)
    return run(
        setup, student, targets_of, settings, output, description,
        measured=False, threads=threads, layout=layout,
    )  # fmt: skip
