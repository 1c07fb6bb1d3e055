"""Error of kernel regression with the cells' tangent kernel on held-out images."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pipeline import kernels
from pipeline.core.types import LabelledBatch
from pipeline.proxies import PROXIES
from pipeline.proxies.coupled_rows import CoupledRows


@PROXIES.register("ntk_regression_error")
@dataclass(frozen=True)
class NtkRegressionError:
    """How far the tangent kernel at initialisation is from the labels of images it has not seen; low is good.

    The generalisation of TEG-NAS (Chen et al., Understanding and Accelerating Neural Architecture Search with
    Training-Free and Theory-Grounded Metrics, 2021): kernel regression from the images to the held-out images by the
    gradients of the cells' weights through train-mode BatchNorm, a pass of its own for each of the two. Like
    `coupled_ntk_condition` it belongs to the coupled kernel and is never mixed with the per-image `ntk_condition`.
    """

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[str] = "labelled"
    network: ClassVar[str] = "coupled"
    shares: ClassVar[type] = CoupledRows

    def __call__(self, network: nn.Module, batch: LabelledBatch, generator: torch.Generator) -> float:
        """Mean over held-out images of the squared error, summed over classes; infinite where the kernel is singular.

        Draws nothing.
        """
        return self.of(CoupledRows(network, batch))

    def of(self, rows: CoupledRows) -> float:
        """The same, of rows that other proxies may use too."""
        batch = rows.batch
        weights = kernels.regression_weights(rows.cell_weights, batch.labels, batch.n_classes)
        if weights is None:
            return math.inf
        # classes without an image have nothing to foretell, and the predictions of an image sum to zero
        present = batch.labels.unique()
        first = rows.held_out_products(weights[:, present[:-1].to(weights.device)]).double()
        predicted = first.new_zeros(len(first), batch.n_classes)
        predicted[:, present] = torch.cat([first, -first.sum(1, keepdim=True)], dim=1)
        return kernels.prediction_error(predicted, batch.held_out_labels, batch.n_classes)
