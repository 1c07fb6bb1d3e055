"""The kernel of binary codes: on how many neurons two inputs agree."""

import torch
from torch import Tensor

from pipeline.kernels.errors import KernelError
from pipeline.kernels.products import inner_products

NEURONS_PER_CALL = 1 << 16
"""Neurons whose agreements are counted together; below 2^24, so that float32 counts them exactly."""


def hamming_kernel(patterns: Tensor) -> Tensor:
    """Kernel (n n) float64 whose entry i, j is the number of neurons less the Hamming distance of the codes i and j.

    Mellor et al., Neural Architecture Search without Training, ICML 2021. Counts are exact.

    Args:
        patterns: booleans (n neurons).

    Raises KernelError for another type or number of axes.
    """
    if patterns.ndim != 2 or patterns.dtype != torch.bool:
        raise KernelError(
            f"Patterns have the type {patterns.dtype} and the shape {tuple(patterns.shape)}; "
            "booleans (inputs, neurons) are needed."
        )
    agreements = patterns.new_zeros(len(patterns), len(patterns), dtype=torch.float64)
    for part in patterns.split(NEURONS_PER_CALL, dim=1):
        # of signs +-1 the product is the number that agree less the number that differ
        signs = part.to(torch.float32).mul_(2).sub_(1)
        agreements += (inner_products(signs, signs).double() + part.shape[1]) / 2
    return agreements
