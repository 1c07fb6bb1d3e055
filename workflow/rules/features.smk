# What images look like to methods that read data sets: a network of a source, and its features of any data set.
SOURCE = {name: path.format(dataset="{source}") for name, path in PREPARED.items()}
FEATURE_NET = {
    "weights": "models/features_{source}/weights.safetensors",
    "facts": "models/features_{source}/facts.json",
}


rule feature_net:
    input:
        **SOURCE,
        params=f"{FROZEN}/feature_net_{{source}}.json",
    output:
        **FEATURE_NET,
        curve="models/features_{source}/curve.csv",
    log:
        "logs/feature_net_{source}.log",
    wildcard_constraints:
        source=GRID.few_shot_pattern,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    message:
        "Getting the network that describes images, of {wildcards.source}"
    shell:
        f"python -m pipeline feature-net {PREPARED_ARGUMENTS} --params {{input.params}}"
        " --weights {output.weights} --curve {output.curve} --facts {output.facts} 2>&1 | tee {log}"


rule features:
    input:
        **PREPARED,
        network=FEATURE_NET["weights"],
        network_facts=FEATURE_NET["facts"],
        params=f"{FROZEN}/features_{{dataset}}_by_{{source}}.json",
    output:
        features="data/features/{dataset}_by_{source}.npy",
        facts="data/features/{dataset}_by_{source}.json",
    log:
        "logs/features_{dataset}_by_{source}.log",
    wildcard_constraints:
        source=GRID.few_shot_pattern,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    message:
        "Describing the images of {wildcards.dataset} by the network of {wildcards.source}"
    shell:
        f"python -m pipeline features {PREPARED_ARGUMENTS}"
        " --network {input.network} --network-facts {input.network_facts} --params {input.params}"
        " --out {output.features} --facts {output.facts} 2>&1 | tee {log}"
