# Every SNV of a place: its merged scores -> one track a scorer for genome browsers, and arrays.


rule write_saturation:
    input:
        scores="<results>/scores/{variants}/{model}",
        split="<results>/variants/{variants}/split.json",
        chunks=gather.variants("<results>/variants/{{variants}}/{scatteritem}.parquet"),
    output:
        tracks=directory("<results>/saturation/{variants}/{model}"),
    log:
        "<logs>/write_saturation/{variants}/{model}.log",
    wildcard_constraints:
        variants="|".join(settings.saturated_sets) or "none",
    priority: SCORING_PRIORITY
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="12h",
    shell:
        "megabase write-saturation {input.scores:q} --split {input.split:q} -o {output.tracks:q} &> {log:q}"
