"""What a meta-learner is: a learner whose start is itself learned, from episodes of the base classes.

Both levels are pure: a state, tensors by name, goes in, and tensors come out. The network lends its structure only; its
own weights and buffers are never changed.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.core.errors import DataError

State = dict[str, Tensor]
"""Everything that is meta-learned, by name; tensors are not shared with the network."""


@dataclass(frozen=True)
class Tasks:
    """A meta-batch: the images of several episodes of one shape, labelled 0 .. way - 1 inside each.

    Attributes:
        support: normalised images, shape (task, n_support, c, h, w).
        support_labels: shape (task, n_support), int64.
        query: shape (task, n_query, c, h, w).
        query_labels: shape (task, n_query), int64; predictions never read them.

    Raises DataError when there is no task or these shapes do not fit each other.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor

    def __post_init__(self):
        shapes = [tuple(part.shape) for part in (self.support, self.support_labels, self.query, self.query_labels)]
        support, support_labels, query, query_labels = shapes
        fit = (support[:2], query[:2]) == (support_labels, query_labels) and support[0] == query[0]
        if not fit or 0 in support_labels + query_labels:
            raise DataError(
                f"The shapes {', '.join(map(str, shapes))} of support, its labels, query and its labels do not fit: "
                "(task, n_support, c, h, w), (task, n_support), (task, n_query, c, h, w) and (task, n_query) are "
                "needed, with the same number of tasks and none of them empty."
            )

    def __len__(self) -> int:
        return len(self.support)


@dataclass(frozen=True)
class MetaGradient:
    """What one meta-batch says of a state.

    Attributes:
        gradients: of the query loss, its mean over the tasks, by the names that were asked for.
        statistics: new values of the entries of the state that no gradient moves, such as running means.
        loss: query loss of each task after adaptation, shape (task,), without a graph.
        accuracy: fraction of right queries of each task after adaptation, shape (task,).
    """

    gradients: State
    statistics: State
    loss: Tensor
    accuracy: Tensor


class MetaLearner(ABC):
    """Adapts to a support set from a start that is learned.

    Args:
        network: maps images (n, c, h, w) to logits (n, way).
        config: an instance of `Config`.
    """

    Config: ClassVar[type]

    def __init__(self, network: nn.Module, config: Any):
        self.network, self.config = network, config

    @property
    @abstractmethod
    def setting(self) -> str:
        """`inductive`, or `transductive` when the label given to a query depends on the other queries."""

    @abstractmethod
    def start(self, generator: torch.Generator) -> State:
        """The state before meta-training: the network's own weights, and what else is learned, drawn."""

    @abstractmethod
    def learned(self, state: State) -> tuple[str, ...]:
        """Names of the entries that gradients move; the others are statistics."""

    @abstractmethod
    def meta_gradient(self, state: State, tasks: Tasks, wanted: Collection[str] | None = None) -> MetaGradient:
        """Adapt to each support set and differentiate the query loss.

        Args:
            wanted: names of the entries whose gradient is needed; None for all that are learned.

        Raises TrainingError when a loss is not finite.
        """

    @abstractmethod
    def predict(self, state: State, tasks: Tasks) -> Tensor:
        """Logits of the queries after adaptation as in a test, shape (task, n_query, way); builds no graph over it."""
