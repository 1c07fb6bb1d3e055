"""Random search draws distinct genotypes and ranks them where it is told scores."""

import math

import pytest
import torch

from pipeline.core.errors import CapabilityError, ScoreError
from pipeline.strategies.indicators import Indicator, Measured, best_by_ranks
from pipeline.strategies.random_search import RandomSearch
from tests.strategies.toy import INDICATOR, ToySpace


def search(n_architectures: int, seed: int = 0, indicators=()) -> RandomSearch:
    return RandomSearch(ToySpace(), indicators, torch.Generator().manual_seed(seed), n_architectures=n_architectures)


def test_the_architectures_are_distinct():
    assert sorted(search(27).found()) == ToySpace().everything()


def test_more_architectures_than_the_space_holds_are_refused():
    with pytest.raises(CapabilityError, match="27 turned up"):
        search(28)


def test_other_seeds_give_other_architectures():
    assert search(5, seed=0).found() != search(5, seed=1).found()


def test_a_longer_search_begins_with_the_shorter_one():
    assert search(9).found()[:4] == search(4).found()


def test_an_architecture_without_a_finite_score_comes_last():
    strategy = search(3, indicators=[INDICATOR])
    drawn = strategy.ask()
    strategy.tell({"quality": Measured([[math.nan], [1.0], [2.0]])})
    assert strategy.found() == [drawn[2], drawn[1], drawn[0]]


def test_no_finite_score_at_all_is_an_error():
    strategy = search(2, indicators=[INDICATOR])
    with pytest.raises(ScoreError, match="quality"):
        strategy.tell({"quality": Measured([[math.nan], [math.inf]])})


def test_a_missing_generator_is_refused():
    with pytest.raises(CapabilityError, match="generator"):
        RandomSearch(ToySpace())


def test_the_best_is_chosen_by_the_rule_of_the_methods_it_is_compared_with():
    values = {"first": [5.0, 5.0, 5.0, 4.0], "second": [1.0, 2.0, 1.0, 3.0], "third": [1.0, 1.0, 1.0, 2.0]}
    indicators = [Indicator(name, True) for name in values]
    strategy = search(4, indicators=indicators)
    drawn = strategy.ask()
    strategy.tell({name: Measured([[value] for value in column]) for name, column in values.items()})
    assert strategy.found()[0] == drawn[best_by_ranks([(column, True) for column in values.values()])]
