"""Number of weighted layers."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.proxies import PROXIES
from pipeline.proxies.execution import execution_of


@PROXIES.register("n_layers")
@dataclass(frozen=True)
class NumberOfLayers:
    """Convolutions and linear layers that the forward pass runs."""

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "network"
    network: ClassVar[str] = "kernel"

    def __call__(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> float:
        """Number of layers run for example images (n c h w). Draws nothing."""
        return float(execution_of(network, batch).n_weighted_layers)
