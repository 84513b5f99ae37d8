"""The training store of one organism: every window at any offset from few compressed chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from megabase.shards.packed import PackedSignal
from megabase.shards.reader import ShardStore
from megabase.shards.runs import Runs, densify
from megabase.shards.sites import Splicing

if TYPE_CHECKING:
    from megabase.shards.writer import write_shards

__all__ = ["PackedSignal", "Runs", "ShardStore", "Splicing", "densify", "write_shards"]


def __getattr__(name: str) -> Any:
    """Import the writer when it is asked for: readers need none of what it reads."""
    if name == "write_shards":
        from megabase.shards.writer import write_shards

        return write_shards
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
