"""Variant-effect benchmarks: tables of what was measured, metrics with intervals, and plain baselines."""

from megabase.benchmark.results import evaluate_baselines, evaluate_benchmark
from megabase.benchmark.tasks import prepare_benchmark

__all__ = ["evaluate_baselines", "evaluate_benchmark", "prepare_benchmark"]
