"""The loop engine: one sample at a time, plain autograd. The reference, because it is obviously right but slow."""

import torch
from torch import Tensor, nn

from pipeline.kernels.engines import ENGINES


@ENGINES.register("loop")
def loop_grams(
    network: nn.Module, weights: dict[str, nn.Parameter], images: Tensor, *, low_memory: bool = False
) -> dict[str, Tensor]:
    """Gram (n n) float64 per weight: every sample goes through the network alone, in a batch of one.

    Keeps the gradients of all samples, n times the weights; `low_memory` has nothing to save here.
    """
    frozen = [weight for weight in weights.values() if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        rows = [
            torch.autograd.grad(network(images[i : i + 1]).sum(), list(weights.values()), allow_unused=True)
            for i in range(len(images))
        ]
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
    grams = {}
    for name, gradients in zip(weights, zip(*rows, strict=True), strict=True):
        if gradients[0] is not None:
            jacobian = torch.stack([gradient.flatten() for gradient in gradients]).double()
            grams[name] = jacobian @ jacobian.mT
    return grams
