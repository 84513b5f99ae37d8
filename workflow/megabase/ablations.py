"""What matters: which models an ablation compares, and what their jobs read.

A model of its own is named `ablation-{ablation}-{value}-{scheme}-seed{seed}` and is made by the rules of
teachers, students and ensembles, with other settings. A value that changes nothing is the run's own teacher
or student, where the ablation trains and evaluates as the run does. `{model}@{window}` is a model asked with
windows of that length; all of its results lie under this name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from megabase.config import Config
from megabase.model.sizes import RESOLUTIONS
from megabase.settings.run import AblationSettings
from megabase.settings.section import changed
from megabase.settings.training import EvaluationSettings, ModelSettings, TrainSettings
from megabase.spec import OutputType

WITHOUT = "without_"
EVERYTHING = "all"  # the value of a modality ablation that leaves all outputs in


@dataclass(frozen=True)
class Run:
    """One model at one inference window (none: the whole). level, series: its place in the figure."""

    model: str
    level: str
    series: str
    seed: int
    window: int | None = None

    @property
    def name(self) -> str:
        """Name under which its results lie."""
        return self.model if self.window is None else f"{self.model}@{self.window}"


def asked(name: str) -> tuple[str, int | None]:
    """(model, window) of a name with or without `@window`."""
    model, _, window = name.partition("@")
    return model, int(window) if window else None


class Ablations:
    """Look-ups of the ablations of one run."""

    def __init__(self, config: Config) -> None:
        """ValueError, which names the key, if an ablation cannot be run."""
        self.config = config
        for name in config.ablations:
            self._check(name)
        for name in config.report.ablations:
            if name not in config.ablations:
                raise ValueError(f"report.ablations: {name} has no entry under ablations")

    # What is compared

    def runs(self, name: str) -> list[Run]:
        """Every model at every inference window, in the order of the figure."""
        settings = self.config.ablations[name]
        return [run for value in settings.values for run in self._runs_of(name, value)]

    def _runs_of(self, name: str, value: int | str) -> Iterator[Run]:
        settings = self.config.ablations[name]
        for seed in range(settings.seeds):
            if settings.kind == "resolution":
                yield Run(self._trained(name, str(value), seed), str(value), "", seed)
            elif settings.kind == "length":
                model = self._trained(name, str(value), seed)
                for window in settings.inference or settings.values:
                    own = None if window == self.config.folds.window else int(window)
                    yield Run(model, str(window), str(value), seed, own)
            elif settings.kind == "modality":
                group, series = str(value).removeprefix(WITHOUT), "only"
                if value == EVERYTHING or str(value).startswith(WITHOUT):
                    series = EVERYTHING if value == EVERYTHING else "without"
                yield Run(self._trained(name, str(value), seed), group, series, seed)
            else:
                yield from self._runs_of_teachers(name, int(value), seed)

    def _runs_of_teachers(self, name: str, count: int, seed: int) -> Iterator[Run]:
        settings, scheme = self.config.ablations[name], self.scheme(name)
        own = f"ablation-{name}-%s{count}-{scheme}-seed{seed}"
        if "distilled" in settings.methods:
            whole = scheme == "all" and count == self.config.teachers.all_seeds
            known = whole and seed < self.config.student.seeds and self._as_the_run(name)
            model = f"student-seed{seed}" if known else own % "distilled"
            yield Run(model, str(count), "distilled", seed)
        if "ensemble" in settings.methods and (seed == 0 or count < self._ring(name)):
            yield Run(own % "ensemble", str(count), "ensemble", seed)

    def _trained(self, name: str, value: str, seed: int) -> str:
        """Name of the trained model of a value: the run's own teacher where nothing differs."""
        config, scheme = self.config, self.scheme(name)
        teacher = f"teacher-{scheme}-seed{seed}"
        same = self.train_settings(name, value) == config.teachers.train
        same = same and self.model_settings(name, value) == config.model
        if same and self._as_the_run(name) and teacher in (*config.fold_teachers, *config.ensemble):
            return teacher
        return f"ablation-{name}-{value}-{scheme}-seed{seed}"

    def _as_the_run(self, name: str) -> bool:
        settings = self.config.ablations[name]
        return not settings.train and not settings.evaluation

    def scheme(self, name: str) -> str:
        """Fold scheme of an ablation's models."""
        settings = self.config.ablations[name]
        first = self.config.teachers.folds[:1] if settings.kind != "teachers" else []
        return settings.scheme or (first or ["all"])[0]

    def _ring(self, name: str) -> int:
        """Number of the teachers that ensembles are drawn from."""
        settings = self.config.ablations[name]
        if self.scheme(name) == "all":
            return self.config.teachers.all_seeds
        return max(int(value) for value in settings.values)

    def students_teachers(self, name: str, count: int) -> list[str]:
        """The first `count` teachers: those of a student, whatever its seed."""
        return [f"teacher-{self.scheme(name)}-seed{number}" for number in range(count)]

    def members(self, name: str, count: int, seed: int) -> list[str]:
        """Members of an ensemble: `count` teachers from number `seed` on, round the ring of all."""
        ring = self._ring(name)
        return [f"teacher-{self.scheme(name)}-seed{(seed + i) % ring}" for i in range(count)]

    # Settings

    def train_settings(self, name: str, value: str) -> TrainSettings:
        """Optimisation of the trained model of a value.

        Of shorter training windows a step has more, so that every step sees as many bases.
        """
        settings, base = self.config.ablations[name], self.config.teachers.train
        change: dict[str, Any] = {}
        if settings.kind == "length" and int(value) != (base.window or self.config.folds.window):
            change["window"] = int(value)
            change["batch_size"] = base.batch_size * (base.window or self.config.folds.window) // int(value)
        if settings.kind == "modality" and value != EVERYTHING:
            change["trunk_outputs"] = trunk_outputs(settings, value)
        return changed(base, change | settings.train, f"ablations.{name}.train")

    def distill_settings(self, name: str) -> TrainSettings:
        """Optimisation of the students of an ablation."""
        return changed(
            self.config.student.distill, self.config.ablations[name].train, f"ablations.{name}.train"
        )

    def model_settings(self, name: str, value: str) -> ModelSettings:
        """Network of the trained model of a value."""
        model = self.config.model
        if self.config.ablations[name].kind != "resolution" or int(value) == model.overrides.get(
            "resolution", 1
        ):
            return model
        return changed(
            model, {"overrides": model.overrides | {"resolution": int(value)}}, f"ablations.{name}"
        )

    def evaluation_settings(self, model: str) -> EvaluationSettings:
        """How a model, with or without `@window`, is evaluated."""
        base, window = asked(model)
        found = re.fullmatch(r"ablation-([A-Za-z0-9_]+)-.*", base)
        change = self.config.ablations[found[1]].evaluation if found else {}
        key = f"ablations.{found[1]}.evaluation" if found else "evaluation"
        settings = changed(self.config.evaluation, change, key) if change else self.config.evaluation
        return settings if window is None else settings.model_copy(update={"window": window})

    def organisms(self, name: str) -> list[str]:
        """Organisms that an ablation's models are evaluated on; none if no window is held out from them."""
        settings = self.config.ablations[name]
        scheme = self.config.folds.schemes[self.scheme(name)]
        splits = changed(self.config.evaluation, settings.evaluation, f"ablations.{name}.evaluation").splits
        held_out = any(getattr(scheme, split) for split in splits)
        return (settings.organisms or self.config.organisms) if held_out else []

    # What can go wrong

    def _check(self, name: str) -> None:
        """ValueError if an ablation cannot be run as it is written."""
        key, settings, config = f"ablations.{name}", self.config.ablations[name], self.config
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise ValueError(f"{key}: a name is made of letters, digits and _; it is part of names of files")
        if len(set(map(str, settings.values))) < len(settings.values):
            raise ValueError(f"{key}.values: one is named twice: {settings.values}")
        if self.scheme(name) not in config.folds.schemes:
            raise ValueError(f"{key}.scheme: {self.scheme(name)} is not one of {list(config.folds.schemes)}")
        for kind, given, known in (
            ("organisms", settings.organisms, config.organisms),
            ("benchmarks", settings.benchmarks, list(config.benchmarks)),
        ):
            if missing := [item for item in given if item not in known]:
                raise ValueError(f"{key}.{kind}: {missing[0]} is not one of {known}")
        for value in settings.values:
            self._check_value(f"{key}.values", name, value)
        for window in settings.inference:
            if config.folds.window % window:
                raise ValueError(
                    f"{key}.inference: {window} does not divide folds.window {config.folds.window}"
                )
        if settings.kind == "teachers":
            self.distill_settings(name)
        if not self.organisms(name) and not settings.benchmarks:
            raise ValueError(
                f"{key}: scheme {self.scheme(name)} holds no window out and no benchmark is named, so "
                "nothing would be measured; give another scheme, or benchmarks"
            )

    def _check_value(self, key: str, name: str, value: int | str) -> None:
        settings, whole = self.config.ablations[name], self.config.folds.window
        if settings.kind == "modality":
            trunk_outputs(settings, str(value), key)
        elif not isinstance(value, int) or value < 1:
            raise ValueError(f"{key}: {value!r} is not a whole number above 0")
        elif settings.kind == "resolution" and value not in RESOLUTIONS:
            raise ValueError(f"{key}: {value} is not one of {list(RESOLUTIONS)}")
        elif settings.kind == "length" and (value % 2048 or whole % value):
            raise ValueError(f"{key}: {value} is not a multiple of 2048 that divides folds.window {whole}")
        elif settings.kind == "teachers" and value > self._ring(name):
            raise ValueError(f"{key}: {value} teachers, but teachers.all_seeds is {self._ring(name)}")
        if settings.kind != "teachers":
            self.train_settings(name, str(value))


def trunk_outputs(settings: AblationSettings, value: str, key: str = "values") -> list[OutputType]:
    """Output types that shape the trunk at a value of a modality ablation; all of them: none named."""
    if value == EVERYTHING:
        return []
    group = value.removeprefix(WITHOUT)
    if group not in settings.groups:
        wanted = (
            f"`{EVERYTHING}`, a group, or `{WITHOUT}` and a group; groups are {', '.join(settings.groups)}"
        )
        raise ValueError(f"{key}: {value!r} is not known; wanted {wanted}")
    own = settings.groups[group]
    return [o for o in OutputType if o not in own] if value.startswith(WITHOUT) else own
