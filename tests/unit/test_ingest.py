"""The table of what a release takes follows from its rates, and the page shows it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from megabase import ingest


def test_tracks_are_the_published_ones() -> None:
    """All channels but the four classes of splice sites of each organism, which are labels of bases."""
    assert ingest.totals().tracks == 5_930 - 4 + 1_128 - 4


def test_hours_follow_from_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ingest.Totals(downloaded=3.6e15, stored=1.0, megabases=3.6e9, sources=7.2e9, tracks=1)
    one, many = (ingest.hours(nodes, found) for nodes in ingest.NODES)
    assert one["download"] == pytest.approx(3.6e6 / ingest.DOWNLOAD.value / 3600)
    assert many["download"] == pytest.approx(3.6e6 / ingest.PORTALS.value / 3600)
    assert one["normalize"] == pytest.approx(7.2e9 / ingest.NORMALIZE.value / 64 / 3600)
    assert one["write shards"] == pytest.approx(3.6e9 / ingest.WRITE.value / 64 / 3600)
    assert many["write shards"] == pytest.approx(one["write shards"] / 64)
    monkeypatch.setattr(ingest, "WRITE", dataclasses.replace(ingest.WRITE, value=2 * ingest.WRITE.value))
    assert ingest.hours(1, found)["write shards"] == pytest.approx(one["write shards"] / 2)


def test_the_page_shows_the_table(root: Path) -> None:
    assert ingest.table() in (root / "docs" / "scaling.md").read_text(encoding="utf-8")
