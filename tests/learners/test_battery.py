"""What holds for every learner on frozen features, whoever adds it."""

import math

import pytest
import torch

from pipeline import learners
from pipeline.core.errors import DataError
from pipeline.core.rng import torch_stream
from pipeline.learners.features import check_features
from tests.learners.made import READ_OUTS

every_learner = pytest.mark.parametrize("name", READ_OUTS)


def features(way, n_support, n_query, d, separation, *names):
    """Class means `separation` apart, unit Gaussian spread around them."""
    generator = torch_stream(0, "features", *names)
    means = separation * torch.randn(way, 1, d, generator=generator)
    support = means + torch.randn(way, n_support, d, generator=generator)
    query = means + torch.randn(way, n_query, d, generator=generator)
    return support, query


def accuracy(scores):
    return (scores.argmax(-1) == torch.arange(scores.shape[0])[:, None]).double().mean().item()


@every_learner
@pytest.mark.parametrize("way", [2, 5])
@pytest.mark.parametrize("n_support", [1, 5])
def test_every_query_gets_a_finite_score_for_every_class(name, way, n_support):
    scores = learners.get(name)()(*features(way, n_support, 4, 8, 1.0))
    assert scores.shape == (way, 4, way)
    assert scores.isfinite().all()


@every_learner
def test_features_that_are_all_alike_score_exactly_chance(name):
    ones = torch.ones(5, 3, 8)
    scores = learners.get(name)()(ones, ones)
    assert (scores - scores[..., :1]).abs().max() < 1e-9
    assert accuracy(scores) == 1 / 5


@every_learner
def test_pure_noise_scores_chance_on_average(name):
    learner = learners.get(name)()
    values = [accuracy(learner(*features(5, 1, 15, 16, 0.0, index))) for index in range(60)]
    error = 3 * math.sqrt(0.2 * 0.8 / (60 * 75)) * 2
    assert abs(sum(values) / len(values) - 0.2) < error


@every_learner
def test_classes_that_are_far_apart_are_told_apart(name):
    assert accuracy(learners.get(name)()(*features(5, 2, 15, 16, 20.0))) == 1.0


@every_learner
def test_permuting_the_classes_permutes_the_scores(name):
    support, query = features(5, 3, 6, 8, 1.0)
    learner, order = learners.get(name)(), torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(
        learner(support[order], query[order]), learner(support, query)[order][..., order], atol=1e-3, rtol=0
    )


@every_learner
def test_the_order_of_the_support_images_does_not_matter(name):
    support, query = features(4, 6, 5, 8, 1.0)
    learner = learners.get(name)()
    torch.testing.assert_close(learner(support.flip(1), query), learner(support, query), atol=1e-6, rtol=0)


@every_learner
def test_queries_do_not_see_each_other(name):
    support, query = features(5, 3, 6, 8, 1.0)
    learner = learners.get(name)()
    alone = torch.cat([learner(support, query[:, i : i + 1]) for i in range(6)], dim=1)
    torch.testing.assert_close(alone, learner(support, query))


@every_learner
def test_scaling_all_features_changes_nothing(name):
    support, query = features(5, 3, 6, 8, 1.0)
    learner = learners.get(name)()
    torch.testing.assert_close(learner(support * 7, query * 7), learner(support, query), atol=1e-6, rtol=0)


@every_learner
def test_what_goes_in_stays_as_it_was_and_the_answer_is_the_same_twice(name):
    support, query = features(5, 3, 6, 8, 1.0)
    copies, learner, state = (support.clone(), query.clone()), learners.get(name)(), torch.get_rng_state()
    first, second = learner(support, query), learner(support, query)
    assert torch.equal(first, second)
    assert torch.equal(support, copies[0]) and torch.equal(query, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


@every_learner
@pytest.mark.parametrize(
    ("support", "query"),
    [
        (torch.ones(5, 1, 8), torch.ones(4, 1, 8)),
        (torch.ones(5, 1, 8), torch.ones(5, 1, 9)),
        (torch.ones(5, 8), torch.ones(5, 8)),
        (torch.ones(5, 0, 8), torch.ones(5, 1, 8)),
        (torch.full((5, 1, 8), math.nan), torch.ones(5, 1, 8)),
    ],
)
def test_features_that_do_not_fit_are_refused(name, support, query):
    with pytest.raises(DataError):
        learners.get(name)()(support, query)


def test_an_all_zero_feature_is_allowed():
    check_features(torch.zeros(5, 1, 8), torch.zeros(5, 1, 8))
