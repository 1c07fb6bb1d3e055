"""The values that rooms hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SPLITS = ("base", "validation", "novel")


@dataclass(frozen=True)
class Kind:
    """How a data set is split.

    Attributes:
        splits: names of the splits, in their order in a prepared set.
        optional: those of them that a data set may lack.
        search_split: the one that a search may read, and that mean and standard deviation are taken of.
        shares_classes: whether all splits have the same classes, or each has its own.
    """

    splits: tuple[str, ...]
    optional: tuple[str, ...]
    search_split: str
    shares_classes: bool


FEW_SHOT, CLASSIFICATION = "few_shot", "classification"
KINDS = {
    FEW_SHOT: Kind(SPLITS, (), "base", shares_classes=False),
    CLASSIFICATION: Kind(("train", "validation", "test"), ("validation",), "train", shares_classes=True),
}


@dataclass(frozen=True)
class Episode:
    """One few-shot task, as rows of a prepared set.

    Attributes:
        classes: class ids, shape (way,); the position in it is the label inside the episode.
        support: image rows, shape (way, k_shot).
        query: image rows, shape (way, n_query); disjoint from the support.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray

    @property
    def n_way(self) -> int:
        return len(self.classes)

    @property
    def k_shot(self) -> int:
        return self.support.shape[1]

    @property
    def n_query(self) -> int:
        return self.query.shape[1]


@dataclass(frozen=True)
class TaskBatch:
    """Images of several tasks in the row order of the MetaNTK: the queries of all tasks, then the supports of all.

    Attributes:
        images: shape (n_tasks * (n_query + n_support), c, h, w).
        n_tasks: number of tasks.
        n_query: query images of one task (ways times queries per class).
        n_support: support images of one task (ways times shots).
        n_way: outputs of the head that the MetaNTK puts on the features.
    """

    images: torch.Tensor
    n_tasks: int
    n_query: int
    n_support: int
    n_way: int


@dataclass(frozen=True)
class LabelledBatch:
    """Images with their classes, and others of the same classes that were held out.

    Attributes:
        images: shape (n, c, h, w).
        labels: class numbers below `n_classes`, shape (n,).
        held_out_images: shape (m, c, h, w); none of them is among `images`.
        held_out_labels: shape (m,).
        n_classes: classes of the data set, whether or not the batch has an image of each.
    """

    images: torch.Tensor
    labels: torch.Tensor
    held_out_images: torch.Tensor
    held_out_labels: torch.Tensor
    n_classes: int
