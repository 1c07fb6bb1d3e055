# Results on data sets of ordinary classification: looked up in a table of accuracies, or of classifiers trained here.


rule look_up:
    input:
        genotype="search/{stem}/genotype.json",
        trace="search/{stem}/trace.csv",
        search_cost="search/{stem}/cost.json",
        table=lambda wildcards: table_of(wildcards, "csv"),
        table_facts=lambda wildcards: table_of(wildcards, "json"),
        manifest=manifest_of,
        params=f"{FROZEN}/look_up_{{stem}}.json",
    output:
        result=report(
            "results/{stem}.json",
            caption="../report/looked_up.rst",
            category="Searches judged by tables",
            labels={"search": "{stem}", "file": "result"},
        ),
        row="results/lookups/{stem}.csv",
        drawing=report(
            "results/drawings/{stem}.svg",
            caption="../report/cells.rst",
            category="Architectures",
            labels={"search": "{stem}", "file": "cells"},
        ),
    log:
        "logs/look_up_{stem}.log",
    wildcard_constraints:
        stem=GRID.pattern("looked_up"),
    conda:
        "../envs/pipeline.yaml"
    message:
        "Looking up what {wildcards.stem} found"
    shell:
        "python -m pipeline look-up --genotype {input.genotype} --trace {input.trace}"
        " --search-cost {input.search_cost} --table {input.table} --table-facts {input.table_facts}"
        " --manifest {input.manifest} --params {input.params}"
        " --out {output.result} --row {output.row} --drawing {output.drawing} 2>&1 | tee {log}"


rule test:
    input:
        **PREPARED,
        genotype="search/{method}_{dataset}/genotype.json",
        weights="models/{method}_{dataset}/weights.safetensors",
        params=f"{FROZEN}/test_{{method}}_{{dataset}}.json",
    output:
        measured="results/measured/{method}_{dataset}.json",
        accuracies="results/classes/{method}_{dataset}.csv",
    log:
        "logs/test_{method}_{dataset}.log",
    wildcard_constraints:
        dataset=GRID.classification_pattern,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    message:
        "Testing what {wildcards.method} found on the test images of {wildcards.dataset}"
    shell:
        f"python -m pipeline test --genotype {{input.genotype}} --weights {{input.weights}} {PREPARED_ARGUMENTS}"
        " --params {input.params} --measured {output.measured} --accuracies {output.accuracies} 2>&1 | tee {log}"


rule contrast:
    input:
        measured="results/measured/{stem}.json",
        control=lambda wildcards: f"results/measured/random_{GRID.dataset_of(wildcards.stem)}.json",
        genotype="search/{stem}/genotype.json",
        search_cost="search/{stem}/cost.json",
        train_cost="models/{stem}/cost.json",
        params=f"{FROZEN}/contrast_{{stem}}.json",
    output:
        result=report(
            "results/{stem}.json",
            caption="../report/trained.rst",
            category="Classifiers",
            labels={"search": "{stem}", "file": "result"},
        ),
        drawing=report(
            "results/drawings/{stem}.svg",
            caption="../report/cells.rst",
            category="Architectures",
            labels={"search": "{stem}", "file": "cells"},
        ),
    log:
        "logs/contrast_{stem}.log",
    wildcard_constraints:
        stem=GRID.pattern("trained"),
    conda:
        "../envs/pipeline.yaml"
    message:
        "Writing the result of {wildcards.stem}, beside random architectures"
    shell:
        "python -m pipeline contrast --measured {input.measured} --control {input.control}"
        " --genotype {input.genotype} --search-cost {input.search_cost} --train-cost {input.train_cost}"
        " --params {input.params} --out {output.result} --drawing {output.drawing} 2>&1 | tee {log}"


rule report_lookups:
    input:
        rows=expand("results/lookups/{stem}.csv", stem=GRID.looked_up),
        params=f"{FROZEN}/report_lookups.json",
    output:
        page=report(
            "results/{space}.html",
            caption="../report/page.rst",
            category="Searches judged by tables",
            labels={"search": "all", "file": "report"},
        ),
        table="results/{space}.csv",
    log:
        "logs/report_lookups_{space}.log",
    wildcard_constraints:
        space="|".join(GRID.tables),
    conda:
        "../envs/pipeline.yaml"
    message:
        "Writing the report of the searches in {wildcards.space}"
    shell:
        "python -m pipeline report-lookups --space {wildcards.space} --rows results/lookups --params {input.params}"
        " --out {output.page} --table {output.table} 2>&1 | tee {log}"
