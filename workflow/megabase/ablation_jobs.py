"""What the jobs of ablations read: input and params functions of the rules in `workflow/rules/ablate.smk`.

As the methods of `plan.Plan`, they take Snakemake's wildcards and give paths that begin with `<results>`.
"""

from __future__ import annotations

from typing import Any

from megabase.ablations import Ablations
from megabase.settings.section import section_json


class AblationJobs:
    """Look-ups of the jobs of one run's ablations."""

    def __init__(self, ablations: Ablations) -> None:
        self.ablations = ablations

    def training(self, wildcards: Any) -> str:
        """Optimisation of a model that an ablation trains."""
        return section_json(self.ablations.train_settings(wildcards.ablation, wildcards.value))

    def network(self, wildcards: Any) -> str:
        """Sizes of a model that an ablation trains."""
        return section_json(self.ablations.model_settings(wildcards.ablation, wildcards.value))

    def distillation(self, wildcards: Any) -> str:
        """Optimisation of a student of the first teachers."""
        return section_json(self.ablations.distill_settings(wildcards.ablation))

    def teacher_cards(self, wildcards: Any) -> list[str]:
        """Cards of the teachers of a student."""
        names = self.ablations.students_teachers(wildcards.ablation, int(wildcards.number))
        return [f"<results>/models/{name}/model.json" for name in names]

    def teacher_weights(self, wildcards: Any) -> list[str]:
        """Weights of the teachers of a student."""
        names = self.ablations.students_teachers(wildcards.ablation, int(wildcards.number))
        return [f"<results>/models/{name}/model.safetensors" for name in names]

    def _members(self, wildcards: Any, file: str) -> list[str]:
        count, seed = int(wildcards.number), int(wildcards.seed)
        names = self.ablations.members(wildcards.ablation, count, seed)
        return [f"<results>/models/{name}/{file}" for name in names]

    def member_cards(self, wildcards: Any) -> list[str]:
        """Cards of the members of an ensemble."""
        return self._members(wildcards, "model.json")

    def member_weights(self, wildcards: Any) -> list[str]:
        """Weights of the members of an ensemble."""
        return self._members(wildcards, "model.safetensors")

    def evaluations(self, wildcards: Any) -> list[str]:
        """Track evaluations of every model of an ablation."""
        organisms = self.ablations.organisms(wildcards.ablation)
        names = [run.name for run in self.ablations.runs(wildcards.ablation)]
        return [f"<results>/evaluation/{name}/{organism}.tsv" for name in names for organism in organisms]

    def benchmarks(self, wildcards: Any) -> list[str]:
        """Benchmark results of every model of an ablation."""
        benchmarks = self.ablations.config.ablations[wildcards.ablation].benchmarks
        names = [run.name for run in self.ablations.runs(wildcards.ablation)]
        return [f"<results>/benchmarks/{item}/{name}.tsv" for name in names for item in benchmarks]

    def places(self, wildcards: Any, input: Any) -> list[str]:
        """path=level=series=seed of every result: what `megabase tabulate-ablation` takes."""
        known = {run.name: run for run in self.ablations.runs(wildcards.ablation)}
        evaluated = [(path, str(path).split("/")[-2]) for path in input.evaluations]
        scored = [(path, str(path).split("/")[-1].removesuffix(".tsv")) for path in input.benchmarks]
        runs = [(path, known[name]) for path, name in (*evaluated, *scored)]
        return [f"{path}={run.level}={run.series}={run.seed}" for path, run in runs]

    def settings(self, wildcards: Any) -> str:
        """Settings of an ablation."""
        return section_json(self.ablations.config.ablations[wildcards.ablation])

    def tables(self) -> list[str]:
        """Tables of the ablations that the report shows."""
        return [f"<results>/ablations/{name}.tsv" for name in self.ablations.config.report.ablations]
