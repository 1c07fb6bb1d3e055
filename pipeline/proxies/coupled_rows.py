"""What the indicators of TE-NAS and TEG-NAS share: gradient rows of a batch through train-mode BatchNorm."""

import functools

import torch
from torch import Tensor, nn

from pipeline import kernels
from pipeline.core.types import LabelledBatch


class CoupledRows:
    """The rows of `kernels.coupled_rows` for one network as it is now and one batch, each computed when asked for.

    Args:
        network: a network with BatchNorm, of one architecture.
        batch: images, and held-out images; each part is one training-mode pass.
    """

    def __init__(self, network: nn.Module, batch: LabelledBatch):
        self.network, self.batch = network, batch

    @functools.cached_property
    def _gradients(self) -> dict[str, Tensor]:
        return kernels.coupled_gradients(self.network, self.batch.images)

    @property
    def all_weights(self) -> Tensor:
        """(n p) of the images, in all weights that take part."""
        return _side_by_side(self._gradients, len(self.batch.images))

    @property
    def cell_weights(self) -> Tensor:
        """(n q) of the images, in those of the cells only."""
        return _side_by_side(self._of_cells, len(self.batch.images))

    def held_out_products(self, directions: Tensor) -> Tensor:
        """(m k): the rows of the held-out images in the weights of the cells, times directions (q k)."""
        images = self.batch.held_out_images
        if 4 * directions.shape[1] > len(images):
            rows = kernels.coupled_gradients(self.network, images, self._cells)
            return _side_by_side(rows, len(images)).double() @ directions
        sizes = [self._cells[name].numel() for name in self._of_cells]
        parts = directions.mT.to(images.dtype).split(sizes, dim=1)
        by_name = zip(self._of_cells, parts, strict=True)
        shaped = {name: part.unflatten(1, self._cells[name].shape) for name, part in by_name}
        return kernels.coupled_products(self.network, images, shaped)

    @functools.cached_property
    def _of_cells(self) -> dict[str, Tensor]:
        return {name: part for name, part in self._gradients.items() if name in self._cells}

    @functools.cached_property
    def _cells(self) -> dict[str, nn.Parameter]:
        return kernels.cell_weights_of(self.network)


def _side_by_side(gradients: dict[str, Tensor], n: int) -> Tensor:
    return torch.cat(list(gradients.values()), dim=1) if gradients else torch.zeros(n, 0)
