import torch

from pipeline.evaluation.networks import fresh_network
from pipeline.evaluation.settings import NetworkConfig, TrainConfig


def test_a_network_for_images_of_one_size_is_built_for_those_of_its_data_set(digits):
    architecture = {"seed": 0, "genotype": "conv4_flat"}
    network = fresh_network("conv4_flat", architecture, digits, NetworkConfig(channels=4), TrainConfig(), 0)
    images = torch.zeros(2, 3, digits.image_size, digits.image_size)
    assert network(images).shape == (2, digits.n_classes("base"))
