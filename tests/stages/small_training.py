"""A small project folder up to the search: images (real digits, or made-up classes), episodes, two architectures."""

import functools
import pathlib
import signal
import subprocess
import sys
import time

from pipeline.core.artifacts import write_json
from pipeline.core.config import build, resolve
from pipeline.data.prepared import PreparedSet
from pipeline.data.settings import PrepareConfig
from pipeline.episodes import files
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.evaluation.settings import DARTS_SETS, EvaluateConfig, NetworkConfig, TestConfig, TrainConfig
from tests.data.tiny_sources import cifar10, made, make_mirror, outputs

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KNOBS = {
    "network": (NetworkConfig, {"channels": 4, "n_cells": 2}),
    "train": (TrainConfig, {"epochs": 4, "batch_size": 96, "drop_path": 0.2}),
    "evaluate": (EvaluateConfig, {"n_augmented_support": 1, "n_untrained_episodes": 5, "n_resamples": 20}),
    "test": (TestConfig, {"batch_size": 50}),
}
SECTIONS = {
    "train": ("network", "train"),
    "evaluate": ("network", "train", "evaluate"),
    "test": ("network", "train", "test"),
}
OWN_FILES = {
    "train": ("weights", "curve", "cost"),
    "evaluate": ("weights", "episodes", "measured", "accuracies"),
    "test": ("weights", "measured", "accuracies"),
}
CELL = (
    "[[('sep_conv_3x3', 0), ('skip_connect', 1)], [('conv_3x3', 0), ('{}', 2)], [('conv_1x5_5x1', 1), ('conv_3x3', 3)]]"
)


def genotype_text(operation: str) -> str:
    cell = CELL.format(operation)
    return f"Genotype(normal={cell}, normal_concat=[2, 3, 4], reduce={cell}, reduce_concat=[2, 3, 4])"


class Project:
    """Paths and commands of one folder.

    Args:
        folder: where the workflow's files lie.
        prepared_in: where the images lie.
        dataset: their name, doublemnist or cifar10.
        train: knobs of the training that differ from KNOBS.
    """

    def __init__(self, folder: pathlib.Path, prepared_in: pathlib.Path, dataset: str = "doublemnist", **train):
        self.folder = folder
        self.prepared = outputs(prepared_in, dataset)
        self.weights, self.curve = folder / "weights.safetensors", folder / "curve.csv"
        self.cost, self.genotype = folder / "cost.json", folder / "genotype.json"
        self.episodes = prepared_in / "episodes.csv"
        self.measured, self.accuracies = folder / "measured.json", folder / "accuracies.csv"
        write_json(folder / "build/machine.json", {"mirror": None, "device": "cpu", "threads": 1})
        write_json(self.genotype, genotype_of(dataset, PreparedSet.open(**self.prepared).digest))
        for stage in SECTIONS:
            write_json(self.params(stage), frozen_of(stage, dataset, train))

    def params(self, stage: str) -> pathlib.Path:
        return self.folder / f"{stage}.json"

    def arguments(self, stage: str, **changes: pathlib.Path) -> list[str]:
        paths = {"genotype": self.genotype, "params": self.params(stage), **self.prepared}
        paths |= {name: getattr(self, name) for name in OWN_FILES[stage]} | changes
        return [stage, *(part for name, path in paths.items() for part in (f"--{name}", str(path)))]

    def start(self, stage: str, **changes: pathlib.Path) -> subprocess.Popen:
        """The stage as a process of its own, as the workflow runs it, with `changes` in place of its files."""
        command = [sys.executable, "-m", "pipeline", *self.arguments(stage, **changes)]
        return subprocess.Popen(
            command, cwd=self.folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stderr=subprocess.PIPE, text=True
        )

    def run(self, stage: str) -> str:
        """Run the stage to its end; returns its log."""
        process = self.start(stage)
        _, log = process.communicate(timeout=300)
        assert process.returncode == 0, log
        return log


def kill_in_the_middle(project, stage: str, checkpoint: str, delay: float = 0.0) -> bool:
    """SIGKILL once an epoch is saved and `delay` seconds have passed; returns whether it came before the end."""
    process = project.start(stage)
    known = state_of(project, checkpoint)
    while process.poll() is None and state_of(project, checkpoint) == known:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def state_of(project, checkpoint):
    path = project.folder / checkpoint
    return path.stat().st_mtime_ns if path.exists() else None


def frozen_of(stage, dataset, train) -> dict:
    params = {}
    for name in SECTIONS[stage]:
        cls, values = KNOBS[name]
        values = {**values, **(train if name == "train" else {})}
        params[name] = resolve(cls, values, ("laptop", dataset), {"laptop", "gpu", "paper", *NAMES}, name)
        build(cls, params[name])
    return {
        "stage": stage,
        "dataset": dataset,
        "method": "hand",
        "budget": "laptop",
        "seed": 7,
        "params": params,
        "code": "0" * 64,
    }


NAMES = (
    "miniimagenet", "tieredimagenet", "imagenet32", "cifarfs", "fc100", "omniglot", "doublemnist", "5cells", "8cells",
    *DARTS_SETS,
)  # fmt: skip


def genotype_of(dataset: str, data_digest: str) -> dict:
    texts = {0: genotype_text("max_pool_3x3BN"), 4: genotype_text("dil_conv_3x3")}
    return {
        "method": "hand",
        "dataset": dataset,
        "budget": "laptop",
        "space": "darts_fewshot",
        "architectures": [{"seed": seed, "genotype": text, "graph": {"cells": []}} for seed, text in texts.items()],
        "network": {"channels": 4, "n_cells": 2},
        "params_digest": "1" * 64,
        "data_digest": data_digest,
    }


def prepare_digits(folder: pathlib.Path) -> pathlib.Path:
    """Real digits at 16 pixels, 8 images per class, and 10 stored episodes of each shot."""
    prepared = made(
        folder,
        "doublemnist",
        knobs=PrepareConfig(max_image_size=16, max_images_per_class=8, min_images_per_class=2),
    )
    episodes = {}
    for k_shot in (1, 2):
        sampler = EpisodeSampler(prepared, "novel", n_way=5, k_shot=k_shot, n_query=3, seed=0, purpose="test")
        episodes[k_shot] = [sampler.episode(index) for index in range(10)]
    files.write(folder / "episodes.csv", episodes)
    return folder


def prepare_classes(folder: pathlib.Path) -> pathlib.Path:
    """A classification set in the place of CIFAR-10: noise at 16 pixels, 10 classes, 12 images each in both splits."""
    mirror = make_mirror(folder / "mirror", functools.partial(cifar10, per_class=12))
    made(folder, "cifar10", mirror=mirror, knobs=PrepareConfig(max_image_size=16, min_images_per_class=2))
    return folder
