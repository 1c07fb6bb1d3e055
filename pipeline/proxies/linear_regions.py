"""Number of linear regions among small patches."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline import kernels
from pipeline.core.config import knob
from pipeline.proxies import PROXIES


@PROXIES.register("linear_regions")
@dataclass(frozen=True)
class LinearRegions:
    """How finely the network cuts its inputs (TE-NAS, Chen et al., ICLR 2021): activation patterns; high is good."""

    batch_size: int = knob(1000, "patches that go through BatchNorm together", low=2)

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "patches"
    network: ClassVar[str] = "thin"

    def __call__(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> float:
        """Number of activation patterns among patches (n c h w). Draws nothing."""
        parts = torch.tensor_split(batch, math.ceil(len(batch) / self.batch_size))
        patterns = torch.cat([kernels.activation_patterns(network, part) for part in parts])
        return float(kernels.count_linear_regions(patterns))
