"""How differently a network treats the images of a batch."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline import kernels
from pipeline.proxies import PROXIES


@PROXIES.register("naswot")
@dataclass(frozen=True)
class Naswot:
    """log |det K|, K the number of ReLUs that two images switch alike (Mellor et al., ICML 2021).

    High is good. The network runs in training mode, as in the published code.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "images"
    network: ClassVar[str] = "full"

    def __call__(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> float:
        """The logarithm for images (n c h w); -inf when two of them have the same code. Draws nothing."""
        patterns = kernels.activation_patterns(network, batch)
        return kernels.log_determinant(kernels.hamming_kernel(patterns))
