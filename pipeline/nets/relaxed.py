"""Continuous relaxation: cells that run every candidate at once, weighted by what is learned beside the weights.

DARTS (Liu et al., ICLR 2019), equation 2, in the form of T-NAS (Lian et al., ICLR 2020): an edge is the sum of its
operations, weighted by the softmax of a row of architecture parameters, alphas. `none` takes its share of the softmax
and adds nothing. Every operation but the identity ends with a norm without weights, poolings too.

Nodes are rectified and pooled once for all operations that read them, on a processor maps and their gradients lie
channels last in memory, and each norm takes the weight of its operation upon itself, so that no product of a weight and
a map is kept for the backward pass.
"""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.nets.cell_network import CellNetwork, CellShape
from pipeline.nets.cells import Cell, edge_list
from pipeline.nets.init import OwnWeights
from pipeline.nets.norms import convert_norms
from pipeline.nets.ops import OPERATIONS, Operation, Operations, channels_last, make_operation

SPREAD = 1e-3


class Alphas(OwnWeights):
    """Architecture parameters of a normal and a reduction cell.

    Attributes:
        normal, reduce: shape (n_edges, n_operations); drawn normal, with a standard deviation of 1e-3.
    """

    def __init__(self, n_edges: int, n_operations: int):
        super().__init__()
        self.normal = nn.Parameter(torch.zeros(n_edges, n_operations))
        self.reduce = nn.Parameter(torch.zeros(n_edges, n_operations))

    def draw_weights(self, generator: torch.Generator) -> None:
        for alpha in (self.normal, self.reduce):
            drawn = torch.randn(alpha.shape, generator=generator, device=generator.device, dtype=alpha.dtype)
            alpha.copy_(drawn.mul_(SPREAD))


class _DenseGradient(torch.autograd.Function):
    """The map itself, whose gradient is laid out channels last for all that lies before.

    The gradient of a part of a concat is a view with gaps, through which torch's norms go at a fifth of their speed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return channels_last(gradient)


class RelaxedCell(Cell):
    """A cell with every candidate operation on every edge.

    Args:
        operations: names of the candidates in the order of a row of weights; `none` has no module.
        table: the operations by name.
        The others are those of `Cell`.
    """

    def __init__(self, operations: Sequence[str], n_nodes: int, *shape: int | bool, table: Operations = OPERATIONS):
        super().__init__(n_nodes, *shape)
        self.edges = nn.ModuleList()
        self._into: list[list[tuple[int, list[tuple[int, Operation]]]]] = [[] for _ in range(n_nodes)]
        for source, target in edge_list(n_nodes):
            stride = self.stride_from(source)
            candidates = {
                name: make_operation(name, self.channels, stride, table) for name in operations if name != "none"
            }
            self.edges.append(nn.ModuleDict(candidates))
            terms = [(operations.index(name), operation) for name, operation in candidates.items()]
            self._into[target - 2].append((source, terms))
        convert_norms(self, "scalednorm")

    def forward(self, before: torch.Tensor, previous: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """(n, n_nodes * channels, h', w') from the outputs of the cells k-2 and k-1.

        Args:
            weights: of the operations on each edge, shape (n_edges, n_operations).
        """
        nodes = [self.preprocess0(before), self.preprocess1(previous)]
        begun: dict[tuple[int, str], torch.Tensor] = {}
        rows = iter(weights.unbind())
        for into in self._into:
            total = None
            for source, terms in into:
                row = next(rows).unbind()
                for place, operation in terms:
                    key = (source, operation.shared)
                    start = begun.get(key)
                    if start is None:
                        start = begun[key] = operation.begin(nodes[source])
                    term = operation.weighted(start, row[place])
                    total = term if total is None else total + term
            nodes.append(_DenseGradient.apply(total) if total.device.type == "cpu" else total)
        return torch.cat(nodes[2:], dim=1)


class RelaxedNetwork(CellNetwork):
    """A stack of relaxed cells; all cells of one kind share one table of alphas.

    Args:
        operations: candidates on every edge, in the order of the alphas' last axis; the first is `none`.
        n_nodes: intermediate nodes of a cell.
        table: the operations by name.
        The others are those of `CellNetwork`.

    Attributes:
        alphas: the architecture parameters; `alphas.normal` and `alphas.reduce` among the network's parameters.
    """

    def __init__(self, operations: Sequence[str], n_nodes: int, *, table: Operations = OPERATIONS, **more: int | str):
        def make_cell(shape: CellShape) -> RelaxedCell:
            return RelaxedCell(operations, n_nodes, *shape, table=table)

        super().__init__(make_cell, final_activation=False, **more)
        self.alphas = Alphas(len(edge_list(n_nodes)), len(operations))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, feature_dim) from images (n, in_channels, h, w)."""
        normal, reduce = (alpha.softmax(-1) for alpha in (self.alphas.normal, self.alphas.reduce))
        before = self.stem(channels_last(images) if images.device.type == "cpu" else images)
        previous = self.second_stem(before)
        for cell in self.cells:
            before, previous = previous, cell(before, previous, reduce if cell.reduction else normal)
        return self.final(previous).mean(dim=(2, 3))
