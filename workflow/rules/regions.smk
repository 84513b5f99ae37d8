# Places instead of variants: expression over genes in intervals, and elements linked to genes by gradients.
# Nothing of the report asks for them; a result is made when it is named.


rule score_intervals:
    input:
        regions=region_jobs.regions,
        model=plan.model_card,
        weights=plan.model_weights,
        genome=region_jobs.genome,
        genes=region_jobs.genes,
    output:
        scores=directory("<results>/intervals/{intervals}/{model}"),
    log:
        "<logs>/score_intervals/{intervals}/{model}.log",
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        runtime="12h",
    params:
        settings=region_jobs.interval_settings,
        scoring=region_jobs.scoring,
    shell:
        "megabase score-intervals --regions={input.regions:q} --model {input.model:q} --genome {input.genome:q} "
        "--genes={input.genes:q} --settings {params.settings:q} --scoring {params.scoring:q} "
        "-o {output.scores:q} &> {log:q}"


rule score_enhancers:
    input:
        pairs=region_jobs.pairs,
        model=plan.model_card,
        weights=plan.model_weights,
        genome=region_jobs.genome,
        genes=region_jobs.genes,
    output:
        scores="<results>/enhancers/{enhancers}/{model}.parquet",
    log:
        "<logs>/score_enhancers/{enhancers}/{model}.log",
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="16GB",
        runtime="12h",
    params:
        settings=region_jobs.enhancer_settings,
        scoring=region_jobs.scoring,
    shell:
        "megabase score-enhancers {input.pairs:q} --model {input.model:q} --genome {input.genome:q} "
        "--genes={input.genes:q} --settings {params.settings:q} --scoring {params.scoring:q} "
        "-o {output.scores:q} &> {log:q}"
