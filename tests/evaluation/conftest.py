"""Real digits, small enough to train on in a second."""

import pytest
import torch

from pipeline.core.rng import torch_stream
from pipeline.data.settings import PrepareConfig
from pipeline.evaluation.networks import fresh_network
from pipeline.evaluation.settings import NetworkConfig, TrainConfig
from tests.data.tiny_sources import made

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
def generator():
    return torch_stream(0, "tests of the evaluation")
