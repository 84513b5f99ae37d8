"""What a run will cost: every stage once, hours from the settings, and no torch for a small answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from megabase.config import Config, load_config
from megabase.cost import Stage, channels, estimate_cost, held_out_windows, stages, table, variants_of
from megabase.files import FileError
from megabase.model.flops import forward_flop, training_flop
from megabase.model.sizes import PUBLISHED_CHANNELS, Sizes
from megabase.sources.groups import Sheet
from megabase.spec import MANIFEST_COLUMNS

MEGABASE = 1 << 20


@pytest.fixture
def values(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "config/alphagenome.yaml").read_text())


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    return load_config(values, "c.yaml")


def by_name(config: Config) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages(config, PUBLISHED_CHANNELS)}


def test_training_is_counted_window_by_window(config: Config) -> None:
    sizes, found = Sizes.preset("alphagenome"), by_name(config)
    step, once = training_flop(sizes, MEGABASE, recompute_bases=128), forward_flop(sizes, MEGABASE)
    assert found["teachers: 64 of all"].flop == 64 * 15_000 * 64 * step  # no validation folds
    assert found["teachers: 1 of fold2"].flop == 15_000 * 64 * step + 30 * 64 * once
    student = found["students: 1, and their teachers' predictions"]
    assert student.flop == 250_000 * 64 * (step + once)


def test_hours_agree_with_what_is_published(values: dict[str, Any]) -> None:
    for part in (values["teachers"]["train"], values["student"]["distill"]):
        part["recompute_bases"] = 0  # whether the published training computed again is not known
    found = by_name(load_config(values, "c.yaml"))
    hours = {name: s.flop / (989e12 * 0.3) / 3600 for name, s in found.items()}
    assert hours["students: 1, and their teachers' predictions"] == pytest.approx(4_608, rel=0.05)
    # a teacher: 2,048 core hours of TPUv3, a core of 61.5 TFLOP/s
    assert 0.3 < hours["teachers: 1 of fold0"] * 989 * 0.3 / (2048 * 61.5) < 0.6


def test_the_page_tells_these_figures(config: Config, root: Path) -> None:
    widths = dict(zip(PUBLISHED_CHANNELS, (667, 546, 12, 305, 167, 1116, 1617, 28, 5, 734, 734), strict=True))
    found = stages(config, widths)
    page = (root / "docs/scaling.md").read_text(encoding="utf-8")
    groups = [found[:4], found[4:5], found[5:6], found[6:7], found[7:8], found[8:11], found]
    for group in groups:
        flop = sum(stage.flop for stage in group)
        hours = flop / (989e12 * 0.3) / 3600
        assert f"| {flop / 1e15:,.0f} | {hours:,.0f} |" in page, (group, flop, hours)


def test_evaluation_and_scores(config: Config) -> None:
    once, found = forward_flop(Sizes.preset("alphagenome"), MEGABASE), by_name(config)
    windows = 4 * (6938 + 6172)  # an eighth of the windows of both organisms, for every fold teacher
    assert found["evaluation: 4 models"].flop == windows * once
    assert found["calibration: background, 348,126 variants"].flop == 2 * 348_126 * once
    assert not any(name.startswith("scores: eqtl_effect") for name in found)  # those of eqtl_sign
    assert all(stage.known for stage in found.values())


def test_what_is_not_known_is_told_per_thousand(values: dict[str, Any]) -> None:
    del values["cost"]
    config = load_config(values, "c.yaml")
    found, once = by_name(config), forward_flop(Sizes.preset("alphagenome"), MEGABASE)
    stage = found["calibration: background"]
    assert (stage.known, stage.flop) == (False, 2 * 1000 * once)
    assert stage.title() == "calibration: background, per 1,000 variants"
    assert found["evaluation: 4 models, 2 organisms"].flop == 8 * 1000 * once
    text = table(config, found.values())
    assert "What is told per 1,000 is not in the sum." in text
    known = sum(s.flop for s in found.values() if s.known)
    assert f"{known / 1e15:,.0f}" in text.splitlines()[-3]


def test_numbers_of_windows_and_variants(values: dict[str, Any]) -> None:
    values["evaluation"]["max_windows"] = 500
    values["variants"]["background"]["max_variants"] = 1000
    config = load_config(values, "c.yaml")
    assert held_out_windows(config, "teacher-fold0-seed0", "mouse") == 500
    assert variants_of(config, "background") == 1000
    values["folds"]["reserved"], values["evaluation"] = ["fold7"], {"splits": ["test", "valid"]}
    config = load_config(values, "c.yaml")
    assert held_out_windows(config, "teacher-fold0-seed0", "human") == 20_812  # folds 0, 1 and 7 of eight
    assert held_out_windows(config, "teacher-fold3-seed0", "human") == 13_875  # folds 6 and 7


def test_both_strands_score_at_twice_the_cost(values: dict[str, Any]) -> None:
    name = "scores: eqtl_sign, 6,208 variants"
    once = by_name(load_config(values, "c.yaml"))[name].flop
    values["scoring"]["reverse_complement"] = True
    assert by_name(load_config(values, "c.yaml"))[name].flop == 2 * once


def test_the_uncertainty_of_scores_costs_a_pass_of_every_teacher(values: dict[str, Any]) -> None:
    values["scoring"]["uncertainty"] = "ensemble-all"
    config = load_config(values, "c.yaml")
    found, name = by_name(config), "scores: eqtl_sign, 6,208 variants"
    assert found[f"uncertainty of {name}"].flop == len(config.ensemble) * found[name].flop


def test_another_gpu(values: dict[str, Any]) -> None:
    values["cost"] |= {"gpu": "B200", "peak_tflops": 2250, "share": 0.5}
    config = load_config(values, "c.yaml")
    text = table(config, [Stage("all", 2250e12 * 0.5 * 3600 * 7)])
    assert "B200 hours" in text and "50% of the 2250 TFLOP/s of one B200" in text
    assert text.splitlines()[1].split() == ["all", "28,350", "7.0"]


def test_a_run_of_minutes_is_one_line(config: Config) -> None:
    assert table(config, [Stage("a", 2e13), Stage("b", 3e12, False, "variants")]) == (
        "Cost: 20 TFLOP in the network, from its sizes; no GPU is needed for that."
    )


@pytest.mark.parametrize(
    ("cost", "words"),
    [({"windows": {"yeast": 3}}, "cost.windows: yeast is not one of"),
     ({"variants": {"eqtl": 3}}, "cost.variants: eqtl is not one of"), ({"share": 0}, "cost.share"),
     ({"peak_tflops": -1}, "cost.peak_tflops"), ({"shar": 0.5}, "nearest valid key: share")],
)  # fmt: skip
def test_settings_that_do_not_fit(cost: dict[str, Any], words: str, values: dict[str, Any]) -> None:
    with pytest.raises(FileError, match=words):
        load_config(values | {"cost": cost}, "c.yaml")


def test_sizes_that_no_network_has(values: dict[str, Any]) -> None:
    for overrides, words in (
        ({"blocks": 3}, "sizes .'blocks'. are unknown"),
        ({"tower_blocks": 0}, "at least 1"),
    ):
        values["model"]["overrides"] = overrides
        with pytest.raises(FileError, match=rf"model\.overrides: .*{words}"):
            stages(load_config(values, "c.yaml"), PUBLISHED_CHANNELS)


def row(accession: str, output: str, strand: str | None, term: str, organism: str = "x") -> dict[str, Any]:
    return dict.fromkeys(MANIFEST_COLUMNS) | {
        "portal": "p", "accession": accession, "output_type": output, "organism": organism, "strand": strand,
        "ontology_curie": term, "url": f"file:{accession}.bw",
    }  # fmt: skip


def test_channels_of_a_manifest() -> None:
    rows = [
        row("a1", "rna_seq", "+", "T:1"), row("a2", "rna_seq", "-", "T:1"), row("a3", "rna_seq", "+", "T:1"),
        row("a4", "rna_seq", ".", "T:2"), row("b1", "cage", None, "T:1"), row("b2", "cage", None, "T:1"),
        row("c1", "contact_maps", ".", "T:1"), row("c2", "contact_maps", ".", "T:1"),
        row("d1", "splice_junctions", None, "T:1"), row("d2", "splice_junctions", None, "T:2"),
        row("e1", "atac", ".", "T:1", "y"), row("e2", "atac", ".", "T:2", "y"),
        row("e3", "cage", None, "T:9", "y"),
    ]  # fmt: skip
    found = channels(Sheet(rows, "m.tsv"), ["x", "y"])
    assert found == {
        "rna_seq": 3, "cage": 2, "atac": 2, "contact_maps": 2, "splice_sites": 5, "splice_junctions": 4,
    }  # fmt: skip
    assert stages(load_config(minimal(), "c.yaml"), {}) == []


def minimal() -> dict[str, Any]:
    return {
        "release": "nothing", "organisms": ["x"], "genomes": {"x": {"organism": "x", "fasta": "f"}},
        "folds": {"schemes": {"all": {"valid": [], "test": []}}}, "teachers": {"folds": []},
    }  # fmt: skip


def test_a_config_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert "TFLOP in the network" in estimate_cost("config/config.yaml")
    monkeypatch.chdir(tmp_path)  # where no manifest is: the published channels
    text = estimate_cost(root / "config/alphagenome.yaml")
    assert "teachers: 64 of all" in text and "H100 hours" in text and "nothing was measured" in text
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(minimal()))
    with pytest.raises(FileError, match=r"nothing\.tsv: manifest not found"):
        estimate_cost("c.yaml")


def test_no_torch_is_needed() -> None:
    code = "import sys; import megabase.cost; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
