# The page that a person reads.


rule plot_report:
    input:
        manifest=plan.manifest,
        tracks=collect(
            "<results>/tracks/{organism}/tracks.parquet", organism=settings.organisms
        ),
        qualities=collect(
            "<results>/tracks/{organism}/quality.tsv", organism=settings.organisms
        ),
        folds="<results>/folds/folds.json",
        curves=collect(
            "<results>/models/{model}/training.tsv", model=settings.trained_models
        ),
        models=collect("<results>/models/{model}/model.json", model=settings.models),
        evaluations=plan.evaluations(),
        uncertainties=plan.uncertainties(),
        scores=plan.scores(),
        placements=plan.placements(),
        benchmarks=plan.benchmarks(),
        explanations=plan.explanations(),
        ablations=ablation_jobs.tables(),
    output:
        page=report(
            "<results>/report/index.html",
            caption="../report/page.rst",
            category="Report",
        ),
        figures=report(
            directory("<results>/report/figures"),
            patterns=["{figure}.png"],
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        "<logs>/plot_report.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="1h",
    params:
        results=subpath(input.folds, ancestor=2),
        settings=plan.report_settings(),
    shell:
        "megabase plot-report {params.results:q} --manifest {input.manifest:q} --settings {params.settings:q} "
        "-o {output.page:q} &> {log:q}"
