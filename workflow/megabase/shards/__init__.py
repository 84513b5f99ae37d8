"""The training store of one organism: every window at any offset from few compressed chunks."""

from __future__ import annotations

from megabase.shards.packed import PackedSignal
from megabase.shards.reader import ShardStore
from megabase.shards.runs import Runs, densify
from megabase.shards.sites import Splicing
from megabase.shards.writer import write_shards

__all__ = ["PackedSignal", "Runs", "ShardStore", "Splicing", "densify", "write_shards"]
