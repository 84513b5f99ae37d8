"""What a run will cost, told before it starts: operations and GPU hours, by stage.

Operations follow from the sizes of the network, the settings and the number of channels in the manifest
(`model/flops.py`); hours from what a GPU is taken to do (`cost` of the config). Nothing is measured. Scoring
is counted as two whole passes a variant with all heads, an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from megabase.config import Config, load_config
from megabase.files import FileError
from megabase.model.flops import forward_flop, training_flop
from megabase.model.sizes import PUBLISHED_CHANNELS, Sizes
from megabase.plan import Plan
from megabase.settings.training import TrainSettings
from megabase.sources.groups import Sheet
from megabase.spec import OUTPUTS, Kind, OutputType, SiteClass

UNKNOWN = 1000  # windows or variants that a stage is told for where their number is not known
SMALL = 0.02  # GPU hours under which a run needs no table


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a run and its floating-point operations; `known`: of all of it, else of 1,000 of `unit`."""

    name: str
    flop: float
    known: bool = True
    unit: str = ""

    def title(self) -> str:
        """The name, and what the figures are of where that is not all of it."""
        return self.name if self.known else f"{self.name}, per {UNKNOWN:,} {self.unit}"


def estimate_cost(config: str | Path) -> str:
    """Table of operations and GPU hours of a config file, by stage.

    Channels are those of the release's manifest; for the published network, where no manifest is there yet,
    the published ones. FileError for a config or manifest that cannot be used.
    """
    settings = load_config(yaml.safe_load(Path(config).read_text(encoding="utf-8")), config)
    manifest = Path(f"resources/manifests/{settings.release}.tsv")
    if settings.model.preset == "alphagenome" and not manifest.exists():
        return table(settings, stages(settings, PUBLISHED_CHANNELS))
    plan = Plan(settings.model_dump(), str(config))
    return table(settings, stages(settings, channels(plan.sheet, settings.organisms)))


def told(plan: Plan) -> str:
    """The same of a run that is planned already: what a dry run prints."""
    return table(plan.settings, stages(plan.settings, channels(plan.sheet, plan.settings.organisms)))


def channels(sheet: Sheet, organisms: Iterable[str]) -> dict[OutputType, int]:
    """Channels of every head, those of the organism with most: strands of groups, files of contact maps.

    A file without a strand holds both.
    """
    found = dict.fromkeys(OutputType, 0)
    for organism in organisms:
        for output in OutputType:
            groups = sheet.groups(organism, output)
            found[output] = max(found[output], _channels_of(OUTPUTS[output].kind, groups.values()))
        if sheet.splicing(organism):
            found[OutputType.SPLICE_SITES] = len(SiteClass.NAMES)
    return {output: count for output, count in found.items() if count}


def _channels_of(kind: Kind, groups: Iterable[Iterable[Mapping[str, str | None]]]) -> int:
    if kind is Kind.SITES:
        return 0  # classes, not files
    if kind is Kind.CONTACTS:
        return sum(len(list(rows)) for rows in groups)
    if kind in (Kind.USAGE, Kind.JUNCTIONS):
        return 2 * len(list(groups))
    strands = ({row["strand"] for row in rows} for rows in groups)
    return sum(2 if None in found else len(found) for found in strands)


def stages(settings: Config, widths: Mapping[str, int]) -> list[Stage]:
    """Stages that run the network, in the order of the graph of jobs. widths: channels by output type.

    FileError for sizes that no network can have.
    """
    if not widths:
        return []
    overrides = {"n_organisms": len(settings.organisms)} | settings.model.overrides
    try:
        sizes = Sizes.preset(settings.model.preset, widths, **overrides)
    except ValueError as error:
        raise FileError(f"model.overrides: {error}") from None
    return [
        *_training(settings, sizes),
        *_evaluation(settings, sizes),
        *_scoring(settings, sizes),
        *_explanation(settings, sizes),
    ]


def _training(settings: Config, sizes: Sizes) -> Iterator[Stage]:
    teachers, distill = settings.teachers, settings.student.distill
    for scheme in teachers.folds:
        flop = teachers.fold_seeds * _run_flop(settings, sizes, teachers.train, scheme)
        yield Stage(f"teachers: {teachers.fold_seeds} of {scheme}", flop)
    flop = teachers.all_seeds * _run_flop(settings, sizes, teachers.train, "all")
    yield Stage(f"teachers: {teachers.all_seeds} of all", flop)
    asked = distill.steps * distill.batch_size * forward_flop(sizes, settings.folds.window)
    flop = settings.student.seeds * (_run_flop(settings, sizes, distill, "all") + asked)
    yield Stage(f"students: {settings.student.seeds}, and their teachers' predictions", flop)


def _run_flop(settings: Config, sizes: Sizes, train: TrainSettings, scheme: str) -> float:
    """Operations of the steps and the validation losses of one training."""
    window = settings.folds.window
    step = training_flop(sizes, window, train.max_sites, recompute_bases=train.recompute_bases)
    losses = math.ceil(train.steps / train.validate_steps) if settings.folds.schemes[scheme].valid else 0
    validation = losses * train.validate_windows * forward_flop(sizes, window, sites=train.max_sites)
    return train.steps * train.batch_size * step + validation


def _evaluation(settings: Config, sizes: Sizes) -> Iterator[Stage]:
    models = [m for m in settings.evaluated_models if m in settings.trained_models]
    once = forward_flop(sizes, settings.folds.window)
    known = [held_out_windows(settings, m, o) for m in models for o in settings.organisms]
    if known and None not in known:
        yield Stage(f"evaluation: {len(models)} models", once * sum(filter(None, known)))
    elif known:
        name = f"evaluation: {len(models)} models, {len(settings.organisms)} organisms"
        yield Stage(name, once * UNKNOWN * len(known), False, "windows each")


def held_out_windows(settings: Config, model: str, organism: str) -> int | None:
    """Windows that a model is evaluated on, at most; None where nothing tells how many there are.

    Of an organism's windows (`cost.windows`) the share of the folds that are evaluated.
    """
    folds, evaluation = settings.folds, settings.evaluation
    scheme = folds.schemes[settings.scheme_of(model)]
    held = {name for split in evaluation.splits for name in getattr(scheme, split)}
    held |= set(folds.reserved) if "test" in evaluation.splits else set()
    limit = evaluation.max_windows if "max_windows" in evaluation.model_fields_set else None
    if organism not in settings.cost.windows:
        return limit
    share = math.ceil(settings.cost.windows[organism] * len(held) / len(folds.names))
    return share if limit is None else min(share, limit)


def _scoring(settings: Config, sizes: Sizes) -> Iterator[Stage]:
    for name in settings.variant_sets:
        scoring, count = settings.scoring_of(name), variants_of(settings, name)
        passes = 2 * (2 if scoring.reverse_complement else 1)
        flop = passes * forward_flop(sizes, scoring.window)
        what = "calibration" if name == settings.scoring.background else "scores"
        models = {what: 1}
        if settings.scoring.uncertainty is not None:  # every teacher scores them too
            scheme = settings.scheme_of(settings.scoring.uncertainty)
            models[f"uncertainty of {what}"] = len(settings.teachers_of(scheme))
        for kind, times in models.items():
            if count is None:
                yield Stage(f"{kind}: {name}", times * flop * UNKNOWN, False, "variants")
            else:
                yield Stage(f"{kind}: {name}, {count:,} variants", times * flop * count)


def variants_of(settings: Config, name: str) -> int | None:
    """Variants of a set, at most; None where nothing tells how many there are."""
    limits = (settings.cost.variants.get(name), settings.variant_set(name).max_variants)
    return min((limit for limit in limits if limit is not None), default=None)


def _explanation(settings: Config, sizes: Sizes) -> Iterator[Stage]:
    """Every substitution of REF and of ALT in the width of the logo."""
    if name := settings.report.explain:
        passes = 2 * (1 + 3 * settings.report.ism_width)
        yield Stage(f"explanation: {name}", passes * forward_flop(sizes, settings.scoring_of(name).window))


def table(settings: Config, found: Iterable[Stage]) -> str:
    """The stages as text: operations, GPU hours, and what they rest on; two lines for a run of minutes."""
    found, gpu = list(found), settings.cost
    hours = {stage: stage.flop / (gpu.peak_tflops * 1e12 * gpu.share) / 3600 for stage in found}
    total = sum(stage.flop for stage in found if stage.known)
    if sum(hours.values()) < SMALL:
        return f"Cost: {total / 1e12:,.3g} TFLOP in the network, from its sizes; no GPU is needed for that."
    lines = [(stage.title(), f"{stage.flop / 1e15:,.0f}", f"{hours[stage]:,.1f}") for stage in found]
    all_hours = sum(value for stage, value in hours.items() if stage.known)
    lines.append(("together", f"{total / 1e15:,.0f}", f"{all_hours:,.1f}"))
    wide = max(len(name) for name, _, _ in lines)
    head = f"{'Cost (estimated)':<{wide}}  {'PFLOP':>12}  {gpu.gpu + ' hours':>14}"
    rows = [f"{name:<{wide}}  {flop:>12}  {hour:>14}" for name, flop, hour in lines]
    basis = (
        f"Taken: {gpu.share:.0%} of the {gpu.peak_tflops:g} TFLOP/s of one {gpu.gpu} (cost.share, "
        "cost.peak_tflops); nothing was measured."
    )
    left = [stage for stage in found if not stage.known]
    note = ["What is told per 1,000 is not in the sum."] if left else []
    return "\n".join([head, *rows, basis, *note])
