"""The set encoder beside its equations for one image at a time, and what no order may change."""

import pytest
import torch

from pipeline.core.errors import ConfigError, DataError
from pipeline.core.rng import torch_stream
from pipeline.meta_networks.set_encoder import AttentionPool, DatasetEncoder, SelfAttention
from pipeline.nets.init import construct, initialise
from tests.meta_networks import oracle
from tests.meta_networks.made import data_sets


def encoder(nz=8):
    network = construct(lambda: DatasetEncoder(6, nz)).double()
    return initialise(network, "torch_default", torch_stream(1, "weights"))


@pytest.mark.parametrize(("n_classes", "n_images", "nz"), [(3, 4, 8), (1, 1, 4), (5, 1, 12), (1, 6, 8)])
def test_every_data_set_of_a_batch_gets_the_vector_of_the_equations(n_classes, n_images, nz):
    network, features = encoder(nz), 3 * data_sets(3, n_classes, n_images)
    expected = torch.stack([oracle.data_set(network, one) for one in features])
    torch.testing.assert_close(network(features), expected, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_the_equations():
    network, features = encoder(), 3 * data_sets(2)
    weights = dict(network.named_parameters())
    fast = torch.autograd.grad(network(features).square().sum(), weights.values())
    slow = sum(oracle.data_set(network, one).square().sum() for one in features)
    for name, mine, theirs in zip(weights, fast, torch.autograd.grad(slow, weights.values()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10, msg=name)


def test_the_order_of_images_within_a_class_does_not_matter():
    network, features = encoder(), data_sets(2, 3, 5)
    orders = [[4, 2, 0, 1, 3], [1, 0, 2, 4, 3], [3, 4, 1, 2, 0]]
    shuffled = torch.stack([features[:, c, order] for c, order in enumerate(orders)], 1)
    torch.testing.assert_close(network(shuffled), network(features), rtol=1e-10, atol=1e-12)


def test_the_order_of_classes_does_not_matter():
    network, features = encoder(), data_sets(2, 5, 3)
    torch.testing.assert_close(network(features[:, [3, 0, 4, 2, 1]]), network(features), rtol=1e-10, atol=1e-12)


def test_which_class_an_image_belongs_to_does_matter():
    network, features = encoder(), 3 * data_sets(1, 2, 3)
    swapped = features.clone()
    swapped[0, 0, 0], swapped[0, 1, 0] = features[0, 1, 0], features[0, 0, 0]
    assert (network(swapped) - network(features)).abs().max() > 1e-4


def test_equal_images_weigh_as_one():
    network, features = encoder(), data_sets(2, 3, 1)
    torch.testing.assert_close(network(features.expand(-1, -1, 7, -1)), network(features), rtol=1e-10, atol=1e-12)


def test_data_sets_of_a_batch_do_not_see_each_other():
    network, features = encoder(), data_sets(5)
    alone = torch.cat([network(features[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, network(features), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 3, 4, 5), (1, 0, 4, 6), (1, 3, 0, 6)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(DataError, match="images of a class, 6"):
        encoder()(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("width", [0, 3, 58])
def test_a_width_that_heads_cannot_share_is_refused(width):
    for make in (lambda: SelfAttention(8, width), lambda: AttentionPool(width)):
        with pytest.raises(ConfigError, match="multiple of its 4 heads"):
            make()
