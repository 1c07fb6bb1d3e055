"""Proposals until there are enough different valid ones, ranked by what is measured."""

import math

import pytest
import torch

from pipeline.core.errors import CapabilityError, ScoreError
from pipeline.strategies.generate_and_rank import GenerateAndRank
from pipeline.strategies.indicators import Indicator, Measured
from tests.strategies.toy import ToySpace

QUALITY = Indicator("quality", higher_is_better=True)


def started(proposals, n_candidates=3, n_at_once=2):
    left = iter(proposals)

    def propose(n, generator):
        return [next(left) for _ in range(n)]

    options = {"n_candidates": n_candidates, "n_at_once": n_at_once, "propose": propose}
    return GenerateAndRank(ToySpace(), [QUALITY], torch.Generator(), **options)


def test_what_is_no_genotype_and_what_came_before_is_left_out_and_counted():
    strategy = started([(1, 1, 1), None, (1, 1, 1), (2, 2, 2), None, (3, 3, 3), (1, 2, 3), (1, 2, 3)])
    assert strategy.ask() == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    # the last proposal looked at is the one that made enough
    assert (strategy.n_proposed, strategy.n_valid) == (6, 4)


def test_what_is_not_connected_is_left_out_and_counted():
    strategy = started([(1, 1, 1), (0, 1, 1), (2, 2, 2), None, (0, 0, 0), (3, 3, 3)])
    assert strategy.ask() == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert (strategy.n_proposed, strategy.n_valid, strategy.n_connected) == (6, 5, 3)


def test_candidates_are_ranked_by_their_exact_means_and_equal_ones_keep_their_order():
    strategy = started([(1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 2, 3)], n_candidates=4)
    places = strategy.tell({"quality": Measured([[70.001, 70.0], [70.002, 70.0], [70.001, 70.0], [1.0, 2.0]])})
    assert places == [1, 0, 2, 3]
    assert strategy.found() == [(2, 2, 2), (1, 1, 1), (3, 3, 3), (1, 2, 3)]


def test_a_candidate_without_a_number_comes_last_and_none_with_one_is_an_error():
    values = [[math.nan], [1.0], [2.0]]
    strategy = started([(1, 1, 1), (2, 2, 2), (3, 3, 3), None])
    assert strategy.tell({"quality": Measured(values)}) == [2, 1, 0]
    with pytest.raises(ScoreError, match="quality"):
        started([(1, 1, 1), (2, 2, 2), (3, 3, 3), None]).tell({"quality": Measured([[math.inf]] * 3)})


def test_too_few_different_proposals_are_an_error_with_counts():
    def propose(n, generator):
        return [(1, 1, 1), None] * (n // 2)

    with pytest.raises(
        CapabilityError, match="only 1 turned up in 2000 proposals, 1000 of them valid and 1000 connected"
    ):
        GenerateAndRank(ToySpace(), [QUALITY], torch.Generator(), n_candidates=2, propose=propose)
