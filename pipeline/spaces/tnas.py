"""The cell space of T-NAS and Auto-MAML (Lian et al., ICLR 2020): the operations of DARTS in a network of two cells."""

from collections.abc import Sequence

import torch

from pipeline.core.errors import GenotypeError
from pipeline.nets.cell_network import TrainableCellNetwork
from pipeline.nets.init import construct
from pipeline.nets.ops import ZEROS_FIRST
from pipeline.nets.relaxed import RelaxedNetwork
from pipeline.spaces import SPACES
from pipeline.spaces.cell_space import CellSpace
from pipeline.spaces.genotype import INPUTS_PER_NODE, Genotype, Node

N_CELLS = 2
OUTLINE = {"n_cells": N_CELLS, "stem": "pooling", "stem_multiplier": 3}
RELAXED = ZEROS_FIRST | {name: ZEROS_FIRST[f"{name}BN"] for name in ("max_pool_3x3", "avg_pool_3x3")}
"""The operations as the supernet has them: a norm behind poolings too."""


@SPACES.register("tnas")
class TNas(CellSpace):
    """14 edges a cell, 7 operations and `none`; a normal and a reduction cell behind two pooled convolutions.

    A text may list the inputs of a node in any order; `decode_alphas` writes the stronger first, as T-NAS does, and the
    order is kept. `Genotype.in_order` gives genotypes that differ in it alone one form.
    """

    n_nodes = 4
    operations = (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    # no "prunes": the supernets for kernels have another outline than the network that is trained here
    capabilities = frozenset({"samples", "mutates", "policy", "graph", "relaxes"})

    def build(
        self,
        genotype: Genotype,
        *,
        n_classes: int,
        channels: int,
        n_cells: int = N_CELLS,
        in_channels: int = 3,
        stem: str = "pooling",
        stem_multiplier: int = 3,
        auxiliary: bool = False,
        image_size: int | None = None,
    ) -> TrainableCellNetwork:
        """The network of a genotype, for training from scratch.

        It always has two cells, a stem of 3 * channels and no auxiliary classifier; arguments that say otherwise are
        taken for uniformity only.
        """
        del n_cells, stem, stem_multiplier, auxiliary, image_size
        self._check(genotype)
        return construct(
            lambda: TrainableCellNetwork(
                genotype.normal,
                genotype.reduce,
                in_channels=in_channels,
                channels=channels,
                n_classes=n_classes,
                table=ZEROS_FIRST,
                **OUTLINE,
            )
        )

    def relax(self, n_classes: int, channels: int, in_channels: int = 3) -> RelaxedNetwork:
        return construct(
            lambda: RelaxedNetwork(
                self.operations,
                self.n_nodes,
                in_channels=in_channels,
                channels=channels,
                n_classes=n_classes,
                table=RELAXED,
                **OUTLINE,
            )
        )

    def decode_alphas(self, normal: torch.Tensor, reduce: torch.Tensor) -> Genotype:
        """The genotype that architecture parameters stand for, by the rule of T-NAS.

        An edge scores the largest weight that the softmax of its row, in float32, gives an operation other than `none`.
        Each node keeps its two best edges, the stronger first, each with its best operation; among equals the lower
        input and the earlier operation win. `none` is never chosen, but takes its share of the softmax.

        Args:
            normal, reduce: shape (n_edges, n_operations).

        Raises GenotypeError for other shapes and for values that are no numbers.
        """
        return Genotype(*(self._decoded(*cell) for cell in zip((normal, reduce), self.cell_types, strict=True)))

    def _decoded(self, alphas: torch.Tensor, cell_type: str) -> tuple[Node, ...]:
        shape = (self.n_edges, len(self.operations))
        if tuple(alphas.shape) != shape:
            raise GenotypeError(
                f"The alphas of the {cell_type} cell have shape {tuple(alphas.shape)}; this space needs {shape}."
            )
        weights = alphas.detach().float().softmax(-1)
        if weights.isnan().any():
            raise GenotypeError(
                f"The alphas of the {cell_type} cell hold values that are no numbers, so they stand for no genotype. "
                "Lower the learning rate of the alphas."
            )
        rows = weights[:, 1:].tolist()
        nodes = []
        for start, stop in self.edge_groups:
            kept = sorted(range(start, stop), key=lambda edge: -max(rows[edge]))[:INPUTS_PER_NODE]
            nodes.append(tuple((self.operations[1 + _best(rows[edge])], edge - start) for edge in kept))
        return tuple(nodes)


def _best(weights: Sequence[float]) -> int:
    return max(range(len(weights)), key=weights.__getitem__)
