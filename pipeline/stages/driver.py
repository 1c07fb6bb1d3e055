"""What the Snakefile calls: freezing at the start of a run, recording in DVC at its end."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.device import n_cores
from pipeline.core.errors import UnknownNameError
from pipeline.stages.freeze import freeze
from pipeline.stages.settings import Freezer, grid
from pipeline.stages.track import refresh


@dataclass(frozen=True)
class Grid:
    """What is made without a named target, what a target may name, and how many cores a large job takes."""

    datasets: list[str]
    methods: list[str]
    dataset_pattern: str
    method_pattern: str
    threads: int


def with_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with `--config mirror=PATH` in its place under `data`."""
    config = {**config}
    if "mirror" in config:
        config["data"] = {**(config.get("data") or {}), "mirror": config.pop("mirror")}
    return config


def check_targets(arguments: Iterable[str], freezer: Freezer) -> None:
    """Raises UnknownNameError for a result among the command line's arguments that no method or data set can give."""
    for argument in arguments:
        named = re.fullmatch(r"(?:\./)?results/([^/]+)\.json", argument)
        if named is None or "_" not in named[1]:
            continue
        if any(f"{method}_{dataset}" == named[1] for method in freezer.methods for dataset in freezer.datasets):
            continue
        starts = [method for method in freezer.methods if named[1].startswith(f"{method}_")]
        if not starts:
            raise UnknownNameError(f"method in the target {argument}:", named[1].split("_")[0], freezer.methods)
        dataset = named[1].removeprefix(f"{max(starts, key=len)}_")
        hint = "Your own folder of images gets a name under data.folders in params.yaml."
        raise UnknownNameError(f"data set in the target {argument}:", dataset, freezer.datasets, hint)


def start(config: Mapping[str, Any], is_main_process: bool) -> Grid:
    """Check and freeze the configuration; the parts of it that the rules need. Raises ConfigError.

    Jobs of a run parse the Snakefile again; only the main process writes.
    """
    # jobs say `python`: they shall find the one that runs Snakemake, activated or not
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}"
    config = with_overrides(config)
    freezer = Freezer(config)
    if is_main_process:
        check_targets(sys.argv[1:], freezer)
        freeze(freezer)
        refresh()
    datasets, methods = grid(config)
    return Grid(
        datasets,
        methods,
        "|".join(map(re.escape, freezer.datasets)),
        "|".join(map(re.escape, freezer.methods)),
        (config.get("compute") or {}).get("threads") or n_cores(),
    )


def record(workflow) -> None:
    """Tell DVC which files this run of Snakemake made. A failure to do so never fails the run: it is said."""
    files = sorted({str(file) for job in workflow.dag.finished_jobs for file in job.output})
    if not files or not os.path.isdir(".dvc"):
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json") as listing:
        json.dump(files, listing)
        listing.flush()
        subprocess.run([sys.executable, "-m", "pipeline", "track", "commit", "--files", listing.name])
