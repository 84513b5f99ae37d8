# Windows by fold, and the training store of each organism.


rule assign_folds:
    input:
        genomes=plan.genomes(),
        genes=plan.training_genes(),
        splits=plan.split_files,
        homology=plan.homology_tables,
    output:
        intervals="<results>/folds/intervals.parquet",
        folds="<results>/folds/folds.json",
    log:
        "<logs>/assign_folds.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem="8GB",
        runtime="2h",
    params:
        folder=subpath(output.folds, parent=True),
        splits=plan.split_options,
        settings=section_json(settings.folds),
        seed=settings.seed,
    shell:
        "megabase assign-folds {input.genomes:q} {params.splits} --settings {params.settings:q} "
        "--seed {params.seed} -o {params.folder:q} &> {log:q}"


rule write_shards:
    input:
        tracks=plan.track_folders,
        table="<results>/tracks/{organism}/tracks.parquet",
        genome="<results>/genome/{organism}/sequence.json",
    output:
        store="<results>/shards/{organism}/store.json",
    log:
        "<logs>/write_shards/{organism}.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem="8GB",
        runtime="12h",
    params:
        folder=subpath(input.table, parent=True),
        manifest=plan.manifest_path,
        settings=section_json(settings.shards),
        store=subpath(output.store, parent=True),
    shell:
        "megabase write-shards {params.folder:q} --manifest {params.manifest:q} --table {input.table:q} --genome {input.genome:q} "
        "--settings {params.settings:q} --workers {threads} -o {params.store:q} &> {log:q}"
