"""The test of classifiers: top-1 and top-5 accuracy on the test images of a classification set.

The weights tested are those of the last epoch. Nothing is chosen by test accuracy: published tools of this field track
the best test accuracy over all epochs and report that, which is a little too high by construction; ours is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import TrainingError
from pipeline.core.progress import track
from pipeline.data import transforms
from pipeline.evaluation.estimates import finite
from pipeline.evaluation.few_shot_test import FrozenFeatures
from pipeline.evaluation.statistics import mean_ci95, wilson_ci95

TOPS = (1, 5)


def places_of_truth(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes a network puts before the true one, shape (n,); 0 where it is right.

    Of classes with equal logits the earlier goes first, as in argmax.

    Args:
        logits: shape (n, n_classes).
        labels: outputs of the true classes, shape (n,).
    """
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(dim=1)


@dataclass(frozen=True)
class Classified:
    """What one network made of all test images.

    Attributes:
        places: `places_of_truth` of each image, shape (n_images,).
        classes: its true class, shape (n_images,).
    """

    places: np.ndarray
    classes: np.ndarray

    def right(self, top: int) -> np.ndarray:
        """Whether each image's class is among the first `top`, shape (n_images,)."""
        return self.places < top


@torch.inference_mode()
def classify(
    features: FrozenFeatures, rows: np.ndarray, outputs: np.ndarray, what: str | None = "test images"
) -> Classified:
    """Let a network classify plain images.

    Args:
        features: holds the network and the images.
        rows: image rows, shape (n,).
        outputs: class id -> output of the network, shape (n_class_ids,).
        what: name of the work in progress lines; None for none.

    Raises TrainingError when the network's features or logits are not finite.
    """
    labels = features.prepared.labels[rows]
    places = []
    chunks = np.array_split(np.arange(len(rows)), -(-len(rows) // features.batch_size))
    for chunk in chunks if what is None else track(chunks, what):
        vectors = features.of_images(transforms.gather(features.prepared, rows[chunk]))
        logits = features.network.classifier(vectors.to(features.device)).cpu()
        if not logits.isfinite().all():
            raise TrainingError("The network gives logits that are not finite; train it with a lower learning rate.")
        places.append(places_of_truth(logits, torch.from_numpy(outputs[labels[chunk]])))
    return Classified(torch.cat(places).numpy(), labels)


def tops(n_classes: int) -> tuple[int, ...]:
    """The k of the top-k accuracies that say something with so many classes: 5 only where there are more."""
    return tuple(top for top in TOPS if top < n_classes)


def mean_and_interval(found: Sequence[Classified], top: int) -> dict[str, float]:
    """Top-k accuracy averaged over architectures, and half the width of its 95 % Wilson interval over the images.

    With several architectures that width is a bound: their average varies less from image to image than a single one.
    """
    n_images = len(found[0].places)
    mean = float(np.mean([one.right(top) for one in found]))
    low, high = wilson_ci95(mean * n_images, n_images)
    return {"mean": mean, "ci95": (high - low) / 2}


def estimate(found: Sequence[Classified], top: int) -> dict[str, Any]:
    """Top-k accuracy with all its intervals.

    Args:
        found: one per architecture, all of the same images.

    Returns:
        mean and ci95 over the images; n_images; per_seed accuracies and per_seed_interval, the 95 % Wilson interval of
        each over the images; sd over architectures (None for a single one); seeds_ci95, a half-width that holds both
        the choice of the architecture's seed and of the images (None for a single one).
    """
    n_images = len(found[0].places)
    n_right = [int(one.right(top).sum()) for one in found]
    per_seed = [count / n_images for count in n_right]
    over_images = mean_and_interval(found, top)
    intervals = [wilson_ci95(count, n_images) for count in n_right]
    return {
        **over_images,
        "n_images": n_images,
        "per_seed": per_seed,
        "per_seed_interval": [{"low": low, "high": high} for low, high in intervals],
        "sd": float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
        # all architectures are tested on the same images, so their sampling errors go together
        "seeds_ci95": finite(math.hypot(mean_ci95(per_seed)[1], over_images["ci95"])),
    }
