# What a meta-learned search learns from, made of the classes of a source.


def table_files(wildcards):
    # the source of the database, under either name
    (source,) = wildcards
    table = GRID.database_tables.get(source)
    if table is None:
        return {}
    return {
        "table": f"data/tables/{table}.csv",
        "table_facts": f"data/tables/{table}.json",
    }


def table_arguments(wildcards, input):
    if "table" not in input.keys():
        return ""
    return f"--table {input.table} --table-facts {input.table_facts}"


rule database:
    input:
        unpack(table_files),
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
        table=table_arguments,
    message:
        "Building a database of accuracies on tasks made of the classes of {wildcards.dataset}"
    shell:
        f"python -m pipeline database {PREPARED_ARGUMENTS} {{params.table}} --params {{input.params}}"
        " --tasks {output.tasks} --triples {output.triples} --report {output.report} 2>&1 | tee {log}"
