"""The whole config: its sections together, what they must agree in, and the names that follow from them.

`config/README.md` and `workflow/schemas/config.schema.json` are generated from these classes by
`megabase document-config`, and a test fails when they drift. A rule hands each command the JSON of its own
section only (`--settings`), so a change reruns what depends on it and nothing else. Unknown keys are
refused with the nearest valid name (`load_config`).
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from megabase.files import FileError
from megabase.settings.data import (
    FoldSettings,
    GenomeSettings,
    ShardSettings,
    SourceSettings,
    TrackSettings,
)
from megabase.settings.run import AblationSettings, CostSettings, ReportSettings
from megabase.settings.scoring import (
    BenchmarkSettings,
    ChunkSettings,
    EnhancerSetSettings,
    IntervalSetSettings,
    ScoringSettings,
    VariantSetSettings,
)
from megabase.settings.section import Section, problem_text
from megabase.settings.training import (
    EvaluationSettings,
    ModelSettings,
    StudentSettings,
    TeacherSettings,
    UncertaintySettings,
)


class Config(Section):
    """The whole of config/*.yaml."""

    SILENT = frozenset({"sources", "ablations", "chunks", "intervals", "enhancers"})

    release: str = Field(description="resources/manifests/{release}.tsv lists the files of this run")
    data: str = Field("", description="folder that `{data}` in manifest URLs stands for")
    seed: int = Field(0, description="seed of every named random generator")
    organisms: list[str] = Field(description="organisms trained together, in model index order (at most 2)")
    genomes: dict[str, GenomeSettings] = Field(description="genomes by name; each organism is one of them")
    sources: SourceSettings = Field(SourceSettings(), description="how files of portals are fetched")
    tracks: TrackSettings = Field(default_factory=TrackSettings, description="normalization")
    folds: FoldSettings = Field(description="cross-validation")
    shards: ShardSettings = Field(default_factory=ShardSettings, description="training store")
    model: ModelSettings = Field(default_factory=ModelSettings, description="network")
    teachers: TeacherSettings = Field(default_factory=TeacherSettings, description="teachers")
    student: StudentSettings = Field(default_factory=StudentSettings, description="student")
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings, description="track evaluation")
    uncertainty: UncertaintySettings = Field(
        default_factory=UncertaintySettings, description="spread of models and its calibration"
    )
    scoring: ScoringSettings = Field(default_factory=ScoringSettings, description="variant scoring")
    chunks: ChunkSettings = Field(ChunkSettings(), description="how variants are dealt to jobs")
    variants: dict[str, VariantSetSettings] = Field({}, description="variant sets to score, by name")
    intervals: dict[str, IntervalSetSettings] = Field(
        {}, description="lists of intervals, by name; scored by their own command only"
    )
    enhancers: dict[str, EnhancerSetSettings] = Field(
        {}, description="tables of element-gene pairs, by name; scored by their own command only"
    )
    benchmarks: dict[str, BenchmarkSettings] = Field({}, description="benchmarks to run, by name")
    ablations: dict[str, AblationSettings] = Field({}, description="ablations, by name")
    report: ReportSettings = Field(default_factory=ReportSettings, description="report page")
    cost: CostSettings = Field(default_factory=CostSettings, description="estimate of GPU hours")

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        if not 1 <= len(self.organisms) <= 2:
            raise ValueError(f"organisms: {len(self.organisms)} given, wanted one or two")
        for organism in self.organisms:
            if organism not in self.genomes:
                raise ValueError(f"organisms: {organism} has no entry under genomes")
        for group in (self.variants, self.intervals, self.enhancers, self.benchmarks):
            for name, item in group.items():
                if item.genome not in self.genomes:
                    raise ValueError(f"{name}: genome {item.genome} has no entry under genomes")
        for name, genome in self.genomes.items():
            if genome.organism not in self.organisms:
                raise ValueError(f"genomes.{name}: organism {genome.organism} is not one of {self.organisms}")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Config:
        given = {
            "teachers.train.window": self.teachers.train.window,
            "student.distill.window": self.student.distill.window,
            "evaluation.window": self.evaluation.window,
        }
        for key, window in given.items():
            if window is not None and self.folds.window % window:
                raise ValueError(f"{key}: {window} does not divide folds.window {self.folds.window}")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        wanted = {*self.teachers.folds, "all"}
        if wanted - set(self.folds.schemes):
            missing = ", ".join(sorted(wanted - set(self.folds.schemes)))
            raise ValueError(f"folds.schemes: {missing} missing, teachers are trained by it")
        for scheme in self.uncertainty.ensembles:
            self._check_ensemble(scheme)
        if self.scoring.uncertainty is not None:
            self._check_scored_ensemble(self.scoring.uncertainty)
        if self.variant_sets and self.scoring.background not in self.variants:
            raise ValueError(f"scoring.background: {self.scoring.background} has no entry under variants")
        for name, item in self.variants.items():
            if item.saturate is not None and name in self.benchmarks:
                raise ValueError(f"variants.{name}: a benchmark has this name; saturate a set of another")
            if item.vcf is None and item.saturate is None and name not in self.benchmarks:
                raise ValueError(
                    f"variants.{name}: vcf is not given, nor saturate, and no benchmark has this name"
                )
        for name in self.benchmarks:
            self._check_shared_scores(name)
            self.benchmark_chromosomes(name)
        for key, names in (("windows", self.organisms), ("variants", self.variant_sets)):
            if unknown := sorted(set(getattr(self.cost, key)) - set(names)):
                raise ValueError(f"cost.{key}: {', '.join(unknown)} is not one of {names}")
        if self.report.explain is not None and self.report.explain not in self.variant_sets:
            raise ValueError(f"report.explain: {self.report.explain} is not one of {self.variant_sets}")
        if self.report.explain is not None and self.variant_set(self.report.explain).haplotypes:
            raise ValueError(
                f"report.explain: {self.report.explain} is scored on haplotypes; name another set"
            )
        return self

    def benchmark_chromosomes(self, name: str) -> list[str]:
        """Chromosomes whose variants a benchmark uses, as its `split` names them; empty: all."""
        text = self.benchmarks[name].split
        if text is None:
            return []
        splits, _, split = text.partition("/")
        found = self.folds.variant_splits.get(splits, {}).get(split)
        if found is None:
            known = [f"{n}/{s}" for n, parts in self.folds.variant_splits.items() for s in parts]
            raise ValueError(f"benchmarks.{name}.split: {text} is not one of {', '.join(known)}")
        return found

    def _check_teachers(self, scheme: str, key: str) -> None:
        """A spread needs two teachers."""
        if scheme not in self.folds.schemes:
            known = ", ".join(self.folds.schemes)
            raise ValueError(f"{key}: {scheme} is not in folds.schemes: {known}")
        if len(self.teachers_of(scheme)) < 2:
            seeds = "teachers.all_seeds" if scheme == "all" else "teachers.fold_seeds"
            raise ValueError(f"{key}: {scheme} has one teacher, wanted two: raise {seeds}")

    def _check_scored_ensemble(self, name: str) -> None:
        """The model whose spread scores are given is an ensemble of the teachers of a scheme."""
        kind, _, scheme = name.partition("-")
        if kind != "ensemble":
            raise ValueError(f"scoring.uncertainty: {name} has no members, wanted ensemble-{{scheme}}")
        self._check_teachers(scheme, "scoring.uncertainty")

    def _check_ensemble(self, scheme: str) -> None:
        """The calibration of a spread needs held-out windows, too."""
        self._check_teachers(scheme, "uncertainty.ensembles")
        if not (self.folds.reserved or self.folds.schemes[scheme].test):
            raise ValueError(f"uncertainty.ensembles: scheme {scheme} holds out no test fold to calibrate on")

    def _check_shared_scores(self, name: str) -> None:
        """A benchmark may use the scores of a variant set of its own genome that has its scorers."""
        benchmark, key = self.benchmarks[name], f"benchmarks.{name}.variants"
        other = self.variants_of(name)
        if other not in self.variant_sets:
            near = difflib.get_close_matches(other, self.variant_sets, n=1, cutoff=0.0)
            raise ValueError(
                f"{key}: {other} is no variant set that is scored; nearest: {', '.join(near) or 'none'}"
            )
        genome = self.variant_set(other).genome
        if genome != benchmark.genome:
            raise ValueError(f"{key}: {other} is on genome {genome}, the benchmark on {benchmark.genome}")
        scorers = set(self.scoring_of(other).scorers)
        missing = set(benchmark.scorers) - scorers
        if missing and "recommended" not in scorers:
            raise ValueError(f"{key}: {other} is not scored by {', '.join(sorted(missing))}")

    @property
    def fold_teachers(self) -> list[str]:
        """Names of the cross-validation teachers."""
        return [name for scheme in self.teachers.folds for name in self.teachers_of(scheme)]

    @property
    def ensemble(self) -> list[str]:
        """Names of the teachers that the student learns from."""
        return self.teachers_of("all")

    @property
    def students(self) -> list[str]:
        """Names of the distilled models; the first one scores variants."""
        return [f"student-seed{seed}" for seed in range(self.student.seeds)]

    @property
    def trained_models(self) -> list[str]:
        """Names of every model with a loss curve."""
        return [*self.fold_teachers, *self.ensemble, *self.students]

    @property
    def models(self) -> list[str]:
        """Names of every model, the plain ones included."""
        return [*self.trained_models, *self.evaluation.baselines]

    @property
    def evaluated_models(self) -> list[str]:
        """Names of the models that have held-out windows to be evaluated on."""
        schemes, splits = self.folds.schemes, self.evaluation.splits
        return [m for m in self.models if any(getattr(schemes[self.scheme_of(m)], s) for s in splits)]

    @property
    def uncertain_models(self) -> list[str]:
        """Names of the models whose spread is calibrated: ensembles, and students with a variance output."""
        held_out = self.folds.reserved or self.folds.schemes["all"].test
        students = self.students if held_out and self.student.distill.spread == "variance" else []
        return [*(f"ensemble-{scheme}" for scheme in self.uncertainty.ensembles), *students]

    @property
    def variant_sets(self) -> list[str]:
        """Names of every variant set that is scored: those given, then those that benchmarks make."""
        own = (name for name, benchmark in self.benchmarks.items() if benchmark.variants in (None, name))
        return [*self.variants, *(name for name in own if name not in self.variants)]

    @property
    def saturated_sets(self) -> list[str]:
        """Names of the variant sets that are every SNV of a place."""
        return [name for name, item in self.variants.items() if item.saturate is not None]

    def variants_of(self, benchmark: str) -> str:
        """Variant set whose scores a benchmark reads: its own, or the one that it shares."""
        return self.benchmarks[benchmark].variants or benchmark

    def variant_set(self, name: str) -> VariantSetSettings:
        """Settings of a variant set, of a benchmark's own variants where none are given by that name."""
        if name in self.variants:
            return self.variants[name]
        benchmark = self.benchmarks[name]
        return VariantSetSettings(genome=benchmark.genome, scorers=benchmark.scorers, window=benchmark.window)

    def scoring_of(self, name: str) -> ScoringSettings:
        """Scoring settings of a variant set, with its own scorers and window where it names some."""
        chosen = self.variant_set(name)
        own = {"scorers": chosen.scorers, "window": chosen.window}
        return self.scoring.model_copy(update={key: value for key, value in own.items() if value is not None})

    def member_seed(self, member: int) -> int:
        """Seed of the member of an ensemble, different for every run seed and member."""
        return self.seed * 10_000 + member

    def scheme_of(self, model: str) -> str:
        """Fold scheme of a model: that of a teacher or ensemble is in its name, every other follows `all`."""
        parts = model.split("-")
        named = (parts[0] == "teacher" and len(parts) == 3) or (parts[0] == "ensemble" and len(parts) == 2)
        return parts[1] if named else "all"

    def teachers_of(self, scheme: str) -> list[str]:
        """Names of the teachers of a fold scheme."""
        seeds = self.teachers.all_seeds if scheme == "all" else self.teachers.fold_seeds
        return [f"teacher-{scheme}-seed{seed}" for seed in range(seeds)]


def load_config(values: dict[str, Any], source: str | Path) -> Config:
    """Validate a parsed config; FileError names the file, the key, what was found and the nearest name."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise FileError(f"{source}: " + "; ".join(problem_text(p, Config) for p in error.errors())) from None
