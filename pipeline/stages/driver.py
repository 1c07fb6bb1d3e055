"""What the Snakefile calls: freezing at the start of a run, recording in DVC at its end."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.stages.freeze import freeze
from pipeline.stages.settings import Freezer, grid
from pipeline.stages.track import refresh


@dataclass(frozen=True)
class Grid:
    """What is made without a named target, and what a target may name."""

    datasets: list[str]
    methods: list[str]
    dataset_pattern: str
    method_pattern: str


def with_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with `--config mirror=PATH` in its place under `data`."""
    config = {**config}
    if "mirror" in config:
        config["data"] = {**(config.get("data") or {}), "mirror": config.pop("mirror")}
    return config


def start(config: Mapping[str, Any], is_main_process: bool) -> Grid:
    """Check and freeze the configuration; the parts of it that the rules need. Raises ConfigError.

    Jobs of a run parse the Snakefile again; only the main process writes.
    """
    config = with_overrides(config)
    freezer = Freezer(config)
    if is_main_process:
        freeze(config)
        refresh()
    datasets, methods = grid(config)
    return Grid(
        datasets,
        methods,
        "|".join(map(re.escape, freezer.datasets)),
        "|".join(map(re.escape, freezer.methods)),
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
