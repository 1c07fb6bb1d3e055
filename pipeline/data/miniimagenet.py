"""mini-ImageNet: 100 classes of ImageNet at 84 pixels in the class split of Ravi and Larochelle (2017), 64 / 16 / 20.

The data set has no one official archive; it goes round as an image folder with the split's three csv files, as folders
named after the classes, as the pickles of RFS (Tian et al., 2020) and as cached pickles. All are read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from pipeline.core.errors import DataError
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of, read_split
from pipeline.data.common_layouts import class_folders, image_files, labelled_arrays, pixels, require_key
from pipeline.data.pickles import read_pickle

LICENCE = "ImageNet terms of access: research and education only, no redistribution"
LISTS = "https://raw.githubusercontent.com/twitter/meta-learning-lstm/master/data/miniImagenet/"
CACHE = "https://zenodo.org/record/7978538/files/"
DRIVE = "https://drive.google.com/file/d/"


def _list(name: str, md5: str) -> Source:
    return Source(name, LICENCE, url=LISTS + name, md5=md5)


LIST_OF = {
    "base": _list("train.csv", "9525e1538f67719f18f1936bf8d0782d"),
    "validation": _list("val.csv", "ce315ce99b41fbf84fa6acd69315d918"),
    "novel": _list("test.csv", "5b89df877c6cbe5d291e43118a2a9591"),
}
IMAGES = Source(
    name="images.tar",
    licence=LICENCE,
    page=f"{DRIVE}1rV3aj_hgfNTfCakffpPm7Vhpr1in87CR",
    also=("images.tar.gz", "images.zip"),
    folder="images",
)
CLASSES = Source(
    name="mini-imagenet.tar.gz",
    licence=LICENCE,
    page=f"{DRIVE}16V_ZlkW4SsnNDtnGmaBRq2OoPmUOc5mY",
    md5="b38f1eb4251fb9459ecc8e7febf9b2eb",
    also=("mini-imagenet.tar", "mini-imagenet.zip", "miniimagenet.tar.gz", "miniimagenet.tar", "miniimagenet.zip"),
    folder="mini-imagenet",
)
RFS_PAGE = "https://www.dropbox.com/sh/6yd1ygtyc3yd981/AABVeEqzC08YQv4UZk7lNHvya?dl=0"
RFS_OF = {
    "base": Source("miniImageNet_category_split_train_phase_train.pickle", LICENCE, page=RFS_PAGE),
    "validation": Source("miniImageNet_category_split_val.pickle", LICENCE, page=RFS_PAGE),
    "novel": Source("miniImageNet_category_split_test.pickle", LICENCE, page=RFS_PAGE),
}
CACHE_OF = {
    split: Source(f"mini-imagenet-cache-{word}.pkl", LICENCE, url=f"{CACHE}mini-imagenet-cache-{word}.pkl", also=also)
    for split, word, also in (
        ("base", "train", ()),
        ("validation", "validation", ("mini-imagenet-cache-val.pkl",)),
        ("novel", "test", ()),
    )
}


@DATASETS.register("miniimagenet")
class MiniImageNet(Dataset):
    """100 classes, 600 images each in the published set."""

    collection = "ImageNet"
    title = "mini-ImageNet"
    licence = LICENCE
    native_size = 84
    layouts = (
        Layout("csv and images", (*LIST_OF.values(), IMAGES)),
        Layout("class folders", (CLASSES,)),
        Layout("RFS pickles", tuple(RFS_OF.values())),
        Layout("cached pickles", tuple(CACHE_OF.values())),
    )

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        if layout == "csv and images":
            return listed_images(raw)
        if layout == "RFS pickles":
            return rfs_pickles(raw)
        if layout == "cached pickles":
            return cached_pickles(raw)
        files = content_of(raw, CLASSES)
        if any(name.endswith(".pkl") for name in files):
            return cached_pickles(files)
        return class_folders(files, read_split("miniimagenet"))


def listed_images(raw: Tree) -> Iterator[Record]:
    """Images named by the csv files (columns filename, label). Raises DataError when some are not in the archive."""
    files = content_of(raw, IMAGES)
    by_name = {name.rsplit("/", 1)[-1]: blob for name, blob in image_files(files)}
    for split, source in LIST_OF.items():
        rows = list(csv.DictReader(io.StringIO(raw.read(source.name).decode("utf-8"))))
        if not rows or not {"filename", "label"} <= set(rows[0]):
            raise DataError(f"{raw.what}/{source.name} has no rows with the columns filename and label.")
        missing = [row["filename"] for row in rows if row["filename"] not in by_name]
        if missing:
            raise DataError(
                f"{files.what} lacks {len(missing)} of the {len(rows)} images that {source.name} lists, e.g. "
                f"{missing[0]}; it is incomplete. Fetch it again, or use the csv files that belong to it."
            )
        for row in rows:
            yield Record(row["label"], split, row["filename"], by_name[row["filename"]])


def rfs_pickles(raw: Tree) -> Iterator[Record]:
    """One pickle a split: {"data": (n 84 84 3), "labels": numbers}."""
    for split, source in RFS_OF.items():
        content = read_pickle(raw.read(source.name), source.name)
        images = pixels(require_key(content, "data", source.name), source.name)
        yield from labelled_arrays(images, require_key(content, "labels", source.name), split, source.name)


def cached_pickles(files: Tree) -> Iterator[Record]:
    """One pickle a split: {"image_data": (n 84 84 3), "class_dict": {class: rows}}."""
    short = {name.rsplit("/", 1)[-1]: name for name in files}
    for split, source in CACHE_OF.items():
        name = next((short[one] for one in (source.name, *source.also) if one in short), source.name)
        content = read_pickle(files.read(name), name)
        images = pixels(require_key(content, "image_data", name), name)
        for class_name, rows in require_key(content, "class_dict", name).items():
            if len(rows) and (min(rows) < 0 or max(rows) >= len(images)):
                raise DataError(f"{name}: class '{class_name}' has images outside the {len(images)} of the file.")
            for row in rows:
                yield Record(class_name, split, f"{source.name}:{row}", images[row])
