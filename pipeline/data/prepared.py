"""The prepared set: what a data set looks like to everything that learns from it.

Three files: `D.images.npy` (uint8, image h w channel), `D.index.csv` (a row per image) and `D.manifest.json`. Images of
a class lie together, classes of a split lie together, and a class's number is its place in that order.
"""

from __future__ import annotations

import csv
import io
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.artifacts import PathLike, read_json, sha256
from pipeline.core.errors import ArtifactError, DataError, UnknownNameError
from pipeline.core.types import SPLITS

INDEX_COLUMNS = ("image", "class", "split", "source", "sha256", "fold")


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
        split_classes: class ids of each split.
        mean, std: per channel of RGB over the base split, in 0..1, length 3.
        digest: names the content; equal digests mean equal images, classes and splits.
        manifest: the manifest file's content.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    class_names: list[str]
    split_classes: dict[str, np.ndarray]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    manifest: dict[str, Any]

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
        array = _open_images(images, facts)
        if verify and sha256(images) != facts["images_sha256"]:
            raise _stranger(images, manifest)
        rows = _read_index(index, manifest, facts)
        names = [name for split in SPLITS for name in facts["classes"][split]]
        ids = {name: i for i, name in enumerate(names)}
        labels = np.array([ids[row["class"]] for row in rows], dtype=np.int64)
        return cls(
            name=facts["dataset"],
            images=array,
            labels=labels,
            folds=np.array([int(row["fold"]) for row in rows], dtype=np.int64),
            class_names=names,
            split_classes={
                split: np.array([ids[n] for n in facts["classes"][split]], dtype=np.int64) for split in SPLITS
            },
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            digest=facts["digest"],
            manifest=facts,
        )

    @property
    def title(self) -> str:
        return self.manifest["title"]

    @property
    def image_size(self) -> int:
        return self.images.shape[1]

    def classes_of(self, split: str) -> np.ndarray:
        """Class ids of a split. Raises UnknownNameError."""
        if split not in self.split_classes:
            raise UnknownNameError("split", split, SPLITS)
        return self.split_classes[split]

    def n_classes(self, split: str) -> int:
        return len(self.classes_of(split))

    def rows_of(self, class_id: int) -> np.ndarray:
        """Image rows of one class, ascending."""
        low, high = np.searchsorted(self.labels, [class_id, class_id + 1])
        return np.arange(low, high)

    def rows_of_split(self, split: str) -> np.ndarray:
        """Image rows of all classes of a split, ascending."""
        classes = self.classes_of(split)
        if len(classes) == 0:
            return np.arange(0)
        return np.concatenate([self.rows_of(class_id) for class_id in classes])


def _stranger(path: PathLike, manifest: PathLike) -> ArtifactError:
    return ArtifactError(
        f"{path} is not the file that {manifest} describes: it was damaged or comes from another run. "
        "Delete it and run the prepare stage again."
    )


def _open_images(path: PathLike, facts: dict[str, Any]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the prepare stage (see `snakemake -n {path}`).") from None
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the prepare stage again.") from None
    size = facts["image_size"]
    if array.dtype != np.uint8 or array.shape != (facts["n_images"], size, size, facts["channels"]):
        raise ArtifactError(
            f"{path} holds {array.dtype} of shape {array.shape}, but its manifest describes {facts['n_images']} uint8 "
            f"images of {size} x {size} x {facts['channels']}. Delete it and run the prepare stage again."
        )
    return array


def _read_index(path: PathLike, manifest: PathLike, facts: dict[str, Any]) -> list[dict[str, str]]:
    try:
        if sha256(path) != facts["index_sha256"]:
            raise _stranger(path, manifest)
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the prepare stage (see `snakemake -n {path}`).") from None
    return list(csv.DictReader(io.StringIO(text)))


def require_images(prepared: PreparedSet, split: str, n_classes: int, n_images: int, what: str) -> None:
    """Raises DataError unless the split has `n_classes` classes and each of its classes `n_images` images."""
    classes = prepared.classes_of(split)
    if len(classes) < n_classes:
        raise DataError(
            f"{what} needs {n_classes} classes, but the {split} split of {prepared.name} has {len(classes)}. "
            "Lower n_way, or give that split more classes."
        )
    counts = np.bincount(prepared.labels, minlength=len(prepared.class_names))[classes]
    if counts.min() < n_images:
        poorest = prepared.class_names[classes[counts.argmin()]]
        raise DataError(
            f"{what} needs {n_images} images per class, but class '{poorest}' of the {split} split of {prepared.name} "
            f"has {counts.min()}. Lower k_shots or n_query, or add images."
        )
