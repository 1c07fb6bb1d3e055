"""From episodes, rows of a prepared set, to the tensors that meta-learners take."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.core.types import Episode
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet
from pipeline.episodes.batches import require_one_shape
from pipeline.learners.meta_learner import Tasks


def tasks_of(
    prepared: PreparedSet,
    episodes: Sequence[Episode],
    device: torch.device,
    mirror: torch.Generator | None = None,
) -> Tasks:
    """The images of episodes of one shape, normalised, class after class, on `device`.

    Args:
        prepared: at the size that networks see; see `transforms.resized`.
        mirror: draws which images are mirrored, each with chance 1/2; None for none.

    Raises DataError when the episodes differ in way, shots or queries.
    """
    require_one_shape(episodes)

    def images(rows: np.ndarray) -> Tensor:
        # bytes travel to the device, not floats
        found = transforms.gather(prepared, rows).to(device)
        if mirror is not None:
            found = transforms.random_crop_flip(found, mirror, pad=0, flip=True)
        return transforms.to_float(found, prepared.mean, prepared.std).unflatten(0, (len(rows), -1))

    def labels(per_class: int) -> Tensor:
        of_one = torch.arange(episodes[0].n_way, device=device).repeat_interleave(per_class)
        return of_one.repeat(len(episodes), 1)

    return Tasks(
        support=images(np.stack([episode.support for episode in episodes])),
        support_labels=labels(episodes[0].k_shot),
        query=images(np.stack([episode.query for episode in episodes])),
        query_labels=labels(episodes[0].n_query),
    )
