rule search:
    input:
        unpack(needed_files),
        **PREPARED,
        params=f"{FROZEN}/search_{{method}}_{{dataset}}.json",
    output:
        genotype="search/{method}_{dataset}/genotype.json",
        trace="search/{method}_{dataset}/trace.csv",
        cost="search/{method}_{dataset}/cost.json",
    log:
        "logs/search_{method}_{dataset}.log",
    conda:
        "../envs/pipeline.yaml"
    threads: lambda wildcards: GRID.threads_of_search(wildcards.method)
    resources:
        gpu=lambda wildcards: GRID.gpus_of_search(wildcards.method),
    params:
        needed=lambda wildcards: GRID.needed_arguments(
            wildcards.method, wildcards.dataset
        ),
    message:
        "Searching an architecture for {wildcards.dataset} with {wildcards.method}"
    shell:
        f"python -m pipeline search --method {{wildcards.method}} {PREPARED_ARGUMENTS} {{params.needed}} --params {{input.params}}"
        " --genotype {output.genotype} --trace {output.trace} --cost {output.cost} 2>&1 | tee {log}"
