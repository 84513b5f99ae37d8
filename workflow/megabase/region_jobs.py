"""What the jobs of intervals and enhancers read: input and params functions of `rules/regions.smk`.

As the methods of `plan.Plan`, they take Snakemake's wildcards and give paths that begin with `<results>`.
"""

from __future__ import annotations

from typing import Any

from megabase.ablations import asked
from megabase.plan import Plan
from megabase.settings.scoring import (
    EnhancerScoring,
    EnhancerSetSettings,
    IntervalScoring,
    IntervalSetSettings,
)
from megabase.settings.section import section_json

Chosen = IntervalSetSettings | EnhancerSetSettings


class RegionJobs:
    """Look-ups of the jobs that score intervals and element-gene pairs."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.settings

    def _of(self, wildcards: Any) -> Chosen:
        name = getattr(wildcards, "intervals", None)
        return self.config.enhancers[wildcards.enhancers] if name is None else self.config.intervals[name]

    def genome(self, wildcards: Any) -> str:
        """Sequence store that the places refer to."""
        return self.plan.sequence(self._of(wildcards).genome)

    def genes(self, wildcards: Any) -> list[str]:
        """Gene tables of that genome."""
        return self.plan.genes(self._of(wildcards).genome)

    def regions(self, wildcards: Any) -> list[str]:
        """BED or list of genes of a set of intervals; none: every gene."""
        path = self.config.intervals[wildcards.intervals].regions
        return [path] if path else []

    def pairs(self, wildcards: Any) -> str:
        """Table of element-gene pairs."""
        return self.config.enhancers[wildcards.enhancers].pairs

    def scoring(self, wildcards: Any) -> str:
        """Scoring settings, in the window that the places or the model are asked with."""
        window = asked(wildcards.model)[1] or self._of(wildcards).window
        settings = self.config.scoring
        return section_json(settings.model_copy(update={"window": window}) if window else settings)

    def interval_settings(self, wildcards: Any) -> str:
        """What is told of each interval."""
        return section_json(IntervalScoring(scorers=self.config.intervals[wildcards.intervals].scorers))

    def enhancer_settings(self, wildcards: Any) -> str:
        """How gradients become scores."""
        chosen = self.config.enhancers[wildcards.enhancers]
        return section_json(EnhancerScoring(gradient=chosen.gradient, sigma=chosen.sigma, width=chosen.width))
