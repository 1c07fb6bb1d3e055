"""The network that images are described by: its training on the base classes of a few-shot set, and its use."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipeline.core.errors import DataError
from pipeline.core.rng import torch_stream
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.few_shot_test import FrozenFeatures
from pipeline.evaluation.settings import FeatureNetConfig, TrainConfig
from pipeline.nets.init import construct, initialise
from pipeline.nets.resnet18 import ResNet18


def recipe(config: FeatureNetConfig) -> TrainConfig:
    """The training of our own feature network: that of the laptop budget, with the knobs of its section."""
    shared = {field.name for field in dataclasses.fields(TrainConfig)} & set(vars(config))
    return TrainConfig(**{name: getattr(config, name) for name in shared})


def fresh_feature_network(n_classes: int, config: TrainConfig, seed: int) -> ResNet18:
    """The network before any training; its weights come from the stream "initial weights" of the run's seed."""
    network = construct(lambda: ResNet18(n_classes=n_classes))
    return initialise(network, config.init, torch_stream(seed, "initial weights", "feature network"))


def with_weights(weights: Mapping[str, Tensor], what: object) -> ResNet18:
    """A network that gives features, with weights under torchvision's names; those of a classifier are left out.

    Raises DataError, naming `what` the weights are from, when they are not those of a ResNet-18.
    """
    network = construct(ResNet18)
    body = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    try:
        network.body.load_state_dict(body)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1].strip()
        raise DataError(f"{what} holds no weights of a ResNet-18: {first[:200]} Put the right file there.") from None
    return network


def encoder(
    network: ResNet18,
    prepared: PreparedSet,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    images_per_batch: int,
    device: torch.device,
) -> FrozenFeatures:
    """What gives the features of images of `prepared`, resized to `image_size` and normalised by `mean` and `std`."""
    seen = dataclasses.replace(transforms.resized(prepared, image_size), mean=tuple(mean), std=tuple(std))
    return FrozenFeatures(network, seen, TrainConfig(), images_per_batch, device)
