# Shards -> teachers -> student, and the plain models beside them. A job is one task; with the resource `processes`
# above 1 (or `nodes`) the command starts torchrun itself.


rule train_teacher:
    input:
        stores=plan.stores(),
        genomes=plan.genomes(),
        genes=plan.training_genes(),
        intervals="<results>/folds/intervals.parquet",
    output:
        weights="<results>/models/teacher-{scheme}-seed{seed}/model.safetensors",
        info="<results>/models/teacher-{scheme}-seed{seed}/model.json",
        curve="<results>/models/teacher-{scheme}-seed{seed}/training.tsv",
    log:
        "<logs>/train_teacher/{scheme}-seed{seed}.log",
    priority: plan.teacher_priority
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        nodes=1,
        processes=1,
        runtime="3d",
    params:
        folder=subpath(output.info, parent=True),
        genomes=genomes_folder,
        folds=section_json(settings.folds),
        organisms=",".join(settings.organisms),
        model=section_json(settings.model),
        settings=section_json(settings.teachers.train),
        seed=plan.member_seed,
    shell:
        "megabase train-teacher {input.stores:q} --scheme {wildcards.scheme} --genomes {params.genomes:q} "
        "--intervals {input.intervals:q} --folds {params.folds:q} --organisms {params.organisms} "
        "--model {params.model:q} --settings {params.settings:q} --seed {params.seed} "
        "--processes {resources.processes} --nodes {resources.nodes} -o {params.folder:q} &> {log:q}"


rule distill_student:
    input:
        teachers=collect(
            "<results>/models/{teacher}/model.json", teacher=settings.ensemble
        ),
        weights=collect(
            "<results>/models/{teacher}/model.safetensors", teacher=settings.ensemble
        ),
        stores=plan.stores(),
        genomes=plan.genomes(),
        intervals="<results>/folds/intervals.parquet",
    output:
        weights="<results>/models/student-seed{seed}/model.safetensors",
        info="<results>/models/student-seed{seed}/model.json",
        curve="<results>/models/student-seed{seed}/training.tsv",
    log:
        "<logs>/distill_student/seed{seed}.log",
    priority: TRAINING_PRIORITY
    conda:
        "../../envs/gpu.yaml"
    resources:
        gpu=0,
        mem="8GB",
        nodes=1,
        processes=1,
        runtime="7d",
    params:
        folder=subpath(output.info, parent=True),
        genomes=genomes_folder,
        stores=stores_folder,
        folds=section_json(settings.folds),
        organisms=",".join(settings.organisms),
        settings=section_json(settings.student.distill),
        seed=plan.member_seed,
    shell:
        "megabase distill-student {input.teachers:q} --stores {params.stores:q} --genomes {params.genomes:q} "
        "--intervals {input.intervals:q} --folds {params.folds:q} --organisms {params.organisms} "
        "--settings {params.settings:q} --seed {params.seed} "
        "--processes {resources.processes} --nodes {resources.nodes} -o {params.folder:q} &> {log:q}"


rule gather_ensemble:
    input:
        members=plan.member_cards,
        weights=plan.member_weights,
    output:
        weights="<results>/models/ensemble-{scheme}/model.safetensors",
        info="<results>/models/ensemble-{scheme}/model.json",
    log:
        "<logs>/gather_ensemble/{scheme}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="2GB",
        runtime="10m",
    params:
        folder=subpath(output.info, parent=True),
    shell:
        "megabase gather-ensemble {input.members:q} -o {params.folder:q} &> {log:q}"


rule fit_baseline:
    input:
        stores=plan.stores(),
        genomes=plan.genomes(),
        intervals="<results>/folds/intervals.parquet",
    output:
        weights="<results>/models/baseline-{kind}/model.safetensors",
        info="<results>/models/baseline-{kind}/model.json",
    log:
        "<logs>/fit_baseline/{kind}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="12h",
    params:
        folder=subpath(output.info, parent=True),
        genomes=genomes_folder,
        folds=section_json(settings.folds),
        organisms=",".join(settings.organisms),
        settings=section_json(settings.evaluation),
    shell:
        "megabase fit-baseline {input.stores:q} --genomes {params.genomes:q} --intervals {input.intervals:q} "
        "--folds {params.folds:q} --organisms {params.organisms} --settings {params.settings:q} "
        "-o {params.folder:q} &> {log:q}"
