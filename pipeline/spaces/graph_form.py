"""How a space writes its architectures as graphs with typed vertices (as MetaD2A, ICLR 2021, and D-VAE before it)."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.core.errors import GenotypeError

if TYPE_CHECKING:
    import igraph


@dataclass(frozen=True)
class GraphForm:
    """Graphs of one topology: architectures differ in the types of the vertices only.

    Vertices are numbered so that edges lead from lower to higher numbers. The first is the start, the last the end,
    and each between stands for an operation.

    Attributes:
        n_vertices: vertices of every graph.
        n_types: types of vertices; those of operations come last, in the order of the space's operations.
        edges: pairs (from, to) with from < to.
        start: type of the first vertex.
        end: type of the last vertex.
        first_operation: least type of an operation.
    """

    n_vertices: int
    n_types: int
    edges: tuple[tuple[int, int], ...]
    start: int = 0
    end: int = 1
    first_operation: int = 2

    def __post_init__(self):
        if not all(0 <= source < target < self.n_vertices for source, target in self.edges):
            raise GenotypeError(
                f"Edges lead from a lower to a higher of the vertices 0 to {self.n_vertices - 1}; got {self.edges}."
            )

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Per vertex those that lead to it, the highest first."""
        return tuple(
            tuple(sorted((source for source, to in self.edges if to == target), reverse=True))
            for target in range(self.n_vertices)
        )

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """Per vertex those that it leads to, the lowest first."""
        return tuple(
            tuple(sorted(to for source, to in self.edges if source == vertex)) for vertex in range(self.n_vertices)
        )

    def adjacency(self) -> Tensor:
        """Boolean (n_vertices n_vertices), true at [u, v] for an edge from u to v."""
        matrix = torch.zeros(self.n_vertices, self.n_vertices, dtype=torch.bool)
        for source, target in self.edges:
            matrix[source, target] = True
        return matrix

    def check(self, types: Tensor) -> None:
        """Raise GenotypeError unless `types` (b n_vertices) are start, operations, end in whole numbers."""
        if types.dtype != torch.long or types.ndim != 2 or types.shape[1] != self.n_vertices:
            raise GenotypeError(
                f"Types of vertices are whole numbers (torch.long), {self.n_vertices} a graph; "
                f"got {types.dtype} of shape {tuple(types.shape)}."
            )
        wrong = ~self._well_typed(types)
        if wrong.any():
            raise GenotypeError(
                f"The types {types[wrong][0].tolist()} are no architecture: the first vertex must be the start "
                f"({self.start}), the last the end ({self.end}), and each between an operation "
                f"({self.first_operation} to {self.n_types - 1})."
            )

    def valid(self, types: Tensor, adjacency: Tensor) -> Tensor:
        """Which graphs stand for an architecture.

        They have as many vertices as the form, start, operations and end in their places, no directed cycle, a
        predecessor of every vertex but the start and a successor of every vertex but the end. That the edges are
        those of the form is not asked: they are the same for all architectures and carry no information.

        Args:
            types: long, shape (b v).
            adjacency: boolean, shape (b v v), true at [u, v] for an edge from u to v.

        Returns:
            boolean, shape (b,).
        """
        n = types.shape[-1]
        if adjacency.shape != (*types.shape, n):
            raise GenotypeError(
                f"Types of shape {tuple(types.shape)} go with an adjacency of shape {(*types.shape, n)}; "
                f"got {tuple(adjacency.shape)}."
            )
        if n != self.n_vertices:
            return torch.zeros(len(types), dtype=torch.bool, device=types.device)
        walks = adjacency.float()
        for _ in range(n.bit_length()):
            walks = (walks @ walks).clamp(max=1)
        acyclic = (walks == 0).flatten(1).all(1)
        entered, left = adjacency.any(-2)[:, 1:].all(1), adjacency.any(-1)[:, :-1].all(1)
        return self._well_typed(types) & acyclic & entered & left

    def _well_typed(self, types: Tensor) -> Tensor:
        inner = types[..., 1:-1]
        operations = ((inner >= self.first_operation) & (inner < self.n_types)).all(-1)
        return operations & (types[..., 0] == self.start) & (types[..., -1] == self.end)

    def to_igraph(self, types: Tensor, adjacency: Tensor) -> "igraph.Graph":
        """A directed graph whose vertices carry their `type`.

        A graph stops at its first end; what stands behind it (`pipeline.meta_networks` fills up with starts) is left
        out.

        Args:
            types: long, shape (v,).
            adjacency: boolean, shape (v v).
        """
        import igraph

        kinds = types.tolist()
        n = kinds.index(self.end) + 1 if self.end in kinds else len(kinds)
        edges = adjacency[:n, :n].nonzero().tolist()
        return igraph.Graph(n=n, edges=edges, directed=True, vertex_attrs={"type": kinds[:n]})

    def from_igraph(self, graph: "igraph.Graph") -> tuple[Tensor, Tensor]:
        """Types (v,) and adjacency (v v) of a directed graph whose vertices carry their `type`.

        A graph of fewer vertices than the form is filled up with starts without edges. Raises GenotypeError for more
        vertices, types that are no whole numbers, or edges without a direction.
        """
        kinds = graph.vs["type"] if "type" in graph.vs.attributes() else []
        if not graph.is_directed() or not 0 < len(kinds) <= self.n_vertices or any(type(k) is not int for k in kinds):
            raise GenotypeError(
                f"Expected a directed graph of at most {self.n_vertices} vertices, each with a whole number as its "
                f"attribute `type`; got {graph.vcount()} vertices, types {kinds}, directed: {graph.is_directed()}."
            )
        types = torch.full((self.n_vertices,), self.start)
        types[: len(kinds)] = torch.tensor(kinds)
        adjacency = torch.zeros(self.n_vertices, self.n_vertices, dtype=torch.bool)
        for source, target in graph.get_edgelist():
            adjacency[source, target] = True
        return types, adjacency
