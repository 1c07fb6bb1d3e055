"""Spaces of repeated cells: two kinds of cell, any operation on any edge, two inputs kept per node (DARTS, 2019)."""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from pipeline.core.errors import GenotypeError
from pipeline.nets.cell_network import TrainableCellNetwork
from pipeline.nets.cells import check_mask, edge_list
from pipeline.nets.init import construct
from pipeline.nets.norms import convert_norms
from pipeline.spaces.base import Generator, Space, below, draw_choices
from pipeline.spaces.genotype import INPUTS_PER_NODE, Genotype, Node, check_cell, parse
from pipeline.spaces.supernet import Supernet


class CellSpace(Space):
    """A space of genotypes with a normal and a reduction cell; a subclass names `operations` and `n_nodes`."""

    cell_types = ("normal", "reduce")
    capabilities = frozenset({"samples", "mutates", "prunes", "policy", "graph"})
    n_nodes: ClassVar[int]
    small_kernel = (1, 2)

    @property
    def n_edges(self) -> int:
        return len(edge_list(self.n_nodes))

    @property
    def edge_groups(self) -> list[tuple[int, int]]:
        """Per intermediate node, the half-open range of the edges that lead to it."""
        starts = [i * (i + 3) // 2 for i in range(self.n_nodes + 1)]
        return list(itertools.pairwise(starts))

    def from_text(self, text: str) -> Genotype:
        return parse(text, operations=self.operations, n_nodes=self.n_nodes)

    def to_text(self, genotype: Genotype) -> str:
        self._check(genotype)
        return str(genotype)

    def sample(self, generator: Generator) -> Genotype:
        """A genotype with uniform pairs of inputs and uniform operations other than `none`."""
        return Genotype(*(self._sample_cell(generator) for _ in self.cell_types))

    def mutate(self, genotype: Genotype, generator: Generator) -> Genotype:
        """Exchange one operation, or move one edge to an input that its node does not read yet; never to `none`."""
        self._check(genotype)
        cells = [[list(pairs) for pairs in cell] for cell in genotype.cells]
        moves_edge = below(2, generator) == 1
        # the first intermediate node reads all there is to read, so none of its edges can move
        first = 1 if moves_edge and self.n_nodes > 1 else 0
        cell = cells[below(len(cells), generator)]
        node = first + below(self.n_nodes - first, generator)
        pairs = cell[node]
        slot = below(len(pairs), generator)
        operation, source = pairs[slot]
        if moves_edge and first:
            free = sorted(set(range(node + 2)) - {taken for _, taken in pairs})
            pairs[slot] = (operation, free[below(len(free), generator)])
        else:
            others = [name for name in self.operations[1:] if name != operation]
            pairs[slot] = (others[below(len(others), generator)], source)
        return Genotype(*(tuple(tuple(of_node) for of_node in changed) for changed in cells))

    @property
    def policy_shapes(self) -> list[tuple[int, int]]:
        """Per kind of cell all edges, with a choice of all operations but `none`."""
        return [(self.n_edges, len(self.operations) - 1) for _ in self.cell_types]

    def sample_from_policy(
        self, logits: Sequence[torch.Tensor], generator: torch.Generator
    ) -> tuple[Genotype, torch.Tensor]:
        """A genotype and its log probability as TEG-NAS (Chen et al., 2021) counts it.

        Every edge draws an operation. A node with more than two edges then keeps two, drawn without replacement with
        probabilities softmax(logits of the drawn operations). Only the kept edges' operations count for the log
        probability; the choice of edges has none.
        """
        cells, total = [], logits[0].new_zeros(())
        for of_cell in logits:
            chosen, log_probabilities = draw_choices(of_cell, generator)
            nodes = []
            for start, stop in self.edge_groups:
                strength = of_cell.detach()[range(start, stop), chosen[start:stop]]
                kept = list(range(stop - start))
                if len(kept) > INPUTS_PER_NODE:
                    drawn = torch.multinomial(strength.softmax(0), INPUTS_PER_NODE, generator=generator)
                    kept = sorted(drawn.tolist())
                nodes.append(tuple((self.operations[1 + chosen[start + source]], source) for source in kept))
                total = total + log_probabilities[[start + source for source in kept]].sum()
            cells.append(tuple(nodes))
        return Genotype(*cells), total

    def decode_policy(self, logits: Sequence[torch.Tensor]) -> Genotype:
        """The likeliest operation of every edge, and per node the two edges whose operation is likeliest."""
        cells = []
        for of_cell in logits:
            strength, chosen = (part.tolist() for part in of_cell.detach().softmax(-1).max(-1))
            nodes = []
            for start, stop in self.edge_groups:
                kept = sorted(range(start, stop), key=lambda edge: -strength[edge])[:INPUTS_PER_NODE]
                nodes.append(tuple((self.operations[1 + chosen[edge]], edge - start) for edge in sorted(kept)))
            cells.append(tuple(nodes))
        return Genotype(*cells)

    def build(
        self,
        genotype: Genotype,
        *,
        n_classes: int,
        channels: int,
        n_cells: int,
        in_channels: int = 3,
        stem: str = "plain",
        stem_multiplier: int = 1,
        auxiliary: bool = False,
        image_size: int | None = None,
    ) -> TrainableCellNetwork:
        """The network of a genotype, for training from scratch: BatchNorm, drop path, no norm before the pool.

        See `pipeline.nets.cell_network` for the arguments; images may have any size.
        """
        del image_size
        self._check(genotype)
        return construct(
            lambda: TrainableCellNetwork(
                genotype.normal,
                genotype.reduce,
                in_channels=in_channels,
                channels=channels,
                n_cells=n_cells,
                n_classes=n_classes,
                stem=stem,
                stem_multiplier=stem_multiplier,
                auxiliary=auxiliary,
            )
        )

    def graph(self, genotype: Genotype) -> dict[str, list[dict[str, Any]]]:
        self._check(genotype)
        labels = ["cell k-2", "cell k-1", *(str(i + 2) for i in range(self.n_nodes)), "output"]
        cells = []
        for name, cell in zip(self.cell_types, genotype.cells, strict=True):
            edges = [[source, i + 2, operation] for i, pairs in enumerate(cell) for operation, source in pairs]
            edges += [[i + 2, self.n_nodes + 2, "concat"] for i in range(self.n_nodes)]
            cells.append({"name": name, "nodes": labels, "edges": edges})
        return {"cells": cells}

    def full_mask(self) -> torch.Tensor:
        """Every operation but `none` active; boolean, shape (cell_types, n_edges, n_operations)."""
        mask = torch.ones(len(self.cell_types), self.n_edges, len(self.operations), dtype=torch.bool)
        mask[:, :, 0] = False
        return mask

    def mask_of(self, genotype: Genotype) -> torch.Tensor:
        """The mask whose only active operations are those of the genotype."""
        self._check(genotype)
        mask = torch.zeros_like(self.full_mask())
        edges = {edge: index for index, edge in enumerate(edge_list(self.n_nodes))}
        for c, cell in enumerate(genotype.cells):
            for i, pairs in enumerate(cell):
                for operation, source in pairs:
                    mask[c, edges[source, i + 2], self.operations.index(operation)] = True
        return mask

    def genotype_of(self, mask: torch.Tensor) -> Genotype:
        """The genotype a mask stands for (the discretisation of DARTS, equation 2, on weights 1/k).

        An edge with k active operations gives each the weight 1/k. Every node keeps the two edges of largest weight,
        the earlier edge first among equals, and on each the first active operation other than `none`.

        Raises GenotypeError when a node has fewer than two edges with such an operation.
        """
        check_mask(mask, tuple(self.full_mask().shape), self.name)
        cells = zip(self.cell_types, mask.tolist(), strict=True)
        return Genotype(*(self._cell_of(rows, cell_type) for cell_type, rows in cells))

    def supernet(
        self, *, n_classes: int, channels: int, n_cells: int, norm: str = "groupnorm16", in_channels: int = 3
    ) -> Supernet:
        """The supernet for kernels, under the full mask. Raises ConfigError when `norm` cannot hold `channels`."""
        network = construct(
            lambda: convert_norms(
                Supernet(
                    self.operations,
                    self.n_nodes,
                    in_channels=in_channels,
                    channels=channels,
                    n_cells=n_cells,
                    n_classes=n_classes,
                ),
                norm,
            )
        )
        network.set_mask(self.full_mask())
        return network

    def thin_supernet(self) -> Supernet:
        """The supernet for linear regions: one channel, two cells, BatchNorm, no stem (TE-NAS, 2021, section 3.1.2).

        Takes images (n, 1, h, w); its second cell is a reduction cell with two channels.
        """
        network = construct(
            lambda: Supernet(
                self.operations, self.n_nodes, in_channels=1, channels=1, n_cells=2, n_classes=1, stem=False
            )
        )
        network.set_mask(self.full_mask())
        return network

    def _check(self, genotype: Genotype) -> None:
        for name, cell in zip(self.cell_types, genotype.cells, strict=True):
            check_cell(cell, name, operations=self.operations, n_nodes=self.n_nodes)

    def _sample_cell(self, generator: Generator) -> tuple[Node, ...]:
        nodes = []
        for i in range(self.n_nodes):
            sources = list(range(i + 2))
            chosen = sorted(sources.pop(below(len(sources), generator)) for _ in range(INPUTS_PER_NODE))
            names = [self.operations[1 + below(len(self.operations) - 1, generator)] for _ in chosen]
            nodes.append(tuple(zip(names, chosen, strict=True)))
        return tuple(nodes)

    def _cell_of(self, rows: list[list[bool]], cell_type: str) -> tuple[Node, ...]:
        nodes = []
        for target, (start, stop) in enumerate(self.edge_groups, start=2):
            usable = [edge for edge in range(start, stop) if any(rows[edge][1:])]
            if len(usable) < INPUTS_PER_NODE:
                raise GenotypeError(
                    f"Node {target} of the {cell_type} cell has {len(usable)} edges with an active operation; "
                    f"a genotype needs {INPUTS_PER_NODE}."
                )
            kept = sorted(usable, key=lambda edge: sum(rows[edge]))[:INPUTS_PER_NODE]
            nodes.append(tuple((self.operations[1 + rows[edge][1:].index(True)], edge - start) for edge in kept))
        return tuple(nodes)
