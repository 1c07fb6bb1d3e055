"""What every space must hold, by name from the registry."""

import json

import numpy as np
import pytest
import torch

import pipeline.spaces as spaces
from pipeline.core.errors import CapabilityError, ConfigError, DataError, PipelineError
from pipeline.core.rng import numpy_stream, torch_stream

pytestmark = pytest.mark.parametrize("name", spaces.names())


def sampled(name, seed=0):
    space = spaces.get(name)()
    return space, space.sample(torch_stream(seed, "test"))


def network(name, seed=0, **changes):
    space, genotype = sampled(name, seed)
    return space.build(genotype, **{"n_classes": 5, "channels": 4, "n_cells": 5, "image_size": 9} | changes)


def test_the_space_says_what_it_is(name):
    space = spaces.get(name)()
    assert space.name == name
    assert space.capabilities <= {"samples", "mutates", "prunes", "relaxes", "graph", "enumerates", "policy", "encodes"}
    assert not space.operations or space.operations[0] == "none"


@pytest.mark.parametrize("seed", range(20))
def test_a_sample_survives_its_text(name, seed):
    space, genotype = sampled(name, seed)
    text = space.to_text(genotype)
    assert space.from_text(text) == genotype
    assert space.to_text(space.from_text(text)) == text
    assert hash(genotype) == hash(space.from_text(text))


def test_the_same_stream_samples_the_same_genotype(name):
    space = spaces.get(name)()
    for stream in (torch_stream, numpy_stream):
        assert space.sample(stream(1, "a")) == space.sample(stream(1, "a"))


def test_sampling_and_building_leave_the_global_generators_alone(name):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    network(name)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_text_that_is_no_genotype_is_refused(name):
    for text in ("", "Genotype(", "lambda: 0", "[1, 2]"):
        with pytest.raises(PipelineError):
            spaces.get(name)().from_text(text)


def test_mutation_gives_another_genotype_of_the_space_or_says_that_it_cannot(name):
    space, genotype = sampled(name)
    if "mutates" not in space.capabilities:
        with pytest.raises(CapabilityError):
            space.mutate(genotype, torch_stream(0, "mutate"))
        return
    for seed in range(20):
        mutant = space.mutate(genotype, torch_stream(seed, "mutate"))
        assert mutant != genotype and space.from_text(space.to_text(mutant)) == mutant


def policy_of(space, seed, spread=1.0):
    generator = torch_stream(seed, "logits")
    return [(spread * torch.randn(shape, generator=generator)).requires_grad_() for shape in space.policy_shapes]


def test_a_policy_draws_genotypes_with_a_log_probability_or_the_space_says_that_it_has_none(name):
    space = spaces.get(name)()
    if "policy" not in space.capabilities:
        with pytest.raises(CapabilityError):
            space.policy_shapes  # noqa: B018
        return
    logits = policy_of(space, 0)
    for seed in range(10):
        genotype, log_probability = space.sample_from_policy(logits, torch_stream(seed, "draw"))
        assert space.from_text(space.to_text(genotype)) == genotype
        assert log_probability.shape == () and log_probability < 0
        gradients = torch.autograd.grad(log_probability, logits)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
        again, same = space.sample_from_policy(logits, torch_stream(seed, "draw"))
        assert again == genotype and torch.equal(same, log_probability)


def test_a_policy_that_is_certain_draws_what_it_prefers(name):
    space = spaces.get(name)()
    if "policy" not in space.capabilities:
        pytest.skip(f"{name} has no policy")
    logits = policy_of(space, 1, spread=1000.0)
    preferred = space.decode_policy(logits)
    drawn = [space.sample_from_policy(logits, torch_stream(seed, "draw"))[0] for seed in range(5)]
    if len(space.cell_types) == 1:
        assert drawn == [preferred] * 5
    # which edges a node keeps is drawn by the logits, what it prefers goes by probabilities, which are all 1 here
    operations = {text for one in drawn for cell in space.graph(one)["cells"] for _, _, text in cell["edges"]}
    assert operations <= {*space.operations, "concat"}


def test_a_relaxed_supernet_has_alphas_that_stand_for_a_genotype_or_the_space_says_that_it_has_none(name):
    space = spaces.get(name)()
    if "relaxes" not in space.capabilities:
        with pytest.raises(CapabilityError):
            space.relax(5, 4)
        with pytest.raises(CapabilityError):
            space.decode_alphas(torch.zeros(1, 1))
        return
    state = torch.get_rng_state()
    one = space.relax(n_classes=5, channels=4)
    assert torch.equal(torch.get_rng_state(), state)
    alphas = [dict(one.named_parameters())[f"alphas.{kind}"] for kind in space.cell_types]
    assert len(list(one.alphas.parameters())) == len(alphas)
    assert all(alpha.shape == (space.n_edges, len(space.operations)) and alpha.any() for alpha in alphas)
    genotype = space.decode_alphas(*alphas)
    assert space.from_text(space.to_text(genotype)) == genotype
    images = torch.randn(3, 3, 20, 20, generator=torch_stream(0, "images"))
    logits, features = one(images), one.features(images)
    assert logits.shape == (3, 5) and features.shape == (3, one.feature_dim)
    torch.testing.assert_close(one.classifier(features), logits)
    slopes = torch.autograd.grad(logits.square().sum(), list(one.parameters()))
    assert all(slope.isfinite().all() and slope.any() for slope in slopes)
    again = space.relax(n_classes=5, channels=4).state_dict()
    assert all(torch.equal(again[key], value) for key, value in again.items())


@pytest.mark.parametrize("size", [(32, 32), (7, 7), (5, 21)])
def test_the_built_network_runs_forward_and_backward(name, size):
    if spaces.get(name).one_image_size and size[0] != size[1]:
        pytest.skip(f"{name} takes square images")
    one = network(name, image_size=size[0])
    images = torch.randn(3, 3, *size, generator=torch_stream(0, "images"))
    logits = one(images)
    assert logits.shape == (3, 5) and logits.isfinite().all()
    logits.sum().backward()
    gradients = [weight.grad for weight in one.parameters() if weight.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    # `none` may cut an operation off from the output
    space, genotype = sampled(name)
    assert len(gradients) == len(list(one.parameters())) or "none" in space.to_text(genotype)


def test_networks_for_images_of_one_size_are_told_it_and_refuse_others(name):
    if not spaces.get(name).one_image_size:
        assert network(name, image_size=None)(torch.zeros(2, 3, 12, 12)).shape == (2, 5)
        return
    with pytest.raises(ConfigError, match="image_size"):
        network(name, image_size=None)
    with pytest.raises(DataError, match="9 x 9"):
        network(name)(torch.zeros(2, 3, 12, 12))


@pytest.mark.parametrize("in_channels", [1, 3])
def test_the_classifier_reads_the_features(name, in_channels):
    one = network(name, in_channels=in_channels).eval()
    images = torch.randn(2, in_channels, 9, 9, generator=torch_stream(0, "images"))
    features = one.features(images)
    assert features.shape == (2, one.feature_dim) and one.classifier.in_features == one.feature_dim
    torch.testing.assert_close(one(images), one.classifier(features))


def test_the_network_has_a_drop_path_that_is_off(name):
    drop_path = network(name).drop_path
    assert drop_path.probability == 0.0 and drop_path.generator is None


def test_building_twice_gives_the_same_weights(name):
    first, second = network(name).state_dict(), network(name).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_nothing_of_the_network_stays_without_weights(name):
    assert not any(tensor.is_meta for tensor in network(name).state_dict().values())


def test_the_graph_is_a_directed_acyclic_graph_of_known_nodes(name):
    space, genotype = sampled(name)
    cells = space.graph(genotype)["cells"]
    assert json.loads(json.dumps(cells)) == cells and cells
    assert not space.cell_types or [cell["name"] for cell in cells] == list(space.cell_types)
    for cell in cells:
        assert all(isinstance(label, str) for label in cell["nodes"])
        touched = set()
        for source, target, operation in cell["edges"]:
            # every edge leads forward in the order of the nodes, hence no cycle
            assert 0 <= source < target < len(cell["nodes"]) and isinstance(operation, str)
            touched |= {source, target}
        assert len(cell["nodes"]) - 1 in touched
