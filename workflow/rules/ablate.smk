# Ablations: the rules of teachers, students and ensembles with one thing changed, and a table of what it is worth.
# One command an ablation: snakemake --cores 2 results/ablations/{ablation}.tsv


use rule train_teacher as train_ablated with:
    output:
        weights="<results>/models/ablation-{ablation}-{value}-{scheme}-seed{seed}/model.safetensors",
        info="<results>/models/ablation-{ablation}-{value}-{scheme}-seed{seed}/model.json",
        curve="<results>/models/ablation-{ablation}-{value}-{scheme}-seed{seed}/training.tsv",
    log:
        "<logs>/train_ablated/{ablation}-{value}-{scheme}-seed{seed}.log",
    priority: 0
    params:
        folder=subpath(output.info, parent=True),
        genomes=genomes_folder,
        folds=section_json(settings.folds),
        organisms=",".join(settings.organisms),
        model=ablation_jobs.network,
        settings=ablation_jobs.training,
        seed=plan.member_seed,


use rule distill_student as distill_ablated with:
    input:
        teachers=ablation_jobs.teacher_cards,
        weights=ablation_jobs.teacher_weights,
        stores=plan.stores(),
        genomes=plan.genomes(),
        intervals="<results>/folds/intervals.parquet",
    output:
        weights="<results>/models/ablation-{ablation}-distilled{number}-{scheme}-seed{seed}/model.safetensors",
        info="<results>/models/ablation-{ablation}-distilled{number}-{scheme}-seed{seed}/model.json",
        curve="<results>/models/ablation-{ablation}-distilled{number}-{scheme}-seed{seed}/training.tsv",
    log:
        "<logs>/distill_ablated/{ablation}-{number}-{scheme}-seed{seed}.log",
    priority: 0
    params:
        folder=subpath(output.info, parent=True),
        genomes=genomes_folder,
        stores=stores_folder,
        folds=section_json(settings.folds),
        organisms=",".join(settings.organisms),
        settings=ablation_jobs.distillation,
        seed=plan.member_seed,


use rule gather_ensemble as gather_ablated with:
    input:
        members=ablation_jobs.member_cards,
        weights=ablation_jobs.member_weights,
    output:
        weights="<results>/models/ablation-{ablation}-ensemble{number}-{scheme}-seed{seed}/model.safetensors",
        info="<results>/models/ablation-{ablation}-ensemble{number}-{scheme}-seed{seed}/model.json",
    log:
        "<logs>/gather_ablated/{ablation}-{number}-{scheme}-seed{seed}.log",


rule tabulate_ablation:
    input:
        evaluations=ablation_jobs.evaluations,
        benchmarks=ablation_jobs.benchmarks,
    output:
        table="<results>/ablations/{ablation}.tsv",
        figure=report(
            "<results>/ablations/{ablation}.png",
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        "<logs>/tabulate_ablation/{ablation}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="4GB",
        runtime="30m",
    params:
        places=ablation_jobs.places,
        settings=ablation_jobs.settings,
    shell:
        "megabase tabulate-ablation {params.places:q} --name {wildcards.ablation} --settings {params.settings:q} "
        "-o {output.table:q} &> {log:q}"
