"""Readers for the forms in which several data sets go round."""

from __future__ import annotations

import collections
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data.archives import Blob, Tree
from pipeline.data.base import Record

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
EXAMPLES = 3


def image_files(tree: Tree) -> Iterator[tuple[str, Blob]]:
    """(name, blob) of the image files of a tree, hidden ones and the like left out, sorted by name.

    Raises DataError for names with control characters, which would be obeyed where they are shown.
    """
    for name in sorted(tree):
        if name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name):
            if UNPRINTABLE.search(name):
                raise DataError(
                    f"{tree.what} holds an image called {name!r}. A name must be text without control characters and "
                    "ends of lines: rename the file or the folder it lies in and run the same command again."
                )
            yield name, tree[name]


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder it lies in, is hidden or one that macOS adds to archives."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def left_out(names: Collection[str]) -> str:
    """How many files are no images by their names, of what kinds, and the first of them; "" where there are none."""
    if not names:
        return ""
    names = sorted(names)
    endings = ("hidden" if is_hidden(name) else posixpath.splitext(name)[1].lower() for name in names)
    kinds = collections.Counter(ending or "without a suffix" for ending in endings)
    counts = [f"{n} {kind if kind.isprintable() else repr(kind)}" for kind, n in kinds.most_common(EXAMPLES)]
    more = f" and {len(kinds) - EXAMPLES} other kinds" if len(kinds) > EXAMPLES else ""
    are = "file is" if len(names) == 1 else "files are"
    examples = ", ".join(map(repr, names[:EXAMPLES]))
    return (
        f"{len(names)} {are} left out ({', '.join(counts)}{more}), e.g. {examples}. Images are files that are not "
        f"hidden and end in {', '.join(IMAGE_SUFFIXES)}"
    )


def class_folders(tree: Tree, split_of: Mapping[str, str]) -> Iterator[Record]:
    """Records of images that lie in folders named after their classes, at any depth.

    Raises DataError when a class of the split list has no folder; folders that are not in the list are left out.
    """
    seen = set()
    for name, blob in image_files(tree):
        parts = name.split("/")
        class_name = parts[-2] if len(parts) > 1 else ""
        if class_name in split_of:
            seen.add(class_name)
            yield Record(class_name, split_of[class_name], name, blob)
    require_all(split_of, seen, tree.what)


def require_all(wanted: Mapping[str, str], seen: set[str], what: str) -> None:
    """Raises DataError when classes of the split list were not seen."""
    missing = [class_name for class_name in wanted if class_name not in seen]
    if missing:
        raise DataError(
            f"{what} lacks {len(missing)} of {len(wanted)} classes, e.g. '{missing[0]}'; it is incomplete. "
            "Fetch it again."
        )


def labelled_arrays(images: Sequence, labels: Sequence[int], split: str, source: str) -> Iterator[Record]:
    """Records of one split from its images in order and their numbers; classes are named after split and number.

    Raises DataError when there are not as many labels as images.
    """
    if len(images) != len(labels):
        raise DataError(
            f"{source} holds {len(images)} images but {len(labels)} labels; one of the files is incomplete."
        )
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield Record(f"{split}-{int(label):03d}", split, f"{source}:{row}", image)


def require_key(content, key: str, what: str):
    """`content[key]`. Raises DataError when the pickle is of another layout."""
    if not isinstance(content, Mapping) or key not in content:
        held = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise DataError(f"{what} has no '{key}'; it holds {held}. It is of another layout.")
    return content[key]


def pixels(array, what: str) -> np.ndarray:
    """Checked images, uint8 (n h w 3). Raises DataError."""
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        described = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{what} should be uint8 images of shape (n, h, w, 3), not {described}.")
    return array
