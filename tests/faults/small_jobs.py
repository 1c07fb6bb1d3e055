"""Every stage as a job of seconds: the commands that Snakemake would run for small projects, in their order."""

import itertools
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.artifacts import read_json, write_json
from pipeline.core.tensors import read_tensors
from tests.e2e.project import SMALL, Project

SET = "doublemnist"
TARGETS = [
    f"results/measured/metantk_{SET}.json",
    f"results/measured/tnas_{SET}.json",
    f"search/metad2a_{SET}/genotype.json",
]
LITTLE = {
    "n_iterations": 6, "validate_every": 3, "n_validation_episodes": 2, "n_query": 2, "tasks_per_batch": 1,
    "channels": 2, "image_size": 16, "inner_steps": 1, "test_steps": 1,
}  # fmt: skip
PARAMS = SMALL | {
    "grid": {"datasets": [SET], "methods": ["metantk", "random", "conv4"]},
    "adapted": {"methods": ["maml", "randomtnas"], "supernets": ["tnas"], "datasets": [SET]},
    "learned": {"methods": ["metad2a"], "controls": ["random201"], "sources": [SET], "datasets": [SET], "few_shot": []},
    "episodes": {"n_episodes": 60, "n_query": 3, "k_shots": [1]},
    "prepare": {"max_images_per_class": 12, "min_images_per_class": 12, "max_image_size": 16},
    "features": {"epochs": 4, "image_size": 8},
    "database": {
        "n_classes": 4, "n_base_tasks": 8, "n_validation_tasks": 3, "n_novel_tasks": 3, "cells_per_task": 4,
        "n_architectures": 12,
    },
    "oracle": {"train": {"image_size": 8, "n_images": 12, "channels": 2, "n_cells": 1, "epochs": 1, "batch_size": 8}},
    "meta_train": {
        "n_images": 4, "generator_epochs": 30, "predictor_epochs": 30, "generator_hs": 8, "generator_nz": 8,
        "predictor_hs": 8, "predictor_nz": 8, "n_graphs": 40, "cells_per_held_out_task": 1,
    },
    "search": {
        "metantk": SMALL["search"]["metantk"],
        "metad2a": {"source": SET, "n_candidates": 8, "n_resamplings": 2},
        "tnas": {"n_tasks": 8},
    },
    "train": {"epochs": 4},
    "evaluate": {"n_augmented_support": 1, "n_untrained_episodes": 20, "n_resamples": 20, "batch_size": 64},
    "adapt": {"n_untrained_episodes": 6, "n_resamples": 10},
    "supernet": {"tnas": LITTLE},
    "meta_learn": {"tnas": LITTLE},
}  # fmt: skip
GUIDED = {"repeat": 1, "n_images": 8, "n_region_samples": 40, "channels": 2, "kernel_cells": 1}
CLASSES = "cifar10"
OTHER_TARGETS = [
    f"results/conv4_{SET}.json",
    "results/report.html",
    f"results/tegnas_evo_{CLASSES}.json",
    f"results/conv4_{CLASSES}.json",
    f"results/proxies_nas_bench_201_{CLASSES}.json",
    "results/nas_bench_201.html",
]
OTHER_PARAMS = SMALL | {
    "grid": {"datasets": [SET], "methods": ["conv4", "random"]},
    "classification": {
        "datasets": [CLASSES], "tables": ["nas_bench_201"], "looked_up": ["tegnas_evo"], "trained": ["conv4", "random"],
        "cards": ["nas_bench_201"],
    },
    "search": {
        "tegnas_evo": {**GUIDED, "population_size": 4, "tournament_size": 2, "n_cycles": 4},
        "random": {"space": "darts", "n_architectures": 1},
    },
    "train": {"epochs": 1},
    "score": {
        "proxies": ["n_params", "linear_regions", "naswot", "coupled_ntk_condition", "synflow"], "n_architectures": 6,
        "repeat": 1, "n_images": 8, "n_region_samples": 40, "kernel_channels": 2, "kernel_cells": 1, "channels": 4,
        "n_cells": 1,
    },
    "rate": {"n_resamples": 10},
}  # fmt: skip
"""Of a second project, which needs CIFAR-10 and the table of NAS-Bench-201: the stages that `PARAMS` leaves out."""
OUTPUTS = {
    "fetch": ("out",),
    "table": ("out",),
    "test": ("measured", "accuracies"),
    "score": ("scores", "cost"),
    "rate": ("out",),
    "look_up": ("out", "row", "drawing"),
    "compare": ("out", "row", "drawing"),
    "contrast": ("out", "drawing"),
    "report": ("leaderboard",),
    "report_lookups": ("table",),
    "prepare": ("images", "index", "manifest"),
    "episodes": ("out",),
    "features": ("out", "facts"),
    "database": ("tasks", "triples", "report"),
    "search": ("genotype", "trace", "cost"),
    "evaluate": ("measured", "accuracies"),
    "adapt": ("measured", "accuracies"),
    "train": ("weights", "curve", "cost"),
    "meta_learn": ("weights", "curve", "cost"),
}
LEARNED = ("weights", "curve", "facts")
TIMES = ("seconds", "elapsed", "cost", "provenance")
"""Columns of tables and keys of records that tell times, or the machine and how often it was started; so do all that
end with "_seconds" or "_cost"."""
TIMED = ("cost.json",)
"""Files that hold nothing else."""


@dataclass(frozen=True)
class Job:
    """One command of the workflow.

    Attributes:
        name: of its frozen parameters, e.g. search_metantk_doublemnist.
        argv: what follows `python -m pipeline`.
        outputs: the files that it writes, relative to the project.
    """

    name: str
    argv: list[str]
    outputs: list[pathlib.Path]

    @classmethod
    def of(cls, command: str) -> "Job":
        argv = shlex.split(command)
        options = {word.removeprefix("--"): value for word, value in itertools.pairwise(argv) if word.startswith("--")}
        written = OUTPUTS.get(argv[0].replace("-", "_"), LEARNED)
        return cls(pathlib.Path(options["params"]).stem, argv, [pathlib.Path(options[name]) for name in written])

    @property
    def checkpoint(self) -> pathlib.Path:
        """Where its state lies, if it keeps one; its previous state beside it."""
        return pathlib.Path(f"build/checkpoints/{self.name}.pt")


class Jobs:
    """A small project and the jobs of its stages.

    Args:
        folder: is made.
        params, targets: of the project.
        mirror: folder where data sets and tables are looked for.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        params: Mapping[str, Any] = PARAMS,
        targets: Sequence[str] = tuple(TARGETS),
        mirror: str | None = None,
    ):
        self.project = Project.plain(folder, dict(params))
        self.folder, self.mirror = folder, mirror
        printed = self.project.run("snakemake", "-n", "--cores", "1", "--printshellcmds", *targets)
        commands = re.findall(r"python -m pipeline (.*?) 2>&1", printed)
        self.jobs = {job.name: job for job in map(Job.of, dict.fromkeys(commands))}
        self.use_threads(1)

    def use_threads(self, n: int) -> None:
        write_json(self.folder / "build/machine.json", {"mirror": self.mirror, "device": "cpu", "threads": n})

    def contents(self, job: Job) -> dict[str, Any]:
        """What a job has written, by file, without times."""
        return {str(path): steady(self.folder / path) for path in job.outputs if path.name not in TIMED}

    def bytes_of(self, job: Job) -> dict[str, bytes]:
        return {str(path): (self.folder / path).read_bytes() for path in job.outputs}

    def remove(self, job: Job) -> None:
        for path in job.outputs:
            (self.folder / path).unlink(missing_ok=True)

    def restore(self, files: Mapping[str, bytes]) -> None:
        for path, content in files.items():
            (self.folder / path).write_bytes(content)


def steady(path: pathlib.Path) -> Any:
    """Content of a file that two runs of the same work have in common: its bytes, where no times stand in it."""
    if path.suffix == ".json":
        return without_times(read_json(path))
    if path.suffix == ".csv":
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table.drop(columns=[name for name in table.columns if is_time(name)]).to_csv(index=False)
    return path.read_bytes()


def is_time(name: str) -> bool:
    return name in TIMES or name.endswith(("_seconds", "_cost"))


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if not is_time(key)}
    if isinstance(value, list):
        return [without_times(one) for one in value]
    return value


def numbers(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All numbers of a file that are no times, by place."""
    if path.suffix == ".safetensors":
        return {name: value.double().numpy() for name, value in read_tensors(path, "").items()}
    if path.suffix == ".npy":
        return {"array": np.load(path).astype(np.float64)}
    if path.suffix == ".csv":
        table = pd.read_csv(path)
        return {
            name: table[name].to_numpy(dtype=np.float64)
            for name in table.columns
            if not is_time(name) and pd.api.types.is_numeric_dtype(table[name])
        }
    if path.suffix == ".json":
        return {place: np.array(value, dtype=np.float64) for place, value in leaves(without_times(read_json(path)), "")}
    return {}


def leaves(value: Any, place: str):
    """(place, number) of every number in a record."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in pairs:
        yield from leaves(one, f"{place}/{key}")
    if isinstance(value, int | float):
        yield place, value
