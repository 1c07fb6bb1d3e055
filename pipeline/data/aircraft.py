"""FGVC-Aircraft (Maji et al., 2013): photographs of aircraft, here by their 30 manufacturers.

The authors' `trainval` list is the split to train on, their `test` list the one to test on.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.core.errors import DataError
from pipeline.core.types import CLASSIFICATION
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of
from pipeline.data.common_layouts import require_all

PAGE = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"
ARCHIVE = Source(
    name="fgvc-aircraft-2013b.tar.gz",
    licence="non-commercial research only; the photographers keep their rights",
    url=f"{PAGE}archives/fgvc-aircraft-2013b.tar.gz",
    page=PAGE,
    also=("fgvc-aircraft-2013b.tar",),
    folder="fgvc-aircraft-2013b",
)
CLASSES = "data/manufacturers.txt"
LIST_OF = {"train": "data/images_manufacturer_trainval.txt", "test": "data/images_manufacturer_test.txt"}


@DATASETS.register("aircraft")
class Aircraft(Dataset):
    """30 classes; 6,667 images to train on and 3,333 to test on in the published set."""

    kind = CLASSIFICATION
    title = "FGVC-Aircraft, 30 manufacturers"
    licence = ARCHIVE.licence
    native_size = 224
    layouts = (Layout("archive", (ARCHIVE,)),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        files = content_of(raw, ARCHIVE)
        names = lines_of(files, CLASSES)
        seen = set()
        for split, listing in LIST_OF.items():
            for line in lines_of(files, listing):
                image, _, manufacturer = line.partition(" ")
                path = f"data/images/{image}.jpg"
                if path not in files or manufacturer not in names:
                    raise DataError(
                        f"{files.what}/{listing} has the line '{line}', but there is no {path}, or no such name in "
                        f"{CLASSES}; the archive is incomplete. Fetch it again."
                    )
                seen.add(manufacturer)
                yield Record(manufacturer, split, path, files[path])
        require_all(dict.fromkeys(names, ""), seen, files.what)


def lines_of(files: Tree, name: str) -> list[str]:
    """The lines of a list that are not empty. Raises DataError when there is no such file."""
    return [line.strip() for line in files.read(name).decode("utf-8").splitlines() if line.strip()]
