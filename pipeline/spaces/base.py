"""What every space offers, and draws that any space needs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import nn

from pipeline.core.errors import CapabilityError
from pipeline.spaces.graph_form import GraphForm

if TYPE_CHECKING:
    import igraph

Generator = torch.Generator | np.random.Generator


def below(high: int, generator: Generator) -> int:
    """A uniform integer in 0 .. high - 1."""
    if isinstance(generator, np.random.Generator):
        return int(generator.integers(high))
    return int(torch.randint(high, (), generator=generator, device=generator.device))


class Space(ABC):
    """A set of architectures.

    Attributes:
        name: the name in the registry.
        operations: candidate operations in index order, `none` first; empty for a fixed net.
        cell_types: the kinds of cell, in the order of a mask's first axis.
        n_edges: possible edges of one cell.
        capabilities: subset of {"samples", "mutates", "prunes", "enumerates", "policy", "graph", "encodes",
            "relaxes"}; "graph" is a drawing, "encodes" graphs with typed vertices that a network can read and write,
            "relaxes" a supernet whose operations are weighted by parameters.
        n_genotypes: how many there are, None where nobody counts them.
        one_image_size: networks are made for square images of one size, which `build` must be told.
        small_kernel: channels and cells of the network on which TE-NAS takes kernels; spaces that prune have one.
    """

    name: ClassVar[str]
    operations: ClassVar[tuple[str, ...]]
    cell_types: ClassVar[tuple[str, ...]]
    n_edges: int
    capabilities: ClassVar[frozenset[str]]
    n_genotypes: ClassVar[int | None] = None
    one_image_size: ClassVar[bool] = False
    small_kernel: ClassVar[tuple[int, int]]

    @abstractmethod
    def from_text(self, text: str) -> Any:
        """The genotype written in `text`. Raises GenotypeError or UnknownNameError."""

    @abstractmethod
    def to_text(self, genotype: Any) -> str:
        """The text of a genotype; `from_text` gives the genotype back."""

    @abstractmethod
    def sample(self, generator: Generator) -> Any:
        """A random genotype."""

    @abstractmethod
    def mutate(self, genotype: Any, generator: Generator) -> Any:
        """A genotype that differs from `genotype` in one thing."""

    @abstractmethod
    def build(
        self,
        genotype: Any,
        *,
        n_classes: int,
        channels: int,
        n_cells: int,
        in_channels: int = 3,
        stem: str = "plain",
        stem_multiplier: int = 1,
        auxiliary: bool = False,
        image_size: int | None = None,
    ) -> nn.Module:
        """The network of a genotype, for training from scratch.

        A network that is no stack of cells takes `stem`, `stem_multiplier` and `auxiliary` for uniformity; they have no
        effect on it. `image_size`, the side of the images in pixels, is for networks made for one size only; others
        take it for uniformity.
        """

    @abstractmethod
    def graph(self, genotype: Any) -> dict[str, list[dict[str, Any]]]:
        """The genotype as graphs for drawings, in JSON's types: per cell its name, node labels and edges."""

    def is_connected(self, genotype: Any) -> bool:
        """Whether the images reach the classifier through the cells; true in spaces where they always do."""
        return True

    @property
    def policy_shapes(self) -> list[tuple[int, int]]:
        """Shapes (edges, choices) of the logits of a policy over this space. Raises CapabilityError without one."""
        raise CapabilityError(f"The space {self.name} has no policy to draw from. Choose another for this search.")

    def sample_from_policy(
        self, logits: Sequence[torch.Tensor], generator: torch.Generator
    ) -> tuple[Any, torch.Tensor]:
        """A genotype drawn from a policy, and the logarithm of its probability, differentiable in the logits."""
        raise CapabilityError(f"The space {self.name} has no policy to draw from. Choose another for this search.")

    def decode_policy(self, logits: Sequence[torch.Tensor]) -> Any:
        """The genotype that a policy prefers."""
        raise CapabilityError(f"The space {self.name} has no policy to draw from. Choose another for this search.")

    @property
    def graph_form(self) -> GraphForm:
        """The graphs with typed vertices that stand for genotypes. Raises CapabilityError without "encodes"."""
        self._encodes_nothing()

    def to_types(self, genotype: Any) -> torch.Tensor:
        """The types of the vertices of a genotype's graph: long, shape (n_vertices,)."""
        self._encodes_nothing()

    def from_types(self, types: torch.Tensor) -> Any:
        """The genotype of such types (n_vertices,). Raises GenotypeError when they are no architecture."""
        return self.all_from_types(types[None])[0]

    def all_from_types(self, types: torch.Tensor) -> list[Any]:
        """The genotypes of a batch of types (b n_vertices), as `from_types` gives them one by one."""
        self._encodes_nothing()

    def to_igraph(self, genotype: Any) -> "igraph.Graph":
        """The graph of a genotype: directed, each vertex with its `type`."""
        return self.graph_form.to_igraph(self.to_types(genotype), self.graph_form.adjacency())

    def from_igraph(self, graph: "igraph.Graph") -> Any:
        """The genotype of a graph, by its types; edges are the same for all genotypes and are not read.

        Raises GenotypeError when the types are no architecture.
        """
        return self.from_types(self.graph_form.from_igraph(graph)[0])

    def is_valid(self, types: torch.Tensor, adjacency: torch.Tensor) -> bool:
        """Whether a drawn graph stands for a genotype; `graph_form.valid` says how, and answers for whole batches.

        Args:
            types: long, shape (v,).
            adjacency: boolean, shape (v v), true at [u, v] for an edge from u to v.
        """
        return bool(self.graph_form.valid(types[None], adjacency[None]))

    def relax(self, n_classes: int, channels: int, in_channels: int = 3) -> nn.Module:
        """The supernet in which every operation runs, weighted by the softmax of architecture parameters.

        It maps images (n, c, h, w) to logits (n, n_classes), and has `features`, `feature_dim` and `classifier`; its
        architecture parameters are `alphas.normal` and so on, one per kind of cell, (n_edges, n_operations) each.
        Raises CapabilityError without "relaxes".
        """
        self._relaxes_nothing()

    def decode_alphas(self, *alphas: torch.Tensor) -> Any:
        """The genotype that architecture parameters stand for, one table per kind of cell, in that order."""
        self._relaxes_nothing()

    def _relaxes_nothing(self) -> NoReturn:
        raise CapabilityError(
            f"The space {self.name} has no supernet with architecture parameters. Choose one that has, such as tnas."
        )

    def _encodes_nothing(self) -> NoReturn:
        raise CapabilityError(
            f"The space {self.name} does not encode its genotypes as graphs with typed vertices. "
            "Choose one that does, such as nas_bench_201."
        )


def draw_choices(logits: torch.Tensor, generator: torch.Generator) -> tuple[list[int], torch.Tensor]:
    """One choice per row of logits (edges choices), and the log probability of each, shape (edges,)."""
    chosen = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)
    return chosen.flatten().tolist(), logits.log_softmax(-1).gather(1, chosen).flatten()
