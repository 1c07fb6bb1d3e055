"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), and the class splits CIFAR-FS and FC100 of the latter.

All are read from the official Python archives. CIFAR-FS (Bertinetto et al., 2019) splits the 100 classes 64 / 16 / 20
at random; FC100 (Oreshkin et al., 2018) splits them 60 / 20 / 20 by superclass, so that novel classes differ more from
the base. Both use all 600 images of a class, the 500 of CIFAR-100's training part and the 100 of its test part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.types import CLASSIFICATION
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of, read_split
from pipeline.data.common_layouts import require_all, require_key
from pipeline.data.pickles import read_pickle

ADDRESS = "https://www.cs.toronto.edu/~kriz/"
SIDE = 32


@dataclass(frozen=True)
class Archive:
    """What an official Python archive calls its files and their keys.

    Attributes:
        meta, names: the file with the class names, and their key in it.
        labels: key of the class numbers in a file of images.
        files: the files of images of each part, "train" and "test".
    """

    source: Source
    meta: str
    names: str
    labels: str
    files: dict[str, tuple[str, ...]]


def _source(name: str, md5: str, n_bytes: int, folder: str) -> Source:
    tar = name.removesuffix(".gz")
    return Source(
        name=name,
        licence="no licence text; research use",
        url=ADDRESS + name,
        page=f"{ADDRESS}cifar.html",
        md5=md5,
        n_bytes=n_bytes,
        also=(tar,),
        folder=folder,
        in_mirror=(name, tar, folder),
    )


CIFAR10 = Archive(
    _source("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071, "cifar-10-batches-py"),
    meta="batches.meta",
    names="label_names",
    labels="labels",
    files={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
)
CIFAR100 = Archive(
    _source("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437, "cifar-100-python"),
    meta="meta",
    names="fine_label_names",
    labels="fine_labels",
    files={"train": ("train",), "test": ("test",)},
)


def images_of(raw: Tree, archive: Archive) -> Iterator[Record]:
    """All images under the archive's own division into train and test. Raises DataError when a class has none."""
    tree = content_of(raw, archive.source)
    names = require_key(read_pickle(tree.read(archive.meta), archive.meta), archive.names, archive.meta)
    seen = set()
    for part, files in archive.files.items():
        for file in files:
            images, labels = read_file(tree, file, archive.labels, len(names))
            seen.update(labels)
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield Record(names[label], part, f"{file}:{row}", image)
    require_all(dict.fromkeys(names, ""), {names[label] for label in seen}, tree.what)


def read_file(tree: Tree, file: str, labels_key: str, n_classes: int) -> tuple[np.ndarray, list[int]]:
    """Images (n 32 32 3) and labels of one file of an archive. Raises DataError."""
    content = read_pickle(tree.read(file), file)
    rows, labels = require_key(content, "data", file), require_key(content, labels_key, file)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape != (len(labels), 3 * SIDE * SIDE):
        raise DataError(f"{tree.what}/{file} does not hold a row of {3 * SIDE * SIDE} bytes for each of its labels.")
    if min(labels, default=0) < 0 or max(labels, default=0) >= n_classes:
        raise DataError(f"{tree.what}/{file} has labels outside its {n_classes} classes.")
    return rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


class Cifar(Dataset):
    """A CIFAR with its own division into train and test, the archive named by the subclass."""

    kind = CLASSIFICATION
    licence = CIFAR10.source.licence
    native_size = SIDE
    archive: Archive

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        return images_of(raw, self.archive)


@DATASETS.register("cifar10")
class Cifar10(Cifar):
    title = "CIFAR-10"
    archive = CIFAR10
    layouts = (Layout("python", (CIFAR10.source,)),)


@DATASETS.register("cifar100")
class Cifar100(Cifar):
    collection = "CIFAR-100"
    title = "CIFAR-100"
    archive = CIFAR100
    layouts = (Layout("python", (CIFAR100.source,)),)


class Cifar100Split(Dataset):
    """CIFAR-100 under the class split that the subclass is named after."""

    collection = "CIFAR-100"
    licence = CIFAR100.source.licence
    native_size = SIDE
    layouts = (Layout("python", (CIFAR100.source,)),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        split_of = read_split(self.name)
        seen = set()
        for record in images_of(raw, CIFAR100):
            seen.add(record.class_name)
            if record.class_name in split_of:
                yield dataclasses.replace(record, split=split_of[record.class_name])
        require_all(split_of, seen, raw.what)


@DATASETS.register("cifarfs")
class CifarFs(Cifar100Split):
    title = "CIFAR-FS"


@DATASETS.register("fc100")
class Fc100(Cifar100Split):
    title = "FC100"
