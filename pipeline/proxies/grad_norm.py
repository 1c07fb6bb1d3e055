"""Size of the loss's gradient."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pipeline.core.types import LabelledBatch
from pipeline.proxies import PROXIES
from pipeline.proxies.loss_gradients import LossGradients


@PROXIES.register("grad_norm")
@dataclass(frozen=True)
class GradNorm:
    """Sum over convolutions and matrix layers of the L2 norm of the gradient of a batch's mean cross-entropy.

    Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021; high is good.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "labelled"
    network: ClassVar[str] = "full"
    shares: ClassVar[type] = LossGradients

    def __call__(self, network: nn.Module, batch: LabelledBatch, generator: torch.Generator) -> float:
        """Sum of norms for the batch's images, in one training-mode pass. Draws nothing."""
        return self.of(LossGradients(network, batch))

    def of(self, gradients: LossGradients) -> float:
        """The same, of gradients that other proxies may use too."""
        return float(sum(gradient.double().norm() for _, gradient in gradients.by_weight))
