"""The scaling table follows from the rates, and the page shows what the published settings give."""

from __future__ import annotations

from pathlib import Path

import pytest

from megabase.files import FileError
from megabase.scaling import GPUS, PROJECTS, Project, estimate, estimate_scoring, scoring_rate, table
from megabase.settings.run import CostSettings
from megabase.settings.scoring import ChunkSettings

PUBLISHED = ChunkSettings(load_seconds=60, variants_per_second=25)


def test_a_measured_rate_goes_before_arithmetic() -> None:
    plain = CostSettings(peak_tflops=1000, share=0.26)
    assert scoring_rate(plain, "binned") == pytest.approx(260 / 13)
    measured = CostSettings(variants_per_second={"binned": 31.0})
    assert scoring_rate(measured, "binned") == 31 and scoring_rate(measured, "tiled") == pytest.approx(
        42.4, 0.01
    )
    text = table(measured, PUBLISHED)
    assert "binned: 31 variants/s, measured" in text and "tiled: not measured; 7 TFLOP" in text


def test_hours_are_work_over_rate_and_loading() -> None:
    cost = CostSettings(variants_per_second={"tiled": 10.0}, bytes_per_variant=1000)
    found = estimate(Project("p", 36_000_000, "tiled"), cost, PUBLISHED)
    assert found.gpu_hours == pytest.approx(1000 / 0.95) and found.storage == 36e9
    assert list(found.wall_hours) == list(GPUS)
    assert found.wall_hours[1] == pytest.approx(1000 + 1 / 60)
    assert found.wall_hours[64] == pytest.approx(1000 / 64 + 1 / 60)


def test_gpus_without_a_chunk_do_not_help() -> None:
    cost = CostSettings(variants_per_second={"binned": 25.0})
    few = estimate(Project("p", 10 * 28_500, "binned"), cost, PUBLISHED)  # ten chunks worth the loading
    assert few.wall_hours[64] == few.wall_hours[1000]
    assert few.wall_hours[1] > 9 * few.wall_hours[64]


def test_the_page_shows_this_table(root: Path) -> None:
    page = (root / "docs/scaling.md").read_text(encoding="utf-8")
    for line in estimate_scoring(root / "config/alphagenome.yaml").splitlines():
        assert line in page, f"docs/scaling.md lacks: {line}"
    assert all(f"{project.variants:,}" in page for project in PROJECTS)


def test_a_config_that_cannot_be_used_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("release: x\ncost: {variants_per_second: {sideways: 3}}\n")
    with pytest.raises(FileError, match="sideways"):
        estimate_scoring(tmp_path / "c.yaml")
