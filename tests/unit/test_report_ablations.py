"""Tables, figures and the section of ablations, from made-up evaluations and benchmark results."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from test_config import values

from megabase.ablations import Ablations, Run
from megabase.config import Config, load_config
from megabase.files import FileError, Stamp, read_tsv, write_tsv
from megabase.report import plot_report
from megabase.report.ablations import Place, read_ablations, tabulate_ablation
from megabase.report.blocks import Picture, Table
from megabase.report.figures_ablation import (
    ablation_figure,
    length_label,
    levels_of,
    over_seeds,
    panels_of,
    series_colours,
)
from megabase.report.sections_ablation import ablation_section
from megabase.spec import ABLATION_COLUMNS, BENCHMARK_COLUMNS, EVALUATION_COLUMNS

MEASURES = {
    ("rna_seq", 1, "pearson"): 0.5, ("rna_seq", 128, "pearson"): 0.8, ("rna_seq", 1, "gene_lfc_pearson"): 0.4,
    ("chip_tf", 128, "pearson"): 0.6, ("splice_sites", 1, "auprc"): 0.7, ("cage", 1, "spearman"): 0.1,
}  # fmt: skip
STUDIES = {
    "fine": {"kind": "resolution", "values": [8, 1], "train": {"steps": 9000}, "seeds": 2},
    "long": {"kind": "length", "values": [4096, 16_384], "benchmarks": ["sign"]},
    "many": {"kind": "teachers", "values": [1, 2], "benchmarks": ["sign"]},
    "which": {"kind": "modality", "values": ["all", "tf", "expression", "without_tf"]},
}


def config() -> Config:
    return load_config(values(ablations=STUDIES, report={"ablations": ["fine", "long"]}), "c.yaml")


def _write(folder: Path, run: Run, number: int) -> list[str]:
    """Evaluation and benchmark result of a run; better with its number in the ablation."""
    head = (run.model, "x")
    rows: list[tuple] = []
    for (output, resolution, metric), value in MEASURES.items():
        reached = value + 0.01 * number
        numbers = (resolution, metric, reached, reached - 0.03, reached + 0.02, 9)
        rows += [(*head, split, output, "mean", *numbers) for split in ("valid", "test")]
        rows.append((*head, "test", output, f"{output} 1", *numbers))
    rows.append((*head, "test", "atac", "mean", 1, "pearson", None, None, None, 9))
    evaluation = folder / "evaluation" / run.name / "x.tsv"
    table = pl.DataFrame(rows, schema=list(EVALUATION_COLUMNS), orient="row", infer_schema_length=None)
    write_tsv(table, evaluation, Stamp("evaluation"))
    result = folder / "benchmarks/sign" / f"{run.name}.tsv"
    scored = [("sign", run.model, scorer, metric, group, value + 0.01 * number, None, None, 20, 10)
              for scorer, value in (("rna_seq", 0.6), ("cage", 0.55))
              for metric, group in (("auroc", "all"), ("auroc", "liver"), ("coverage", "all"))]  # fmt: skip
    write_tsv(pl.DataFrame(scored, schema=list(BENCHMARK_COLUMNS), orient="row"), result, Stamp("result"))
    return [f"{path}={run.level}={run.series}={run.seed}" for path in (evaluation, result)]


def make_table(folder: Path, name: str) -> pl.DataFrame:
    """Table of an ablation of STUDIES, written under `folder`/ablations."""
    chosen, results = config(), []
    for number, run in enumerate(Ablations(chosen).runs(name)):
        found = _write(folder, run, number)
        results += found if chosen.ablations[name].benchmarks else found[:1]
    return tabulate_ablation(results, name, chosen.ablations[name], folder / "ablations" / f"{name}.tsv")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of results with every ablation."""
    folder = tmp_path_factory.mktemp("ablations")
    for name in STUDIES:
        make_table(folder, name)
    return folder


@pytest.fixture(scope="module")
def tables(results: Path) -> dict[str, pl.DataFrame]:
    return read_ablations([results / f"ablations/{name}.tsv" for name in STUDIES])


def test_the_table_holds_the_means_of_every_model(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["long"]
    assert table.columns == list(ABLATION_COLUMNS)
    assert table["kind"].unique().to_list() == ["length"] and table["ablation"].unique().to_list() == ["long"]
    tracks = table.filter(pl.col("benchmark").is_null())
    assert tracks.height == 4 * (len(MEASURES) + 1)  # four models, test windows alone, means alone
    asked = tracks.filter(pl.col("series") == "16384", pl.col("level") == "4096")
    assert asked["model"].unique().to_list() == ["teacher-fold0-seed0@4096"]
    assert asked.filter(pl.col("metric") == "auprc")["value"].to_list() == [pytest.approx(0.72)]
    scored = table.filter(pl.col("benchmark") == "sign")
    assert scored.height == 4 * 2 and set(scored["metric"]) == {"auroc"}
    assert set(scored["scorer"]) == {"rna_seq", "cage"} and scored["organism"].null_count() == 8


def test_files_come_back_and_repeat(results: Path, tables: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    again = make_table(tmp_path, "fine")
    assert tables["fine"].equals(again)
    assert read_tsv(tmp_path / "ablations/fine.tsv", "ablation").height == again.height
    for suffix in (".tsv", ".png"):
        first, second = (folder / f"ablations/fine{suffix}" for folder in (results, tmp_path))
        assert first.read_bytes() == second.read_bytes()


def test_means_over_seeds_with_their_range_and_headlines_at_the_finest_resolution(
    tables: dict[str, pl.DataFrame],
) -> None:
    table = tables["fine"]
    panels = {(p.title, p.metric): p.rows for p in panels_of(table, "x")}
    assert list(panels) == [
        ("RNA-seq", "Pearson r at 1 bp"), ("RNA-seq", "Pearson r of gene log fold change"),
        ("ChIP TF", "Pearson r at 128 bp"), ("splice sites", "auPRC"),
    ]  # fmt: skip
    means = {r["level"]: r for r in over_seeds(panels["splice sites", "auPRC"]).iter_rows(named=True)}
    assert means["8"]["value"] == pytest.approx(0.705)
    assert (means["8"]["low"], means["8"]["high"]) == (pytest.approx(0.70), pytest.approx(0.71))
    single = over_seeds(panels_of(tables["which"], "x")[0].rows).row(0, named=True)
    assert (single["low"], single["high"]) == (pytest.approx(0.47), pytest.approx(0.52))
    assert levels_of(table) == ["1", "8"]


def test_names_and_colours() -> None:
    assert [length_label(n) for n in (2048, 16_384, 1 << 20, 1000)] == ["2 kb", "16 kb", "1 Mb", "1,000 bp"]
    colours = series_colours("length", ["16384", "4096", "8192"])
    assert list(colours) == ["4096", "8192", "16384"] and len(set(colours.values())) == 3
    assert series_colours("teachers", ["distilled", "ensemble"])["distilled"] != "#9aa5b1"


@pytest.mark.parametrize("name", STUDIES)
def test_every_kind_is_drawn(name: str, tables: dict[str, pl.DataFrame]) -> None:
    table = tables[name]
    figure = ablation_figure(table, "x", config().ablations[name].groups)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["RNA-seq", "RNA-seq", "ChIP TF"]
    assert ("sign" in titles) == bool(STUDIES[name].get("benchmarks"))
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == {"fine": ["1", "8"], "long": ["4 kb", "16 kb"], "many": ["1", "2"],
                      "which": ["tf", "expression"]}[name]  # fmt: skip
    lines = {tuple(line.get_ydata()) for line in figure.axes[0].lines}
    reached = over_seeds(panels_of(table, "x")[0].rows)["value"].to_list()
    assert all(any(value in line for line in lines) for value in reached)  # every mean is a point or a line


def test_a_table_of_benchmarks_alone_is_drawn(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["many"].filter(pl.col("benchmark").is_not_null())
    assert [axes.get_title(loc="left") for axes in ablation_figure(table, None).axes] == ["sign"]


def test_the_section_shows_what_the_report_names(tables: dict[str, pl.DataFrame]) -> None:
    section = ablation_section({"fine": tables["fine"]}, config())
    pictures = [block for block in section.blocks if isinstance(block, Picture)]
    assert [p.name for p in pictures] == ["ablation_fine_x"] and "range over 2 seeds" in pictures[0].caption
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["8 bp", "1 bp"] and table.rows[1][4] == "0.725"
    assert (1, 4) in table.strong  # the second value is better everywhere
    assert section.blocks[-1].lines == ["No table of the ablation long was found for this run."]
    plain = load_config(values(ablations=STUDIES), "c.yaml")
    assert ablation_section(tables, plain) is None


def test_the_page_has_the_section_where_it_is_asked_for(results: Path, tmp_path: Path) -> None:
    plot_report(results, None, config(), tmp_path / "report/index.html")
    text = (tmp_path / "report/index.html").read_text()
    assert "What matters: ablations" in text
    assert (tmp_path / "report/figures/ablation_fine_x.png").is_file()


def test_a_place_that_is_none(tmp_path: Path) -> None:
    assert Place.parse("a=b/c.tsv=4==0") == Place(Path("a=b/c.tsv"), "4", "", 0)
    for text in ("a.tsv", "a.tsv=1=x", "=1=x=0", "a.tsv=1=x=first"):
        with pytest.raises(ValueError, match="wanted path=level=series=seed"):
            Place.parse(text)
    write_tsv(pl.DataFrame({"a": [1]}), tmp_path / "evaluation/m/x.tsv", Stamp("training"))
    with pytest.raises(FileError, match="is a 'training' file, wanted 'evaluation'"):
        Place.parse(f"{tmp_path}/evaluation/m/x.tsv=1==0").rows()
