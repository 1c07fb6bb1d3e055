# Networks that learn from the database of a source what holds for other data sets.
META_INPUT = {
    **SOURCE,
    "features": "data/features/{source}_by_{source}.npy",
    "features_facts": "data/features/{source}_by_{source}.json",
    "tasks": "database/{source}/tasks.json",
    "triples": "database/{source}/triples.csv",
    "database_report": "database/{source}/report.json",
}
META_ARGUMENTS = (
    f"{PREPARED_ARGUMENTS} --features {{input.features}} --features-facts {{input.features_facts}}"
    " --tasks {input.tasks} --triples {input.triples} --database-report {input.database_report}"
)


rule meta_train_generator:
    input:
        unpack(database_table_files),
        **META_INPUT,
        params=f"{FROZEN}/meta_train_generator_{{source}}.json",
    output:
        weights="models/generator_{source}/weights.safetensors",
        curve="models/generator_{source}/curve.csv",
        facts="models/generator_{source}/facts.json",
    log:
        "logs/meta_train_generator_{source}.log",
    wildcard_constraints:
        source=GRID.few_shot_pattern,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    params:
        table=database_table_arguments,
    message:
        "Meta-training the network that draws architectures, on the database of {wildcards.source}"
    shell:
        f"python -m pipeline meta-train-generator {META_ARGUMENTS} {{params.table}} --params {{input.params}}"
        " --weights {output.weights} --curve {output.curve} --facts {output.facts} 2>&1 | tee {log}"


rule meta_train_predictor:
    input:
        **META_INPUT,
        params=f"{FROZEN}/meta_train_predictor_{{source}}.json",
    output:
        weights="models/predictor_{source}/weights.safetensors",
        curve="models/predictor_{source}/curve.csv",
        facts="models/predictor_{source}/facts.json",
    log:
        "logs/meta_train_predictor_{source}.log",
    wildcard_constraints:
        source=GRID.few_shot_pattern,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    message:
        "Meta-training the network that rates architectures, on the database of {wildcards.source}"
    shell:
        f"python -m pipeline meta-train-predictor {META_ARGUMENTS} --params {{input.params}}"
        " --weights {output.weights} --curve {output.curve} --facts {output.facts} 2>&1 | tee {log}"
