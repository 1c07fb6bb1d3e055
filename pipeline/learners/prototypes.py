"""Nearest class mean.

Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, on frozen features: a class is
the mean of its support features, and a query belongs to the nearest mean. Inductive: queries do not see each other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.learners import LEARNERS
from pipeline.learners.features import check_features, on_sphere


@LEARNERS.register("prototypes")
@dataclass(frozen=True)
class Prototypes:
    """Squared Euclidean distance to the class means of L2-normalised features (Snell et al., equation 2)."""

    normalise: bool = True

    def __call__(self, support: Tensor, query: Tensor) -> Tensor:
        """Scores of the classes, log-probabilities up to a constant per query.

        Args:
            support: features of the labelled images, shape (way, n_support, d).
            query: features of the images to label, shape (way, n_query, d).

        Returns:
            float64 scores, shape (way, n_query, way); the last axis runs over the classes.
        """
        check_features(support, query)
        support, query = support.double(), query.double()
        if self.normalise:
            support, query = on_sphere(support), on_sphere(query)
        means = support.mean(dim=1)
        return -torch.cdist(query.flatten(0, 1), means).square().unflatten(0, query.shape[:2])
