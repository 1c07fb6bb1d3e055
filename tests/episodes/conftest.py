"""Prepared sets to draw episodes from."""

import pytest

from pipeline.data.settings import PrepareConfig
from tests.data.tiny_sources import cifar10, folder_files, made, made_folder, make_mirror


@pytest.fixture(scope="session")
def folder_set(tmp_path_factory):
    """12 classes of 12 colour images, 8 pixels a side, split 8 / 2 / 2."""
    return made_folder(tmp_path_factory.mktemp("folder"), folder_files(per_class=12))


@pytest.fixture(scope="session")
def two_folds(tmp_path_factory):
    """The embedded default, 20 images a class in two folds of 10."""
    knobs = PrepareConfig(max_images_per_class=20)
    return made(tmp_path_factory.mktemp("doublemnist"), "doublemnist", knobs=knobs)


@pytest.fixture(scope="session")
def ten_classes(tmp_path_factory):
    """A classification set in the layout of CIFAR-10: 10 classes with 6 images each to train and to test on."""
    folder = tmp_path_factory.mktemp("cifar10")
    mirror = make_mirror(folder / "mirror", lambda mirror: cifar10(mirror, per_class=6))
    knobs = PrepareConfig(max_image_size=20, min_images_per_class=2)
    return made(folder, "cifar10", mirror=mirror, knobs=knobs)
