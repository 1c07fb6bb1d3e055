"""Multiply-adds of one image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.nets.cost import count_multiply_adds
from pipeline.proxies import PROXIES


@PROXIES.register("flops")
@dataclass(frozen=True)
class Flops:
    """Multiply-adds of convolutions and matrix products in one image's forward pass ("FLOPs" in the NAS literature)."""

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "network"
    network: ClassVar[str] = "kernel"

    def __call__(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> float:
        """Multiply-adds for one of the example images (n c h w). Draws nothing."""
        return float(count_multiply_adds(network, batch[:1]))
