"""The page that a person reads: figures of training, tracks, one locus and benchmarks, and their tables."""

from megabase.report.page import plot_report

__all__ = ["plot_report"]
