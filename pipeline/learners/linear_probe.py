"""Logistic regression on frozen features.

Tian et al., "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?", ECCV 2020: features of a
network trained on the base classes, L2-normalised; per task a multinomial logistic regression. Inductive.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.learners import LEARNERS
from pipeline.learners.features import check_features, on_sphere


@LEARNERS.register("linear_probe")
@dataclass(frozen=True)
class LinearProbe:
    """min_W,b  |W|^2 / 2 + C sum_i cross_entropy(W x_i + b, y_i), solved by L-BFGS; b is not penalised.

    Attributes:
        C: inverse strength of the penalty.
        max_iter: most L-BFGS steps.
        normalise: whether features are first scaled to unit length.
    """

    C: float = 1.0
    max_iter: int = 1000
    normalise: bool = True

    def __post_init__(self):
        if not self.C > 0 or self.max_iter < 1:
            raise ConfigError(f"The linear probe needs C > 0 and max_iter >= 1; got {self.C} and {self.max_iter}.")

    def __call__(self, support: Tensor, query: Tensor) -> Tensor:
        """Log-probabilities of the classes.

        Args:
            support: features of the labelled images, shape (way, n_support, d).
            query: features of the images to label, shape (way, n_query, d).

        Returns:
            float64 log-probabilities, shape (way, n_query, way); the last axis runs over the classes.
        """
        from sklearn.linear_model import LogisticRegression

        check_features(support, query)
        support, query = support.double(), query.double()
        if self.normalise:
            support, query = on_sphere(support), on_sphere(query)
        labels = torch.arange(support.shape[0]).repeat_interleave(support.shape[1])
        model = LogisticRegression(C=self.C, max_iter=self.max_iter)
        model.fit(support.flatten(0, 1).cpu().numpy(), labels.numpy())
        scores = torch.from_numpy(model.predict_log_proba(query.flatten(0, 1).cpu().numpy()))
        return scores.unflatten(0, query.shape[:2])
