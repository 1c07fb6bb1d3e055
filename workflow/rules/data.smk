rule fetch:
    input:
        params=f"{FROZEN}/fetch_{{dataset}}.json",
    output:
        "data/raw/{dataset}.tar",
    log:
        "logs/fetch_{dataset}.log",
    conda:
        "../envs/pipeline.yaml"
    message:
        "Getting the files of {wildcards.dataset}"
    shell:
        "python -m pipeline fetch --dataset {wildcards.dataset} --params {input.params} --out {output} 2>&1 | tee {log}"


rule prepare:
    input:
        params=f"{FROZEN}/prepare_{{dataset}}.json",
        raw="data/raw/{dataset}.tar",
    output:
        **PREPARED,
    log:
        "logs/prepare_{dataset}.log",
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    message:
        "Preparing the images of {wildcards.dataset}"
    shell:
        "python -m pipeline prepare --dataset {wildcards.dataset} --raw {input.raw} --params {input.params}"
        " --images {output.images} --index {output.index} --manifest {output.manifest} 2>&1 | tee {log}"


rule table:
    input:
        params=f"{FROZEN}/table_{{space}}.json",
    output:
        table="data/tables/{space}.csv",
        facts="data/tables/{space}.json",
    log:
        "logs/table_{space}.log",
    wildcard_constraints:
        space="|".join(GRID.tables),
    conda:
        "../envs/pipeline.yaml"
    message:
        "Reading the published accuracies of {wildcards.space}"
    shell:
        "python -m pipeline table --name {wildcards.space} --params {input.params} --out {output.table} 2>&1 | tee {log}"


rule episodes:
    input:
        **PREPARED,
        params=f"{FROZEN}/episodes_{{dataset}}.json",
    output:
        "data/episodes/{dataset}.csv",
    log:
        "logs/episodes_{dataset}.log",
    # of seconds, and what every evaluation waits for
    priority: 1
    conda:
        "../envs/pipeline.yaml"
    message:
        "Drawing the test episodes of {wildcards.dataset}"
    shell:
        f"python -m pipeline episodes {PREPARED_ARGUMENTS}"
        " --params {input.params} --out {output} 2>&1 | tee {log}"
