# Every model on windows that it has not seen: how well it predicts, and how far it can be trusted.


rule evaluate_tracks:
    input:
        model=plan.model_card,
        weights=plan.model_weights,
        store="<results>/shards/{organism}/store.json",
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


rule calibrate_spread:
    input:
        model="<results>/models/{model}/model.json",
        weights="<results>/models/{model}/model.safetensors",
        store="<results>/shards/{organism}/store.json",
        genome="<results>/genome/{organism}/sequence.json",
        intervals="<results>/folds/intervals.parquet",
    output:
        table="<results>/uncertainty/{model}/{organism}.tsv",
    log:
        "<logs>/calibrate_spread/{model}/{organism}.log",
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        runtime="12h",
    params:
        folds=section_json(settings.folds),
        settings=section_json(settings.uncertainty),
        seed=settings.seed,
    shell:
        "megabase calibrate-spread {input.model:q} --store {input.store:q} --genome {input.genome:q} "
        "--intervals {input.intervals:q} --folds {params.folds:q} --organism {wildcards.organism} "
        "--settings {params.settings:q} --seed {params.seed} -o {output.table:q} &> {log:q}"
