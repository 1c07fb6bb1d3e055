"""ImageNet-1k (Russakovsky et al., 2015) as the user has it: folders train/CLASS and val/CLASS of images.

It is never downloaded: whoever uses it registers with its authors. Its validation images are the test split, because
the labels of its test images are not public.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.core.errors import DataError
from pipeline.core.types import CLASSIFICATION
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of
from pipeline.data.common_layouts import image_files

LICENCE = "ImageNet terms of access: research and education only, no redistribution"
N_CLASSES = 1000


def _folder(name: str) -> Source:
    return Source(
        name=name,
        licence=LICENCE,
        page="ILSVRC2012, one folder of images per class; register at https://image-net.org/download.php",
        folder=name,
        own=True,
    )


FOLDER_OF = {"train": _folder("train"), "test": _folder("val")}


@DATASETS.register("imagenet")
class ImageNet(Dataset):
    """1,000 classes; 1,281,167 images to train on and 50,000 to test on in the published set."""

    kind = CLASSIFICATION
    collection = "ImageNet"
    title = "ImageNet-1k"
    licence = LICENCE
    native_size = 224
    layouts = (Layout("class folders", tuple(FOLDER_OF.values())),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        for split, source in FOLDER_OF.items():
            yield from images_by_class(content_of(raw, source), split, source.name)


def images_by_class(tree: Tree, split: str, folder: str) -> Iterator[Record]:
    """Images CLASS/name. Raises DataError for images elsewhere, and unless there are 1,000 classes."""
    classes = set()
    for name, blob in image_files(tree):
        class_name, _, rest = name.partition("/")
        if not rest or "/" in rest:
            raise DataError(
                f"imagenet/{folder} must hold one folder of images per class, but {name} lies "
                f"{'deeper' if rest else 'beside them'}. Sort the images into folders named after the classes "
                "(n01440764, ...)."
            )
        classes.add(class_name)
        yield Record(class_name, split, f"{folder}/{name}", blob)
    if len(classes) != N_CLASSES:
        raise DataError(
            f"imagenet/{folder} has images of {len(classes)} classes; ImageNet-1k has {N_CLASSES}. Complete it. Other "
            "classes are a data set of your own: name their folder under data.folders in params.yaml."
        )
