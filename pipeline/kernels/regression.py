"""Kernel regression: how well the tangent kernel of one batch foretells the labels of another (TEG-NAS, 2021)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.kernels.errors import KernelError


def regression_error(
    rows: Tensor, labels: Tensor, held_out_rows: Tensor, held_out_labels: Tensor, n_classes: int
) -> float:
    """Squared error of kernel regression on a held-out batch, summed over classes, mean over its images.

    With J, H the rows of both batches and Y, Z their one-hot labels less the mean of their own batch, the prediction is
    H J' (J J')^-1 Y and the error mean |prediction - Z|^2. Computed in float64, without a ridge.

    Args:
        rows, held_out_rows: gradients (n p) and (m p).
        labels, held_out_labels: class numbers (n,) and (m,) below `n_classes`.

    Returns infinity where J J' is singular to working precision: the images of the batch cannot be told apart.
    Raises KernelError when shapes or labels do not fit.
    """
    if (
        len(rows) != len(labels)
        or len(held_out_rows) != len(held_out_labels)
        or rows.shape[1] != held_out_rows.shape[1]
    ):
        raise KernelError(
            f"Rows of shapes {tuple(rows.shape)} and {tuple(held_out_rows.shape)} do not go with {len(labels)} and "
            f"{len(held_out_labels)} labels."
        )
    largest = int(torch.cat([labels, held_out_labels]).max())
    if largest >= n_classes:
        raise KernelError(f"There is a label {largest}; labels must be below n_classes, {n_classes}.")
    rows, held_out_rows = rows.double(), held_out_rows.double()
    gram = rows @ rows.mT
    targets, wanted = (_centred(one, n_classes).to(gram.device) for one in (labels, held_out_labels))
    spectrum = torch.linalg.eigvalsh(gram)
    if not bool(gram.isfinite().all()) or spectrum[0] <= len(gram) * torch.finfo(torch.float64).eps * spectrum[-1]:
        return math.inf
    predicted = (held_out_rows @ rows.mT) @ torch.linalg.solve(gram, targets)
    return float((predicted - wanted).square().sum(1).mean())


def _centred(labels: Tensor, n_classes: int) -> Tensor:
    hot = functional.one_hot(labels, n_classes).double()
    return hot - hot.mean(0)
