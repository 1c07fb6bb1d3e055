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
        cells = {name: part for name, part in self._gradients.items() if name in self._cells}
        return _side_by_side(cells, len(self.batch.images))

    @functools.cached_property
    def held_out_cell_weights(self) -> Tensor:
        """(m q) of the held-out images, in the weights of the cells."""
        images = self.batch.held_out_images
        return _side_by_side(kernels.coupled_gradients(self.network, images, self._cells), len(images))

    @functools.cached_property
    def _cells(self) -> dict[str, nn.Parameter]:
        return kernels.cell_weights_of(self.network)


def _side_by_side(gradients: dict[str, Tensor], n: int) -> Tensor:
    return torch.cat(list(gradients.values()), dim=1) if gradients else torch.zeros(n, 0)
