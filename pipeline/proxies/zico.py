"""Steadiness of gradients over batches."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pipeline.core.config import knob
from pipeline.core.errors import ConfigError
from pipeline.core.types import LabelledBatch
from pipeline.proxies import PROXIES
from pipeline.proxies.loss_gradients import loss_gradients


@PROXIES.register("zico")
@dataclass(frozen=True)
class ZiCo:
    """Sum over convolutions and matrix layers of log sum_w mean|g_w| / std g_w over several batches; high is good.

    Li et al., ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients, ICLR 2023, with g the gradient of
    a batch's mean cross-entropy. As in the published code the deviation is the population's, and of g itself where the
    paper has |g|; weights whose gradient is the same in all batches, and layers of such weights only, are left out.
    """

    n_batches: int = knob(2, "parts of the labelled batch whose gradients are compared", low=2)

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "labelled"
    network: ClassVar[str] = "full"

    def __call__(self, network: nn.Module, batch: LabelledBatch, generator: torch.Generator) -> float:
        """The sum, with image i in part i mod n_batches; -inf when no gradient varies. Draws nothing.

        Raises ConfigError when the batch has fewer than two images for each part.
        """
        n = len(batch.images)
        if n < 2 * self.n_batches:
            raise ConfigError(
                f"zico.n_batches is {self.n_batches} and the batch has {n} images; each part needs two for BatchNorm. "
                "Lower zico.n_batches or enlarge the batch."
            )
        parts = [slice(start, None, self.n_batches) for start in range(self.n_batches)]
        found = [loss_gradients(network, batch.images[part], batch.labels[part]) for part in parts]
        layers = [_steadiness(torch.stack([gradients[name] for gradients in found])) for name in found[0]]
        logarithms = [math.log(value) for value in layers if value > 0]
        return sum(logarithms) if logarithms else -math.inf


def _steadiness(gradients: torch.Tensor) -> float:
    """sum_w mean|g_w| / std g_w of gradients (n_batches *weight), over weights with a deviation."""
    gradients = gradients.double().flatten(1)
    sizes, deviations = gradients.abs().mean(0), gradients.std(0, correction=0)
    varies = deviations > 0
    return float((sizes[varies] / deviations[varies]).sum())
