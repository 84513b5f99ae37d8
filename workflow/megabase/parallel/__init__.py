"""Many processes that compute what one would: data parallel and sequence parallel (docs/architecture.md)."""

from __future__ import annotations

from megabase.parallel.gradients import sum_gradients
from megabase.parallel.layout import SINGLE, Layout, Sharded, attach, check_sizes

__all__ = ["SINGLE", "Layout", "Sharded", "attach", "check_sizes", "sum_gradients"]
