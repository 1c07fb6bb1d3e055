"""Episodes that share no image: independent tasks for an interval that counts every image once.

Lafargue et al., "On the Transferability and Accessibility of Few-Shot Confidence Intervals", TMLR 2024: intervals over
tasks drawn with replacement from a small pool of images describe that pool, not new images.
"""

import numpy as np

from pipeline.core.rng import numpy_stream
from pipeline.core.types import Episode
from pipeline.data.prepared import PreparedSet


def disjoint_episodes(
    prepared: PreparedSet, split: str, *, n_way: int, k_shot: int, n_query: int, seed: int
) -> list[Episode]:
    """As many episodes as the split allows when each of its images is used at most once; possibly none.

    Each episode takes the classes with most images left, drawn among equals, so that few images stay unused. Where the
    split has several folds, support and queries come from different ones, as in `EpisodeSampler`.
    """
    rng = numpy_stream(seed, "disjoint episodes", split, k_shot)
    left = {int(label): rng.permutation(prepared.rows_of(label, split)) for label in prepared.classes_of(split)}
    folds = np.unique(prepared.folds[prepared.rows_of_split(split)])
    episodes = []
    while True:
        offers = [_offer(prepared, left, fold, len(folds) > 1, k_shot, n_query) for fold in rng.permutation(folds)]
        offer = max(offers, key=len)
        if len(offer) < n_way:
            return episodes
        by_stock = sorted(rng.permutation(list(offer)), key=lambda label: -left[label].size)
        classes = rng.permutation(by_stock[:n_way])
        support, query = (np.stack([offer[label][part] for label in classes]) for part in (0, 1))
        for label, used in zip(classes, np.concatenate([support, query], axis=1), strict=True):
            left[label] = left[label][~np.isin(left[label], used)]
        episodes.append(Episode(classes=classes, support=support, query=query))


def _offer(
    prepared: PreparedSet, left: dict[int, np.ndarray], fold: int, folded: bool, k_shot: int, n_query: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """(support, query) of every class that has enough unused images, the support from `fold` where there are folds."""
    offer = {}
    for label, rows in left.items():
        inside = prepared.folds[rows] == fold if folded else np.arange(rows.size) < k_shot
        support, query = rows[inside][:k_shot], rows[~inside][:n_query]
        if support.size == k_shot and query.size == n_query:
            offer[label] = support, query
    return offer
