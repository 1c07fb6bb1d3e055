"""Saliency of connections."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pipeline.core.types import LabelledBatch
from pipeline.proxies import PROXIES
from pipeline.proxies.loss_gradients import LossGradients


@PROXIES.register("snip")
@dataclass(frozen=True)
class Snip:
    """Sum of |w dL/dw| over the weights of convolutions and matrix layers, L a batch's mean cross-entropy.

    To first order, what the loss would change by if single weights were taken out (Lee, Ajanthan, Torr, SNIP, ICLR
    2019), summed over weights as by Abdelfattah et al., ICLR 2021; high is good.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "labelled"
    network: ClassVar[str] = "full"
    shares: ClassVar[type] = LossGradients

    def __call__(self, network: nn.Module, batch: LabelledBatch, generator: torch.Generator) -> float:
        """Sum of saliencies for the batch's images, in one training-mode pass. Draws nothing."""
        return self.of(LossGradients(network, batch))

    def of(self, gradients: LossGradients) -> float:
        """The same, of gradients that other proxies may use too."""
        saliencies = ((weight * gradient).abs().sum(dtype=torch.float64) for weight, gradient in gradients.by_weight)
        return float(sum(saliencies))
