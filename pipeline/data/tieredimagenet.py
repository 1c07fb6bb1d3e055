"""tiered-ImageNet (Ren et al., 2018): 608 classes of ImageNet at 84 pixels, split 351 / 97 / 160 by superclass.

It goes round as arrays with labels (RFS, MetaOptNet), as pickled lists of PNG files (the authors' own archive, and one
file each on Zenodo) and as folders named after the classes. All are read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of, read_split
from pipeline.data.common_layouts import class_folders, labelled_arrays, pixels, require_key
from pipeline.data.pickles import read_pickle

LICENCE = "ImageNet terms of access: research and education only, no redistribution"
ZENODO = "https://zenodo.org/record/7978538/files/"
DRIVE = "https://drive.google.com/file/d/"
WORD_OF = {"base": "train", "validation": "val", "novel": "test"}
ARRAYS = tuple(
    Source(f"{word}_{what}", LICENCE, page=f"{DRIVE}1nVGCTd9ttULRXFezh4xILQ9lUkg0WZCG")
    for word in WORD_OF.values()
    for what in ("images.npz", "labels.pkl")
)
AUTHORS = Source(
    name="tiered-imagenet.tar",
    licence=LICENCE,
    page=f"{DRIVE}1g1aIDy2Ar_MViF2gDXFYDBTR-HYecV07",
    md5="e07e811b9f29362d159a9edd0d838c62",
    also=("tiered-imagenet.tar.gz",),
    folder="tiered-imagenet",
)
FILES = tuple(
    Source(f"tiered-imagenet-{word}_{what}.pkl", LICENCE, url=f"{ZENODO}tiered-imagenet-{word}_{what}.pkl")
    for word in WORD_OF.values()
    for what in ("images_png", "labels")
)
CLASSES = Source(
    name="tieredimagenet.tar",
    licence=LICENCE,
    page="made from ImageNet with the published class lists",
    also=("tieredimagenet.zip", "tieredimagenet.tar.gz"),
    folder="tieredimagenet",
)


@DATASETS.register("tieredimagenet")
class TieredImageNet(Dataset):
    """608 classes, about 1,280 images each."""

    collection = "ImageNet"
    title = "tiered-ImageNet"
    licence = LICENCE
    native_size = 84
    layouts = (
        Layout("arrays", ARRAYS),
        Layout("authors' archive", (AUTHORS,)),
        Layout("class folders", (CLASSES,)),
        Layout("PNG pickles", FILES),
    )

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        if layout == "arrays":
            return arrays(raw)
        if layout == "authors' archive":
            return png_pickles(content_of(raw, AUTHORS), "")
        if layout == "PNG pickles":
            return png_pickles(raw, "tiered-imagenet-")
        return class_folders(content_of(raw, CLASSES), read_split("tieredimagenet"))


def labels_of(tree: Tree, name: str) -> list[int]:
    """Class numbers, under the key of RFS or of the authors. Raises DataError."""
    content = read_pickle(tree.read(name), name)
    key = "label_specific" if isinstance(content, dict) and "label_specific" in content else "labels"
    return require_key(content, key, name)


def arrays(raw: Tree) -> Iterator[Record]:
    """{split}_images.npz (key images) with {split}_labels.pkl."""
    for split, word in WORD_OF.items():
        name = f"{word}_images.npz"
        images = pixels(raw.inside(name).array("images.npy"), name)
        yield from labelled_arrays(images, labels_of(raw, f"{word}_labels.pkl"), split, name)


def png_pickles(tree: Tree, prefix: str) -> Iterator[Record]:
    """{split}_images_png.pkl, a list of encoded images, with {split}_labels.pkl."""
    for split, word in WORD_OF.items():
        name = f"{prefix}{word}_images_png.pkl"
        encoded = read_pickle(tree.read(name), name)
        if not all(isinstance(one, (bytes, np.ndarray)) for one in encoded):
            raise DataError(f"{tree.what}/{name} is not a list of encoded images.")
        images = [one if isinstance(one, bytes) else one.tobytes() for one in encoded]
        yield from labelled_arrays(images, labels_of(tree, f"{prefix}{word}_labels.pkl"), split, name)
