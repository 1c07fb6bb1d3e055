"""What every proxy must do on the networks of every space; pairs come from the registries."""

import dataclasses
import math

import pytest
import torch

from pipeline import proxies, spaces
from pipeline.core.types import LabelledBatch, TaskBatch
from pipeline.nets.init import initialise
from pipeline.nets.norms import convert_norms
from pipeline.proxies.execution import execution_of
from pipeline.proxies.sharing import value_of

IMAGE_SIZE = 16


def network_for(space_name, kind):
    """The network of a space that a proxy of this kind is meant for, or None where the space has none."""
    space = spaces.get(space_name)()
    prunes = "prunes" in space.capabilities
    genotype = space.sample(torch.Generator().manual_seed(0))
    if kind == "thin":
        network = space.thin_supernet() if prunes else None
    elif kind == "coupled":
        n_cells = 2 if space.name.startswith("darts") else 3
        network = space.supernet(n_classes=6, channels=n_cells, n_cells=n_cells, norm="batchnorm") if prunes else None
    elif kind == "full":
        network = space.build(genotype, n_classes=6, channels=8, n_cells=3, image_size=IMAGE_SIZE)
    elif prunes:
        network = space.supernet(n_classes=6, channels=4, n_cells=3)
    else:
        built = space.build(genotype, n_classes=6, channels=32, n_cells=3, image_size=IMAGE_SIZE)
        network = convert_norms(built, "groupnorm16")
    return network and initialise(network, "kaiming_fanout", torch.Generator().manual_seed(1))


def batch_for(needs):
    generator = torch.Generator().manual_seed(2)
    if needs == "patches":
        return torch.randn(60, 1, 3, 3, generator=generator)
    images = torch.randn(12, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    if needs == "labelled":
        held_out, labels = torch.randn(images.shape, generator=generator), torch.arange(12) % 6
        return LabelledBatch(images, labels, held_out, labels.flip(0), n_classes=6)
    return TaskBatch(images, n_tasks=2, n_query=3, n_support=3, n_way=3) if needs == "tasks" else images


def of_each(attribute):
    """Proxy -> its class attribute; a proxy that lacks it is left out, and fails a test of its own below."""
    found = {name: getattr(proxies.get(name), attribute, None) for name in proxies.names()}
    return {name: value for name, value in found.items() if value is not None}


NEEDS, NETWORKS, SHARES = of_each("needs"), of_each("network"), of_each("shares")
PAIRS = [
    (proxy, space)
    for proxy, network in NETWORKS.items()
    for space in spaces.names()
    if network_for(space, network) is not None
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
    missing = [name for name in ("higher_is_better", "needs", "network") if not hasattr(proxies.get(proxy_name), name)]
    assert not missing
    proxy = proxies.get(proxy_name)()
    assert isinstance(proxy.higher_is_better, bool)
    assert proxy.needs in ("tasks", "images", "labelled", "patches", "network")
    assert proxy.network in ("kernel", "thin", "coupled", "full")
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
    elif isinstance(batch, LabelledBatch):
        moved = dataclasses.replace(batch, images=batch.images.flip(0), labels=batch.labels.flip(0))
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


@pytest.mark.parametrize("space_name", ["darts", "nas_bench_201"])
def test_proxies_that_share_work_give_what_they_give_alone(space_name):
    kinds = {(NETWORKS[name], start) for name, start in SHARES.items()}
    assert len(kinds) == len({start for _, start in kinds}) == 2
    shared = {}
    for name in SHARES:
        proxy, network, batch = setting(name, space_name)
        found = value_of(proxy, network, batch, torch.Generator(), shared)
        assert found == call(proxy, network, batch)
    assert set(shared) == {start for _, start in kinds}


@pytest.mark.parametrize("proxy_name", [name for name, needs in NEEDS.items() if needs != "patches"])
@pytest.mark.parametrize("space_name", ["darts", "darts_fewshot", "nas_bench_201"])
def test_operations_that_a_mask_switches_off_do_not_count(proxy_name, space_name):
    proxy, batch = proxies.get(proxy_name)(), batch_for(proxies.get(proxy_name).needs)
    space = spaces.get(space_name)()
    network = space.supernet(n_classes=6, channels=2, n_cells=2, norm="batchnorm")
    network.eval()
    mask = space.mask_of(space.sample(torch.Generator().manual_seed(4)))
    network.set_mask(mask)
    before = call(proxy, network, batch)
    running = {id(value) for value in execution_of(network, torch.zeros(1, 3, 8, 8)).used.values()}
    with torch.no_grad():
        idle = [parameter.fill_(float("nan")) for parameter in network.parameters() if id(parameter) not in running]
    assert idle
    assert call(proxy, network, batch) == before


@pytest.mark.parametrize("proxy_name", [name for name, needs in NEEDS.items() if needs == "labelled"])
def test_a_cell_that_passes_nothing_on_gets_no_score_that_beats_others(proxy_name):
    space = spaces.get("nas_bench_201")()
    network = space.supernet(n_classes=6, channels=3, n_cells=1, norm="batchnorm")
    network.set_mask(space.mask_of(space.from_text("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")))
    proxy = proxies.get(proxy_name)()
    value = call(proxy, network, batch_for("labelled"))
    assert value in ((0, -math.inf) if proxy.higher_is_better else (math.inf,))
