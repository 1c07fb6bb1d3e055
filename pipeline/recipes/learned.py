"""Meta-trained networks as searches find them: of which size, trained on what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pipeline.core.rng import torch_stream
from pipeline.meta_networks import Generator, Normalisation, Predictor
from pipeline.nets.init import construct, initialise

KINDS: dict[str, type[nn.Module]] = {"generator": Generator, "predictor": Predictor}


@dataclass(frozen=True, eq=False)
class Learned:
    """A meta-trained network.

    Attributes:
        network: a `Generator` or a `Predictor`, ready on the device that computes.
        facts: what its training says of it.
    """

    network: nn.Module
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Names the weights and what they belong to."""
        return self.facts["digest"]

    @property
    def normalisation(self) -> Normalisation:
        """Of a predictor's targets."""
        return Normalisation(**self.facts["normalisation"])


def fresh(kind: str, size: Mapping[str, int], space: Any, seed: int) -> nn.Module:
    """A network of this kind and size with initial weights of its own stream.

    Args:
        size: feature_dim, hs and nz.
    """
    network = construct(lambda: KINDS[kind](**size, form=space.graph_form))
    return initialise(network, "torch_default", torch_stream(seed, "initial weights"))
