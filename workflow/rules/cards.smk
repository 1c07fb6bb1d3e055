# How far each proxy can be trusted: scores of a sample against a table of accuracies.
CARD = {
    "space": "|".join(GRID.tables),
    "dataset": "|".join(
        sorted({name for names in GRID.tables.values() for name in names})
    ),
}


rule score:
    input:
        **PREPARED,
        params=f"{FROZEN}/score_{{space}}_{{dataset}}.json",
    output:
        scores="proxies/{space}_{dataset}/scores.csv",
        cost="proxies/{space}_{dataset}/cost.json",
    log:
        "logs/score_{space}_{dataset}.log",
    wildcard_constraints:
        **CARD,
    conda:
        "../envs/pipeline.yaml"
    threads: GRID.threads
    resources:
        gpu=1,
    message:
        "Scoring architectures of {wildcards.space} by all proxies on {wildcards.dataset}"
    shell:
        f"python -m pipeline score --space {{wildcards.space}} {PREPARED_ARGUMENTS} --params {{input.params}}"
        " --scores {output.scores} --cost {output.cost} 2>&1 | tee {log}"


rule rate:
    input:
        scores="proxies/{space}_{dataset}/scores.csv",
        score_cost="proxies/{space}_{dataset}/cost.json",
        table="data/tables/{space}.csv",
        table_facts="data/tables/{space}.json",
        manifest=PREPARED["manifest"],
        params=f"{FROZEN}/rate_{{space}}_{{dataset}}.json",
    output:
        card=report(
            "results/proxies_{space}_{dataset}.json",
            caption="../report/card.rst",
            category="Proxies",
            labels={"space": "{space}", "data set": "{dataset}", "file": "card"},
        ),
        page=report(
            "results/proxies_{space}_{dataset}.html",
            caption="../report/card.rst",
            category="Proxies",
            labels={"space": "{space}", "data set": "{dataset}", "file": "page"},
        ),
    log:
        "logs/rate_{space}_{dataset}.log",
    wildcard_constraints:
        **CARD,
    conda:
        "../envs/pipeline.yaml"
    message:
        "Rating the proxies on {wildcards.space} and {wildcards.dataset}"
    shell:
        "python -m pipeline rate --scores {input.scores} --score-cost {input.score_cost} --table {input.table}"
        " --table-facts {input.table_facts} --manifest {input.manifest} --params {input.params}"
        " --out {output.card} --page {output.page} 2>&1 | tee {log}"
