# Sequence stores and gene tables, one of each a genome.


rule prepare_genome:
    input:
        fasta=plan.genome_fasta,
    output:
        codes="<results>/genome/{genome}/sequence.u8",
        info="<results>/genome/{genome}/sequence.json",
    log:
        "<logs>/prepare_genome/{genome}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="4GB",
        runtime="1h",
    params:
        folder=subpath(output.info, parent=True),
        settings=plan.genome_settings,
    shell:
        "megabase prepare-genome {input.fasta:q} --name {wildcards.genome} --settings {params.settings:q} "
        "-o {params.folder:q} &> {log:q}"


rule prepare_genes:
    input:
        gtf=plan.genome_gtf,
        genome="<results>/genome/{genome}/sequence.json",
    output:
        genes=directory("<results>/genome/{genome}/genes"),
    log:
        "<logs>/prepare_genes/{genome}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="1h",
    shell:
        "megabase prepare-genes {input.gtf:q} --genome {input.genome:q} -o {output.genes:q} &> {log:q}"
