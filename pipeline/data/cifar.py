"""CIFAR-FS and FC100: CIFAR-100 with two other class splits, built from the official Python archive.

CIFAR-FS (Bertinetto et al., 2019) splits the 100 classes 64 / 16 / 20 at random; FC100 (Oreshkin et al., 2018) splits
them 60 / 20 / 20 by superclass, so that novel classes differ more from the base. Both use all 600 images of a class,
the 500 of CIFAR-100's training part and the 100 of its test part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of, read_split
from pipeline.data.common_layouts import require_all, require_key
from pipeline.data.pickles import read_pickle

ARCHIVE = Source(
    name="cifar-100-python.tar.gz",
    licence="no licence text; research use",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    page="https://www.cs.toronto.edu/~kriz/cifar.html",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    n_bytes=169_001_437,
    also=("cifar-100-python.tar",),
    folder="cifar-100-python",
    in_mirror=("cifar-100-python.tar.gz", "cifar-100-python.tar", "cifar-100-python"),
)
SIDE = 32


class Cifar100Split(Dataset):
    """CIFAR-100 under the class split that the subclass names."""

    licence = ARCHIVE.licence
    native_size = SIDE
    layouts = (Layout("python", (ARCHIVE,)),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        split_of = read_split(self.name)
        files = content_of(raw, ARCHIVE)
        names = require_key(read_pickle(files.read("meta"), "meta"), "fine_label_names", "meta")
        require_all(split_of, set(names), files.what)
        for part in ("train", "test"):
            images, labels = read_part(files, part, len(names))
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                class_name = names[label]
                yield Record(class_name, split_of[class_name], f"{part}:{row}", image)


def read_part(files: Tree, part: str, n_classes: int) -> tuple[np.ndarray, list[int]]:
    """Images (n 32 32 3) and fine labels of `train` or `test`. Raises DataError."""
    content = read_pickle(files.read(part), part)
    rows, labels = require_key(content, "data", part), require_key(content, "fine_labels", part)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape != (len(labels), 3 * SIDE * SIDE):
        raise DataError(f"{files.what}/{part} does not hold a row of {3 * SIDE * SIDE} bytes for each of its labels.")
    if min(labels, default=0) < 0 or max(labels, default=0) >= n_classes:
        raise DataError(f"{files.what}/{part} has labels outside its {n_classes} classes.")
    return rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


@DATASETS.register("cifarfs")
class CifarFs(Cifar100Split):
    title = "CIFAR-FS"


@DATASETS.register("fc100")
class Fc100(Cifar100Split):
    title = "FC100"
