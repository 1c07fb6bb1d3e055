"""What meta-training reads, small: features that tell classes apart, and a database of made-up accuracies."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import torch

from pipeline import spaces
from pipeline.core.artifacts import sha256, write_csv, write_json
from pipeline.core.config import resolve
from pipeline.data.database import COLUMNS, Database, read_rows, triples_digest
from pipeline.data.features import FeatureSet, digest_of
from pipeline.data.prepared import PreparedSet
from pipeline.recipes import oracles
from pipeline.recipes.database import DatabaseConfig, Plan, ask, statistics
from pipeline.recipes.meta_settings import GeneratorTraining, PredictorTraining
from pipeline.recipes.oracles import Bench
from tests import tiny_set
from tests.stages.frozen import BUDGETS, run
from tests.synthetic_oracle import SyntheticOracle

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIM = 8
KNOBS = {
    "n_images": 3, "batch_size": 8, "generator_hs": 8, "generator_nz": 8, "predictor_hs": 8, "predictor_nz": 8,
    "generator_epochs": 4, "predictor_epochs": 4, "n_graphs": 40, "cells_per_held_out_task": 1, "best_fraction": 0.5,
    "n_resamplings": 2, "learning_rate": 0.01, "patience": 1,
}  # fmt: skip
DATABASE = {
    "n_classes": 3, "n_base_tasks": 8, "n_validation_tasks": 3, "n_novel_tasks": 3, "cells_per_task": 6,
    "n_architectures": 30,
}  # fmt: skip
ORACLE = {"image_size": 8, "n_images": 6, "channels": 2, "n_cells": 1, "epochs": 1, "batch_size": 6}
SECTIONS = {"generator": GeneratorTraining, "predictor": PredictorTraining}


def prepared_set(folder: pathlib.Path) -> tuple[dict[str, pathlib.Path], PreparedSet]:
    """Paths of the tiny set by argument name, and the set."""
    paths = tiny_set.write(folder / "prepared")
    write_json(paths["manifest"], json.loads(paths["manifest"].read_text()) | {"official": True, "sources": []})
    return paths, PreparedSet.open(**paths)


def cost_of(seconds: float) -> dict[str, float]:
    return {"wall_seconds": seconds, "device_seconds": seconds, "peak_memory_mib": 100.0}


def features_of(folder: pathlib.Path, prepared: PreparedSet, **changes) -> dict[str, pathlib.Path]:
    """Files of features: each class around a point of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(prepared.class_names), DIM))
    rows = centres[prepared.labels] + 0.3 * rng.normal(size=(len(prepared.labels), DIM))
    np.save(folder / "features.npy", rows.astype(np.float32))
    facts = {
        "data_digest": prepared.digest,
        "network_sha256": "1" * 64,
        "image_size": 32,
        "normalise_by": "dataset",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "dim": DIM,
        "features_sha256": sha256(folder / "features.npy"),
        "network": {"label": "a network made up", "substitute": True, "cost": cost_of(50.0)},
        "saw_classes": {"base": 6, "validation": 0, "novel": 0},
        "warning": None,
        "cost": cost_of(7.0),
        **changes,
    }
    write_json(folder / "features.json", facts | {"digest": digest_of(facts)})
    return {"features": folder / "features.npy", "features_facts": folder / "features.json"}


def database_of(folder: pathlib.Path, prepared: PreparedSet, **knobs) -> dict[str, pathlib.Path]:
    """Files of a database whose accuracies the synthetic oracle made up; its report calls it `train`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = DatabaseConfig(**{**DATABASE, **knobs})
    space = spaces.get("nas_bench_201")()
    bench = Bench(space, prepared, 0, torch.device("cpu"))
    plan = Plan.of(config, space, prepared, 0)
    answers = ask(plan, SyntheticOracle(), bench, n_workers=1)
    rows = [
        {
            "task": task.id, "split": task.split, "genotype": text, "accuracy": value, "oracle": "train", "seed": 0,
            "seconds": 1.0, "source": "tiny", "space": space.name, "params_digest": "2" * 64,
        }
        for (task, text), value in zip(plan.pairs, answers.values, strict=True)
    ]  # fmt: skip
    paths = {
        "tasks": folder / "tasks.json",
        "triples": folder / "triples.csv",
        "database_report": folder / "report.json",
    }
    listed = [
        {"id": task.id, "split": task.split, "classes": [prepared.class_names[one] for one in task.classes]}
        for task in plan.tasks
    ]
    write_json(paths["tasks"], {"source": "tiny", "data_digest": prepared.digest, "seed": 0, "tasks": listed})
    write_csv(paths["triples"], pd.DataFrame(rows, columns=COLUMNS))
    columns = ([row[name] for row in rows] for name in ("task", "split", "genotype", "accuracy"))
    report = {
        "source": "tiny",
        "budget": "laptop",
        "seed": 0,
        "space": space.name,
        "oracle": {
            "name": "train", "unit": "per cent", "knows_tasks": True, "meaning": "made up for tests",
            "knobs": oracle_knobs(),
        },
        "sampling": {"sampling": config.sampling},
        "statistics": statistics(*columns, space),
        "digests": {
            "tasks": sha256(paths["tasks"]),
            "triples": triples_digest(read_rows(paths["triples"])),
            "data": prepared.digest,
        },
        "cost": {"wall_seconds": 40.0, "device_seconds": 60.0},
    }  # fmt: skip
    write_json(paths["database_report"], report)
    return paths


class Source:
    """A folder with all that meta-training reads, and the commands that do it.

    Args:
        folder: where files lie; jobs run in it.
        knobs: of the training, that differ from KNOBS.
    """

    def __init__(self, folder: pathlib.Path, **knobs):
        self.folder = folder
        self.prepared_paths, self.prepared = prepared_set(folder)
        self.inputs = features_of(folder / "features", self.prepared) | database_of(folder / "database", self.prepared)
        write_json(folder / "build/machine.json", {"mirror": None, "device": "cpu", "threads": 1})
        for kind, cls in SECTIONS.items():
            write_json(folder / f"{kind}.json", frozen(kind, cls, knobs))

    @property
    def features(self) -> FeatureSet:
        return FeatureSet.open(self.inputs["features"], self.inputs["features_facts"], self.prepared)

    @property
    def database(self) -> Database:
        return Database.open(*(self.inputs[name] for name in ("tasks", "triples", "database_report")))

    def outputs(self, kind: str) -> dict[str, pathlib.Path]:
        ends = {"weights": "safetensors", "curve": "csv", "facts": "json"}
        return {name: self.folder / f"{kind}/{name}.{end}" for name, end in ends.items()}

    def arguments(self, kind: str) -> dict[str, pathlib.Path]:
        paths = {**self.prepared_paths, **self.inputs, "params": self.folder / f"{kind}.json", **self.outputs(kind)}
        return {name.replace("_", "-"): path for name, path in paths.items()}

    def train(self, kind: str) -> dict[str, pathlib.Path]:
        """Run a meta-training in this process, whose working folder is `folder`."""
        run(f"meta_train_{kind}", **self.arguments(kind))
        return self.outputs(kind)

    def start(self, kind: str) -> subprocess.Popen:
        """The same as a process of its own, as the workflow runs it."""
        options = [part for name, path in self.arguments(kind).items() for part in (f"--{name}", str(path))]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", f"meta-train-{kind}", *options],
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )


def oracle_knobs() -> dict:
    """Of the oracle that is asked about what the generator draws."""
    return resolve(oracles.get("train"), ORACLE, ("laptop",), BUDGETS, "oracle.train")


def frozen(kind: str, cls: type, knobs: dict) -> dict:
    names = {field.name for field in dataclasses.fields(cls)}
    own = {name: value for name, value in (KNOBS | knobs).items() if name in names}
    params = {"meta_train": resolve(cls, own, ("laptop",), BUDGETS, "meta_train")}
    return {
        "stage": f"meta_train_{kind}", "dataset": "tiny", "budget": "laptop", "seed": 0, "params": params,
        "code": "0" * 64,
    }  # fmt: skip


def given(source: Source) -> dict:
    """What a learned search is given, from networks that were hardly trained."""
    from pipeline.stages.meta_trained import read_generator, read_predictor

    cpu = torch.device("cpu")
    read = {"generator": read_generator, "predictor": read_predictor}
    found = {}
    for kind, of in read.items():
        paths = source.outputs(kind)
        if not paths["facts"].exists():
            source.train(kind)
        found[f"cell_{kind}"] = of(paths["weights"], paths["facts"], cpu)
    return {"data_features": source.features, "accuracy_database": source.database, **found}
