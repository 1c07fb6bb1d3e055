rule train:
    input:
        **PREPARED,
        genotype="search/{method}_{dataset}/genotype.json",
        params=f"{FROZEN}/train_{{method}}_{{dataset}}.json",
    output:
        weights="models/{method}_{dataset}/weights.safetensors",
        curve="models/{method}_{dataset}/curve.csv",
        cost="models/{method}_{dataset}/cost.json",
    log:
        "logs/train_{method}_{dataset}.log",
    wildcard_constraints:
        method=GRID.plain_pattern,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    message:
        "Training what {wildcards.method} found for {wildcards.dataset} from scratch"
    shell:
        f"python -m pipeline train --genotype {{input.genotype}} {PREPARED_ARGUMENTS} --params {{input.params}}"
        " --weights {output.weights} --curve {output.curve} --cost {output.cost} 2>&1 | tee {log}"


rule evaluate:
    input:
        **PREPARED,
        genotype="search/{method}_{dataset}/genotype.json",
        weights="models/{method}_{dataset}/weights.safetensors",
        episodes="data/episodes/{dataset}.csv",
        params=f"{FROZEN}/evaluate_{{method}}_{{dataset}}.json",
    output:
        measured="results/measured/{method}_{dataset}.json",
        accuracies="results/episodes/{method}_{dataset}.csv",
    log:
        "logs/evaluate_{method}_{dataset}.log",
    wildcard_constraints:
        method=GRID.plain_pattern,
        dataset=GRID.few_shot_pattern,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    message:
        "Testing {wildcards.method} on the stored episodes of {wildcards.dataset}"
    shell:
        f"python -m pipeline evaluate --genotype {{input.genotype}} --weights {{input.weights}} {PREPARED_ARGUMENTS}"
        " --episodes {input.episodes} --params {input.params} --measured {output.measured}"
        " --accuracies {output.accuracies} 2>&1 | tee {log}"


rule compare:
    input:
        unpack(against_files),
        measured="results/measured/{method}_{dataset}.json",
        accuracies="results/episodes/{method}_{dataset}.csv",
        control=lambda wildcards: of_control(wildcards, "results/measured/{}.json"),
        control_accuracies=lambda wildcards: of_control(
            wildcards, "results/episodes/{}.csv"
        ),
        genotype="search/{method}_{dataset}/genotype.json",
        trace="search/{method}_{dataset}/trace.csv",
        search_cost="search/{method}_{dataset}/cost.json",
        curve="models/{method}_{dataset}/curve.csv",
        train_cost="models/{method}_{dataset}/cost.json",
        params=f"{FROZEN}/compare_{{method}}_{{dataset}}.json",
    output:
        result=report(
            "results/{method}_{dataset}.json",
            caption="../report/result.rst",
            category="Results",
            labels={"method": "{method}", "data set": "{dataset}", "file": "result"},
        ),
        row="results/rows/{method}_{dataset}.csv",
        drawing=report(
            "results/drawings/{method}_{dataset}.svg",
            caption="../report/drawing.rst",
            category="Architectures",
            labels={"method": "{method}", "data set": "{dataset}", "file": "cells"},
        ),
    log:
        "logs/compare_{method}_{dataset}.log",
    wildcard_constraints:
        dataset=GRID.few_shot_pattern,
    conda:
        "../envs/pipeline.yaml"
    params:
        against=lambda wildcards: GRID.against_arguments(
            wildcards.method, wildcards.dataset
        ),
    message:
        "Writing the result of {wildcards.method} on {wildcards.dataset}, beside its control"
    shell:
        "python -m pipeline compare --measured {input.measured} --accuracies {input.accuracies}"
        " --control {input.control} --control-accuracies {input.control_accuracies} {params.against}"
        " --genotype {input.genotype} --trace {input.trace} --search-cost {input.search_cost}"
        " --curve {input.curve} --train-cost {input.train_cost} --params {input.params}"
        " --out {output.result} --row {output.row} --drawing {output.drawing} 2>&1 | tee {log}"
