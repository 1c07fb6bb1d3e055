"""The supernet of a cell space: all candidate operations at once, of which a boolean mask says which are run."""

from collections.abc import Sequence

import torch

from pipeline.nets.cell_network import CellNetwork, CellShape
from pipeline.nets.cells import MaskedCell, check_mask, edge_list


class Supernet(CellNetwork):
    """A stack of masked cells, closed by a norm and a ReLU; all cells of one kind share one mask.

    Args:
        operations: candidates on every edge, in the order of the mask's last axis; the first is `none`.
        n_nodes: intermediate nodes of a cell.
        The others are those of `CellNetwork`.

    Attributes:
        mask: the mask in force, boolean, shape (cell_types, n_edges, n_operations).
    """

    def __init__(
        self,
        operations: Sequence[str],
        n_nodes: int,
        *,
        in_channels: int,
        channels: int,
        n_cells: int,
        n_classes: int,
        stem: bool = True,
    ):
        def make_cell(shape: CellShape) -> MaskedCell:
            return MaskedCell(operations, n_nodes, *shape)

        super().__init__(
            make_cell,
            in_channels=in_channels,
            channels=channels,
            n_cells=n_cells,
            n_classes=n_classes,
            stem="plain" if stem else "none",
            final_activation=True,
        )
        self.mask_shape = (2, len(edge_list(n_nodes)), len(operations))
        self.mask: torch.Tensor | None = None

    def set_mask(self, mask: torch.Tensor) -> None:
        """Run only the operations that `mask` allows, each edge as the mean of its active operations.

        Args:
            mask: boolean, shape (cell_types, n_edges, n_operations); cell types in the order normal, reduce.

        Weights are left alone. Raises GenotypeError for another type or shape.
        """
        check_mask(mask, self.mask_shape, "this supernet")
        self.mask = mask.clone()
        normal, reduce = mask.tolist()
        for cell in self.cells:
            cell.set_mask(reduce if cell.reduction else normal)
