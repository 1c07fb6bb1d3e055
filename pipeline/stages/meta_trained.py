"""Files of meta-trained networks, and what their two stages have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from pipeline import spaces
from pipeline.core import artifacts, provenance
from pipeline.core.artifacts import digest, read_json, sha256
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.errors import ArtifactError
from pipeline.core.rng import stream_seed
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.core.types import SPLITS
from pipeline.data.database import Database, Triple
from pipeline.data.features import FeatureSet
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.cost import Meter
from pipeline.recipes.learned import Learned, fresh
from pipeline.recipes.meta_settings import MetaTraining
from pipeline.recipes.meta_training import Examples, Trained
from pipeline.stages.common import (
    Frozen,
    add_prepared_arguments,
    checkpoint_path,
    data_standing,
    machine,
    read_params,
)

INPUTS = {
    "features": "features of the source's images",
    "features_facts": "what made the features",
    "tasks": "tasks of the database",
    "triples": "accuracies of the database",
    "database_report": "what the database says of itself",
}
NAMED_BY = (
    "kind", "source", "space", "size", "normalisation", "weights_sha256", "data_digest", "features_digest",
    "features_made_by", "database_digest", "params_digest",
)  # fmt: skip
"""The facts of which a meta-trained network's digest is made."""


def add_arguments(parser) -> None:
    """Files of a meta-training: the source's images and features, the database, and what is written."""
    add_prepared_arguments(parser)
    for name, what in INPUTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, metavar="FILE", help=what)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the meta-training")
    for name in ("weights", "curve", "facts"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"where to write the {name}")


@dataclass(frozen=True)
class Job:
    """A meta-training with its inputs read.

    Attributes:
        kind: "generator" or "predictor".
        config: its knobs.
        seed: of all its draws.
        checkpoint: of the training.
    """

    kind: str
    frozen: Frozen
    config: Any
    prepared: PreparedSet
    features: FeatureSet
    database: Database
    space: Any
    device: torch.device
    seed: int
    n_workers: int
    checkpoint: Checkpoint

    @classmethod
    def read(cls, kind: str, config_class: type[MetaTraining], arguments) -> "Job":
        """From the files that the arguments name. Raises ArtifactError when they do not belong together."""
        frozen, here = read_params(arguments.params), machine()
        prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
        features = FeatureSet.open(arguments.features, arguments.features_facts, prepared, verify=True)
        database = Database.open(arguments.tasks, arguments.triples, arguments.database_report)
        report = database.report
        if report["digests"].get("data") != prepared.digest:
            raise ArtifactError(
                f"{arguments.triples} has accuracies on other images than {arguments.images}. Run the database stage "
                "again."
            )
        key = {
            "params": frozen.digest,
            "data": prepared.digest,
            "features": features.digest,
            "database": database.digest,
        }
        return cls(
            kind,
            frozen,
            build(config_class, frozen.params["meta_train"], "meta_train"),
            prepared,
            features,
            database,
            spaces.get(report["space"])(),
            choose_device(here.device),
            stream_seed(frozen.seed, "meta-training", kind),
            use_threads(here.threads),
            Checkpoint(checkpoint_path(frozen.stage, frozen.dataset), key),
        )

    def examples(self, triples_of: Callable[[str], Sequence[Triple]]) -> dict[str, Examples]:
        """What is learned from, chosen by and measured on, by split; without held-out ones where there are none.

        Raises ConfigError when one of the other two has no triples.
        """
        return {
            split: Examples.of(triples, split, self.database, self.features, self.space)
            for split in SPLITS
            if (triples := triples_of(split)) or split != "novel"
        }

    def size(self, hs: int, nz: int) -> dict[str, int]:
        return {"feature_dim": self.features.dim, "hs": hs, "nz": nz}

    def progress(self, meter: Meter) -> dict[str, Any]:
        """Arguments of a training that goes on from the checkpoint and keeps it up to date."""
        saved = self.checkpoint.load()

        def keep(state: dict[str, Any]) -> None:
            self.checkpoint.save({"training": state, "cost": meter.so_far()})

        return {
            "what": f"meta-training the {self.kind} of {self.frozen.dataset}: epoch",
            "resume": saved and saved["training"],
            "after_epoch": keep,
        }

    def meter(self) -> Meter:
        """What the training costs, from where the checkpoint stands."""
        saved = self.checkpoint.load()
        return Meter(self.device, saved and saved["cost"])

    def write(
        self,
        arguments,
        network: torch.nn.Module,
        size: Mapping[str, int],
        trained: Trained,
        cost: Mapping[str, float],
        **facts: Any,
    ) -> dict[str, Any]:
        """Write weights, curve and facts; returns the facts."""
        tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
        belongs = {"params_digest": self.frozen.digest, "data_digest": self.prepared.digest}
        write_tensors(arguments.weights, tensors, {"network": self.kind, **belongs})
        artifacts.write_csv(arguments.curve, pd.DataFrame(trained.curve))
        report, network_facts = self.database.report, self.features.network
        content = {
            "schema_version": 1,
            "kind": self.kind,
            "source": self.frozen.dataset,
            "source_title": self.prepared.title,
            "budget": self.frozen.budget,
            "space": self.space.name,
            "size": dict(size),
            "normalisation": None,
            "parameters": sum(value.numel() for value in network.parameters()),
            "n_images": self.config.n_images,
            "training": {
                "epochs": len(trained.curve),
                "best_epoch": trained.best_epoch,
                "steps": trained.n_steps,
                **{name: value for name, value in trained.curve[trained.best_epoch - 1].items() if name != "seconds"},
            },
            "features_made_by": self.features.made_by,
            "oracle": {name: report["oracle"][name] for name in ("name", "unit", "meaning", "knows_tasks")},
            "features_network": {name: network_facts[name] for name in ("label", "substitute")},
            **facts,
            "weights_sha256": sha256(arguments.weights),
            "features_digest": self.features.digest,
            "database_digest": self.database.digest,
            **belongs,
            "cost": dict(cost),
            "features": {"cost": dict(self.features.facts["cost"])},
            "reproducible": self.device.type == "cpu",
            "provenance": {**data_standing(self.prepared.manifest), **provenance.gather(self.device)},
        }
        content["digest"] = digest({name: content[name] for name in NAMED_BY})
        artifacts.write_json(arguments.facts, content)
        return content


def read_generator(weights: str, facts: str, device: torch.device) -> Learned:
    """The generator in these files. Raises ArtifactError when they are missing, damaged or of something else."""
    return _read("generator", weights, facts, device)


def read_predictor(weights: str, facts: str, device: torch.device) -> Learned:
    """The predictor in these files. Raises ArtifactError when they are missing, damaged or of something else."""
    return _read("predictor", weights, facts, device)


def _read(kind: str, weights: str, path: str, device: torch.device) -> Learned:
    stage = f"meta-train-{kind}"
    facts = read_json(path)
    if facts.get("kind") != kind or any(name not in facts for name in (*NAMED_BY, "digest")):
        raise ArtifactError(f"{path} is not what the {stage} stage wrote. Delete it and run that stage again.")
    tensors = read_tensors(weights, stage)
    if sha256(weights) != facts["weights_sha256"]:
        raise ArtifactError(f"{weights} is not the file that {path} describes. Delete both and run {stage} again.")
    network = fresh(kind, facts["size"], spaces.get(facts["space"])(), seed=0)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArtifactError(f"{weights} does not fit this code ({error}). Run the {stage} stage again.") from None
    return Learned(network.to(device).eval(), facts)
