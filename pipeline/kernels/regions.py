"""Linear regions: which inputs a piecewise linear network treats by different linear maps."""

import numpy as np
import torch
from torch import Tensor

from pipeline.kernels.errors import KernelError


def count_linear_regions(patterns: Tensor | np.ndarray) -> int:
    """Number of distinct activation patterns among the inputs (Xiong et al., ICML 2020; Chen et al., ICLR 2021).

    Equal to the published formula, the sum over inputs of one over the number of inputs with the same pattern.
    Exact: rows are packed to bits and compared byte by byte, in time linear in their number.

    Args:
        patterns: (n neurons) booleans; of numbers, the positive ones count as active.

    Raises:
        KernelError: not a matrix.
    """
    patterns = torch.as_tensor(patterns)
    if patterns.ndim != 2:
        raise KernelError(f"Patterns have the shape {tuple(patterns.shape)}; (inputs, neurons) is needed.")
    active = patterns if patterns.dtype == torch.bool else patterns > 0
    packed = np.packbits(active.cpu().numpy(), axis=1)
    return len({row.tobytes() for row in packed})
