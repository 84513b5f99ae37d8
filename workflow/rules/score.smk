# Variants in chunks -> scores with quantiles. The DAG sees chunks, a job sees batches of variants.
# A chunk's output is the file of its folder that is written last: no kill removes half of a file.


rule split_variants:
    input:
        source=plan.variant_source,
        genome=plan.variant_genome,
        regions=plan.variant_regions,
        genes=plan.variant_genes,
    output:
        chunks=scatter.variants("<results>/variants/{{variants}}/{scatteritem}.parquet"),
        rejected="<results>/variants/{variants}/rejected.parquet",
        counts="<results>/variants/{variants}/split.json",
    log:
        "<logs>/split_variants/{variants}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="4h",
    params:
        settings=plan.variant_settings,
        max_allele=settings.scoring.max_allele,
        scoring=plan.set_scoring_settings,
        chunks=section_json(settings.chunks),
        seed=settings.seed,
    shell:
        "megabase split-variants {input.source:q} {output.chunks:q} --genome {input.genome:q} "
        "--genes={input.genes:q} --scoring {params.scoring:q} --chunks {params.chunks:q} "
        "--rejected {output.rejected:q} --settings {params.settings:q} --max-allele {params.max_allele} "
        "--seed {params.seed} &> {log:q}"


rule list_haplotypes:
    input:
        vcf=plan.variant_vcf,
        genome=plan.variant_genome,
    output:
        haplotypes="<results>/variants/{variants}/haplotypes.parquet",
    log:
        "<logs>/list_haplotypes/{variants}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="4h",
    params:
        settings=plan.variant_settings,
        max_allele=settings.scoring.max_allele,
        window=plan.variant_window,
    shell:
        "megabase list-haplotypes {input.vcf:q} --genome {input.genome:q} --settings {params.settings:q} "
        "--max-allele {params.max_allele} --window {params.window} -o {output.haplotypes:q} &> {log:q}"


rule score_variants:
    input:
        variants="<results>/variants/{variants}/{scatteritem}.parquet",
        model=plan.model_card,
        weights=plan.model_weights,
        genome=plan.variant_genome,
        genes=plan.variant_genes,
        polya_sites=plan.polya_sites,
        haplotypes=plan.variant_haplotypes,
    output:
        info="<results>/chunks/{variants}/{model}/{scatteritem}/chunk.json",
    log:
        "<logs>/score_variants/{variants}/{model}/{scatteritem}.log",
    priority: SCORING_PRIORITY
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        runtime="12h",
    params:
        folder=subpath(output.info, parent=True),
        settings=plan.scoring_settings,
    shell:
        "megabase score-variants {input.variants:q} --model {input.model:q} --genome {input.genome:q} "
        "--genes={input.genes:q} --polya-sites={input.polya_sites:q} --haplotypes={input.haplotypes:q} "
        "--settings {params.settings:q} -o {params.folder:q} &> {log:q}"


rule compare_placements:
    input:
        chunks=gather.variants("<results>/variants/{{variants}}/{scatteritem}.parquet"),
        model=plan.model_card,
        weights=plan.model_weights,
        genome=plan.variant_genome,
        genes=plan.variant_genes,
        polya_sites=plan.polya_sites,
        haplotypes=plan.variant_haplotypes,
    output:
        table="<results>/placements/{variants}/{model}.tsv",
    log:
        "<logs>/compare_placements/{variants}/{model}.log",
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        runtime="2h",
    params:
        settings=plan.placement_settings,
    shell:
        "megabase compare-placements {input.chunks:q} --model {input.model:q} --genome {input.genome:q} "
        "--genes={input.genes:q} --polya-sites={input.polya_sites:q} --haplotypes={input.haplotypes:q} "
        "--settings {params.settings:q} -o {output.table:q} &> {log:q}"


rule calibrate_scores:
    input:
        chunks=background_chunks,
        model=plan.model_card,
    output:
        quantiles="<results>/models/{model}/calibration.safetensors",
        info="<results>/models/{model}/calibration.json",
    log:
        "<logs>/calibrate_scores/{model}.log",
    priority: SCORING_PRIORITY
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="16GB",
        runtime="4h",
    params:
        folder=subpath(output.info, parent=True),
        settings=plan.calibration_settings,
    shell:
        "megabase calibrate-scores {input.chunks:q} --settings {params.settings:q} -o {params.folder:q} &> {log:q}"


rule merge_scores:
    input:
        chunks=gather.variants(
            "<results>/chunks/{{variants}}/{{model}}/{scatteritem}/chunk.json"
        ),
        rejected="<results>/variants/{variants}/rejected.parquet",
        split="<results>/variants/{variants}/split.json",
        calibration="<results>/models/{model}/calibration.json",
        model=plan.model_card,
        uncertainty=uncertainty_chunks,
    output:
        scores=directory("<results>/scores/{variants}/{model}"),
    log:
        "<logs>/merge_scores/{variants}/{model}.log",
    priority: SCORING_PRIORITY
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem="16GB",
        runtime="4h",
    params:
        chunks=chunks_folder,
        uncertainty=uncertainty_folder,
    shell:
        "megabase merge-scores {params.chunks:q} --rejected {input.rejected:q} --split {input.split:q} "
        "--calibration {input.calibration:q} --model {input.model:q} --uncertainty={params.uncertainty:q} "
        "-o {output.scores:q} &> {log:q}"


rule explain_variant:
    input:
        scores="<results>/scores/{variants}/{model}",
        model=plan.model_card,
        weights=plan.model_weights,
        genome=plan.variant_genome,
        genes=plan.variant_genes,
        store=plan.variant_store,
    output:
        arrays="<results>/explanations/{variants}/{model}.npz",
        info="<results>/explanations/{variants}/{model}.json",
    log:
        "<logs>/explain_variant/{variants}/{model}.log",
    priority: SCORING_PRIORITY
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        runtime="2h",
    params:
        scoring=plan.scoring_settings,
        settings=section_json(settings.report),
    shell:
        "megabase explain-variant {input.scores:q} --model {input.model:q} --genome {input.genome:q} "
        "--genes={input.genes:q} --store={input.store:q} --scoring {params.scoring:q} "
        "--settings {params.settings:q} -o {output.arrays:q} &> {log:q}"
