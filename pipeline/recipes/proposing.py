"""Architectures for a data set, proposed by a generator that looks at drawings of the data set's images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.meta_networks import Generator

NUMBERS_AT_ONCE = 2**24
"""Most features that are encoded together, 64 MiB of them."""


class Proposer:
    """Calls give proposals, each from a drawing of its own, as `pipeline.strategies.generate_and_rank` wants them.

    Args:
        network: the generator.
        space: of its architectures.
        drawings: gives so many drawings of the data set's images, shape (n n_classes n_images dim).
        device: torch.device that computes.
    """

    def __init__(self, network: Generator, space: Any, drawings: Callable[[int], Tensor], device: torch.device):
        self.network, self.space, self.drawings, self.device = network.to(device).eval(), space, drawings, device

    @torch.no_grad()
    def __call__(self, n: int, generator: torch.Generator) -> list[Any]:
        """Genotypes, and None for graphs that are none; what is drawn of the graphs comes from the generator."""
        types, adjacency = self.network.sample(encoded(self.network, self.drawings, n, self.device), generator)
        valid = self.space.graph_form.valid(types, adjacency).cpu()
        found: list[Any] = [None] * n
        genotypes = self.space.all_from_types(types.cpu()[valid]) if valid.any() else []
        for place, genotype in zip(valid.nonzero().flatten().tolist(), genotypes, strict=True):
            found[place] = genotype
        return found


@torch.no_grad()
def encoded(network: Any, drawings: Callable[[int], Tensor], n: int, device: torch.device) -> Tensor:
    """What a network with `encode` reads in `n` drawings of a data set, shape (n nz); a few drawings at a time."""
    found: list[Tensor] = []
    left, at_once = n, 1
    while left > 0:
        images = drawings(min(left, at_once))
        found.append(network.encode(images.to(device)))
        left -= len(images)
        at_once = max(1, NUMBERS_AT_ONCE // images[0].numel())
    return torch.cat(found)


def texts_of(space: Any, proposals: Sequence[Any], connected: bool = False) -> list[str]:
    """Texts of the valid ones among proposals, or of those of them that are connected."""
    return [
        space.to_text(genotype)
        for genotype in proposals
        if genotype is not None and (not connected or space.is_connected(genotype))
    ]
