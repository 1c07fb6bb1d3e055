# What a meta-learned search learns from, made of the classes of a source.


rule database:
    input:
        unpack(database_table_files),
        **PREPARED,
        params=f"{FROZEN}/database_{{dataset}}.json",
    output:
        tasks="database/{dataset}/tasks.json",
        triples="database/{dataset}/triples.csv",
        report="database/{dataset}/report.json",
    log:
        "logs/database_{dataset}.log",
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    params:
        table=database_table_arguments,
    message:
        "Building a database of accuracies on tasks made of the classes of {wildcards.dataset}"
    shell:
        f"python -m pipeline database {PREPARED_ARGUMENTS} {{params.table}} --params {{input.params}}"
        " --tasks {output.tasks} --triples {output.triples} --report {output.report} 2>&1 | tee {log}"
