"""What every proxy must do on the networks of every space; pairs come from the registries."""

import dataclasses
import math

import pytest
import torch

from pipeline import proxies, spaces
from pipeline.core.types import TaskBatch
from pipeline.nets.init import initialise
from pipeline.nets.norms import convert_norms

IMAGE_SIZE = 16


def network_for(space_name, kind):
    """The network of a space that a proxy of this kind is meant for, or None where the space has none."""
    space = spaces.get(space_name)()
    prunes = "prunes" in space.capabilities
    if kind == "thin":
        network = space.thin_supernet() if prunes else None
    elif prunes:
        network = space.supernet(n_classes=6, channels=4, n_cells=3)
    else:
        genotype = space.sample(torch.Generator().manual_seed(0))
        network = convert_norms(space.build(genotype, n_classes=6, channels=32, n_cells=3), "groupnorm16")
    return network and initialise(network, "kaiming_fanout", torch.Generator().manual_seed(1))


def batch_for(needs):
    generator = torch.Generator().manual_seed(2)
    if needs == "patches":
        return torch.randn(60, 1, 3, 3, generator=generator)
    images = torch.randn(12, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    return TaskBatch(images, n_tasks=2, n_query=3, n_support=3, n_way=3) if needs == "tasks" else images


PAIRS = [
    (proxy, space)
    for proxy in proxies.names()
    for space in spaces.names()
    if network_for(space, proxies.get(proxy).network) is not None
]
every_pair = pytest.mark.parametrize(("proxy_name", "space_name"), PAIRS)


def setting(proxy_name, space_name, **knobs):
    proxy = proxies.get(proxy_name)(**knobs)
    return proxy, network_for(space_name, proxy.network), batch_for(proxy.needs)


def call(proxy, network, batch, seed=3):
    return proxy(network, batch, torch.Generator().manual_seed(seed))


def test_every_proxy_meets_a_network_of_some_space():
    assert {proxy for proxy, _ in PAIRS} == set(proxies.names())


@pytest.mark.parametrize("proxy_name", proxies.names())
def test_a_proxy_is_a_frozen_set_of_knobs_with_a_direction(proxy_name):
    proxy = proxies.get(proxy_name)()
    assert isinstance(proxy.higher_is_better, bool)
    assert proxy.needs in ("tasks", "images", "patches", "network")
    assert proxy.network in ("kernel", "thin")
    assert all(field.metadata["help"] for field in dataclasses.fields(proxy))
    with pytest.raises(dataclasses.FrozenInstanceError):
        proxy.anything = 1


@every_pair
def test_a_proxy_gives_a_finite_positive_number_and_the_same_one_again(proxy_name, space_name):
    proxy, network, batch = setting(proxy_name, space_name)
    value = call(proxy, network, batch)
    assert isinstance(value, float)
    assert math.isfinite(value) and value > 0
    assert call(proxy, network, batch) == value


@every_pair
@pytest.mark.parametrize("training", [True, False])
def test_a_proxy_leaves_the_network_as_it_found_it(proxy_name, space_name, training):
    proxy, network, batch = setting(proxy_name, space_name)
    network.train(training)
    first, *_ = network.parameters()
    first.grad = torch.ones_like(first)
    first.requires_grad_(False)
    before = snapshot(network)
    state, seed = torch.get_rng_state(), torch.initial_seed()
    call(proxy, network, batch)
    assert before == snapshot(network)
    assert torch.equal(torch.get_rng_state(), state) and torch.initial_seed() == seed
    assert torch.is_grad_enabled()


@every_pair
def test_a_proxy_works_where_gradients_are_switched_off(proxy_name, space_name):
    proxy, network, batch = setting(proxy_name, space_name)
    with torch.no_grad():
        value = call(proxy, network, batch)
    assert value == call(proxy, network, batch)


@every_pair
def test_the_order_of_images_does_not_matter(proxy_name, space_name):
    proxy, network, batch = setting(proxy_name, space_name)
    if isinstance(batch, TaskBatch):
        # images of one task may change places among its queries and among its supports
        order = [2, 0, 1, 5, 4, 3, 7, 6, 8, 9, 11, 10]
        moved = dataclasses.replace(batch, images=batch.images[order])
    else:
        moved = batch.flip(0)
    assert call(proxy, network, moved) == pytest.approx(call(proxy, network, batch), rel=1e-3)


def snapshot(network):
    """All of a network's state that a measurement could disturb, in comparable form."""
    values = {
        name: (value.detach().numpy().tobytes(), value._version)
        for name, value in (*network.named_parameters(), *network.named_buffers())
    }
    gradients = {
        name: (
            parameter.requires_grad,
            parameter.grad is not None and parameter.grad.sum().item(),
            len(vars(parameter)),
        )
        for name, parameter in network.named_parameters()
    }
    hooks = {
        name: [len(value) for key, value in sorted(vars(module).items()) if key.endswith("_hooks")]
        for name, module in network.named_modules()
    }
    attributes = {name: sorted(vars(module)) for name, module in network.named_modules()}
    modes = [module.training for module in network.modules()]
    return values, gradients, hooks, attributes, modes


@pytest.mark.parametrize("engine", ["opacus", "loop"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("proxy_name", ["metantk_condition", "ntk_condition"])
def test_every_engine_gives_the_same_number_and_leaves_the_network_as_it_found_it(proxy_name, engine, training):
    proxy, network, batch = setting(proxy_name, "darts_fewshot", engine=engine)
    network.train(training)
    first, *_ = network.parameters()
    first.grad = torch.ones_like(first)
    before = snapshot(network)
    value = call(proxy, network, batch)
    assert before == snapshot(network)
    assert value == pytest.approx(call(proxies.get(proxy_name)(), network, batch), rel=1e-3)
