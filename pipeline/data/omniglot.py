"""Omniglot (Lake et al., 2015): 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

The class split is that of Vinyals et al. (2016) as published by Snell et al. (2017): 1,028 / 172 / 423 characters,
across the border between the archive's background and evaluation parts. Published protocols often count each character
turned by 0, 90, 180 and 270 degrees as four classes; `prepare.rotations` does the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of, read_split
from pipeline.data.common_layouts import image_files, require_all

LICENCE = "MIT"
ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"


def _part(name: str, md5: str, n_bytes: int) -> Source:
    return Source(
        name=f"{name}.zip",
        licence=LICENCE,
        url=f"{ADDRESS}{name}.zip",
        page="https://github.com/brendenlake/omniglot",
        md5=md5,
        n_bytes=n_bytes,
        folder=name,
    )


PARTS = (
    _part("images_background", "68d2efa1b9178cc56df9314c21c6e718", 9_464_212),
    _part("images_evaluation", "6b91aef0f799c5bb55b94e3f2daec811", 6_462_886),
)


@DATASETS.register("omniglot")
class Omniglot(Dataset):
    """Light strokes on a dark ground, 28 pixels a side."""

    title = "Omniglot"
    licence = LICENCE
    native_size = 28
    channels = 1
    inverted = True
    layouts = (Layout("zip archives", PARTS),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        split_of = read_split("omniglot")
        turns = range(4) if self.options.prepare.rotations else range(1)
        seen = set()
        for source in PARTS:
            for name, blob in image_files(content_of(raw, source)):
                character = name.rsplit("/", 1)[0]
                if character not in split_of:
                    continue
                seen.add(character)
                for quarter in turns:
                    class_name = f"{character}/rot{90 * quarter:03d}" if len(turns) > 1 else character
                    yield Record(class_name, split_of[character], name, blob, quarter_turns=quarter)
        require_all(split_of, seen, raw.what)
