"""A folder of the user's own images, one sub-folder per class, or an archive of it.

It is a few-shot set, or a classification set where its options say so. Where the top level of a few-shot set is called
train / val / test (or base / validation / novel), that is the class split; otherwise the classes are split at random by
a seed. Where the top level of a classification set is called train / test (besides perhaps val), that divides the
images; otherwise those of every class are divided by a seed.
"""

from __future__ import annotations

import collections
import math
import pathlib
import posixpath
from collections.abc import Collection, Iterator, Mapping

from pipeline.core.errors import ConfigError, DataError
from pipeline.core.progress import say
from pipeline.core.rng import numpy_stream
from pipeline.core.types import CLASSIFICATION, SPLITS
from pipeline.core.wording import n_of
from pipeline.data import DATASETS
from pipeline.data.archives import Blob, Tree
from pipeline.data.base import Dataset, Layout, Options, Record, Source, content_of
from pipeline.data.common_layouts import image_files, left_out
from pipeline.data.drawn_parts import part_to_test
from pipeline.data.settings import FetchConfig

SPLIT_WORDS = {"train": "base", "val": "validation", "test": "novel"} | {split: split for split in SPLITS}
LEAST_CLASSES = {"base": 2, "validation": 1, "novel": 2}
PART_WORDS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}

NEEDED = (
    f"Needed are at least {LEAST_CLASSES['base']} base, {LEAST_CLASSES['validation']} validation and "
    f"{LEAST_CLASSES['novel']} novel classes (and for test episodes episodes.n_way novel ones)"
)


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
        self.folder, self.kind = folder, folder.kind
        self.source = Source(pathlib.PurePath(folder.path).name, folder.licence, folder="images", path=folder.path)
        self.layouts = (Layout("class folders", (self.source,)),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        by_class = collections.defaultdict(list)
        files = content_of(raw, self.source)
        images = dict(image_files(files))
        for name, blob in images.items():
            by_class[posixpath.dirname(name)].append((name, blob))
        others = left_out(files.keys() - images.keys())
        if not images:
            raise DataError(
                f"{self.folder.path} holds no image{others and f': {others}'}. Give one sub-folder of images per "
                "class, e.g. birds/sparrow/001.jpg and birds/robin/001.jpg; archives within are not unpacked."
            )
        if others:
            say(f"{self.folder.path}: {others}")
        classes = without_shared_folders(list(by_class), self.folder.path)
        if self.kind == CLASSIFICATION:
            yield from images_of_parts({classes[folder]: members for folder, members in by_class.items()}, self.folder)
            return
        split_of = given_split(classes.values(), self.folder.path)
        names = class_names(classes.values(), split_of is not None, SPLIT_WORDS, self.folder.path)
        if split_of is None:
            split_of = drawn_split(sorted(names), self.folder)
        for folder, members in by_class.items():
            place = classes[folder]
            for name, blob in members if place in split_of else ():
                yield Record(names[place], split_of[place], name, blob)


def without_shared_folders(folders: list[str], path: str) -> dict[str, str]:
    """Folder -> the part of its path below what all have in common.

    Raises DataError, naming the user's folder or archive `path`, unless there are class folders.
    """
    if len(folders) < 2:
        raise DataError(
            f"Found images in one folder of {path}. A data set needs one sub-folder of images per class, e.g. "
            "birds/sparrow/001.jpg and birds/robin/001.jpg."
        )
    shared = posixpath.commonpath(folders)
    if shared in folders:
        raise DataError(
            f"{path}: images lie in '{shared or '.'}' beside the class folders. Put each into the folder of its class "
            "and run the same command again."
        )
    return {folder: posixpath.relpath(folder, shared or ".") for folder in folders}


def refuse_split_beside_others(places: Collection[str], words: Collection[str], path: str) -> None:
    """Raises DataError where some of the top level is named like splits: one class would be in several of them."""
    tops = {place.split("/")[0] for place in places if "/" in place}
    named = sorted(top for top in tops if top.lower() in {*words, "valid", "training", "testing"})
    if named:
        others = sorted({place.split("/")[0] for place in places} - set(words))
        raise DataError(
            f"The folders {', '.join(named)} of {path} look like splits, but its top level holds others: "
            f"{', '.join(others[:5])}. Name the splits {', '.join(words)}, with nothing beside them, or put all class "
            f"folders directly into {path}; then run the same command again."
        )


def given_split(places: Collection[str], path: str) -> dict[str, str] | None:
    """Place -> split where the top level of `path` names the splits, else None. Raises DataError for a poor split."""
    tops = {place.split("/")[0] for place in places}
    if not all("/" in place for place in places) or not tops <= set(SPLIT_WORDS):
        return None
    found = {place: SPLIT_WORDS[place.split("/")[0]] for place in places}
    counts = collections.Counter(found.values())
    if too_few(counts):
        raise DataError(
            f"The folders {', '.join(sorted(tops))} of {path} name a class split, {listed(counts)}. {NEEDED}: add "
            "classes and run the same command again."
        )
    return found


def class_names(places: Collection[str], is_split: bool, words: Collection[str], path: str) -> dict[str, str]:
    """Place -> the class's name, without the split's folder where the top level holds splits.

    Raises DataError where folders lie in a class's folder: whether each is a class is the user's to say.

    Args:
        words: what folders of splits are called; where the top level holds none, no folder may look like one.
    """
    if not is_split:
        refuse_split_beside_others(places, words, path)
    names = {place: place.partition("/")[2] if is_split else place for place in places}
    deep = sorted(place for place, name in names.items() if "/" in name)
    if deep:
        example = names[deep[0]]
        raise DataError(
            f"{path}: {len(deep)} {'folder' if len(deep) == 1 else 'folders'} of images inside class folders, e.g. "
            f"{', '.join(deep[:3])}. Put the images of a class directly into its folder '{example.split('/')[0]}', or, "
            f"where each of these is a class of its own, move it up, e.g. as '{example.replace('/', '_')}'; then run "
            "the same command again."
        )
    return names


def drawn_split(places: list[str], folder: FetchConfig) -> dict[str, str]:
    """Place -> split, drawn with the folder's split seed; places outside all splits are left out, and that is told.

    Raises ConfigError when the shares do not fit the number of classes.
    """
    shares = {split: getattr(folder, split) for split in SPLITS}
    counts = {split: counted(share, len(places)) for split, share in shares.items()}
    n_over = sum(counts.values()) - len(places)
    # shares may all be rounded up, and those that add up to one all down
    if n_over == 1 or (max(shares.values()) < 1 and math.isclose(sum(shares.values()), 1)):
        counts["base"] -= n_over
    if sum(counts.values()) > len(places) or too_few(counts):
        raise ConfigError(
            f"The class split wants {listed(counts)} of the {n_of(len(places), 'class', 'classes')} in {folder.path}. "
            f"{NEEDED}, and together they cannot be more than there are: change base, validation and novel under "
            "data.folders, or add classes."
        )
    order = numpy_stream(folder.split_seed, "class split").permutation(len(places))
    split_of, start = {}, 0
    for split, count in counts.items():
        split_of.update({places[i]: split for i in order[start : start + count]})
        start += count
    if others := [place for place in places if place not in split_of]:
        say(
            f"{folder.path}: {len(others)} of {len(places)} classes are in no split and left out, e.g. "
            f"{', '.join(others[:3])}. The split is {listed(counts)}, as data.folders says."
        )
    return split_of


def counted(share: float, n_classes: int) -> int:
    """Classes of a share: a fraction of all below 1, a number of them from 1 on. Raises ConfigError for 2.5 classes."""
    if share > 1 and share != int(share):
        raise ConfigError(f"{share} is neither a fraction below 1 nor a whole number of classes.")
    return int(share) if share >= 1 else round(share * n_classes)


def too_few(counts: Mapping[str, int]) -> bool:
    """Whether a split has fewer classes than a training, or an episode, can do with."""
    return any(counts[split] < least for split, least in LEAST_CLASSES.items())


def listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {counts[split]}" for split in SPLITS)


def images_of_parts(by_place: Mapping[str, list[tuple[str, Blob]]], folder: FetchConfig) -> Iterator[Record]:
    """Images of a classification set, by the parts that the top level names or else drawn with the split seed.

    Raises DataError when a part or a second class is missing, and when a class that is to be divided has one image.
    """
    parted = all("/" in place for place in by_place) and {place.split("/")[0] for place in by_place} <= set(PART_WORDS)
    if parted:
        tops = {place.split("/")[0]: PART_WORDS[place.split("/")[0]] for place in by_place}
        missing = [word for word in ("train", "test") if word not in tops.values()]
        if missing:
            raise DataError(
                f"The folders {', '.join(sorted(tops))} of {folder.path} divide the images, but there is no folder "
                f"'{missing[0]}'. Add it, or put the class folders directly into {folder.path} to have their images "
                "divided by a seed."
            )
    names = class_names(by_place, parted, PART_WORDS, folder.path)
    if len(set(names.values())) < 2:
        raise DataError(f"{folder.path} has one class, '{min(names.values())}'; a data set needs two or more.")
    for place, members in by_place.items():
        tested = set() if parted else part_to_test(place, dict(members), folder.test_fraction, folder.split_seed)
        for name, blob in members:
            drawn = "test" if name in tested else "train"
            yield Record(names[place], tops[place.split("/")[0]] if parted else drawn, name, blob)
