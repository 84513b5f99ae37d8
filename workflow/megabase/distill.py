"""Distillation: a student learns the predictions of frozen teachers on perturbed sequences.

Every step one teacher is drawn, so that over the steps the student sees the whole ensemble (on several
devices each would hold its own). The teacher reads the same mutated sequence as the student; its
predictions, in the units of the tracks, go through the same objective as measured targets do, with the same
channel masks. Junctions are learned at the sites that the teacher finds likeliest. The loop is that of
`megabase.train`; the student has the teachers' sizes. Source: AlphaGenome preprint, Methods, distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from megabase.augment import mutate
from megabase.batches import Batch
from megabase.channels import Channels
from megabase.files import FileError, hash_path
from megabase.model import AlphaGenome, load_model
from megabase.optimise import check_schedule
from megabase.seeds import generator
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, Kind, OutputType
from megabase.train import ALL_FOLDS, describe, make_model, run, set_up, track_tables

if TYPE_CHECKING:
    from megabase.config import DistillSettings, FoldSettings


def perturbed(codes: Tensor, settings: DistillSettings, seed: int, step: int) -> Tensor:
    """Mutated copy of codes uint8 [B, S]; every row has its own generator, named by seed, step and row."""
    rows = [
        mutate(
            row, generator(seed, "mutation", step, number),
            rate=settings.mutation_rate, structural_rate=settings.structural_rate,
            structural_max=settings.structural_max, structural_types=settings.structural_types,
        )
        for number, row in enumerate(codes.cpu().numpy())
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
    """Frozen teachers as a source of targets: `targets_of` of the training loop."""

    def __init__(self, teachers: Sequence[AlphaGenome], settings: DistillSettings, seed: int) -> None:
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.settings, self.seed = settings, seed

    def chosen(self, step: int) -> int:
        """Number of the teacher of a step; depends on seed and step alone."""
        return int(generator(self.seed, "teacher", step).integers(len(self.teachers)))

    def __call__(self, batch: Batch, step: int) -> Batch:
        """The batch on mutated sequences with the drawn teacher's predictions as targets."""
        codes = perturbed(batch.sequence, self.settings, self.seed, step)
        teacher = self.teachers[self.chosen(step)]
        targets = teacher_targets(teacher, codes, batch.organism, self.settings.precision)
        return replace(batch, sequence=codes, targets=targets)


def load_teachers(
    folders: Sequence[str | Path], channels: Channels, device: str
) -> tuple[list[AlphaGenome], dict[str, Any]]:
    """Teachers and the `info` of the first. FileError unless all have these organisms, tracks and sizes."""
    if not folders:
        raise FileError("no teacher given; wanted the folders of one or more trained teachers")
    wanted, loaded, first = track_tables(channels), [], None
    for folder in folders:
        model, info = load_model(folder, device)
        if info["tracks"] != wanted or info["organisms"] != list(channels.organisms):
            raise FileError(f"{folder}: its tracks are not those of the shards; train the teacher again")
        first = first or (model.sizes, info)
        if model.sizes != first[0]:
            raise FileError(f"{folder}: its sizes differ from those of {folders[0]}; teachers must be alike")
        loaded.append(model)
    return loaded, first[1]


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

    teachers: model folders of one scheme, `all`; windows are that scheme's training windows, so reserved
    folds stay unseen. Checkpoints and errors as in `train_teacher`.
    """
    check_schedule(settings)
    output = Path(output_dir)
    setup = set_up(
        shards, genomes, genes, intervals,
        organisms=organisms, scheme=ALL_FOLDS, folds=fold_settings, max_shift=settings.max_shift,
    )  # fmt: skip
    loaded, info = load_teachers(teachers, setup.channels, device)
    setup.inputs.update({f"teacher/{Path(t).name}": hash_path(Path(t) / "model.json") for t in teachers})
    description = describe(
        output.name, setup.channels, scheme=ALL_FOLDS, seed=seed, window=fold_settings.window,
        settings={"distill": settings.model_dump(mode="json"), "model": info["settings"].get("model", {})},
    )  # fmt: skip
    sizes = replace(loaded[0].sizes, dropout=settings.dropout)
    student = make_model(setup.channels, sizes, seed).to(device)
    if settings.start == "teacher":
        student.load_state_dict(loaded[0].state_dict())
    targets_of = Ensemble(loaded, settings, seed)
    return run(setup, student, targets_of, settings, output, description, measured=False, threads=threads)
