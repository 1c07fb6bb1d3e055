"""What a data set is to the fetch and prepare stages.

A data set is one file of this room: a class under `@DATASETS.register("name")` that derives from `Dataset`, says where
its files come from (`layouts`) and yields its images by class (`records`). Fetching, checksums, mirrors, parallel
reading, checks, statistics and the manifest are the same for all and live in `fetching.py` and `preparing.py`.
"""

from __future__ import annotations

import abc
import csv
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pipeline.core.config import build
from pipeline.core.errors import DataError
from pipeline.core.types import FEW_SHOT, SPLITS
from pipeline.data.archives import Blob, Tree
from pipeline.data.settings import FetchConfig, PrepareConfig

SPLIT_LISTS = pathlib.Path(__file__).parent / "splits"


@dataclass(frozen=True)
class Source:
    """One file that a data set is made from.

    Attributes:
        name: the file's name, which is also its name in the raw archive.
        licence: terms of use, in a few words.
        url: direct address, or None when a person has to fetch it.
        page: where a person gets it.
        md5, sha256: the published checksum; None where none is published.
        hash_end: the last characters of the MD5 or SHA-256, where no more is published.
        n_bytes: the published size, or None.
        also: other names under which it is accepted: another packing of the same content.
        folder: name of the folder it unpacks to, accepted in its place; None when there is no such thing.
        in_mirror: further places to look at, relative to the mirror.
        package: an installed Python package that ships the file, with its path inside: ("mlxtend", "data/x.csv").
        cached: files of this machine in which other programs keep it; passed over when they hold something else.
        path: a file or folder of the user's own, taken as it is.
        own: a folder that the user puts into the mirror: nobody has to vouch for it, and it is not called official.
    """

    name: str
    licence: str
    url: str | None = None
    page: str = ""
    md5: str | None = None
    sha256: str | None = None
    hash_end: str | None = None
    n_bytes: int | None = None
    also: tuple[str, ...] = ()
    folder: str | None = None
    in_mirror: tuple[str, ...] = ()
    package: tuple[str, str] | None = None
    cached: tuple[str, ...] = ()
    path: str | None = None
    own: bool = False


@dataclass(frozen=True)
class Layout:
    """One of the forms in which a data set goes round: all its sources are needed.

    Attributes:
        title: the data set's title when it is made from this form, where that is another than the data set's own.
    """

    name: str
    sources: tuple[Source, ...]
    title: str = ""


@dataclass(frozen=True)
class Record:
    """One image before it is read.

    Attributes:
        class_name, split: where it belongs.
        source: the file it comes from, for the index.
        image: an encoded image file, on the disk or in memory, or its pixels (h w) or (h w c).
        fold: see `PreparedSet.folds`.
        quarter_turns: counter-clockwise turns by 90 degrees.
    """

    class_name: str
    split: str
    source: str
    image: Blob | bytes | np.ndarray
    fold: int = 0
    quarter_turns: int = 0


@dataclass(frozen=True)
class Options:
    """What a data set may ask about the job: the knobs, and the spec of a user's folder."""

    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    folder: FetchConfig | None = None


class Dataset(abc.ABC):
    """A data set of images grouped by class.

    Class attributes:
        kind: a key of `pipeline.core.types.KINDS`: "few_shot", whose classes are grouped into base, validation and
            novel, or "classification", whose images of every class are grouped into train and test.
        collection: what the images are taken from, where other data sets take theirs from it too; "" otherwise.
        title: the name in tables and figures.
        licence: terms of the images.
        native_size: pixels of a side at the data set's best.
        channels: 1 or 3.
        layouts: accepted forms, the preferred first.
        inverted: whether dark strokes on light ground are turned into light on dark.
        duplicates: "report" or "refuse" equal images in different splits.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = FEW_SHOT
    collection: ClassVar[str] = ""
    title: str
    licence: str
    native_size: int
    channels: int = 3
    layouts: tuple[Layout, ...] = ()
    inverted: bool = False
    duplicates: str = "report"

    def __init__(self, options: Options | None = None):
        self.options = options or Options()

    @abc.abstractmethod
    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        """All images, read from the sources of the layout so called in `raw`. Raises DataError when one is missing."""

    def called(self, name: str) -> str:
        """The set's name in the workflow as messages give it: with the user's folder where it is one."""
        folder = self.options.folder
        return f"{name} ({folder.path})" if folder is not None else name

    def image_size(self) -> int:
        return min(self.native_size, self.options.prepare.max_image_size)


def content_of(raw: Tree, source: Source) -> Tree:
    """The files inside a source, whether it came as an archive or as a folder; named relative to its own folder."""
    for name in (source.name, *source.also):
        if name in raw:
            inner = raw.inside(name, own=source.path)
            return inner.under(source.folder) if source.folder and _all_below(inner, source.folder) else inner
    inner = raw.under(source.folder or source.name)
    if not inner:
        raise DataError(
            f"{raw.what} holds neither {source.name} nor the folder it unpacks to. Fetch the data set again."
        )
    return inner


def _all_below(tree: Tree, folder: str) -> bool:
    return all(name.startswith(f"{folder}/") for name in tree)


def read_split(name: str) -> dict[str, str]:
    """Class -> split, from `pipeline/data/splits/{name}.csv`, in the order of the file."""
    with open(SPLIT_LISTS / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = [(row["class"], row["split"]) for row in csv.DictReader(file)]
    found = dict(rows)
    if len(found) != len(rows) or not set(found.values()) <= set(SPLITS):
        raise DataError(f"The class list of {name} names a class twice or an unknown split.")
    return found


def open_dataset(params: Mapping[str, Any]) -> Dataset:
    """The data set that a fetch or prepare job's frozen parameters describe.

    Args:
        params: {"family": registered name, "folder": options of a user's folder or absent, "prepare": knobs or absent}.
    """
    from pipeline.data import get

    folder = params.get("folder")
    options = Options(
        prepare=build(PrepareConfig, params.get("prepare", {}), "prepare"),
        folder=build(FetchConfig, folder, "data.folders") if folder is not None else None,
    )
    return get(params["family"])(options)
