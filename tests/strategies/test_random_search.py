"""Random search draws distinct genotypes and ranks them where it is told scores."""

import math

import pytest
import torch

from pipeline.core.errors import CapabilityError, ScoreError
from pipeline.strategies.indicators import Measured
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
