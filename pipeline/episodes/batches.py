"""Batches for scores: tasks, single images and patches, as normalised tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import DataError
from pipeline.core.types import Episode, TaskBatch
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet

CROP_PAD = 4
PATCH_SOURCE_SIZE = 32


def task_batch(
    prepared: PreparedSet, episodes: Sequence[Episode], *, image_size: int, generator: torch.Generator
) -> TaskBatch:
    """Images of several tasks: the queries of all tasks, then the supports of all; inside, class after class.

    Support images are resized, mirrored at random and cropped at random with a padding of 4; queries are only resized
    (the MetaNTK-NAS search transform). All episodes must have the same way, shots and queries.
    """
    shapes = {(episode.support.shape, episode.query.shape) for episode in episodes}
    if len(shapes) != 1:
        raise DataError(f"The tasks of a batch must have one shape; these have {sorted(shapes)}.")
    query = transforms.resize(_gather(prepared, [episode.query for episode in episodes]), image_size)
    support = transforms.resize(_gather(prepared, [episode.support for episode in episodes]), image_size)
    support = transforms.random_crop_flip(support, generator, pad=CROP_PAD, flip=True)
    first = episodes[0]
    return TaskBatch(
        images=transforms.to_float(torch.cat([query, support]), prepared.mean, prepared.std),
        n_tasks=len(episodes),
        n_query=first.query.size,
        n_support=first.support.size,
        n_way=first.n_way,
    )


def image_batch(prepared: PreparedSet, split: str, n: int, image_size: int, generator: torch.Generator) -> Tensor:
    """`n` different images of a split, mirrored and cropped at random with a padding of 4: (n 3 h w).

    Raises DataError when the split has fewer images.
    """
    available = len(prepared.rows_of_split(split))
    if n > available:
        raise DataError(
            f"{n} images were asked for, but the {split} split of {prepared.name} has {available}. "
            "Lower the batch size."
        )
    images = transforms.resize(transforms.gather(prepared, _draw_rows(prepared, split, n, generator)), image_size)
    images = transforms.random_crop_flip(images, generator, pad=CROP_PAD, flip=True)
    return transforms.to_float(images, prepared.mean, prepared.std)


def patch_batch(prepared: PreparedSet, split: str, n: int, generator: torch.Generator, size: int = 3) -> Tensor:
    """Inputs for counting linear regions, (n 1 size size): a random patch of each of `n` images, one random channel.

    The images differ as far as the split has enough of them. Images larger than 32 pixels are resized to 32 first
    (TE-NAS, MetaNTK-NAS).
    """
    images = transforms.gather(prepared, _draw_rows(prepared, split, n, generator))
    images = transforms.resize(images, min(PATCH_SOURCE_SIZE, prepared.image_size))
    patches = transforms.to_float(
        transforms.random_patches(images, n, generator, size=size), prepared.mean, prepared.std
    )
    channel = torch.randint(0, patches.shape[1], (n,), generator=generator)
    return patches[torch.arange(n), channel].unsqueeze(1)


def _gather(prepared: PreparedSet, rows: list[np.ndarray]) -> Tensor:
    return transforms.gather(prepared, np.stack(rows))


def _draw_rows(prepared: PreparedSet, split: str, n: int, generator: torch.Generator) -> np.ndarray:
    rows = prepared.rows_of_split(split)
    rounds = [torch.randperm(len(rows), generator=generator) for _ in range(-(-n // len(rows)))]
    return rows[torch.cat(rounds)[:n].numpy()]
