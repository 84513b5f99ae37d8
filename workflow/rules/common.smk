# The configuration and the sheet of files, loaded once; `plan` looks things up in them for the rules.
import sys

from megabase.ablation_jobs import AblationJobs
from megabase.settings.section import section_json
from megabase.cost import told
from megabase.files import FileError
from megabase.plan import (
    SCORING_PRIORITY,
    TRAINING_PRIORITY,
    Plan,
    chunks_folder,
    collect_rarely,
    files_folder,
    genomes_folder,
    stores_folder,
    uncertainty_folder,
)
from megabase.region_jobs import RegionJobs
from megabase.spec import TRACK_OUTPUTS

collect_rarely()
try:
    plan = Plan(config, ", ".join(map(str, workflow.configfiles)) or "config")
    if workflow.is_main_process and workflow.output_settings.dryrun:
        print(told(plan), file=sys.stderr)
except FileError as error:
    sys.exit(f"error: {error}")

settings = plan.settings
ablation_jobs = AblationJobs(plan.ablations)
region_jobs = RegionJobs(plan)


onstart:
    try:
        plan.refuse_planned()
    except FileError as error:
        sys.exit(f"error: {error}")


wildcard_constraints:
    genome="|".join(settings.genomes),
    organism="|".join(settings.organisms),
    portal=r"[^/]+",
    file=r"[^/]+",
    group=r"[A-Za-z0-9_+.-]+",
    model=r"[A-Za-z0-9_+.-]+(?:@\d+)?",
    scheme="|".join(settings.folds.schemes),
    seed=r"\d+",
    kind="mean|kmer",
    ablation="|".join(settings.ablations) or "none",
    value=r"(?!distilled\d|ensemble\d)[A-Za-z0-9_]+",
    number=r"\d+",
    variants="|".join(settings.variant_sets) or "none",
    benchmark="|".join(settings.benchmarks) or "none",
    intervals="|".join(settings.intervals) or "none",
    enhancers="|".join(settings.enhancers) or "none",


def background_chunks(wildcards):
    """Raw scores of the variants that calibrate a model's quantiles."""
    name = settings.scoring.background
    return gather.variants(
        f"<results>/chunks/{name}/{wildcards.model}/{{scatteritem}}/chunk.json"
    )


def uncertainty_chunks(wildcards):
    """Scores of the same variants by the ensemble whose spread tells how uncertain they are."""
    model, name = plan.uncertainty_model(wildcards), wildcards.variants
    if model is None:
        return []
    return gather.variants(
        f"<results>/chunks/{name}/{model}/{{scatteritem}}/chunk.json"
    )
