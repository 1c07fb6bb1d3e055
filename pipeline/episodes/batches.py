"""Batches for scores: tasks, single images, images with labels and patches, as normalised tensors."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import DataError, UnknownNameError
from pipeline.core.types import Episode, LabelledBatch, TaskBatch
from pipeline.core.wording import n_of
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet

CROP_PAD = 4
SMALL, SMALL_CROP_PAD = 16, 2  # ImageNet16-120 and smaller (TE-NAS)
PATCH_SOURCE_SIZE = 32
HELD_OUT = ("train", "test")


def task_batch(
    prepared: PreparedSet, episodes: Sequence[Episode], *, image_size: int, generator: torch.Generator
) -> TaskBatch:
    """Images of several tasks: the queries of all tasks, then the supports of all; inside, class after class.

    Support images are resized, mirrored at random and cropped at random with a padding of 4; queries are only resized
    (the MetaNTK-NAS search transform). All episodes must have the same way, shots and queries.
    """
    require_one_shape(episodes)
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


def require_one_shape(episodes: Sequence[Episode]) -> None:
    """Raises DataError unless all episodes have the same way, shots and queries."""
    shapes = {(episode.support.shape, episode.query.shape) for episode in episodes}
    if len(shapes) != 1:
        raise DataError(f"The tasks of a batch must have one shape; these have {sorted(shapes)}.")


def image_batch(prepared: PreparedSet, split: str, n: int, image_size: int, generator: torch.Generator) -> Tensor:
    """`n` different images of a split, mirrored and cropped at random: (n 3 h w).

    The padding of the crop is 4, for images of at most 16 pixels a side 2.

    Raises DataError when the split has fewer images.
    """
    _require(n, len(prepared.rows_of_split(split)), f"the {split} split of {prepared.name}")
    return _augmented(prepared, _draw_rows(prepared, split, n, generator), image_size, generator)


def labelled_batch(
    prepared: PreparedSet,
    *,
    n: int,
    n_held_out: int,
    image_size: int,
    generator: torch.Generator,
    held_out: str = "train",
) -> LabelledBatch:
    """`n` images of the search split with their labels, and `n_held_out` others, drawn without regard to class.

    The first are mirrored and cropped at random as in `image_batch`, and are the same whatever is held out; the held
    out ones are only resized. Labels are numbered from 0 over the classes of the search split.
    Where that split has several folds, images come from one of them, drawn, and what is held out of it from the others.

    Args:
        held_out: "train" takes them from the search split too; "test" from the test split, as the published TEG-NAS
            does, which lets a search look at the images it is tested on.

    Raises:
        DataError: there are fewer images, or no test split with the same classes.
        UnknownNameError: another `held_out`.
    """
    if held_out not in HELD_OUT:
        raise UnknownNameError("held-out part", held_out, HELD_OUT)
    split = prepared.search_split
    where = f"the {split} split of {prepared.name}"
    drawn = _shuffled(prepared.rows_of_split(split), generator)
    if held_out == "test":
        mine, others, elsewhere = drawn, _test_rows(prepared), f"the test split of {prepared.name}"
    else:
        mine, others = _two_parts(prepared, drawn, n)
        elsewhere = f"{where} beside the {n} of the batch"
    _require(n, len(mine), where)
    _require(n_held_out, len(others), elsewhere)
    mine = mine[:n]
    images = _augmented(prepared, mine, image_size, generator)
    others = _shuffled(others, generator)[:n_held_out]
    held_out_images = transforms.resize(transforms.gather(prepared, others), image_size)
    number_of = functools.partial(np.searchsorted, prepared.classes_of(split))
    return LabelledBatch(
        images=images,
        labels=torch.from_numpy(number_of(prepared.labels[mine])),
        held_out_images=transforms.to_float(held_out_images, prepared.mean, prepared.std),
        held_out_labels=torch.from_numpy(number_of(prepared.labels[others])),
        n_classes=prepared.n_classes(split),
    )


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


def _shuffled(rows: np.ndarray, generator: torch.Generator) -> np.ndarray:
    return rows[torch.randperm(len(rows), generator=generator).numpy()]


def _two_parts(prepared: PreparedSet, drawn: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled rows for a batch of `n` and those that may be held out; of different folds where there are several."""
    folds = prepared.folds[drawn]
    if len(np.unique(folds)) < 2:
        return drawn[:n], drawn[n:]
    return drawn[folds == folds[0]], drawn[folds != folds[0]]


def _test_rows(prepared: PreparedSet) -> np.ndarray:
    if "test" not in prepared.split_classes:
        raise DataError(
            f"{prepared.name} has no test split with the classes of its {prepared.search_split} split to hold images "
            "out from. Hold out images of the search split (held_out: train), or take a classification data set."
        )
    return prepared.rows_of_split("test")


def _augmented(prepared: PreparedSet, rows: np.ndarray, image_size: int, generator: torch.Generator) -> Tensor:
    images = transforms.resize(transforms.gather(prepared, rows), image_size)
    pad = SMALL_CROP_PAD if image_size <= SMALL else CROP_PAD
    images = transforms.random_crop_flip(images, generator, pad=pad, flip=True)
    return transforms.to_float(images, prepared.mean, prepared.std)


def _require(n: int, available: int, where: str) -> None:
    if n > available:
        raise DataError(
            f"{n_of(n, 'image')} {'was' if n == 1 else 'were'} asked for, but {where} has {available}. Lower the "
            "batch size."
        )
