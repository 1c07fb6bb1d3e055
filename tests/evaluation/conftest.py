"""Real digits and a made-up classification set, small enough to train on in a second."""

import functools

import pytest
import torch

from pipeline.core.rng import torch_stream
from pipeline.data.settings import PrepareConfig
from pipeline.evaluation.networks import fresh_network
from pipeline.evaluation.settings import NetworkConfig, TrainConfig
from tests.data.tiny_sources import cifar10, made, make_mirror

GENOTYPE = (
    "Genotype(normal=[[('sep_conv_3x3', 0), ('skip_connect', 1)], [('conv_3x3', 0), ('max_pool_3x3BN', 2)], "
    "[('dil_conv_3x3', 1), ('avg_pool_3x3BN', 3)]], normal_concat=[2, 3, 4], reduce=[[('conv_1x5_5x1', 0), "
    "('skip_connect', 1)], [('conv_3x3', 1), ('sep_conv_3x3', 2)], [('skip_connect', 2), ('conv_3x3', 3)]], "
    "reduce_concat=[2, 3, 4])"
)
ARCHITECTURE = {"seed": 3, "genotype": GENOTYPE}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """DoubleMNIST at 16 pixels, 6 images per class: 384 base images."""
    knobs = PrepareConfig(max_image_size=16, max_images_per_class=6, min_images_per_class=2)
    return made(tmp_path_factory.mktemp("digits"), "doublemnist", knobs=knobs)


@pytest.fixture(scope="session")
def classes(tmp_path_factory):
    """A classification set in the place of CIFAR-10: noise at 16 pixels, 10 classes with 12 images in both splits."""
    folder = tmp_path_factory.mktemp("classes")
    mirror = make_mirror(folder / "mirror", functools.partial(cifar10, per_class=12))
    return made(folder, "cifar10", mirror=mirror, knobs=PrepareConfig(max_image_size=16, min_images_per_class=2))


@pytest.fixture(autouse=True)
def one_thread():
    """Equal bits are promised for equal numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fresh(digits):
    """Maker of the small network that all tests train, with equal initial weights each time."""

    def make(config=None, seed=0):
        config = config or TrainConfig()
        return fresh_network("darts_fewshot", ARCHITECTURE, digits, NetworkConfig(channels=4, n_cells=2), config, seed)

    return make


@pytest.fixture
def fresh_classifier(classes):
    """Maker of the small network of the classification set, with an auxiliary classifier where the training has one."""

    def make(config=None, seed=0):
        config = config or TrainConfig()
        size, auxiliary = NetworkConfig(channels=4, n_cells=2, stem_multiplier=3), config.auxiliary_weight > 0
        return fresh_network("darts_fewshot", ARCHITECTURE, classes, size, config, seed, auxiliary=auxiliary)

    return make


@pytest.fixture
def generator():
    return torch_stream(0, "tests of the evaluation")
