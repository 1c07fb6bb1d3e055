"""NAS-Bench-201 (Dong and Yang, ICLR 2020), the topology space of NATS-Bench: 15,625 cells with published accuracies.

The text is the benchmark's own: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, per node its incoming edges with the node each
one reads.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.core.errors import GenotypeError, UnknownNameError
from pipeline.nets.cells import check_mask
from pipeline.nets.init import construct
from pipeline.nets.norms import convert_norms
from pipeline.nets.stage_network import EDGES, MaskedStageNetwork, TrainableStageNetwork
from pipeline.spaces import SPACES
from pipeline.spaces.base import Generator, Space, below, draw_choices
from pipeline.spaces.graph_form import GraphForm

N_NODES = 3
_EXAMPLE = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
_NODE = re.compile(r"\|(?:[^|~]*~\d\|)+")


def _line_graph() -> tuple[tuple[int, int], ...]:
    """Edges of the graph whose vertices 1 to 6 are the cell's edges; see `NasBench201.graph_form`."""
    end = len(EDGES) + 1
    flow = {(0, vertex) for vertex, (source, _) in enumerate(EDGES, start=1) if source == 0}
    flow |= {(vertex, end) for vertex, (_, target) in enumerate(EDGES, start=1) if target == N_NODES}
    flow |= {
        (first, second)
        for first, (_, target) in enumerate(EDGES, start=1)
        for second, (source, _) in enumerate(EDGES, start=1)
        if target == source
    }
    chain = {(vertex, vertex + 1) for vertex in range(1, len(EDGES))}
    return tuple(sorted(flow | chain))


@dataclass(frozen=True)
class DenseGenotype:
    """One operation for each of the edges (0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)."""

    operations: tuple[str, ...]


@SPACES.register("nas_bench_201")
class NasBench201(Space):
    """Six edges, four operations and `none`."""

    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    cell_types = ("cell",)
    capabilities = frozenset({"samples", "mutates", "prunes", "enumerates", "policy", "graph", "encodes"})
    n_edges = len(EDGES)
    n_genotypes = len(operations) ** len(EDGES)
    small_kernel = (3, 3)
    edge_groups: tuple[tuple[int, int], ...] = ()
    graph_form = GraphForm(n_vertices=len(EDGES) + 2, n_types=len(operations) + 2, edges=_line_graph())
    """Start (type 0), one vertex for each edge of the cell in their order (type 2 and the operation's index), end (1).

    Its edges are MetaD2A's: where an edge of the cell leads on to another, and from each operation's vertex to the
    next.
    """

    def from_text(self, text: str) -> DenseGenotype:
        nodes = text.strip().split("+")
        if len(nodes) != N_NODES or not all(_NODE.fullmatch(node) for node in nodes):
            shown = repr(text if len(text) <= 120 else text[:117] + "...")
            raise GenotypeError(f"This is no cell of {self.name}: {shown}. Expected a text such as {_EXAMPLE}.")
        names = []
        for place, node in enumerate(nodes, start=1):
            pairs = [part.split("~") for part in node.strip("|").split("|")]
            if [source for _, source in pairs] != [str(source) for source in range(place)]:
                raise GenotypeError(
                    f"Node {place} of a cell of {self.name} reads the nodes 0 to {place - 1}, each once and in order; "
                    f"{node} does not. Expected a text such as {_EXAMPLE}."
                )
            names += [name for name, _ in pairs]
        return self._checked(DenseGenotype(tuple(names)))

    def to_text(self, genotype: DenseGenotype) -> str:
        names = iter(self._checked(genotype).operations)
        nodes = ("".join(f"{next(names)}~{source}|" for source in range(place)) for place in range(1, N_NODES + 1))
        return "+".join(f"|{node}" for node in nodes)

    def sample(self, generator: Generator) -> DenseGenotype:
        """Uniform operations on all edges, `none` among them."""
        return DenseGenotype(tuple(self.operations[below(len(self.operations), generator)] for _ in EDGES))

    def mutate(self, genotype: DenseGenotype, generator: Generator) -> DenseGenotype:
        """Another operation on one edge: a uniform node, a uniform edge into it, a uniform other operation."""
        names = list(self._checked(genotype).operations)
        target = 1 + below(N_NODES, generator)
        into = [edge for edge, (_, to) in enumerate(EDGES) if to == target]
        edge = into[below(len(into), generator)]
        others = [name for name in self.operations if name != names[edge]]
        names[edge] = others[below(len(others), generator)]
        return DenseGenotype(tuple(names))

    def enumerate(self) -> Iterator[DenseGenotype]:
        """All 15,625 genotypes, the operation of the last edge changing fastest, in the order of `operations`.

        This is not the order of the benchmark's files; those name their cells by text.
        """
        return map(DenseGenotype, itertools.product(self.operations, repeat=len(EDGES)))

    def isomorphism_class(self, genotype: DenseGenotype) -> str:
        """A text that cells share when they compute the same function of their input for any weights.

        The benchmark's rule: `skip_connect` passes on what its node is, the terms of a sum have no order, and what
        `none` stops, or an operation makes of a stopped node, counts as stopped.
        """
        names = dict(zip(EDGES, self._checked(genotype).operations, strict=True))
        values = ["0"]
        for target in range(1, N_NODES + 1):
            terms = (self._term(names[source, target], values[source]) for source in range(target))
            values.append("+".join(sorted(terms)))
        return values[-1]

    @staticmethod
    def _term(name: str, value: str) -> str:
        if name == "none" or value == "#":
            return "#"
        return value if name == "skip_connect" else f"({value})@{name}"

    def is_connected(self, genotype: DenseGenotype) -> bool:
        """Whether a path of operations other than `none` leads from the cell's input to its output; 15,284 have one."""
        reached = {0}
        for (source, target), name in zip(EDGES, self._checked(genotype).operations, strict=True):
            if source in reached and name != "none":
                reached.add(target)
        return N_NODES in reached

    def distance(self, first: DenseGenotype, second: DenseGenotype) -> int:
        """Number of edges with different operations."""
        return sum(a != b for a, b in zip(first.operations, second.operations, strict=True))

    @property
    def policy_shapes(self) -> list[tuple[int, int]]:
        """Six edges with a choice of all five operations."""
        return [(len(EDGES), len(self.operations))]

    def sample_from_policy(
        self, logits: Sequence[torch.Tensor], generator: torch.Generator
    ) -> tuple[DenseGenotype, torch.Tensor]:
        """Independent operations on all edges, `none` among them, and the log probability of all together."""
        chosen, log_probabilities = draw_choices(logits[0], generator)
        return DenseGenotype(tuple(self.operations[i] for i in chosen)), log_probabilities.sum()

    def decode_policy(self, logits: Sequence[torch.Tensor]) -> DenseGenotype:
        """The likeliest operation of every edge."""
        return DenseGenotype(tuple(self.operations[i] for i in logits[0].argmax(-1).tolist()))

    def build(
        self,
        genotype: DenseGenotype,
        *,
        n_classes: int,
        channels: int,
        n_cells: int,
        in_channels: int = 3,
        stem: str = "plain",
        stem_multiplier: int = 1,
        auxiliary: bool = False,
        image_size: int | None = None,
    ) -> TrainableStageNetwork:
        """The network of a cell, for training from scratch; the benchmark's own has 16 channels and 15 cells.

        Its stem is part of the benchmark: the last four arguments are taken for uniformity and have no effect.
        """
        del stem, stem_multiplier, auxiliary, image_size
        names = self._checked(genotype).operations
        return construct(
            lambda: TrainableStageNetwork(
                names, in_channels=in_channels, channels=channels, n_cells=n_cells, n_classes=n_classes
            )
        )

    def graph(self, genotype: DenseGenotype) -> dict[str, list[dict[str, Any]]]:
        names = self._checked(genotype).operations
        labels = ["input", *(str(place) for place in range(1, N_NODES)), "output"]
        edges = [[source, target, name] for (source, target), name in zip(EDGES, names, strict=True)]
        return {"cells": [{"name": self.cell_types[0], "nodes": labels, "edges": edges}]}

    def to_types(self, genotype: DenseGenotype) -> torch.Tensor:
        """Long, shape (8,)."""
        form, names = self.graph_form, self._checked(genotype).operations
        kinds = [form.first_operation + self.operations.index(name) for name in names]
        return torch.tensor([form.start, *kinds, form.end])

    def all_from_types(self, types: torch.Tensor) -> list[DenseGenotype]:
        """The cells of types (b 8). Raises GenotypeError unless each are start, six operations, end."""
        self.graph_form.check(types)
        first = self.graph_form.first_operation
        rows = types[:, 1:-1].tolist()
        return [DenseGenotype(tuple(self.operations[kind - first] for kind in row)) for row in rows]

    def full_mask(self) -> torch.Tensor:
        """Every operation but `none` active; boolean, shape (1, 6, 5)."""
        mask = torch.ones(1, len(EDGES), len(self.operations), dtype=torch.bool)
        mask[..., 0] = False
        return mask

    def mask_of(self, genotype: DenseGenotype) -> torch.Tensor:
        """The mask whose only active operations are those of the genotype."""
        mask = torch.zeros(1, len(EDGES), len(self.operations), dtype=torch.bool)
        for edge, name in enumerate(self._checked(genotype).operations):
            mask[0, edge, self.operations.index(name)] = True
        return mask

    def genotype_of(self, mask: torch.Tensor) -> DenseGenotype:
        """The genotype a mask stands for: on every edge its first active operation, `none` where there is none.

        Raises GenotypeError for a mask of another type or shape.
        """
        check_mask(mask, (1, len(EDGES), len(self.operations)), self.name)
        rows = mask[0].tolist()
        return DenseGenotype(tuple(self.operations[row.index(True)] if any(row) else "none" for row in rows))

    def supernet(
        self, *, n_classes: int, channels: int, n_cells: int, norm: str = "groupnorm16", in_channels: int = 3
    ) -> MaskedStageNetwork:
        """The supernet for kernels, under the full mask. Raises ConfigError when `norm` cannot hold `channels`."""
        return self._masked(norm, in_channels=in_channels, channels=channels, n_cells=n_cells, n_classes=n_classes)

    def thin_supernet(self) -> MaskedStageNetwork:
        """The supernet for linear regions: one cell of one channel, BatchNorm, no stem; takes images (n, 1, h, w)."""
        return self._masked("batchnorm", in_channels=1, channels=1, n_cells=1, n_classes=1, stem=False)

    def _masked(self, norm: str, **sizes: int | bool) -> MaskedStageNetwork:
        network = construct(lambda: convert_norms(MaskedStageNetwork(self.operations, **sizes), norm))
        network.set_mask(self.full_mask())
        return network

    def _checked(self, genotype: DenseGenotype) -> DenseGenotype:
        if len(genotype.operations) != len(EDGES):
            raise GenotypeError(f"A cell of {self.name} has {len(EDGES)} edges, not {len(genotype.operations)}.")
        for name in genotype.operations:
            if name not in self.operations:
                raise UnknownNameError("operation", name, self.operations)
        return genotype
