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
        "Fetching {wildcards.dataset}: the local mirror first, then the official source"
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


rule episodes:
    input:
        **PREPARED,
        params=f"{FROZEN}/episodes_{{dataset}}.json",
    output:
        "data/episodes/{dataset}.csv",
    log:
        "logs/episodes_{dataset}.log",
    conda:
        "../envs/pipeline.yaml"
    message:
        "Drawing the test episodes of {wildcards.dataset}"
    shell:
        f"python -m pipeline episodes {PREPARED_ARGUMENTS}"
        " --params {input.params} --out {output} 2>&1 | tee {log}"
