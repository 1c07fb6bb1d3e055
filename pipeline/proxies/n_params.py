"""Number of parameters: the baseline every other proxy must beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.proxies import PROXIES
from pipeline.proxies.execution import execution_of


@PROXIES.register("n_params")
@dataclass(frozen=True)
class NumberOfParameters:
    """Weights and biases that the forward pass uses; of a supernet, those its mask leaves."""

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "network"
    network: ClassVar[str] = "kernel"

    def __call__(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> float:
        """Number of parameters in use for example images (n c h w). Draws nothing."""
        return float(sum(parameter.numel() for parameter in execution_of(network, batch).used.values()))
