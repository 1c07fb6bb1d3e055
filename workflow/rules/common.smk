from pathlib import Path
import sys

sys.path.insert(0, str(Path(workflow.current_basedir).parent.parent))

from pipeline.stages.driver import record, start

# Freezes the parameters of every job, and brings the time stamps of files that DVC vouches for up to date.
GRID = start(config, workflow.is_main_process, workflow.configfiles)
DATASETS, METHODS = GRID.datasets, GRID.methods
FROZEN = "build/params"
PREPARED = {
    "images": "data/prepared/{dataset}.images.npy",
    "index": "data/prepared/{dataset}.index.csv",
    "manifest": "data/prepared/{dataset}.manifest.json",
}
PREPARED_ARGUMENTS = (
    "--images {input.images} --index {input.index} --manifest {input.manifest}"
)


wildcard_constraints:
    dataset=GRID.dataset_pattern,
    method=GRID.method_pattern,


def manifest_of(wildcards):
    return PREPARED["manifest"].format(dataset=GRID.dataset_of(wildcards.stem))


def table_of(wildcards, ending):
    method, dataset = GRID.pairs["looked_up"][wildcards.stem]
    (space,) = (name for name, datasets in GRID.tables.items() if dataset in datasets)
    return f"data/tables/{space}.{ending}"


def database_table_files(wildcards):
    # the source of the database, under either name
    (source,) = wildcards
    table = GRID.database_tables.get(source)
    if table is None:
        return {}
    return {
        "table": f"data/tables/{table}.csv",
        "table_facts": f"data/tables/{table}.json",
    }


def database_table_arguments(wildcards, input):
    if "table" not in input.keys():
        return ""
    return f"--table {input.table} --table-facts {input.table_facts}"


def needed_files(wildcards):
    return GRID.needed.get((wildcards.method, wildcards.dataset), {})


def of_control(wildcards, path):
    return path.format(f"{GRID.controls[wildcards.method]}_{wildcards.dataset}")


def against_files(wildcards):
    return GRID.against(wildcards.method, wildcards.dataset)
