"""Cells: small directed acyclic graphs of operations that are stacked to a network (Zoph et al. 2018, DARTS 2019).

A cell with `n_nodes` intermediate nodes has the nodes 0 and 1 (the preprocessed outputs of the two cells before it) and
2 .. n_nodes + 1. Intermediate node i (node i + 2) may read every earlier node; the edges are numbered in the order
(i, source). A node is the sum of its edges, the cell's output the channel concat of all intermediate nodes.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from pipeline.core.errors import GenotypeError
from pipeline.nets.drop_path import DropPath
from pipeline.nets.ops import OPERATIONS, FactorizedReduce, Operation, Operations, ReluConvNorm, make_operation

Term = tuple[int, Operation]
"""(the node that is read, the operation on it)."""


def edge_list(n_nodes: int) -> list[tuple[int, int]]:
    """(source node, target node) of every possible edge, in edge order; 9 edges for 3 nodes, 14 for 4."""
    return [(source, i + 2) for i in range(n_nodes) for source in range(i + 2)]


class NodeSums(nn.Module):
    """A graph whose nodes are sums of operations on earlier nodes.

    Attributes:
        plan: per computed node, its terms in groups of equal weight.
    """

    plan: list[list[tuple[float, list[Term]]]]

    def _node(
        self,
        groups: list[tuple[float, list[Term]]],
        nodes: list[torch.Tensor],
        begun: dict[tuple[int, str], torch.Tensor],
    ) -> torch.Tensor:
        total = None
        for weight, terms in groups:
            part = None
            for source, operation in terms:
                key = (source, operation.shared)
                start = begun.get(key)
                if start is None:
                    start = begun[key] = operation.begin(nodes[source])
                result = self._finish(operation, start)
                part = result if part is None else part + result
            if weight != 1.0:
                part = part * weight
            total = part if total is None else total + part
        return self._no_input(nodes[0]) if total is None else total

    def _finish(self, operation: Operation, start: torch.Tensor) -> torch.Tensor:
        return operation.finish(start)

    def _no_input(self, like: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(like)


def check_mask(mask: torch.Tensor, shape: tuple[int, ...], what: str) -> None:
    """Raise GenotypeError unless `mask` is boolean and of `shape`; `what` names who needs it."""
    if mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise GenotypeError(
            f"The mask has type {mask.dtype} and shape {tuple(mask.shape)}; {what} needs torch.bool and {shape}."
        )


def masked_plan(
    edges: Sequence[tuple[int, int]],
    n_nodes: int,
    rows: Sequence[Sequence[bool]],
    table: Sequence[Sequence[Operation | None]],
) -> list[list[tuple[float, list[Term]]]]:
    """The plan in which every edge is the mean of its active operations; an edge without any is zero.

    Args:
        edges: (source node, place of the target among the computed nodes).
        rows, table: a row per edge, an entry per operation: whether it is active, and the operation, None for `none`,
            which counts among the active ones and adds nothing.
    """
    groups: list[dict[float, list[Term]]] = [{} for _ in range(n_nodes)]
    for (source, target), row, candidates in zip(edges, rows, table, strict=True):
        n_active = sum(row)
        for active, operation in zip(row, candidates, strict=True):
            if active and operation is not None:
                groups[target].setdefault(1.0 / n_active, []).append((source, operation))
    return [list(of_node.items()) for of_node in groups]


class Cell(NodeSums):
    """What all cells with two inputs share: preprocessing, and the concat of their nodes.

    Args:
        c_before, c_previous: channels of the outputs of the cells k-2 and k-1.
        channels: channels of every node.
        reduction: edges out of the nodes 0 and 1 have stride 2.
        after_reduction: the cell k-1 is a reduction cell, so the output of k-2 is twice as large and is halved here.
    """

    def __init__(
        self, n_nodes: int, c_before: int, c_previous: int, channels: int, reduction: bool, after_reduction: bool
    ):
        super().__init__()
        self.n_nodes, self.channels, self.reduction = n_nodes, channels, reduction
        if after_reduction:
            self.preprocess0 = FactorizedReduce(c_before, channels)
        else:
            self.preprocess0 = ReluConvNorm(c_before, channels, 1, 1)
        self.preprocess1 = ReluConvNorm(c_previous, channels, 1, 1)
        self.plan = [[] for _ in range(n_nodes)]

    @property
    def out_channels(self) -> int:
        return self.n_nodes * self.channels

    def stride_from(self, source: int) -> int:
        """Stride of every edge that reads node `source`."""
        return 2 if self.reduction and source < 2 else 1

    def forward(self, before: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        """(n, n_nodes * channels, h', w') from the outputs of the cells k-2 and k-1."""
        nodes = [self.preprocess0(before), self.preprocess1(previous)]
        begun: dict[tuple[int, str], torch.Tensor] = {}
        for groups in self.plan:
            nodes.append(self._node(groups, nodes, begun))
        return torch.cat(nodes[2:], dim=1)

    def _no_input(self, like: torch.Tensor) -> torch.Tensor:
        n, _, h, w = like.shape
        stride = self.stride_from(0)
        return like.new_zeros(n, self.channels, math.ceil(h / stride), math.ceil(w / stride))


class MaskedCell(Cell):
    """A cell with every candidate operation on every edge, of which only those the mask allows are run.

    An edge with k active operations is their mean; an edge without any is zero. `none`, where it is active, counts in k
    and adds nothing.
    """

    def __init__(self, operations: Sequence[str], n_nodes: int, *shape: int | bool):
        super().__init__(n_nodes, *shape)
        self.edges = nn.ModuleList()
        self._table: list[list[Operation | None]] = []
        for source, _ in edge_list(n_nodes):
            stride = self.stride_from(source)
            candidates = {name: make_operation(name, self.channels, stride) for name in operations if name != "none"}
            self.edges.append(nn.ModuleDict(candidates))
            self._table.append([candidates.get(name) for name in operations])

    def set_mask(self, rows: Sequence[Sequence[bool]]) -> None:
        """Choose the active operations: one row per edge, one entry per operation."""
        edges = [(source, target - 2) for source, target in edge_list(self.n_nodes)]
        self.plan = masked_plan(edges, self.n_nodes, rows, self._table)


class DiscreteCell(Cell):
    """A cell of chosen operations with weight one, each followed by drop path unless it is the identity.

    Args:
        nodes: per intermediate node, its (operation, input node) pairs.
        table: the operations by name.
        The others are those of `Cell`.
    """

    def __init__(
        self,
        nodes: Sequence[Sequence[tuple[str, int]]],
        drop_path: DropPath,
        *shape: int | bool,
        table: Operations = OPERATIONS,
    ):
        super().__init__(len(nodes), *shape)
        self.drop_path = drop_path
        self.edges = nn.ModuleList()
        for i, inputs in enumerate(nodes):
            terms = [
                (source, make_operation(name, self.channels, self.stride_from(source), table))
                for name, source in inputs
            ]
            self.edges.extend(operation for _, operation in terms)
            self.plan[i] = [(1.0, terms)]

    def _finish(self, operation: Operation, start: torch.Tensor) -> torch.Tensor:
        result = operation.finish(start)
        return result if operation.is_identity else self.drop_path(result)
