# megabase: portals -> tracks -> shards -> teachers -> student -> scores -> benchmarks -> report.
#
# Path grammar of the results, which is the interface (docs/architecture.md):
#   results/raw/{portal}/{accession}.{ext}                     a file of the release, verified
#   results/genome/{genome}/                                   sequence store and gene tables
#   results/tracks/{organism}/{output_type}/{group}/           normalized signal
#   results/folds/, results/shards/{organism}/                 windows by fold, training store
#   results/models/{model}/                                    teacher-{scheme}-seed{s}, student-seed{s}, ensemble-{scheme}, baseline-*
#   results/evaluation/{model}/{organism}.tsv                  track evaluation on held-out windows
#   results/uncertainty/{model}/{organism}.tsv                 spread of a model, calibrated on held-out windows
#   results/scores/{variants}/{model}/                         scores of a variant set
#   results/saturation/{variants}/{model}/                     every SNV of a set as bigWig and Zarr
#   results/intervals/{intervals}/{model}/                     scores of genes in intervals
#   results/enhancers/{enhancers}/{model}.parquet              scores of element-gene pairs
#   results/benchmarks/{benchmark}/{model}.tsv                 a benchmark's result
#   results/ablations/{ablation}.tsv                           what one thing less is worth
#   results/report/index.html                                  the page that a person reads
from snakemake.utils import min_version

min_version("9.20")


# A file given with --configfile is the whole configuration: nothing of the demo's is merged into it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


scattergather:
    variants=2,


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/genome.smk"
include: "workflow/rules/tracks.smk"
include: "workflow/rules/shards.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/saturate.smk"
include: "workflow/rules/regions.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/ablate.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        report="<results>/report/index.html",
        figures="<results>/report/figures",
        evaluations=plan.evaluations(),
        uncertainties=plan.uncertainties(),
        scores=plan.scores(),
        saturations=plan.saturations(),
        benchmarks=plan.benchmarks(),
        ablations=ablation_jobs.tables(),
