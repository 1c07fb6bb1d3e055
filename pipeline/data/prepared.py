"""The prepared set: what a data set looks like to everything that learns from it.

Three files: `D.images.npy` (uint8, image h w channel), `D.index.csv` (a row per image) and `D.manifest.json`. Images of
a split lie together, in it those of a class. In a few-shot set every split has classes of its own, and a class's number
is its place in that order; in a classification set the splits have the same classes under the same numbers.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.artifacts import PathLike, csv_rows, open_array, read_json, sha256
from pipeline.core.errors import ArtifactError, DataError, UnknownNameError, shown
from pipeline.core.types import CLASSIFICATION, FEW_SHOT, KINDS
from pipeline.core.wording import n_of

INDEX_COLUMNS = ("image", "class", "split", "source", "sha256", "fold")
FOLD = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """Images by class, and the classes of each split.

    Attributes:
        name: the data set's name.
        images: uint8, shape (n, h, w, c), c 1 or 3; memory-mapped and read-only.
        labels: class id of each image, shape (n,), int64.
        folds: shape (n,), int64. Images of one split that have different folds were made from different originals.
            Most sets have one fold; where a split has several, an episode takes its support from one and its
            queries from the others.
        class_names: name of each class id.
        split_rows: image rows of each split.
        split_classes: class ids of each split.
        mean, std: per channel of RGB over the search split, in 0..1, length 3.
        digest: names the content; equal digests mean equal images, classes and splits.
        manifest: the manifest file's content.
        kind: "few_shot" or "classification", a key of `pipeline.core.types.KINDS`.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    class_names: list[str]
    split_rows: Mapping[str, range]
    split_classes: dict[str, np.ndarray]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    manifest: dict[str, Any]
    kind: str = FEW_SHOT

    @classmethod
    def open(cls, images: PathLike, index: PathLike, manifest: PathLike, *, verify: bool = False) -> PreparedSet:
        """Open the three files of a prepared set.

        Args:
            verify: read all images once and compare their checksum too; without it only the size and header of the
                images file are compared, and the whole of the index.

        Raises:
            ArtifactError: a file is missing, damaged or does not belong to the others.
        """
        facts = read_json(manifest)
        _check_manifest(facts, manifest)
        array = _open_images(images, facts)
        if verify and sha256(images) != facts["images_sha256"]:
            raise _stranger(images, manifest)
        rows = _read_index(index, manifest, facts)
        kind = facts.get("kind", FEW_SHOT)
        classes = {split: facts["classes"][split] for split in KINDS[kind].splits if split in facts["classes"]}
        names = list(dict.fromkeys(name for of_split in classes.values() for name in of_split))
        ids = {name: i for i, name in enumerate(names)}
        labels = np.array([ids[row["class"]] for row in rows], dtype=np.int64)
        return cls(
            name=facts["dataset"],
            images=array,
            labels=labels,
            folds=np.array([int(row["fold"]) for row in rows], dtype=np.int64),
            class_names=names,
            split_rows=_split_rows([row["split"] for row in rows], list(classes)),
            split_classes={
                split: np.array([ids[name] for name in of_split], dtype=np.int64) for split, of_split in classes.items()
            },
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            digest=facts["digest"],
            manifest=facts,
            kind=kind,
        )

    @property
    def title(self) -> str:
        return self.manifest["title"]

    @property
    def image_size(self) -> int:
        return self.images.shape[1]

    @property
    def search_split(self) -> str:
        """The split that a search may read: "base" or "train"."""
        return KINDS[self.kind].search_split

    def classes_of(self, split: str) -> np.ndarray:
        """Class ids of a split. Raises UnknownNameError."""
        if split not in self.split_classes:
            raise UnknownNameError(f"split of {self.name}", split, self.split_classes)
        return self.split_classes[split]

    def n_classes(self, split: str) -> int:
        return len(self.classes_of(split))

    def rows_of(self, class_id: int, split: str | None = None) -> np.ndarray:
        """Image rows of one class, ascending; in a classification set those of the search split unless one is named.

        Raises UnknownNameError.
        """
        if split is None and KINDS[self.kind].shares_classes:
            split = self.search_split
        rows = range(len(self.labels)) if split is None else self._range_of(split)
        low, high = np.searchsorted(self.labels[rows.start : rows.stop], [class_id, class_id + 1])
        return np.arange(rows.start + low, rows.start + high)

    def rows_of_split(self, split: str) -> np.ndarray:
        """Image rows of all classes of a split, ascending. Raises UnknownNameError."""
        rows = self._range_of(split)
        return np.arange(rows.start, rows.stop)

    def _range_of(self, split: str) -> range:
        self.classes_of(split)
        return self.split_rows[split]


def _split_rows(split_of_row: Sequence[str], splits: Sequence[str]) -> dict[str, range]:
    """Split -> its rows, which lie together in the order of `splits`."""
    stops = np.cumsum([split_of_row.count(split) for split in splits]).tolist()
    return {split: range(start, stop) for split, start, stop in zip(splits, [0, *stops], stops, strict=False)}


def _stranger(path: PathLike, manifest: PathLike) -> ArtifactError:
    return ArtifactError(
        f"{path} is not the file that {manifest} describes: it was damaged or comes from another run. "
        "Delete it and run the prepare stage again."
    )


def _open_images(path: PathLike, facts: dict[str, Any]) -> np.ndarray:
    try:
        array = open_array(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the prepare stage (see `snakemake -n {path}`).") from None
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the prepare stage again.") from None
    size = facts["image_size"]
    if array.dtype != np.uint8 or array.shape != (facts["n_images"], size, size, facts["channels"]):
        raise ArtifactError(
            f"{path} holds {array.dtype} of shape {array.shape}, but its manifest describes {facts['n_images']} uint8 "
            f"images of {size} x {size} x {facts['channels']}. Delete it and run the prepare stage again."
        )
    return array


def _check_manifest(facts: Any, path: PathLike) -> None:
    """Raises ArtifactError unless a manifest holds what a prepared set is made of."""
    try:
        kind = KINDS[facts.get("kind", FEW_SHOT)]
        texts = [facts[name] for name in ("dataset", "title", "digest", "images_sha256", "index_sha256")]
        counts = [facts[name] for name in ("image_size", "n_images", "channels")]
        classes = [facts["classes"][split] for split in kind.splits if split in facts["classes"]]
        sound = (
            all(isinstance(text, str) for text in texts)
            and all(type(count) is int and count > 0 for count in counts)
            and set(facts["classes"]) <= set(kind.splits)
            and all(split in facts["classes"] for split in kind.splits if split not in kind.optional)
            and all(isinstance(names, list) and len(set(names)) == len(names) > 0 for names in classes)
            and all(isinstance(name, str) for names in classes for name in names)
            and all(_per_channel(facts[name]) for name in ("mean", "std"))
            and min(facts["std"]) > 0
        )
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ArtifactError(
            f"{path} is no manifest of a prepared set. Delete it and run the prepare stage (see `snakemake -n {path}`)."
        )


def _per_channel(values: Any) -> bool:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    return numbers and len(values) == 3 and all(abs(value) <= sys.float_info.max for value in values)


def _read_index(path: PathLike, manifest: PathLike, facts: dict[str, Any]) -> list[dict[str, str]]:
    try:
        if sha256(path) != facts["index_sha256"]:
            raise _stranger(path, manifest)
        # as it was written: names may hold ends of lines
        rows = csv_rows(pathlib.Path(path).read_bytes().decode("utf-8"), INDEX_COLUMNS)
        _check_rows(rows, facts)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the prepare stage (see `snakemake -n {path}`).") from None
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}. Delete it and run the prepare stage again.") from None
    return rows


def _check_rows(rows: Sequence[Mapping[str, str]], facts: Mapping[str, Any]) -> None:
    """Raises ValueError unless the index has a row per image, in the order of the manifest's splits and classes."""
    if len(rows) != facts["n_images"]:
        raise ValueError(f"it has {len(rows)} rows for {facts['n_images']} images")
    splits = KINDS[facts.get("kind", FEW_SHOT)].splits
    order = [(split, name) for split in splits for name in facts["classes"].get(split, ())]
    places = {group: place for place, group in enumerate(order)}
    last = 0
    for line, row in enumerate(rows, start=2):
        place = places.get((row["split"], row["class"]))
        if row["image"] != str(line - 2) or place is None or place < last:
            raise ValueError(f"row {line} is not of an image of its place, split and class")
        last = place
        if not FOLD.fullmatch(row["fold"]):
            raise ValueError(f"row {line} has the fold {shown(row['fold'])}")


def require_images(
    prepared: PreparedSet, split: str, n_classes: int, n_images: int, what: str, section: str = "episodes"
) -> None:
    """Raises DataError unless the split has `n_classes` classes and each of its classes `n_images` images.

    Args:
        what: needs them; begins the message.
        section: of params.yaml, where the knobs stand that the message tells to lower.
    """
    classes = prepared.classes_of(split)
    if len(classes) < n_classes:
        raise DataError(
            f"{what} needs {n_of(n_classes, 'class', 'classes')}, but the {split} split of {prepared.name} has "
            f"{len(classes)}. Lower {section}.n_way, or give that split more classes."
        )
    labels = prepared.labels[prepared.rows_of_split(split)]
    counts = np.bincount(labels, minlength=len(prepared.class_names))[classes]
    if counts.min() < n_images:
        poorest = prepared.class_names[classes[counts.argmin()]]
        raise DataError(
            f"{what} needs {n_of(n_images, 'image')} per class, but class '{poorest}' of the {split} split of "
            f"{prepared.name} has {counts.min()}. Lower {section}.n_query or the shots, or add images."
        )


def require_few_shot(prepared: PreparedSet, what: str) -> None:
    """Raises DataError when the splits of the set share their classes, so that no class is new in a test."""
    if prepared.kind == CLASSIFICATION:
        raise DataError(
            f"{what} needs a few-shot data set, whose splits have different classes, but {prepared.name} is a "
            f"classification data set: its {' and '.join(prepared.split_classes)} splits have the same classes. Name a "
            "few-shot data set instead (`python -m pipeline list datasets --kind few_shot`)."
        )
