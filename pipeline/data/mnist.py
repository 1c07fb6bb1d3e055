"""MNIST (LeCun et al., 1998): handwritten digits, 60,000 to train on and 10,000 to test on."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.types import CLASSIFICATION
from pipeline.data import DATASETS
from pipeline.data.archives import Tree, unpacked
from pipeline.data.base import Dataset, Layout, Record, Source
from pipeline.data.common_layouts import require_all

LICENCE = "CC BY-SA 3.0"
ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
N_CLASSES = 10
UNSIGNED_BYTES = 8  # the idx format's number for this type


def _file(name: str, md5: str) -> Source:
    return Source(f"{name}.gz", LICENCE, url=f"{ADDRESS}{name}.gz", md5=md5)


FILES_OF = {
    "train": (
        _file("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        _file("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    "test": (
        _file("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
        _file("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
}
"""Images and labels of each split."""


@DATASETS.register("mnist")
class Mnist(Dataset):
    """10 classes of light strokes on a dark ground, enlarged from 28 to 32 pixels a side."""

    kind = CLASSIFICATION
    collection = "MNIST"
    title = "MNIST"
    licence = LICENCE
    native_size = 32
    channels = 1
    layouts = (Layout("idx files", tuple(source for files in FILES_OF.values() for source in files)),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        seen = set()
        for split, (of_images, of_labels) in FILES_OF.items():
            images = read_idx(raw.read(of_images.name), of_images.name, n_axes=3)
            labels = read_idx(raw.read(of_labels.name), of_labels.name, n_axes=1).tolist()
            if len(images) != len(labels):
                raise DataError(
                    f"{of_images.name} holds {len(images)} images but {of_labels.name} {len(labels)} labels. Fetch "
                    "them again."
                )
            if max(labels, default=0) >= N_CLASSES:
                raise DataError(f"{of_labels.name} has labels beyond {N_CLASSES - 1}. Fetch it again.")
            seen.update(labels)
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield Record(str(label), split, f"{of_images.name}:{row}", image)
        require_all({str(digit): "" for digit in range(N_CLASSES)}, set(map(str, seen)), raw.what)


def read_idx(content: bytes, what: str, n_axes: int) -> np.ndarray:
    """The uint8 array of a gzipped idx file: two zero bytes, the type, the axes and their lengths, then the values.

    Raises DataError when it is damaged, or holds another type or number of axes.
    """
    plain = unpacked(content, "gzip", what)
    start = 4 + 4 * n_axes
    if plain[:4] != bytes((0, 0, UNSIGNED_BYTES, n_axes)) or len(plain) < start:
        raise DataError(f"{what} is no idx file of bytes with {n_axes} axes. Fetch it again.")
    shape = struct.unpack(f">{n_axes}I", plain[4:start])
    if len(plain) - start != math.prod(shape):
        raise DataError(f"{what} announces {math.prod(shape)} values but holds {len(plain) - start}. Fetch it again.")
    return np.frombuffer(plain, np.uint8, offset=start).reshape(shape)
