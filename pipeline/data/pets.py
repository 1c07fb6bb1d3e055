"""Oxford-IIIT Pets (Parkhi et al., 2012): photographs of 37 breeds of cats and dogs, about 200 of each.

MetaD2A (Lee et al., ICLR 2021) divides all 7,390 images 85 to 15 and gives the division away as files of images alone.
Ours is drawn breed by breed in the same proportion; the authors' own lists, about half to train on and half to test on,
are taken with `prepare.official_split`. A smaller set in class folders is read too and says in its title what it is.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

from pipeline.core.errors import ConfigError, DataError
from pipeline.core.types import CLASSIFICATION
from pipeline.data import DATASETS
from pipeline.data.archives import Blob, Tree
from pipeline.data.base import Dataset, Layout, Record, Source, content_of
from pipeline.data.common_layouts import image_files, require_all
from pipeline.data.drawn_parts import part_to_test

LICENCE = "CC BY-SA 4.0"
ADDRESS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
PAGE = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
N_CLASSES = 37
TEST_FRACTION, SEED = 0.15, 0


def _archive(name: str, md5: str) -> Source:
    also = (f"{name}.tar",)
    return Source(f"{name}.tar.gz", LICENCE, f"{ADDRESS}{name}.tar.gz", PAGE, md5=md5, also=also, folder=name)


IMAGES = _archive("images", "5c4f3ee8e5d25df40f4fd59a7f44e54c")
LISTS = _archive("annotations", "95a8c909bbe2e81eed6a22bccdf3f68f")
LIST_OF = {"train": "trainval.txt", "test": "test.txt"}
FOLDERS = Source(
    name="pets_folders.tar",
    licence=LICENCE,
    page="some of the images in one folder per breed, to try the workflow with; published nowhere",
    folder="pets",
    in_mirror=("pets_folders.tar",),
)


@DATASETS.register("pets")
class Pets(Dataset):
    """37 classes; 7,390 images in the published set."""

    kind = CLASSIFICATION
    title = "Oxford-IIIT Pets"
    licence = LICENCE
    native_size = 224
    layouts = (
        Layout("archives", (IMAGES, LISTS)),
        Layout("class folders", (FOLDERS,), title="Oxford-IIIT Pets, a reduced copy (NOT the official archives)"),
    )

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        official = self.options.prepare.official_split
        if layout == "class folders":
            if official:
                raise ConfigError(
                    f"prepare.official_split is true, but {FOLDERS.name} has no lists of the authors. Set it to false, "
                    f"or provide {IMAGES.name} and {LISTS.name}."
                )
            return drawn(in_folders(content_of(raw, FOLDERS)))
        by_breed = by_file_name(content_of(raw, IMAGES))
        return listed(by_breed, content_of(raw, LISTS)) if official else drawn(by_breed)


def in_folders(files: Tree) -> dict[str, dict[str, Blob]]:
    """Breed -> image's name -> image, from folders named after the breeds. Raises DataError unless there are 37."""
    found = collections.defaultdict(dict)
    for path, blob in image_files(files):
        found["/".join(path.split("/")[:-1])][path] = blob
    return all_breeds(found, files.what)


def by_file_name(files: Tree) -> dict[str, dict[str, Blob]]:
    """Breed -> image's name -> image, from files BREED_NUMBER.jpg. Raises DataError unless there are 37 breeds."""
    found = collections.defaultdict(dict)
    for path, blob in image_files(files):
        stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        found[stem.rpartition("_")[0]][stem] = blob
    return all_breeds(found, files.what)


def all_breeds(found: dict[str, dict[str, Blob]], what: str) -> dict[str, dict[str, Blob]]:
    if len(found) != N_CLASSES or "" in found:
        raise DataError(f"{what} has images of {len(found)} breeds instead of {N_CLASSES}. Fetch it again.")
    return found


def drawn(by_breed: Mapping[str, Mapping[str, Blob]]) -> Iterator[Record]:
    """All images, 15 % of every breed to test on."""
    for breed, images in by_breed.items():
        tested = part_to_test(breed, images, TEST_FRACTION, SEED)
        for name, blob in images.items():
            yield Record(breed, "test" if name in tested else "train", name, blob)


def listed(by_breed: Mapping[str, Mapping[str, Blob]], lists: Tree) -> Iterator[Record]:
    """The images of the authors' lists (lines NAME CLASS SPECIES BREED). Raises DataError when some are missing."""
    seen = set()
    for split, listing in LIST_OF.items():
        for line in lists.read(listing).decode("utf-8").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            name = line.split()[0]
            breed = name.rpartition("_")[0]
            if name not in by_breed.get(breed, {}):
                raise DataError(f"{listing} names the image {name}, which {IMAGES.name} lacks. Fetch both again.")
            seen.add(breed)
            yield Record(breed, split, name, by_breed[breed][name])
    require_all(dict.fromkeys(by_breed, ""), seen, lists.what)
