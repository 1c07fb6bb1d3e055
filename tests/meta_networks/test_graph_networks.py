"""The graph encoder and decoder beside loops over graphs, vertices and edges."""

import pytest
import torch

from pipeline.core.errors import GenotypeError
from pipeline.core.rng import torch_stream
from pipeline.meta_networks import Generator, Predictor
from tests.meta_networks import oracle
from tests.meta_networks.made import FORM, SMALL_FORM, SPACE, cells, small, types_of

LATENTS = torch.randn(60, 8, generator=torch_stream(0, "latents"), dtype=torch.float64)


def enumerate_graphs(decoder, z, forced=()):
    """Every graph that can be written and its probability, by the oracle."""
    branches, chosen, probability = [], [], []

    def choose(vertex, source, probabilities):
        place = len(chosen)
        if place >= len(forced):
            branches.extend((*chosen, option) for option in range(1, len(probabilities)))
        chosen.append(forced[place] if place < len(forced) else 0)
        probability.append(probabilities[chosen[-1]])
        return chosen[-1]

    graph = oracle.write(decoder, z, choose)
    yield graph, torch.stack(probability).prod().item()
    for branch in branches:
        yield from enumerate_graphs(decoder, z, branch)


def key(types, adjacency):
    return (*types.tolist(), *adjacency.flatten().tolist())


def test_every_graph_of_a_batch_gets_the_vector_of_its_walk():
    encoder, genotypes = small(Predictor).graphs, cells(12)
    expected = torch.stack([oracle.graph_vector(encoder, SPACE.to_igraph(one)) for one in genotypes])
    torch.testing.assert_close(encoder(types_of(genotypes)), expected, rtol=1e-10, atol=1e-12)


def test_gradients_of_the_encoder_are_those_of_the_walks():
    encoder, genotypes = small(Predictor).graphs, cells(3)
    weights = dict(encoder.named_parameters())
    slow = sum(oracle.graph_vector(encoder, SPACE.to_igraph(one)).square().sum() for one in genotypes)
    fast = torch.autograd.grad(encoder(types_of(genotypes)).square().sum(), weights.values())
    for name, mine, theirs in zip(weights, fast, torch.autograd.grad(slow, weights.values()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10, msg=name)


def test_architectures_of_one_operation_more_or_less_get_other_vectors():
    encoder, cell = small(Predictor).graphs, cells(1)[0]
    neighbours = {SPACE.mutate(cell, torch_stream(seed, "neighbour")) for seed in range(30)}
    vectors = encoder(types_of([cell, *neighbours]))
    assert (torch.cdist(vectors, vectors) + torch.eye(len(vectors))).min() > 1e-4


def test_the_surprise_of_a_batch_is_that_of_each_graph():
    decoder, genotypes = small(Generator).decoder, cells(10)
    graphs = [SPACE.to_igraph(one) for one in genotypes]
    expected = torch.stack([oracle.surprise(decoder, z, graph) for z, graph in zip(LATENTS, graphs, strict=False)])
    torch.testing.assert_close(decoder.surprise(LATENTS[:10], types_of(genotypes)), expected, rtol=1e-10, atol=1e-12)


def test_gradients_of_the_surprise_are_those_of_each_graph():
    decoder, genotypes = small(Generator).decoder, cells(3)
    weights = dict(decoder.named_parameters())
    slow = sum(oracle.surprise(decoder, z, SPACE.to_igraph(one)) for z, one in zip(LATENTS, genotypes, strict=False))
    fast = torch.autograd.grad(decoder.surprise(LATENTS[:3], types_of(genotypes)).sum(), weights.values())
    for name, mine, theirs in zip(weights, fast, torch.autograd.grad(slow, weights.values()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10, msg=name)


def test_equal_draws_write_the_graphs_of_the_loops_decision_by_decision():
    network = small(Generator)
    draws = network.draws(60, torch_stream(0, "draws")).double()
    types, adjacency = network.decoder.write(LATENTS, draws)
    early = 0
    for place, z in enumerate(LATENTS):

        def choose(vertex, source, probabilities, place=place):
            if source is None:
                return int((probabilities.cumsum(0) <= draws[place, vertex, 0]).sum())
            return int(draws[place, vertex, 1 + source] < probabilities[1])

        graph = oracle.write(network.decoder, z, choose)
        early += graph.vcount() < FORM.n_vertices
        mine = FORM.to_igraph(types[place], adjacency[place])
        assert mine.vs["type"] == graph.vs["type"]
        assert sorted(mine.get_edgelist()) == sorted(graph.get_edgelist())
    assert 10 < early < 50


def test_without_draws_the_likeliest_is_written():
    decoder = small(Generator).decoder
    types, adjacency = decoder.write(3 * LATENTS, None)
    seen = set()
    for place, z in enumerate(3 * LATENTS):
        graph = oracle.write(decoder, z, lambda vertex, source, probabilities: int(probabilities.argmax()))
        mine = FORM.to_igraph(types[place], adjacency[place])
        assert (mine.vs["type"], sorted(mine.get_edgelist())) == (graph.vs["type"], sorted(graph.get_edgelist()))
        seen.add(tuple(graph.vs["type"]))
    assert len(seen) > 1


def test_graphs_are_drawn_as_often_as_their_probability_says():
    network = small(Generator, form=SMALL_FORM)
    n, z = 40_000, LATENTS[:1]
    expected = {}
    for graph, probability in enumerate_graphs(network.decoder, z[0]):
        name = key(*SMALL_FORM.from_igraph(graph))
        expected[name] = expected.get(name, 0) + n * probability
    assert len(expected) == 3 * 2 * 3 * 4 + 3 * 2 + 1
    assert sum(expected.values()) == pytest.approx(n)
    counted = dict.fromkeys(expected, 0)
    for types, adjacency in zip(*network.sample(z.expand(n, -1), torch_stream(0, "draws")), strict=True):
        counted[key(types, adjacency)] += 1
    chi2 = sum((counted[name] - value) ** 2 / value for name, value in expected.items())
    freedom = len(expected) - 1
    assert min(expected.values()) > 5
    assert abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5


def test_a_graph_depends_on_its_own_latent_and_draws_only():
    network = small(Generator)
    draws = network.draws(60, torch_stream(0, "draws")).double()
    types, adjacency = network.decoder.write(LATENTS, draws)
    for part in (slice(3, 4), slice(10, 40)):
        alone = network.decoder.write(LATENTS[part], draws[part])
        assert torch.equal(alone[0], types[part]) and torch.equal(alone[1], adjacency[part])


def test_one_stream_draws_the_same_graphs_again_and_another_stream_others():
    network = small(Generator)
    first, again, other = (network.sample(LATENTS, torch_stream(seed, "draws")) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_types_of_no_architecture_are_refused():
    network, wrong = small(Generator), types_of(cells(2))
    wrong[1, 3] = FORM.end
    for read in (lambda: network.decoder.surprise(LATENTS[:2], wrong), lambda: small(Predictor).graphs(wrong)):
        with pytest.raises(GenotypeError, match="each between an operation"):
            read()
