"""The examples of docs/predict.md run on the results of the demo."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.demo


def test_the_examples_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (root / "results" / "models" / "student-seed0" / "model.json").exists():
        pytest.skip("NO DEMO RESULTS: run `make demo` first")
    page = (root / "docs" / "predict.md").read_text(encoding="utf-8")
    first, spread = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "results").symlink_to(root / "results")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(first, "docs/predict.md", "exec"), names)
    window = names["model"].window
    assert names["found"]["rna_seq"].values.shape == (window, names["found"]["rna_seq"].tracks.height)
    assert names["change"].shape[0] == window and np.abs(names["change"]).max() > 0
    assert (tmp_path / "rna.h5ad").is_file()
    exec(compile(spread, "docs/predict.md", "exec"), names)
    found = names["found"].spread
    assert found.calibrated and found.values.shape[0] == window // 128
    assert (found.half_width(0.9) > found.half_width(0.5)).all()
