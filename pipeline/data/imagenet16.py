"""ImageNet16-120 (Dong and Yang, 2020): 120 classes of ImageNet downsampled to 16 pixels, the third data set of
NAS-Bench-201.

It goes round as the pickles of downsampled ImageNet (Chrabaszcz et al., 2017), of whose 1,000 labels the first 120 are
kept. A stand-in of the same shape, made from other classes, is read too and says in its title what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.types import CLASSIFICATION
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source
from pipeline.data.common_layouts import pixels, require_all, require_key
from pipeline.data.pickles import read_pickle

LICENCE = "ImageNet terms of access: research and education only, no redistribution"
FOLDER = "https://drive.google.com/drive/folders/1T3UIyZXUhMmIuJLOBMIYKAsJknAtrrO4"
SIDE = 16
N_CLASSES = 120


def _pickle(name: str, md5: str) -> Source:
    return Source(name, LICENCE, page=FOLDER, md5=md5, in_mirror=(f"ImageNet16/{name}",))


TRAIN = tuple(
    _pickle(f"train_data_batch_{number}", md5)
    for number, md5 in enumerate(
        (
            "27846dcaa50de8e21a7d1a35f30f0e91",
            "c7254a054e0e795c69120a5727050e3f",
            "4333d3df2e5ffb114b05d2ffc19b1e87",
            "1620cdf193304f4a92677b695d70d10f",
            "348b3c2fdbb3940c4e9e834affd3b18d",
            "6e765307c242a1b3d7d5ef9139b48945",
            "564926d8cbf8fc4818ba23d2faac7564",
            "f4755871f718ccb653440b9dd0ebac66",
            "bb6dd660c38c58552125b1a92f86b5d4",
            "8f03f34ac4b42271a294f91bf480f29b",
        ),
        1,
    )
)
TEST = _pickle("val_data", "3410e3017fdaefba8d5073aaa65e4bd6")
STAND_IN = Source(
    name="imagenet16like_16_120x100.npz",
    licence=LICENCE,
    page="a stand-in to try the workflow with, made from 120 classes of Tiny-ImageNet; published nowhere",
    in_mirror=("imagenet16like_16_120x100.npz",),
)


@DATASETS.register("imagenet16")
class ImageNet16(Dataset):
    """120 classes; about 151,700 images to train on and 6,000 to test on in the published set."""

    kind = CLASSIFICATION
    collection = "ImageNet"
    title = "ImageNet16-120"
    licence = LICENCE
    native_size = SIDE
    layouts = (
        Layout("pickles", (*TRAIN, TEST)),
        Layout("stand-in", (STAND_IN,), title="120 Tiny-ImageNet classes at 16 pixels (NOT ImageNet16-120)"),
    )

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        return first_classes(raw) if layout == "pickles" else stand_in(raw)


def first_classes(raw: Tree) -> Iterator[Record]:
    """Images with the labels 1 to 120 of pickles {"data": (n 768), "labels": 1..1000}; a class is named by its label.

    Raises DataError for another layout, and when a class has no image.
    """
    seen = set()
    for split, sources in (("train", TRAIN), ("test", (TEST,))):
        for source in sources:
            content = read_pickle(raw.read(source.name), source.name)
            rows = require_key(content, "data", source.name)
            labels = np.asarray(require_key(content, "labels", source.name))
            shape = (*labels.shape, 3 * SIDE * SIDE)
            if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or labels.ndim != 1 or rows.shape != shape:
                raise DataError(f"{source.name} does not hold a row of {3 * SIDE * SIDE} bytes for each of its labels.")
            if labels.size and labels.min() < 1:
                raise DataError(f"{source.name} has labels below 1; they should be 1 to 1000.")
            kept = np.flatnonzero(labels <= N_CLASSES)
            images = rows[kept].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
            for row, image in zip(kept.tolist(), images, strict=True):
                name = f"{labels[row]:03d}"
                seen.add(name)
                yield Record(name, split, f"{source.name}:{row}", image)
    require_all({f"{label:03d}": "" for label in range(1, N_CLASSES + 1)}, seen, raw.what)


def stand_in(raw: Tree) -> Iterator[Record]:
    """Arrays images (n 16 16 3), labels, wnids (class names) and split: 0 to train on and 1, the last of each class,
    to test on. Raises DataError for another layout.
    """
    arrays = raw.inside(STAND_IN.name)
    images = pixels(arrays.array("images.npy"), STAND_IN.name)
    labels, split, names = (arrays.array(f"{name}.npy") for name in ("labels", "split", "wnids"))
    if not len(images) == len(labels) == len(split) or not set(np.unique(split)) <= {0, 1}:
        raise DataError(f"{STAND_IN.name} does not hold a label and a split of 0 or 1 for each of its images.")
    if labels.min() < 0 or labels.max() >= len(names):
        raise DataError(f"{STAND_IN.name} has labels outside its {len(names)} classes.")
    for row, image in enumerate(images):
        yield Record(str(names[labels[row]]), ("train", "test")[split[row]], f"{STAND_IN.name}:{row}", image)
