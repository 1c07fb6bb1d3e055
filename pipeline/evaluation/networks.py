"""From a row of genotype.json to a network with initial weights."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from pipeline import spaces
from pipeline.core.rng import torch_stream
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.settings import NetworkConfig, TrainConfig
from pipeline.nets.init import initialise


def training_splits(config: TrainConfig) -> tuple[str, ...]:
    """The class splits that a training sees; never the novel one."""
    return ("base", "validation") if config.use_trainval else ("base",)


def fresh_network(
    space: str,
    architecture: Mapping[str, Any],
    prepared: PreparedSet,
    network: NetworkConfig,
    train: TrainConfig,
    seed: int,
) -> nn.Module:
    """The network of an architecture as it is before any training, a pure function of its arguments.

    Args:
        space: name of the space that reads the genotype.
        architecture: row of genotype.json with `seed` and `genotype`.
        prepared: decides the number of outputs, one per class that is trained on.
        seed: run seed; the weights come from its stream "initial weights" of the architecture's seed.
    """
    of_space = spaces.get(space)()
    built = of_space.build(
        of_space.from_text(architecture["genotype"]),
        n_classes=sum(prepared.n_classes(split) for split in training_splits(train)),
        channels=network.channels,
        n_cells=network.n_cells,
    )
    return initialise(built, train.init, torch_stream(seed, "initial weights", architecture["seed"]))
