"""A folder of the user's own images, one sub-folder per class, or an archive of it.

Where the top level is called train / val / test (or base / validation / novel), that is the class split; otherwise the
classes are split at random by a seed.
"""

from __future__ import annotations

import collections
import pathlib
import posixpath
from collections.abc import Iterator, Mapping

from pipeline.core.errors import ConfigError, DataError
from pipeline.core.rng import numpy_stream
from pipeline.core.types import SPLITS
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Options, Record, Source, content_of
from pipeline.data.common_layouts import image_files
from pipeline.data.settings import FetchConfig

SPLIT_WORDS = {"train": "base", "val": "validation", "test": "novel"} | {split: split for split in SPLITS}
LEAST_CLASSES = 2


@DATASETS.register("image_folder")
class ImageFolder(Dataset):
    """The family of all folders registered under data.folders in params.yaml."""

    title = ""
    licence = "the user's own images"
    native_size = 84

    def __init__(self, options: Options | None = None):
        super().__init__(options)
        folder = self.options.folder or FetchConfig()
        self.title, self.licence = folder.title, folder.licence
        self.native_size, self.duplicates = folder.image_size, folder.duplicates
        self.folder = folder
        self.source = Source(pathlib.PurePath(folder.path).name, folder.licence, folder="images", path=folder.path)
        self.layouts = (Layout("class folders", (self.source,)),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        by_class = collections.defaultdict(list)
        for name, blob in image_files(content_of(raw, self.source)):
            by_class[posixpath.dirname(name)].append((name, blob))
        classes = without_shared_folders(list(by_class))
        split_of = given_split(classes.values()) or drawn_split(sorted(classes.values()), self.folder)
        for folder, members in by_class.items():
            place = classes[folder]
            for name, blob in members if place in split_of else ():
                yield Record(class_name(place, split_of), split_of[place], name, blob)


def without_shared_folders(folders: list[str]) -> dict[str, str]:
    """Folder -> the part of its path below what all have in common. Raises DataError unless there are class folders."""
    if len(folders) < 2:
        raise DataError(
            f"Found images in {len(folders)} folders. A data set needs one sub-folder of images per class, "
            "e.g. birds/sparrow/001.jpg and birds/robin/001.jpg."
        )
    shared = posixpath.commonpath(folders)
    if shared in folders:
        raise DataError(
            f"Images lie in '{shared or '.'}' beside the class folders. Put each into the folder of its class."
        )
    return {folder: posixpath.relpath(folder, shared or ".") for folder in folders}


def given_split(places) -> dict[str, str] | None:
    """Place -> split where the top level names the splits, else None. Raises DataError when a split is missing."""
    tops = {place.split("/")[0] for place in places}
    if not all("/" in place for place in places) or not tops <= set(SPLIT_WORDS):
        return None
    found = {place: SPLIT_WORDS[place.split("/")[0]] for place in places}
    missing = set(SPLITS) - set(found.values())
    if missing:
        listed = ", ".join(sorted(missing))
        raise DataError(f"The folders {', '.join(sorted(tops))} name a class split, but there is none for {listed}.")
    return found


def class_name(place: str, split_of: Mapping[str, str]) -> str:
    """The class's name: its place, without the split's folder where that is part of it."""
    top, _, rest = place.partition("/")
    return rest if rest and SPLIT_WORDS.get(top) == split_of[place] else place


def drawn_split(places: list[str], folder: FetchConfig) -> dict[str, str]:
    """Place -> split, drawn with the folder's split seed; places outside all splits are left out.

    Raises ConfigError when the shares do not fit the number of classes.
    """
    counts = {split: counted(getattr(folder, split), len(places)) for split in SPLITS}
    if sum(counts.values()) == len(places) + 1:
        # three shares that add up to one may all be rounded up
        counts["base"] -= 1
    described = ", ".join(f"{split} {count}" for split, count in counts.items())
    if sum(counts.values()) > len(places) or min(counts.values()) < LEAST_CLASSES:
        raise ConfigError(
            f"The class split wants {described} of {len(places)} classes. Every split needs at least {LEAST_CLASSES}, "
            "and together they cannot have more than there are: change base, validation and novel under data.folders, "
            "or add classes."
        )
    order = numpy_stream(folder.split_seed, "class split").permutation(len(places))
    split_of, start = {}, 0
    for split, count in counts.items():
        split_of.update({places[i]: split for i in order[start : start + count]})
        start += count
    return split_of


def counted(share: float, n_classes: int) -> int:
    """Classes of a share: a fraction of all up to 1, a number of them above. Raises ConfigError for 2.5 classes."""
    if share > 1 and share != int(share):
        raise ConfigError(f"{share} is neither a fraction up to 1 nor a whole number of classes.")
    return int(share) if share > 1 else round(share * n_classes)
