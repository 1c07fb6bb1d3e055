"""From a row of genotype.json to a network with initial weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from pipeline import spaces
from pipeline.core.errors import ConfigError
from pipeline.core.rng import torch_stream
from pipeline.core.types import CLASSIFICATION
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.settings import NetworkConfig, TrainConfig
from pipeline.nets.init import initialise

ADAPTING_CELLS = 2
"""One normal and one reduction cell, as in T-NAS, whatever the space; a network that is no stack of cells has none."""


def training_splits(prepared: PreparedSet, config: TrainConfig) -> tuple[str, ...]:
    """The splits that a training sees; never the one that is tested on.

    Raises ConfigError when validation classes are asked of a set that has none.
    """
    if not config.use_trainval:
        return (prepared.search_split,)
    if prepared.kind == CLASSIFICATION:
        raise ConfigError(
            f"train.use_trainval is true, but {prepared.name} is a classification data set: it has no validation "
            "classes. Set train.use_trainval to false for it."
        )
    return (prepared.search_split, "validation")


def outputs_of(prepared: PreparedSet, config: TrainConfig) -> np.ndarray:
    """Class id -> output of a network that stands for it, shape (n_class_ids,); -1 for classes not trained on."""
    classes = np.concatenate([prepared.classes_of(split) for split in training_splits(prepared, config)])
    outputs = np.full(len(prepared.class_names), -1)
    outputs[classes] = np.arange(len(classes))
    return outputs


def fresh_network(
    space: str,
    architecture: Mapping[str, Any],
    prepared: PreparedSet,
    network: NetworkConfig,
    train: TrainConfig,
    seed: int,
    *,
    auxiliary: bool = False,
) -> nn.Module:
    """The network of an architecture as it is before any training, a pure function of its arguments.

    Args:
        space: name of the space that reads the genotype.
        architecture: row of genotype.json with `seed` and `genotype`.
        prepared: decides the number of outputs, one per class that is trained on, and the size of the images.
        seed: run seed; the weights come from its stream "initial weights" of the architecture's seed.
        auxiliary: with the auxiliary classifier that a training may use; all other weights are the same without it.
    """
    of_space = spaces.get(space)()
    built = of_space.build(
        of_space.from_text(architecture["genotype"]),
        n_classes=sum(prepared.n_classes(split) for split in training_splits(prepared, train)),
        channels=network.channels,
        n_cells=network.n_cells,
        stem=network.stem,
        stem_multiplier=network.stem_multiplier,
        auxiliary=auxiliary,
        image_size=prepared.image_size,
    )
    return initialise(built, train.init, torch_stream(seed, "initial weights", architecture["seed"]))


def adapting_network(
    space: str, architecture: Mapping[str, Any], *, n_way: int, channels: int, image_size: int, seed: int
) -> nn.Module:
    """The network of an architecture for tasks of `n_way` classes, before any meta-learning.

    Args:
        space: name of the space that reads the genotype.
        architecture: row of genotype.json with `seed` and `genotype`.
        seed: run seed; the weights come from its stream "initial weights" of the architecture's seed.
    """
    of_space = spaces.get(space)()
    built = of_space.build(
        of_space.from_text(architecture["genotype"]),
        n_classes=n_way,
        channels=channels,
        n_cells=ADAPTING_CELLS,
        image_size=image_size,
    )
    return initialise(built, "torch_default", torch_stream(seed, "initial weights", architecture["seed"]))


def without_auxiliary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a trained network's state that tests need, which is the state of the network without that part."""
    return {name: value for name, value in state.items() if not name.startswith("auxiliary.")}
