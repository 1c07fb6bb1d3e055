"""Tasks made of classes, as meta-learning over data sets wants them: each is a small data set with images of its own.

Training, validation and held-out tasks have classes of their own, so that a held-out task holds nothing but new ones.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.artifacts import digest
from pipeline.core.errors import DataError
from pipeline.core.rng import numpy_stream
from pipeline.core.types import CLASSIFICATION, KINDS, SPLITS
from pipeline.core.wording import n_of
from pipeline.data.prepared import PreparedSet

SHARES = (0.6, 0.2, 0.2)
"""Of the classes of a classification set, which has none set apart: for training, validation and held-out tasks."""


@dataclass(frozen=True)
class ClassTask:
    """Some classes of one split.

    Attributes:
        id: number of the task over all splits.
        split: "base" for training tasks, "validation", or "novel" for held-out ones.
        classes: different class ids of the data set, ascending.
    """

    id: int
    split: str
    classes: tuple[int, ...]


def classes_by_split(prepared: PreparedSet, seed: int) -> dict[str, np.ndarray]:
    """Class ids of the base, validation and novel classes, ascending; no class is in two splits.

    A few-shot set has these splits. The classes of a classification set are split at random, 60 : 20 : 20.
    """
    if not KINDS[prepared.kind].shares_classes:
        return {split: prepared.classes_of(split) for split in SPLITS}
    drawn = numpy_stream(seed, "splits of classes").permutation(prepared.classes_of(prepared.search_split))
    stops = np.round(np.cumsum(SHARES) * len(drawn)).astype(int)
    return {split: np.sort(part) for split, part in zip(SPLITS, np.split(drawn, stops[:-1]), strict=True)}


def draw_tasks(
    classes: Mapping[str, np.ndarray], n_tasks: Mapping[str, int], n_classes: int, seed: int
) -> list[ClassTask]:
    """`n_tasks` tasks of each split, each of `n_classes` different classes drawn uniformly; numbered in this order.

    Raises DataError when a split that tasks are wanted of has fewer classes.
    """
    tasks: list[ClassTask] = []
    for split, count in n_tasks.items():
        if count and len(classes[split]) < n_classes:
            raise DataError(
                f"A task needs {n_of(n_classes, 'class', 'classes')} (database.n_classes), but there are only "
                f"{n_of(len(classes[split]), f'{split} class', f'{split} classes')}. Lower database.n_classes, or take "
                "a source with more classes."
            )
        for number in range(count):
            chosen = numpy_stream(seed, "task", split, number).choice(classes[split], n_classes, replace=False)
            tasks.append(ClassTask(len(tasks), split, tuple(sorted(chosen.tolist()))))
    return tasks


def task_set(
    prepared: PreparedSet, classes: tuple[int, ...], *, n_images: int, held_out: float, image_size: int, seed: int
) -> PreparedSet:
    """The images of a task as a classification set with a train and a test split, in memory.

    Which images of a class are held out depends on the seed and the class alone, not on the task. Where a split has
    several folds, what is held out comes from one of them and the rest from the others.

    Args:
        classes: class ids of `prepared`; the set numbers them from 0 in this order.
        n_images: most images of a class, both splits together; 0 for all.
        held_out: share of a class's images in the test split, at least one image.
        image_size: side to which images are resized.
        seed: run seed.

    Raises DataError when a class has too few images for both splits.
    """
    from pipeline.data import transforms

    rows: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for class_id in classes:
        for split, part in zip(rows, _two_parts(prepared, class_id, n_images, held_out, seed), strict=True):
            rows[split].append(part)
    in_order = np.concatenate([part for parts in rows.values() for part in parts])
    labels = np.concatenate([np.repeat(np.arange(len(classes)), list(map(len, parts))) for parts in rows.values()])
    n_train = sum(map(len, rows["train"]))
    names = [prepared.class_names[class_id] for class_id in classes]
    return dataclasses.replace(
        prepared,
        images=transforms.resize(transforms.gather(prepared, in_order), image_size).numpy(),
        labels=labels,
        folds=prepared.folds[in_order],
        class_names=names,
        split_rows={"train": range(n_train), "test": range(n_train, len(in_order))},
        split_classes={split: np.arange(len(classes)) for split in rows},
        digest=digest([prepared.digest, names, n_images, held_out, image_size, seed]),
        kind=CLASSIFICATION,
    )


def _two_parts(
    prepared: PreparedSet, class_id: int, n_images: int, held_out: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Image rows of one class to train on, and those held out."""
    name, rows = prepared.class_names[class_id], prepared.rows_of(class_id)
    drawn = numpy_stream(seed, "images of class", name).permutation(rows)
    n_all = min(n_images, len(drawn)) if n_images else len(drawn)
    n_test = max(1, round(held_out * n_all))
    folds = prepared.folds[drawn]
    if len(np.unique(folds)) > 1:
        apart = folds == numpy_stream(seed, "fold held out").choice(np.unique(folds))
        test, train = drawn[apart][:n_test], drawn[~apart]
    else:
        test, train = drawn[:n_test], drawn[n_test:]
    train = train[: n_all - len(test)]
    if not len(train) or not len(test):
        raise DataError(
            f"Class '{name}' of {prepared.name} has {n_of(len(rows), 'image')}, too few to train on some and hold out "
            "others. Add images, or leave the class out."
        )
    return train, test
