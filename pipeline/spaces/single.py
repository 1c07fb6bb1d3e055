"""A fixed net as a space of one: what is trained and tested like a found architecture, without a search."""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn

from pipeline.core.errors import CapabilityError, ConfigError, GenotypeError
from pipeline.nets.init import construct
from pipeline.spaces.base import Generator, Space


class SingleSpace(Space):
    """A space with one architecture, whose genotype and text are the space's name.

    A subclass names `network`, called with n_classes, channels and in_channels (and with image_size, where the space is
    for `one_image_size`), and `blocks`, its drawing.
    """

    operations: ClassVar[tuple[str, ...]] = ()
    cell_types: ClassVar[tuple[str, ...]] = ()
    n_edges = 0
    capabilities = frozenset({"samples", "graph"})
    network: ClassVar[Callable[..., nn.Module]]
    blocks: ClassVar[tuple[str, ...]]

    def from_text(self, text: str) -> str:
        if text.strip() != self.name:
            raise GenotypeError(f"The space {self.name} holds one architecture, '{self.name}'; '{text}' is not it.")
        return self.name

    def to_text(self, genotype: str) -> str:
        return self.from_text(genotype)

    def sample(self, generator: Generator) -> str:
        """The architecture; draws nothing."""
        return self.name

    def mutate(self, genotype: str, generator: Generator) -> str:
        raise CapabilityError(f"The space {self.name} holds one architecture, which cannot be mutated.")

    def build(
        self,
        genotype: str,
        *,
        n_classes: int,
        channels: int,
        n_cells: int | None = None,
        in_channels: int = 3,
        stem: str = "plain",
        stem_multiplier: int = 1,
        auxiliary: bool = False,
        image_size: int | None = None,
    ) -> nn.Module:
        """The network; its depth and stem are part of it, so the other arguments are taken for uniformity only.

        Raises ConfigError when it is for images of one size and `image_size` is not given.
        """
        del n_cells, stem, stem_multiplier, auxiliary
        self.from_text(genotype)
        size = {"n_classes": n_classes, "channels": channels, "in_channels": in_channels}
        if self.one_image_size:
            if image_size is None:
                raise ConfigError(
                    f"The space {self.name} builds networks for images of one size, and none was given. "
                    "Pass `image_size`, the side of the images in pixels."
                )
            size["image_size"] = image_size
        return construct(lambda: type(self).network(**size))

    def graph(self, genotype: str) -> dict[str, list[dict[str, Any]]]:
        self.from_text(genotype)
        nodes = ["images", *(str(i + 1) for i in range(len(self.blocks) - 1)), "features"]
        edges = [[i, i + 1, block] for i, block in enumerate(self.blocks)]
        return {"cells": [{"name": self.name, "nodes": nodes, "edges": edges}]}
