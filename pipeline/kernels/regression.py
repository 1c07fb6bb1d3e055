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
    weights = regression_weights(rows, labels, n_classes)
    if weights is None:
        return math.inf
    return prediction_error(held_out_rows.double() @ weights, held_out_labels, n_classes)


def regression_weights(rows: Tensor, labels: Tensor, n_classes: int) -> Tensor | None:
    """J' (J J')^-1 Y, (p n_classes) float64: the least-norm linear map that gives the rows their centred labels.

    None where J J' is singular to working precision. Columns sum to zero over the classes.
    """
    rows = rows.double()
    gram = rows @ rows.mT
    targets = _centred(labels, n_classes).to(gram.device)
    spectrum = torch.linalg.eigvalsh(gram) if bool(gram.isfinite().all()) else None
    if spectrum is None or spectrum[0] <= len(gram) * torch.finfo(torch.float64).eps * spectrum[-1]:
        return None
    return rows.mT @ torch.linalg.solve(gram, targets)


def prediction_error(predicted: Tensor, labels: Tensor, n_classes: int) -> float:
    """Squared error of predictions (m n_classes), summed over classes, mean over images; labels as above."""
    wanted = _centred(labels, n_classes).to(predicted.device)
    return float((predicted.double() - wanted).square().sum(1).mean())


def _centred(labels: Tensor, n_classes: int) -> Tensor:
    hot = functional.one_hot(labels, n_classes).double()
    return hot - hot.mean(0)
