"""The report: one self-contained page, and its figures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from megabase import __version__
from megabase.config import Config
from megabase.files import atomic_path, read_tsv
from megabase.logs import LOGGER, git_hash
from megabase.report.ablations import read_ablations
from megabase.report.blocks import PageSection, Picture
from megabase.report.explanation import Explanation
from megabase.report.inputs import (
    Inputs,
    find_inputs,
    read_benchmarks,
    read_evaluations,
    read_training,
    read_uncertainties,
)
from megabase.report.sections_ablation import ablation_section
from megabase.report.sections_quality import quality_section
from megabase.report.sections_results import (
    benchmark_section,
    evaluation_section,
    explanation_section,
    headline_section,
)
from megabase.report.sections_run import methods_section, run_section, scores_section, training_section
from megabase.report.sections_trust import trust_section


def plot_report(results: str | Path, manifest: str | Path | None, config: Config, output: str | Path) -> None:
    """Write the page `output` (index.html) and the folder `figures` of PNGs beside it.

    results: folder of the run; what the config names and the folder lacks is left out with a sentence. The
    page needs no network and no script; equal results give equal bytes. FileError if a file that is there
    cannot be read.
    """
    sections = build_sections(find_inputs(results, manifest, config), config)
    output = Path(output)
    subtitle = (
        f"From the functional-genomics data of release {config.release} to a sequence-to-function model, its "
        "scores of variants, and their benchmarks."
    )
    write_figures(sections, output.parent / "figures")
    with atomic_path(output) as temporary:
        temporary.write_text(render(sections, config.report.title, subtitle), encoding="utf-8")
    figures = sum(isinstance(b, Picture) for s in sections for b in s.blocks)
    LOGGER.info("report: %s, %d figures", output, figures)


def build_sections(inputs: Inputs, config: Config) -> list[PageSection]:
    """The sections of the page in order."""
    evaluation = read_evaluations(inputs.evaluations)
    results = read_benchmarks(inputs.benchmarks)
    explanation = Explanation.read(inputs.explanation) if inputs.explanation else None
    found = [
        headline_section(evaluation, results, config),
        run_section(inputs, config),
        quality_section(inputs.qualities, config.tracks.quality),
        training_section(read_training(inputs.training), inputs.cards),
        evaluation_section(evaluation),
        trust_section(read_uncertainties(inputs.uncertainties), inputs.tracks),
        explanation_section(explanation),
        benchmark_section(results, _rejected(inputs), config),
        ablation_section(read_ablations(inputs.ablations), config),
        scores_section(inputs),
        methods_section(),
    ]
    return [section for section in found if section is not None]


def _rejected(inputs: Inputs) -> dict[str, pl.DataFrame]:
    """Rejected rows of each benchmark that has a list of them."""
    paths = {name: files[0].with_name("rejected.tsv") for name, files in inputs.benchmarks.items()}
    return {name: read_tsv(path, "rejected") for name, path in paths.items() if path.exists()}


def write_figures(sections: Sequence[PageSection], folder: Path) -> None:
    """Write every figure of the sections as a PNG of its name into a folder, which is made anew."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for section in sections:
            for block in section.blocks:
                if isinstance(block, Picture):
                    (temporary / f"{block.name}.png").write_bytes(block.data)


def render(sections: Sequence[PageSection], title: str, subtitle: str) -> str:
    """HTML of a page of sections: self-contained, without a script."""
    environment = Environment(
        loader=PackageLoader("megabase", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        version=f"{__version__} ({git_hash()})",
    )
