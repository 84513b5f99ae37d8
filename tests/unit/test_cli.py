"""The command line: light to start, one line for a bad input, folders by their describing file."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from megabase import folds
from megabase.cli import main
from megabase.options import folder_of, genomes_of, optional, rows_of, tracks_of
from megabase.plan import Plan
from megabase.sources.groups import Sheet
from megabase.sources.manifest import read_manifest


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["megabase", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_help_starts_without_torch_and_polars() -> None:
    code = "import sys, megabase.cli; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "typer" in loaded and not {"torch", "polars", "numpy", "pydantic"} & set(loaded)


@pytest.mark.parametrize(
    "arguments",
    [
        ("fetch-source", "file:/nowhere/at.all", "-o", "{tmp}/out"),
        ("prepare-genome", "/nowhere.fa", "--name", "x", "--settings", '{"organsm": "x"}', "-o", "{tmp}/g"),
        ("train-teacher", "s", "--genomes", "g", "--intervals", "i", "--scheme", "all", "--folds", "{",
         "--organisms", "x", "-o", "{tmp}/m"),
        ("query", "{tmp}/none"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = call(monkeypatch, *(a.replace("{tmp}", str(tmp_path)) for a in arguments))
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert code == 1 and len(errors) == 1
    assert list(tmp_path.iterdir()) == []


def test_document_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "document-config", "-o", str(tmp_path)) == 0
    assert (tmp_path / "config/README.md").read_text().startswith("# Configuration")


def test_folder_by_its_describing_file(tmp_path: Path) -> None:
    (tmp_path / "model.json").touch()
    assert folder_of(tmp_path / "model.json") == folder_of(tmp_path) == tmp_path
    assert optional("") is None and optional("a") == Path("a")


def test_genomes_keep_the_order_of_organisms(tmp_path: Path) -> None:
    (tmp_path / "b" / "genes").mkdir(parents=True)
    names, genomes, genes = genomes_of(tmp_path, "b,a")
    assert names == ["b", "a"] and genomes == [tmp_path / "b", tmp_path / "a"]
    assert genes == [tmp_path / "b" / "genes", None]


def test_rows_follow_the_order_of_files(root: Path) -> None:
    paths = [Path(f"elsewhere/raw/demo/{name}") for name in ("beta_genome.fa.gz", "alpha_genome.fa.gz")]
    rows = rows_of(paths, root / "resources/manifests/demo.tsv")
    assert [row["accession"] for row in rows] == ["beta_genome", "alpha_genome"]
    with pytest.raises(ValueError, match=r"no row makes a file demo/no\.bw"):
        rows_of([Path("raw/demo/no.bw")], root / "resources/manifests/demo.tsv")


def test_paths_of_splits_may_hold_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beds = ["my data/human.bed", "my data/mouse's.bed"]
    given = shlex.split(
        Plan.split_options(None, None, SimpleNamespace(splits=beds))
    )  # what the rule's shell sees
    seen = []
    monkeypatch.setattr(folds, "assign_folds", lambda *_, splits, **__: seen.extend(map(str, splits)))
    settings = '{"schemes": {"all": {"valid": [], "test": []}}}'
    assert call(monkeypatch, "assign-folds", "g", *given, "--settings", settings, "-o", str(tmp_path)) == 0
    assert seen == beds


def test_tracks_of_a_manifest_are_those_that_the_workflow_makes(root: Path) -> None:
    manifest = str(root / "resources/manifests/demo.tsv")
    found = tracks_of([Path("results/tracks/alpha")], manifest)
    sheet = Sheet(read_manifest(manifest).to_dicts(), manifest)
    assert [str(path) for path in found] == sheet.track_folders("alpha", "results/tracks")
    assert len(found) > 10 and found[-1] == Path("results/tracks/alpha/splicing")
    given = [Path("a"), Path("b")]
    assert tracks_of(given, "") == given
    with pytest.raises(ValueError, match="2 folders and a manifest; with --manifest give one"):
        tracks_of(given, manifest)
