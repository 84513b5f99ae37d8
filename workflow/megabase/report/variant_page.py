"""One variant's page: what changes, in which genes and tissues, how surely, where, and which bases matter.

Made of a score store and the model that scored it, without the rest of a run; one self-contained HTML file.
"""

from __future__ import annotations

from pathlib import Path

from megabase.files import FileError, atomic_path
from megabase.logs import LOGGER
from megabase.report.explanation import Explanation
from megabase.report.page import render, write_figures
from megabase.report.sections_variant import Subject, build_sections
from megabase.report.variant_effects import Effects
from megabase.scoring import explain as scored
from megabase.scoring.controls import shift_controls
from megabase.settings.scoring import ScoringSettings

ISM_WIDTH = 128


def explain(
    scores: str | Path,
    variant: str,
    model_dir: str | Path,
    genome_folder: str | Path,
    output: str | Path,
    *,
    genes_folder: str | Path | None = None,
    store_folder: str | Path | None = None,
    scoring: ScoringSettings | None = None,
    scorer: str | None = None,
    gene: str | None = None,
    ism_width: int = ISM_WIDTH,
    figures: str | Path | None = None,
    device: str = "cpu",
) -> None:
    """Write the page (HTML) of one variant of a score store.

    variant: `chrom:position:ref:alt`, 1-based. store_folder: training store with observed tracks. scoring:
    by default the window of the scores. scorer, gene: explain this one base by base; default: the largest.
    figures: a folder for the figures as PNGs. FileError for a variant without scores and for a model that is
    not that of the scores.
    """
    from megabase.predictors.base import model_info
    from megabase.variants import Variant

    effects = Effects.read(scores, variant)
    found = model_info(model_dir).get("name")
    if found != effects.model:
        raise FileError(
            f"{model_dir}: is model {found}, the scores are of {effects.model}; name the model that scored"
        )
    choice = effects.choice(scorer, gene)
    LOGGER.info("explain %s by %s", choice.variant_id, choice.scorer.name)
    settings = scoring or ScoringSettings(window=effects.window)
    engine = scored.open_engine(choice, model_dir, genome_folder, genes_folder, settings, device)
    allele = Variant.parse(effects.variant_id)
    arrays, info = scored.explain(engine, choice, allele, scored.open_store(store_folder), ism_width)
    controls = shift_controls(engine, choice, allele)
    subject = Subject(effects, choice, Explanation(info, arrays), controls)
    sections = build_sections(subject)
    if figures:
        write_figures(sections, Path(figures))
    subtitle = f"What {effects.model} predicts about this variant, from {effects.window:,} bases around it."
    with atomic_path(output) as temporary:
        temporary.write_text(render(sections, effects.variant_id, subtitle), encoding="utf-8")
    LOGGER.info("the page is at %s", output)
