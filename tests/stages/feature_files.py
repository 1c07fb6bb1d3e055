"""Frozen parameters and paths of the stages feature-net and features, for small sets."""

import pathlib
import subprocess
import sys

from pipeline.core.artifacts import write_json
from pipeline.core.config import resolve
from pipeline.evaluation.settings import EncodingConfig, FeatureNetConfig
from tests.stages.frozen import BUDGETS, run
from tests.stages.small_training import ROOT

QUICK = {"weights": "own", "image_size": 8, "epochs": 1, "batch_size": 12, "learning_rate": 0.05}


class Features:
    """A folder with the feature network of a set, and its features.

    Args:
        folder: where the workflow's files lie.
        prepared: paths of the source's prepared set, by argument name.
        source: its name.
        knobs: of the network, that differ from QUICK.
    """

    def __init__(self, folder: pathlib.Path, prepared: dict[str, pathlib.Path], source: str = "tiny", **knobs):
        self.folder, self.prepared, self.source = folder, prepared, source
        self.weights, self.curve = folder / "weights.safetensors", folder / "curve.csv"
        self.facts = folder / "facts.json"
        write_json(folder / "build/machine.json", {"mirror": None, "device": "cpu", "threads": 1})
        self.params = frozen(folder, "feature_net", source, FeatureNetConfig, QUICK | knobs)

    @property
    def _arguments(self) -> dict[str, pathlib.Path]:
        outputs = {name: getattr(self, name) for name in ("weights", "curve", "facts")}
        return {**self.prepared, "params": self.params, **outputs}

    def train(self) -> "Features":
        """Run the feature-net stage in this process, whose working folder is `folder`."""
        run("feature_net", **self._arguments)
        return self

    def start(self, stage: str) -> subprocess.Popen:
        """The same as a process of its own, as the workflow runs it."""
        options = [part for name, path in self._arguments.items() for part in (f"--{name}", str(path))]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", stage, *options],
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stderr=subprocess.PIPE,
            text=True,
        )

    def encode(self, prepared=None, dataset=None, source=None, name="f", **knobs) -> tuple[pathlib.Path, pathlib.Path]:
        """Run the features stage on a prepared set; the paths of the features and of their facts."""
        dataset = dataset or self.source
        out, facts = self.folder / f"{name}.npy", self.folder / f"{name}.json"
        params = frozen(
            self.folder, "features", dataset, EncodingConfig, {"images_per_batch": 7} | knobs, source or self.source
        )
        network = {"network": self.weights, "network-facts": self.facts}
        run("features", **(prepared or self.prepared), **network, params=params, out=out, facts=facts)
        return out, facts


def frozen(folder, stage, dataset, cls, knobs, source=None) -> pathlib.Path:
    known = {*BUDGETS, "doublemnist", "omniglot", "tieredimagenet"}
    params = {"features": resolve(cls, knobs, ("laptop",), known, "features")}
    content = {"stage": stage, "dataset": dataset, "budget": None, "seed": 5, "params": params, "code": "0" * 64}
    write_json(folder / f"{stage}_{dataset}.json", content | ({"source": source} if source else {}))
    return folder / f"{stage}_{dataset}.json"
