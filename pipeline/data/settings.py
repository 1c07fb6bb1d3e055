"""Knobs of the data room."""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.core.types import FEW_SHOT, KINDS


@dataclass(frozen=True)
class FetchConfig:
    """Options of a folder of the user's own images, a section of data.folders in params.yaml."""

    path: str = knob("", "The folder, or its .tar, .tar.gz or .zip, that holds one sub-folder of images per class.")
    kind: str = knob(
        FEW_SHOT, "Whether classes are held back for the test, or images of every class.", choices=tuple(KINDS)
    )
    base: float = knob(0.64, "Classes to train and search on: a fraction below 1, or a count.", low=0)
    validation: float = knob(0.16, "Classes to choose settings on: a fraction below 1, or a count.", low=0)
    novel: float = knob(0.2, "Classes to test on: a fraction below 1, or a count.", low=0)
    test_fraction: float = knob(
        0.2, "Images of each class to test on, as a fraction of all, where kind is classification.", low=0.01, high=0.99
    )
    split_seed: int = knob(0, "Which of the possible splits; each seed gives another.", low=0)
    image_size: int = knob(84, "Pixels of a side of the images at their best; max_image_size may lower it.", low=8)
    title: str = knob("", "The data set's name in tables; the folder's name when empty.")
    licence: str = knob("the user's own images", "Under which terms the images may be used.")
    duplicates: str = knob("refuse", "What to do when different splits share an image.", choices=("refuse", "report"))


@dataclass(frozen=True)
class PrepareConfig:
    """How images are read and kept."""

    max_image_size: int = knob(
        {
            "laptop": 32,
            "gpu": 84,
            "paper": 84,
            "gpu/classification": 32,
            "paper/classification": 32,
            "gpu/imagenet": 64,
            "paper/imagenet": 224,
        },
        "No image is kept larger than this many pixels a side.",
        low=8,
    )
    max_images_per_class: int | None = knob(
        {
            "laptop": None,
            "gpu": None,
            "paper": None,
            "laptop/classification": 200,
            "laptop/imagenet16": 100,
            "laptop/imagenet": 20,
            "laptop/aircraft": 60,
            "laptop/pets": 40,
            "laptop/imagenet32": 50,
        },
        "Keep the first so many images of each class and split; null for all.",
        low=2,
    )
    min_images_per_class: int = knob(
        {
            "laptop": 20,
            "gpu": 20,
            "paper": 20,
            "laptop/classification": 5,
            "gpu/classification": 5,
            "paper/classification": 5,
        },
        "A class with fewer images than this, in a classification set in one of its splits, is refused.",
        low=2,
    )
    corrupt: str = knob("refuse", "What to do with images that cannot be read.", choices=("refuse", "drop"))
    rotations: bool = knob(False, "Omniglot only: count each character turned by 90, 180 and 270 degrees as a class.")
    official_split: bool = knob(
        False, "Pets only: the authors' lists of images to train and to test on, instead of 85 and 15 % of each class."
    )
