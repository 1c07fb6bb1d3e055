"""Generator and predictor: their size, their losses, and what their numbers may depend on."""

import math

import pytest
import torch

from pipeline.core.errors import ConfigError, DataError
from pipeline.core.rng import torch_stream
from pipeline.meta_networks import Generator, Predictor
from pipeline.nets.init import construct
from tests.meta_networks import oracle
from tests.meta_networks.made import FORM, SPACE, cells, data_sets, small, types_of

# trainable parameters of the published networks, and those among them that get a gradient
PUBLISHED = [
    (Generator, 56, 56, 304_200, 220_144),
    (Generator, 512, 512, 16_089_096, 11_585_032),
    (Predictor, 56, 56, 250_153, 211_905),
    (Predictor, 512, 56, 4_020_361, 3_438_105),
]
both = pytest.mark.parametrize("kind", [Generator, Predictor])


@pytest.mark.parametrize(("kind", "hs", "nz", "n_parameters", "n_learning"), PUBLISHED)
def test_the_networks_have_the_published_numbers_of_parameters(kind, hs, nz, n_parameters, n_learning):
    network = construct(lambda: kind(hs=hs, nz=nz, form=FORM))
    features, types = torch.ones(1, 2, 3, 512), types_of(cells(1))
    value = sum(network.loss(features, types, None)) if kind is Generator else network(features, types).sum()
    value.backward()
    assert sum(weight.numel() for weight in network.parameters()) == n_parameters
    assert sum(weight.numel() for weight in network.parameters() if weight.grad is not None) == n_learning


def test_an_untrained_generator_guesses_at_about_33_nats_a_graph():
    network = construct(lambda: Generator(form=FORM))
    features = torch.randn(8, 20, 20, 512, generator=torch_stream(0, "features")).relu()
    reconstruction, kl = network.loss(features, types_of(cells(8)), torch_stream(0, "noise"))
    assert reconstruction.item() / 8 == pytest.approx(7 * math.log(7) + 28 * math.log(2), abs=0.5)
    assert 0 < kl.item() / 8 < 0.1


def test_the_loss_of_a_batch_is_the_sum_of_its_items_by_the_equations():
    network, features, genotypes = small(Generator), data_sets(4), cells(4)
    reconstruction, kl = network.loss(features, types_of(genotypes), None, beta=0.3)
    expected, divergence = 0, 0
    for one, genotype in zip(features, genotypes, strict=True):
        read = oracle.data_set(network.datasets, one)
        mean, log_variance = oracle.affine(network.mean, read), oracle.affine(network.log_variance, read)
        expected = expected + oracle.surprise(network.decoder, mean, SPACE.to_igraph(genotype))
        normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
        divergence = divergence + torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).sum()
    torch.testing.assert_close(reconstruction, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(kl, 0.3 * divergence, rtol=1e-10, atol=0)


def test_the_loss_of_a_batch_is_the_sum_of_the_losses_of_its_parts():
    network, features, types = small(Generator), data_sets(5), types_of(cells(5))
    whole = network.loss(features, types, None)
    parts = [network.loss(features[i : i + 1], types[i : i + 1], None) for i in range(5)]
    for term, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(term, torch.stack(of_parts).sum(), rtol=1e-10, atol=0)


def test_latents_are_the_means_or_drawn_near_them_with_a_hundredth_of_the_deviation():
    network, features = small(Generator), data_sets(1)
    mean = network.encode(features, None)
    deviation = (network.log_variance(network.datasets(features)) / 2).exp()
    draws = torch_stream(0, "noise")
    drawn = network.encode(features.expand(4000, -1, -1, -1), draws) - mean
    torch.testing.assert_close(drawn.std(0), 0.01 * deviation[0], rtol=0.06, atol=0)
    assert (drawn.mean(0).abs() < 4 * 0.01 * deviation[0] / 4000**0.5).all()


@pytest.mark.parametrize(("hs", "nz"), [(20, 8), (8, 20), (7, 4)])
def test_states_and_latents_may_have_different_widths(hs, nz):
    network, features, types = small(Generator, hs=hs, nz=nz), data_sets(2), types_of(cells(2))
    sum(network.loss(features, types, torch_stream(0, "noise"))).backward()
    z = network.encode(features, None)
    assert z.shape == (2, nz) and network.sample(z, torch_stream(0, "draws"))[0].shape == (2, 8)
    assert small(Predictor, hs=hs, nz=nz)(features, types).shape == (2,)


@both
def test_a_width_of_latents_that_heads_cannot_share_is_refused(kind):
    with pytest.raises(ConfigError, match=r"\(nz\) must be a multiple of its 4 heads; got 58"):
        kind(hs=58, nz=58, form=FORM)


@both
def test_data_sets_and_architectures_must_come_in_pairs(kind):
    network = small(kind)
    with pytest.raises(DataError, match="got 3 and 2"):
        read = network.loss if kind is Generator else network
        read(data_sets(3), types_of(cells(2)), *([None] if kind is Generator else []))


@both
def test_the_idle_parts_have_no_say(kind):
    network, features, types = small(kind), data_sets(2), types_of(cells(2))

    def values():
        return torch.stack(network.loss(features, types, None)) if kind is Generator else network(features, types)

    before = values()
    with torch.no_grad():
        for weight in network.idle.parameters():
            weight.fill_(float("nan"))
    assert torch.equal(values(), before)


def test_predictions_are_those_of_the_equations():
    network, features, genotypes = small(Predictor), data_sets(4), cells(4)
    expected = [
        oracle.prediction(network, one, SPACE.to_igraph(genotype))
        for one, genotype in zip(features, genotypes, strict=True)
    ]
    torch.testing.assert_close(network(features, types_of(genotypes)), torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_a_prediction_does_not_depend_on_the_rest_of_its_batch():
    network, features, types = small(Predictor), data_sets(6), types_of(cells(6))
    together = network(features, types)
    alone = torch.cat([network(features[i : i + 1], types[i : i + 1]) for i in range(6)])
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(alone, together, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network(features[order], types[order]), together[order], rtol=1e-10, atol=1e-12)


def test_a_score_is_the_mean_prediction_over_the_drawings_of_a_data_set(monkeypatch):
    network, drawings, types = small(Predictor), data_sets(5), types_of(cells(7))
    expected = torch.stack([network(drawings, one.expand(5, -1)).mean() for one in types])
    monkeypatch.setattr("pipeline.meta_networks.predictor.GRAPHS_AT_ONCE", 3)
    scores = network.score(network.encode(drawings), network.encode_graphs(types))
    torch.testing.assert_close(scores, expected, rtol=1e-10, atol=1e-12)


def test_a_generator_learns_which_architecture_goes_with_which_data_set():
    network = small(Generator, hs=24, nz=12, dtype=torch.float32)
    features, genotypes = data_sets(4, dtype=torch.float32), cells(4)
    types, noise = types_of(genotypes), torch_stream(0, "noise")
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        sum(network.loss(features, types, noise)).backward()
        optimiser.step()
    z = network.encode(features, None)
    written, adjacency = network.sample(z.repeat(50, 1), torch_stream(0, "draws"))
    assert FORM.valid(written, adjacency).float().mean() > 0.9
    assert (written == types.repeat(50, 1)).all(1).float().mean() > 0.8
    likeliest, adjacency = network.sample(z, None, stochastic=False)
    assert torch.equal(likeliest, types)
    # an end that is written is joined by the vertices that lead nowhere: here by the last operation alone
    edges = FORM.adjacency()
    edges[:-2, -1] = False
    assert torch.equal(adjacency, edges.expand(4, -1, -1))


def test_a_predictor_learns_from_data_set_and_architecture_together():
    network = small(Predictor, dtype=torch.float32)
    features, types = data_sets(16, dtype=torch.float32), types_of(cells(16))
    wanted = torch.randn(16, generator=torch_stream(0, "wanted"))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(120):
        optimiser.zero_grad()
        loss = (network(features, types) - wanted).square().sum()
        loss.backward()
        optimiser.step()
    assert loss < 0.02 * (wanted - wanted.mean()).square().sum()


@both
def test_weights_come_from_the_generator_alone(kind):
    first, again, other = (small(kind, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@both
def test_a_network_survives_its_state_dict_without_a_global_draw(kind):
    state = torch.get_rng_state()
    network, copy = small(kind), small(kind, seed=1)
    copy.load_state_dict(network.state_dict())
    assert torch.equal(copy.datasets(data_sets(2)), network.datasets(data_sets(2)))
    assert torch.equal(torch.get_rng_state(), state)
