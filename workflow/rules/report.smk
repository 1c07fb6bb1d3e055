rule report:
    input:
        rows=expand(
            "results/rows/{method}_{dataset}.csv", method=METHODS, dataset=DATASETS
        )
        + expand("results/rows/{stem}.csv", stem=GRID.learned + GRID.adapted),
        params=f"{FROZEN}/report.json",
    output:
        page=report(
            "results/report.html",
            caption="../report/page.rst",
            category="Results",
            labels={"method": "all", "data set": "all", "file": "report"},
        ),
        leaderboard="results/leaderboard.csv",
    log:
        "logs/report.log",
    conda:
        "../envs/pipeline.yaml"
    message:
        "Writing the report"
    shell:
        "python -m pipeline report --rows results/rows --params {input.params}"
        " --out {output.page} --leaderboard {output.leaderboard} 2>&1 | tee {log}"
