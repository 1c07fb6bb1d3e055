"""Trained networks as the stages that test them find them: files checked, sizes, what a result says of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core import provenance
from pipeline.core.artifacts import digest, read_json
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.errors import ArtifactError
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.few_shot_test import FrozenFeatures
from pipeline.evaluation.networks import fresh_network
from pipeline.evaluation.settings import NetworkConfig, TrainConfig
from pipeline.nets.cost import count_backbone_parameters, count_multiply_adds, count_parameters
from pipeline.stages.common import Frozen, add_prepared_arguments, data_standing, machine, read_params


def add_trained_arguments(parser) -> None:
    """The files of trained networks and of their images, as arguments of a stage."""
    parser.add_argument("--genotype", required=True, metavar="FILE", help="architectures of the search stage")
    parser.add_argument("--weights", required=True, metavar="FILE", help="weights of the train stage")
    add_prepared_arguments(parser)


class Measured:
    """What a result says of networks that were trained and are tested, whatever the training and the test.

    A subclass has the attributes named here.

    Attributes:
        trained_by: stage that wrote the weights.
        written: what that stage wrote about them.
    """

    trained_by: ClassVar[str]
    frozen: Frozen
    genotype: dict[str, Any]
    prepared: PreparedSet
    device: torch.device
    written: dict[str, Any]

    @property
    def architectures(self) -> list[dict[str, Any]]:
        return self.genotype["architectures"]

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(architecture["seed"] for architecture in self.architectures))

    def facts(self, protocol: Mapping[str, Any], sizes: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        """What was tested, how, and how large it is (means over the architectures)."""
        mean = {name: float(np.mean([size[name] for size in sizes])) for name in ("total", "backbone", "flops")}
        return {
            "method": self.frozen.method,
            "space": self.genotype["space"],
            "dataset": self.frozen.dataset,
            "dataset_title": self.prepared.title,
            "budget": self.frozen.budget,
            "seeds": self.seeds,
            "protocol": {**protocol, "image_size": self.prepared.image_size},
            "parameters": {
                "total": mean["total"],
                "backbone": mean["backbone"],
                "per_seed": [size["total"] for size in sizes],
            },
            "flops": mean["flops"],
        }

    def provenance(self) -> dict[str, Any]:
        """Commit, versions, hardware, and digests of data, recipe and the parameters of each stage up to this one."""
        return {
            **provenance.gather(self.device),
            "params_digest": {
                "search": self.genotype["params_digest"],
                self.trained_by: self.written["params_digest"],
                self.frozen.stage: self.frozen.digest,
            },
            "data_digest": self.prepared.digest,
            "recipe_digest": digest({"params": self.frozen.params, "seed": self.frozen.seed}),
            **data_standing(self.prepared.manifest),
            "reproducible": self.device.type == "cpu",
        }


@dataclass(frozen=True)
class Trained(Measured):
    """The networks of one method on one data set.

    Attributes:
        states: state dict of each architecture, in the order of genotype.json.
    """

    frozen: Frozen
    genotype: dict[str, Any]
    prepared: PreparedSet
    network: NetworkConfig
    train: TrainConfig
    device: torch.device
    written: dict[str, Any]
    states: list[dict[str, Tensor]]
    trained_by = "train"

    @classmethod
    def read(cls, arguments) -> "Trained":
        """From the files that the arguments name, on this machine's device. Raises ArtifactError."""
        frozen, here = read_params(arguments.params), machine()
        genotype = read_json(arguments.genotype)
        prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
        use_threads(here.threads)
        return cls(
            frozen,
            genotype,
            prepared,
            build(NetworkConfig, frozen.params["network"], "network"),
            build(TrainConfig, frozen.params["train"], "train"),
            choose_device(here.device),
            weights_facts(arguments.weights),
            read_weights(arguments.weights, genotype, prepared),
        )

    def networks(self) -> Iterator[tuple[str, nn.Module, dict[str, Tensor]]]:
        """Of each architecture its name in progress lines, its network before any training, and its trained state."""
        pairs = zip(self.architectures, self.states, strict=True)
        for number, (architecture, state) in enumerate(pairs, start=1):
            network = fresh_network(
                self.genotype["space"], architecture, self.prepared, self.network, self.train, self.frozen.seed
            )
            name = f"{self.frozen.method} on {self.frozen.dataset}: network {number} of {len(self.states)}"
            yield name, network, state

    def features(self, network: nn.Module, batch_size: int) -> FrozenFeatures:
        return FrozenFeatures(network, self.prepared, self.train, batch_size, self.device)


def read_weights(path: str, genotype: Mapping[str, Any], prepared: PreparedSet) -> list[dict[str, Tensor]]:
    """State dicts of all architectures, in the order of genotype.json.

    Raises ArtifactError when the file is missing or damaged, or was trained on other architectures or data.
    """
    from safetensors.torch import load_file

    written = weights_facts(path)
    wanted = [
        {"seed": architecture["seed"], "genotype": architecture["genotype"]}
        for architecture in genotype["architectures"]
    ]
    if written["architectures"] != wanted or written["data_digest"] != prepared.digest:
        raise ArtifactError(
            f"{path} was trained on other architectures or other data than those given. Run the train stage again."
        )
    states: list[dict[str, Tensor]] = [{} for _ in wanted]
    for name, value in load_file(path).items():
        number, _, parameter = name.partition("/")
        states[int(number)][parameter] = value
    return states


def weights_facts(path: str, stage: str = "train") -> dict[str, Any]:
    """What the stage that trains wrote about its weights. Raises ArtifactError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})["few_shot_nas"])
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the {stage} stage (see `snakemake -n {path}`).") from None
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the {stage} stage again.") from None


def size_of(network: nn.Module, prepared: PreparedSet) -> dict[str, int]:
    """Parameters, with and without the classifier, and multiply-adds of one image."""
    image = torch.zeros(1, 3, prepared.image_size, prepared.image_size)
    return {
        "total": count_parameters(network),
        "backbone": count_backbone_parameters(network),
        "flops": count_multiply_adds(network, image),
    }
