import pytest
import torch
from torch.nn import functional

from pipeline import learners
from pipeline.core.errors import ConfigError
from pipeline.core.rng import torch_stream


def probe_by_gradient_descent(support, query, C):
    """The same minimum, found by many plain gradient steps in float64."""
    way, n_support, d = support.shape
    x, z = (functional.normalize(features.double(), dim=-1).flatten(0, 1) for features in (support, query))
    y = torch.arange(way).repeat_interleave(n_support)
    weight, bias = torch.zeros(way, d, dtype=torch.float64), torch.zeros(way, dtype=torch.float64)
    for _ in range(4000):
        residual = (x @ weight.T + bias).softmax(-1) - functional.one_hot(y, way)
        weight = weight - 0.05 * (weight + C * residual.T @ x)
        bias = bias - 0.05 * C * residual.sum(0)
    return (z @ weight.T + bias).log_softmax(-1).unflatten(0, query.shape[:2])


@pytest.mark.parametrize("C", [0.1, 1.0])
def test_the_probe_finds_the_minimum_that_gradient_descent_finds(C):
    generator = torch_stream(0, "probe")
    means = torch.randn(5, 1, 12, generator=generator)
    support, query = (
        means + torch.randn(5, 5, 12, generator=generator),
        means + torch.randn(5, 9, 12, generator=generator),
    )
    found = learners.get("linear_probe")(C=C)(support, query)
    expected = probe_by_gradient_descent(support, query, C)
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
    assert (found.argmax(-1) == expected.argmax(-1)).double().mean() > 0.97


def test_log_probabilities_add_up_to_one():
    generator = torch_stream(0, "sum")
    support, query = torch.randn(5, 2, 6, generator=generator), torch.randn(5, 3, 6, generator=generator)
    total = learners.get("linear_probe")()(support, query).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(5, 3, dtype=torch.float64))


def test_a_penalty_without_strength_is_refused():
    with pytest.raises(ConfigError):
        learners.get("linear_probe")(C=0.0)


def test_one_shot_prototypes_are_the_support_images():
    support = torch.eye(4)[:, None, :]
    scores = learners.get("prototypes")()(support, support)
    torch.testing.assert_close(scores[:, 0], 2 * torch.eye(4, dtype=torch.float64) - 2)
