# Learners whose start is meta-learned from episodes of the base classes, and the supernets that are searched by them.
ADAPTED = {"method": GRID.adapted_pattern, "dataset": GRID.few_shot_pattern}


rule supernet:
    input:
        **PREPARED,
        params=f"{FROZEN}/supernet_{{method}}_{{dataset}}.json",
    output:
        weights="models/supernet_{method}_{dataset}/weights.safetensors",
        curve="models/supernet_{method}_{dataset}/curve.csv",
        facts="models/supernet_{method}_{dataset}/facts.json",
    log:
        "logs/supernet_{method}_{dataset}.log",
    wildcard_constraints:
        **ADAPTED,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads_to_adapt
    resources:
        gpu=GRID.gpus_to_adapt,
    message:
        "Meta-training the supernet of {wildcards.method} on the base classes of {wildcards.dataset}"
    shell:
        f"python -m pipeline supernet {PREPARED_ARGUMENTS} --params {{input.params}}"
        " --weights {output.weights} --curve {output.curve} --facts {output.facts} 2>&1 | tee {log}"


rule meta_learn:
    input:
        **PREPARED,
        genotype="search/{method}_{dataset}/genotype.json",
        params=f"{FROZEN}/meta_learn_{{method}}_{{dataset}}.json",
    output:
        weights="models/{method}_{dataset}/weights.safetensors",
        curve="models/{method}_{dataset}/curve.csv",
        cost="models/{method}_{dataset}/cost.json",
    log:
        "logs/meta_learn_{method}_{dataset}.log",
    wildcard_constraints:
        **ADAPTED,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads_to_adapt
    resources:
        gpu=GRID.gpus_to_adapt,
    message:
        "Meta-learning the start of {wildcards.method} on the base classes of {wildcards.dataset}"
    shell:
        f"python -m pipeline meta-learn --genotype {{input.genotype}} {PREPARED_ARGUMENTS} --params {{input.params}}"
        " --weights {output.weights} --curve {output.curve} --cost {output.cost} 2>&1 | tee {log}"


rule adapt:
    input:
        **PREPARED,
        genotype="search/{method}_{dataset}/genotype.json",
        weights="models/{method}_{dataset}/weights.safetensors",
        episodes="data/episodes/{dataset}.csv",
        params=f"{FROZEN}/adapt_{{method}}_{{dataset}}.json",
    output:
        measured="results/measured/{method}_{dataset}.json",
        accuracies="results/episodes/{method}_{dataset}.csv",
    log:
        "logs/adapt_{method}_{dataset}.log",
    wildcard_constraints:
        **ADAPTED,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads_to_adapt
    resources:
        gpu=GRID.gpus_to_adapt,
    message:
        "Testing {wildcards.method} by adaptation to the stored episodes of {wildcards.dataset}"
    shell:
        f"python -m pipeline adapt --genotype {{input.genotype}} --weights {{input.weights}} {PREPARED_ARGUMENTS}"
        " --episodes {input.episodes} --params {input.params} --measured {output.measured}"
        " --accuracies {output.accuracies} 2>&1 | tee {log}"
