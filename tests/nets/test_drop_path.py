import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.nets.drop_path import DropPath


def drop_path(probability, seed=0):
    one = DropPath()
    one.probability, one.generator = probability, torch.Generator().manual_seed(seed)
    return one


def test_whole_samples_are_dropped_and_the_rest_is_scaled_so_that_the_mean_stays():
    out = drop_path(0.25)(torch.ones(4000, 2, 3, 3))
    per_sample = out.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    torch.testing.assert_close(per_sample[:, 0].unique(), torch.tensor([0.0, 1 / 0.75]))
    assert abs(out.mean().item() - 1) < 0.03


def test_nothing_is_dropped_in_evaluation_or_at_probability_zero():
    branch = torch.ones(8, 1, 1, 1)
    assert drop_path(0.9).eval()(branch) is branch
    assert drop_path(0.0)(branch) is branch


def test_the_draws_come_from_the_generator_alone():
    branch = torch.ones(50, 1, 1, 1)
    first = drop_path(0.5)(branch)
    torch.manual_seed(99)
    torch.testing.assert_close(drop_path(0.5)(branch), first, rtol=0, atol=0)


def test_dropping_without_a_generator_is_refused():
    one = DropPath()
    one.probability = 0.1
    with pytest.raises(ConfigError, match=r"set drop_path\.generator"):
        one(torch.ones(2, 1, 1, 1))
