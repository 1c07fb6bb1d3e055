"""Condition number of the neural tangent kernel of single images."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline import kernels
from pipeline.core.config import knob
from pipeline.proxies import PROXIES


@PROXIES.register("ntk_condition")
@dataclass(frozen=True)
class NtkCondition:
    """How unevenly gradient descent would train the network (TE-NAS, Chen et al., ICLR 2021); low is good.

    The per-sample kernel of the network's own outputs, as MetaNTK-NAS computes it; not the batch-coupled one of TE-NAS.
    """

    engine: str = knob("fast", "how the kernel is computed", choices=("fast", "opacus", "loop"))
    low_memory: bool = knob(False, "spend time to save memory in the kernel")

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[str] = "images"
    network: ClassVar[str] = "kernel"

    def __call__(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> float:
        """Condition number of the NTK of images (n 3 h w); infinite where it is undefined. Draws nothing."""
        result = kernels.ntk(network, batch, engine=self.engine, low_memory=self.low_memory)
        return kernels.condition_number(result.theta)
