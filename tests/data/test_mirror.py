"""A real mirror, where FEWSHOT_NAS_MIRROR names one."""

import os
import pathlib

import numpy as np
import pytest

from pipeline.core.types import KINDS, SPLITS
from pipeline.data.settings import FetchConfig, PrepareConfig
from tests.data.test_battery import SIZES, STAND_INS, check_prepared
from tests.data.tiny_sources import made

MIRROR = os.environ.get("FEWSHOT_NAS_MIRROR")
pytestmark = pytest.mark.skipif(not MIRROR, reason="FEWSHOT_NAS_MIRROR names no mirror of real archives")
FEW = PrepareConfig(max_images_per_class=4, min_images_per_class=4)
SOURCES = {
    "miniimagenet": ("miniimagenet/images.tar",),
    "cifarfs": ("cifar-100-python.tar.gz",),
    "fc100": ("cifar-100-python.tar.gz",),
    "omniglot": ("omniglot/images_background.zip", "omniglot/images_evaluation.zip"),
    "cifar10": ("cifar-10-python.tar.gz",),
    "cifar100": ("cifar-100-python.tar.gz",),
    "imagenet16": ("imagenet16like_16_120x100.npz",),
    "mnist": ("mnist/train-images-idx3-ubyte.gz",),
    "pets": ("pets_folders.tar",),
    "imagenet32": ("tinyimagenet_32_200x40.npz",),
}


def require(*places):
    for place in places:
        if not pathlib.Path(MIRROR, place).exists():
            pytest.skip(f"the mirror has no {place}")


@pytest.mark.parametrize("name", SOURCES)
def test_real_archives_become_prepared_sets_with_the_published_splits(name, tmp_path):
    require(*SOURCES[name])
    prepared = made(tmp_path, name, mirror=MIRROR, knobs=FEW)
    check_prepared(prepared, name)
    sizes = STAND_INS.get((name, prepared.manifest["layout"]), SIZES[name])
    assert tuple(map(prepared.n_classes, prepared.split_classes)) == sizes
    assert len(np.unique(prepared.images.reshape(len(prepared.images), -1), axis=0)) > 0.99 * len(prepared.images)


def test_cifar_has_the_published_colours(tmp_path):
    """The mean over CIFAR-100's training images is (0.5071, 0.4866, 0.4409); other images of it are near."""
    require(*SOURCES["cifarfs"])
    knobs = PrepareConfig(max_images_per_class=40)
    prepared = made(tmp_path, "cifarfs", mirror=MIRROR, knobs=knobs)
    assert np.allclose(prepared.mean, (0.5071, 0.4866, 0.4409), atol=0.02)
    assert np.allclose(prepared.std, (0.2673, 0.2564, 0.2762), atol=0.02)


def test_mnist_has_the_published_brightness(tmp_path):
    """Over the 60,000 images of 28 pixels mean and deviation are 0.1307 and 0.3081; enlarged ones are smoother."""
    require(*SOURCES["mnist"])
    prepared = made(tmp_path, "mnist", mirror=MIRROR, knobs=PrepareConfig(max_images_per_class=200))
    assert np.allclose(prepared.mean, 0.1307, atol=0.01) and np.allclose(prepared.std, 0.3081, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_folder_is_split_by_seed(tmp_path, kind):
    require("pets_folders.tar")
    spec = FetchConfig(path="pets_folders.tar", title="Pets", kind=kind)
    prepared = made(tmp_path, "animals", mirror=MIRROR, knobs=FEW, spec=spec)
    check_prepared(prepared, "animals")
    if kind == "classification":
        assert [prepared.n_classes(split) for split in ("train", "test")] == [37, 37]
        return
    assert sum(prepared.n_classes(split) for split in SPLITS) == 37
