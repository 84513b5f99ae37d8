# Raw signal -> normalized tracks, one folder a group of replicates, and the table of all channels.
# A rule's output is the file of a folder that is written last: no kill removes half of a file.


rule normalize_track:
    input:
        files=plan.track_files,
        genome="<results>/genome/{organism}/sequence.json",
        regions=plan.genome_regions,
        blacklist=plan.genome_blacklist,
        unmappable=plan.genome_unmappable,
    output:
        info="<results>/tracks/{organism}/{output_type}/{group}/track.json",
    log:
        "<logs>/normalize_track/{organism}/{output_type}/{group}.log",
    wildcard_constraints:
        output_type="|".join(TRACK_OUTPUTS),
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="4h",
    params:
        folder=subpath(output.info, parent=True),
        manifest=plan.manifest_path,
        rows=plan.track_rows,
        settings=plan.track_settings(),
    shell:
        "megabase normalize-track {input.files:q} --manifest {params.manifest:q} --genome {input.genome:q} "
        "--regions={input.regions:q} --blacklist={input.blacklist:q} --unmappable={input.unmappable:q} "
        "--settings {params.settings:q} --threads {threads} -o {params.folder:q} &> {log:q}"


rule normalize_contacts:
    input:
        files=plan.contact_files,
        genome="<results>/genome/{organism}/sequence.json",
    output:
        info="<results>/tracks/{organism}/contact_maps/{group}/track.json",
    log:
        "<logs>/normalize_contacts/{organism}/{group}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="16GB",
        runtime="12h",
    params:
        folder=subpath(output.info, parent=True),
        manifest=plan.manifest_path,
        rows=plan.contact_rows,
        settings=plan.track_settings(),
    shell:
        "megabase normalize-contacts {input.files:q} --manifest {params.manifest:q} --genome {input.genome:q} "
        "--settings {params.settings:q} -o {params.folder:q} &> {log:q}"


rule normalize_splicing:
    input:
        files=plan.splicing_files,
        genome="<results>/genome/{organism}/sequence.json",
    output:
        info="<results>/tracks/{organism}/splicing/track.json",
    log:
        "<logs>/normalize_splicing/{organism}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="8GB",
        runtime="4h",
    params:
        folder=subpath(output.info, parent=True),
        manifest=plan.manifest_path,
        rows=plan.splicing_rows,
        settings=plan.track_settings(),
    shell:
        "megabase normalize-splicing {input.files:q} --manifest {params.manifest:q} --genome {input.genome:q} "
        "--settings {params.settings:q} -o {params.folder:q} &> {log:q}"


rule list_tracks:
    input:
        tracks=plan.track_folders,
        quality=plan.track_exclusions,
    output:
        table="<results>/tracks/{organism}/tracks.parquet",
    log:
        "<logs>/list_tracks/{organism}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="2GB",
        runtime="30m",
    params:
        folder=subpath(output.table, parent=True),
        manifest=plan.manifest_path,
    shell:
        "megabase list-tracks {params.folder:q} --manifest {params.manifest:q} --organism {wildcards.organism} "
        "--quality={input.quality:q} -o {output.table:q} &> {log:q}"


rule check_tracks:
    input:
        tracks=plan.track_folders,
    output:
        table="<results>/tracks/{organism}/quality.tsv",
    log:
        "<logs>/check_tracks/{organism}.log",
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem="2GB",
        runtime="30m",
    params:
        folder=subpath(output.table, parent=True),
        manifest=plan.manifest_path,
        settings=section_json(settings.tracks.quality),
    shell:
        "megabase check-tracks {params.folder:q} --manifest {params.manifest:q} --organism {wildcards.organism} "
        "--settings {params.settings:q} -o {output.table:q} &> {log:q}"
