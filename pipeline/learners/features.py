"""What every learner on frozen features shares."""

from torch import Tensor
from torch.nn import functional

from pipeline.core.errors import DataError


def on_sphere(features: Tensor) -> Tensor:
    """Features scaled to unit Euclidean length along the last axis; an all-zero feature stays zero."""
    return functional.normalize(features, dim=-1)


def check_features(support: Tensor, query: Tensor) -> None:
    """Raises DataError unless both are (way, images, d) with equal way and d, finite, and at least two classes."""
    fit = support.ndim == query.ndim == 3 and support.shape[::2] == query.shape[::2]
    if not fit or support.shape[0] < 2 or support.shape[1] < 1:
        raise DataError(
            f"Support features {tuple(support.shape)} and query features {tuple(query.shape)} do not fit: "
            "(way, images, d) is needed, with the same way (2 or more) and d on both sides."
        )
    if not (support.isfinite().all() and query.isfinite().all()):
        raise DataError("Some features are not finite: the network has diverged. Train it with a lower learning rate.")
