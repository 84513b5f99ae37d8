# Variant-effect benchmarks. A model's scores may come from anywhere: results/scores/{variants}/{model}/.


rule prepare_benchmark:
    input:
        tables=plan.benchmark_tables,
        genome=plan.benchmark_genome,
        genes=plan.benchmark_genes,
    output:
        table="<results>/benchmarks/{benchmark}/table.parquet",
        vcf="<results>/benchmarks/{benchmark}/variants.vcf.gz",
        rejected="<results>/benchmarks/{benchmark}/rejected.tsv",
    log:
        "<logs>/prepare_benchmark/{benchmark}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="2h",
    params:
        folder=subpath(output.table, parent=True),
        sources=plan.benchmark_sources,
        settings=plan.benchmark_settings,
        chromosomes=plan.benchmark_chromosomes,
        seed=settings.seed,
    shell:
        "megabase prepare-benchmark {params.sources:q} --name {wildcards.benchmark} --genome {input.genome:q} "
        "--genes={input.genes:q} --settings {params.settings:q} --seed {params.seed} "
        "--chromosomes={params.chromosomes:q} -o {params.folder:q} &> {log:q}"


rule evaluate_benchmark:
    input:
        table="<results>/benchmarks/{benchmark}/table.parquet",
        scores=plan.benchmark_scores,
    output:
        result="<results>/benchmarks/{benchmark}/{model}.tsv",
    log:
        "<logs>/evaluate_benchmark/{benchmark}/{model}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="2h",
    params:
        settings=plan.benchmark_settings,
        seed=settings.seed,
    shell:
        "megabase evaluate-benchmark {input.table:q} {input.scores:q} --name {wildcards.benchmark} "
        "--model {wildcards.model} --settings {params.settings:q} --seed {params.seed} -o {output.result:q} &> {log:q}"


rule evaluate_baselines:
    input:
        table="<results>/benchmarks/{benchmark}/table.parquet",
        genome=plan.benchmark_genome,
    output:
        result="<results>/benchmarks/{benchmark}/baselines.tsv",
    log:
        "<logs>/evaluate_baselines/{benchmark}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="2h",
    params:
        settings=plan.benchmark_settings,
        seed=settings.seed,
    shell:
        "megabase evaluate-baselines {input.table:q} --name {wildcards.benchmark} --genome {input.genome:q} "
        "--settings {params.settings:q} --seed {params.seed} -o {output.result:q} &> {log:q}"


ruleorder: evaluate_baselines > evaluate_benchmark
