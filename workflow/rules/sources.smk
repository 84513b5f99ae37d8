# portals -> results/raw: files of the release, verified.


rule simulate_demo:
    output:
        files=plan.demo_files(),
    log:
        "<logs>/simulate_demo.log",
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem="4GB",
        runtime="30m",
    params:
        folder=files_folder,
        seed=settings.seed,
    shell:
        "megabase simulate-demo -o {params.folder:q} --seed {params.seed} --threads {threads} &> {log:q}"


rule fetch_source:
    input:
        origin=plan.source_origin,
    output:
        file="<results>/raw/{portal}/{file}",
    log:
        "<logs>/fetch_source/{portal}/{file}.log",
    retries: 2
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="1GB",
        runtime="12h",
    params:
        source=plan.source_options,
        manner=plan.source_manner,
    shell:
        "megabase fetch-source {params.source} -o {output.file:q} {params.manner} &> {log:q}"
