"""Downsampled ImageNet at 32 pixels (Chrabaszcz et al., 2017) as a few-shot set of 600 / 200 / 200 classes.

Classes are the official labels: 1 to 600 are base, as in MetaD2A (Lee et al., ICLR 2021), whose meta-training tasks are
made of these; 601 to 800 validation and 801 to 1,000 novel are our choice. Images are those of the training batches. A
stand-in of the same shape, made from other classes, is read too and says in its title what it is.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.types import SPLITS
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of
from pipeline.data.common_layouts import pixels, require_all, require_key
from pipeline.data.pickles import read_pickle

LICENCE = "ImageNet terms of access: research and education only, no redistribution"
PAGE = "downsampled ImageNet, 32 x 32; register at https://image-net.org/download-images.php"
SIDE = 32
N_CLASSES = (600, 200, 200)
BATCHES = tuple(f"train_data_batch_{number}" for number in range(1, 11))

ARCHIVE = Source("Imagenet32_train.zip", LICENCE, page=PAGE, folder="Imagenet32_train")
PICKLES = tuple(Source(name, LICENCE, page=PAGE) for name in BATCHES)
STAND_IN = Source(
    name="tinyimagenet_32_200x40.npz",
    licence=LICENCE,
    page="a stand-in to try the workflow with, made from the 200 classes of Tiny-ImageNet; published nowhere",
    in_mirror=("tinyimagenet_32_200x40.npz",),
)
N_STAND_IN = (120, 40, 40)


@DATASETS.register("imagenet32")
class ImageNet32(Dataset):
    """1,000 classes; 1,281,167 images in the published set."""

    collection = "ImageNet"
    title = "ImageNet32"
    licence = LICENCE
    native_size = SIDE
    layouts = (
        Layout("archive", (ARCHIVE,)),
        Layout("pickles", PICKLES),
        Layout("stand-in", (STAND_IN,), title="200 Tiny-ImageNet classes at 32 pixels (NOT ImageNet32)"),
    )

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        if layout == "stand-in":
            return stand_in(raw)
        files = content_of(raw, ARCHIVE) if layout == "archive" else raw
        return batches(files, self.options.prepare.max_images_per_class)


def split_by_order(names: Sequence[str], counts: Sequence[int]) -> dict[str, str]:
    """Class -> split: the first so many base, the next validation, the last novel."""
    splits = itertools.chain.from_iterable(itertools.repeat(*pair) for pair in zip(SPLITS, counts, strict=True))
    return dict(zip(names, splits, strict=True))


def batches(files: Tree, most: int | None) -> Iterator[Record]:
    """Images of the pickles {"data": (n 3072), "labels": 1..1000}; a class is named by its label.

    Args:
        most: images of a class; those beyond are not kept in memory.

    Raises DataError for another layout, and when a class has no image.
    """
    split_of = split_by_order([f"{label:04d}" for label in range(1, sum(N_CLASSES) + 1)], N_CLASSES)
    seen: collections.Counter[int] = collections.Counter()
    for batch in BATCHES:
        content = read_pickle(files.read(batch), batch)
        rows, labels = require_key(content, "data", batch), np.asarray(require_key(content, "labels", batch))
        shape = (*labels.shape, 3 * SIDE * SIDE)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or labels.ndim != 1 or rows.shape != shape:
            raise DataError(f"{batch} does not hold a row of {3 * SIDE * SIDE} bytes for each of its labels.")
        if labels.size and not 1 <= labels.min() <= labels.max() <= sum(N_CLASSES):
            raise DataError(f"{batch} has labels outside 1 to {sum(N_CLASSES)}.")
        kept = []
        for row, label in enumerate(labels.tolist()):
            seen[label] += 1
            if most is None or seen[label] <= most:
                kept.append(row)
        images = rows[kept].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        for row, image in zip(kept, images, strict=True):
            name = f"{labels[row]:04d}"
            yield Record(name, split_of[name], f"{batch}:{row}", image)
    require_all(split_of, {f"{label:04d}" for label in seen}, files.what)


def stand_in(raw: Tree) -> Iterator[Record]:
    """Arrays images (n 32 32 3), labels and wnids (class names), whose order decides the split.

    Raises DataError for another layout.
    """
    arrays = raw.inside(STAND_IN.name)
    images = pixels(arrays.array("images.npy"), STAND_IN.name)
    labels, names = arrays.array("labels.npy").tolist(), list(map(str, arrays.array("wnids.npy")))
    if len(images) != len(labels) or len(set(names)) != sum(N_STAND_IN):
        raise DataError(f"{STAND_IN.name} does not hold a label for each image and {sum(N_STAND_IN)} class names.")
    if min(labels) < 0 or max(labels) >= len(names):
        raise DataError(f"{STAND_IN.name} has labels outside its {len(names)} classes.")
    split_of = split_by_order(names, N_STAND_IN)
    require_all(split_of, {names[label] for label in labels}, STAND_IN.name)
    for row, image in enumerate(images):
        name = names[labels[row]]
        yield Record(name, split_of[name], f"{STAND_IN.name}:{row}", image)
