"""Features of a data set's images: what networks that read data sets see of them.

Two files: `D_by_S.npy` (float32, image dim), a row per image of the prepared set D in its order, and `D_by_S.json`, the
facts: which network made them, trained on what, and which classes of D it had seen. S is the source, the data set on
whose classes the network was trained or that its readers were trained with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.artifacts import PathLike, digest, open_array, read_json, sha256
from pipeline.core.errors import ArtifactError, DataError
from pipeline.core.types import KINDS
from pipeline.core.wording import n_of
from pipeline.data import share_images
from pipeline.data.prepared import PreparedSet

if TYPE_CHECKING:
    import torch

MADE_BY = ("network_sha256", "dim", "image_size", "normalise_by")
"""The facts that features of different data sets must share to mean the same."""
NAMED_BY = ("data_digest", *MADE_BY, "mean", "std", "features_sha256")
"""The facts of which the digest is made: what was encoded, by what, how, and what came out."""


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of all images of a prepared set.

    Attributes:
        prepared: the images' set.
        array: float32, shape (n, dim), memory-mapped and read-only; row i belongs to image i of `prepared`.
        facts: the facts file's content.
    """

    prepared: PreparedSet
    array: np.ndarray
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, features: PathLike, facts: PathLike, prepared: PreparedSet, *, verify: bool = False) -> FeatureSet:
        """Open the features of a prepared set.

        Args:
            verify: read all features once and compare their checksum too; without it only the size, header and owner.

        Raises:
            ArtifactError: a file is missing, damaged, or belongs to other images.
        """
        content = read_json(facts)
        lacking = [name for name in (*NAMED_BY, "digest", "network", "saw_classes", "cost") if name not in content]
        if lacking or content["digest"] != digest_of(content):
            raise _again(f"{facts} is not what the features stage wrote.", facts)
        if content["data_digest"] != prepared.digest:
            raise _again(f"{facts} describes features of other images than those of {prepared.name} given here.", facts)
        array = _open_array(features)
        wanted = (len(prepared.labels), content["dim"])
        if array.dtype != np.float32 or array.shape != wanted:
            raise _again(f"{features} holds {array.dtype} of shape {array.shape}, not float32 of {wanted}.", features)
        if verify and sha256(features) != content["features_sha256"]:
            raise _again(f"{features} is not the file that {facts} describes.", features)
        return cls(prepared, array, content)

    @property
    def dim(self) -> int:
        return self.array.shape[1]

    @property
    def digest(self) -> str:
        """Names the features; equal digests mean equal images, network and features."""
        return self.facts["digest"]

    @property
    def made_by(self) -> dict[str, Any]:
        """What features of different data sets must share to mean the same."""
        return {name: self.facts[name] for name in MADE_BY}

    @property
    def network(self) -> Mapping[str, Any]:
        """What the facts say of the network: `label` in words, `substitute`, `trained_on`, ..."""
        return self.facts["network"]

    @property
    def warning(self) -> str | None:
        """What a result of this set has to say about classes that the network had seen, or None."""
        return self.facts["warning"]

    def rows_of(self, class_id: int, split: str | None = None) -> np.ndarray:
        """Rows of one class in a split, ascending; the split is the one that a search may read unless it is named.

        Raises DataError when the split has not that class, and UnknownNameError when there is no such split.
        """
        chosen = split or self.prepared.search_split
        if class_id not in self.prepared.classes_of(chosen):
            unnamed = "" if split else " This is the only split that a search may read; name another to read that."
            raise DataError(
                f"The {chosen} split of {self.prepared.name} has no class {class_id}{self._called(class_id)}.{unnamed}"
            )
        return self.prepared.rows_of(class_id, chosen)

    def of_class(self, class_id: int, split: str | None = None) -> np.ndarray:
        """Features of all images of one class, float32 of shape (n, dim). Arguments and errors as `rows_of`."""
        return np.array(self.array[self.rows_of(class_id, split)])

    def _called(self, class_id: int) -> str:
        names = self.prepared.class_names
        return f" ('{names[class_id]}')" if 0 <= class_id < len(names) else ""


def draw(
    features: FeatureSet,
    class_ids: Sequence[int],
    n_images: int,
    generator: torch.Generator,
    split: str | None = None,
) -> torch.Tensor:
    """Features of random images, drawn in each class without replacement.

    Args:
        class_ids: classes in the order wanted; one named twice is drawn twice.
        n_images: images of each class.
        split: see `FeatureSet.rows_of`.

    Returns:
        Shape (n_classes, n_images, dim).

    Raises:
        DataError: a class has too few images, or is not in the split.
    """
    import torch

    rows = np.empty((len(class_ids), n_images), dtype=np.int64)
    for place, class_id in enumerate(class_ids):
        of_class = features.rows_of(class_id, split)
        if len(of_class) < n_images:
            prepared = features.prepared
            raise DataError(
                f"{n_of(n_images, 'image')} of each class {'is' if n_images == 1 else 'are'} wanted, but class "
                f"'{prepared.class_names[class_id]}' of the {split or prepared.search_split} split of {prepared.name} "
                f"has {len(of_class)}. Ask for fewer images per class, or give that class more images."
            )
        rows[place] = of_class[torch.randperm(len(of_class), generator=generator)[:n_images].numpy()]
    return torch.from_numpy(np.array(features.array[rows.reshape(-1)])).view(len(class_ids), n_images, features.dim)


def digest_of(facts: Mapping[str, Any]) -> str:
    """The digest that belongs to the content of a facts file."""
    return digest({name: facts[name] for name in NAMED_BY})


def seen_classes(prepared: PreparedSet, seen: Collection[str], of: str) -> dict[str, int]:
    """Split -> how many of its classes are among the class names `seen` of the data set `of`.

    Registered data sets that share no images have no class in common, whatever their classes are called: a 1 is a digit
    in one and an animal in the other.
    """
    known = set() if share_images(prepared.name, of) is False else set(seen)
    return {
        split: sum(prepared.class_names[class_id] in known for class_id in prepared.classes_of(split))
        for split in prepared.split_classes
    }


def familiar(prepared: PreparedSet, saw: Mapping[str, int], of: str) -> str | None:
    """What a training on another data set had seen of those classes that a result is about, as words that follow
    "images of"; None for nothing.

    Args:
        saw: what `seen_classes` gave.
        of: the data set of the training.
    """
    kind = KINDS[prepared.kind]
    tested = kind.splits[-1]
    if saw.get(tested):
        of_all = f"{saw[tested]} of the {prepared.n_classes(tested)}"
        if kind.shares_classes:
            return f"{of_all} classes of {prepared.title}, so this data set is not new to it"
        return f"{of_all} {tested} classes of {prepared.title}, which a few-shot test takes for unseen"
    if share_images(prepared.name, of) and not any(saw.values()):
        return (
            f"the collection that {prepared.title} is taken from, too; whether they are of its classes cannot be told "
            "by the names of these"
        )
    return None


def warning_of(prepared: PreparedSet, label: str, saw: Mapping[str, int], of: str) -> str | None:
    """What has to be said of a set to which the feature network is no stranger, else None.

    Args:
        label: the network in words.
        saw, of: see `familiar`.
    """
    seen = familiar(prepared, saw, of)
    return seen and f"The features come from {label}. It was trained on images of {seen}."


def _again(what: str, path: PathLike) -> ArtifactError:
    return ArtifactError(f"{what} Delete {path} and run the features stage again.")


def _open_array(path: PathLike) -> np.ndarray:
    try:
        return open_array(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the features stage (see `snakemake -n {path}`).") from None
    except ValueError as error:
        raise _again(f"{path} is damaged ({error}).", path) from None
