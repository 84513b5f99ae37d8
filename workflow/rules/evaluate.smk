# Track evaluation of every model on windows that it has not seen.


rule evaluate_tracks:
    input:
        model=plan.model_card,
        weights=plan.model_weights,
        store="<results>/shards/{organism}",
        genome="<results>/genome/{organism}/sequence.json",
        genes=plan.organism_genes,
        intervals="<results>/folds/intervals.parquet",
    output:
        table="<results>/evaluation/{model}/{organism}.tsv",
    log:
        "<logs>/evaluate_tracks/{model}/{organism}.log",
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        runtime="12h",
    params:
        folds=section_json(settings.folds),
        settings=plan.evaluation_settings,
        seed=settings.seed,
    shell:
        "megabase evaluate-tracks {input.model:q} --store {input.store:q} --genome {input.genome:q} "
        "--genes={input.genes:q} --intervals {input.intervals:q} --folds {params.folds:q} "
        "--organism {wildcards.organism} --settings {params.settings:q} --seed {params.seed} -o {output.table:q} &> {log:q}"
