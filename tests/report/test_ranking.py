"""Shared ranks and Holm's correction, against hand-worked examples."""

import pytest

from pipeline.report.ranking import holm, shared_ranks


def test_holm_compares_the_smallest_p_with_the_strictest_bound():
    # bounds for four: 0.0125, 0.0167, 0.025, 0.05 (Holm 1979)
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]


def test_holm_stops_at_the_first_p_that_is_not_small_enough():
    # the third would pass its own bound of 0.05, but the second has failed at 0.025
    assert holm([0.01, 0.03, 0.04]) == [True, False, False]


def test_holm_rejects_no_more_than_single_tests_would():
    assert holm([0.04]) == [True] and holm([0.06]) == [False] and holm([]) == []


def fixed(values: dict):
    return lambda a, b: values[frozenset(a + b)]


def test_ranks_count_the_methods_before():
    p = fixed({frozenset("ab"): 0.5, frozenset("ac"): 0.001, frozenset("bc"): 0.001})
    assert shared_ranks({"a": 0.6, "b": 0.59, "c": 0.4}, p) == {"a": 1, "b": 1, "c": 3}


def test_all_tied_share_the_first_rank():
    assert shared_ranks({"a": 0.6, "b": 0.5, "c": 0.4}, lambda a, b: 0.9) == {"a": 1, "b": 1, "c": 1}


def test_all_different_have_ranks_of_their_own():
    assert shared_ranks({"b": 0.5, "a": 0.6, "c": 0.4}, lambda a, b: 0.0) == {"a": 1, "b": 2, "c": 3}


def test_a_better_mean_never_has_a_worse_rank():
    # b differs from a by little but surely, c by more but with much noise
    p = fixed({frozenset("ab"): 0.001, frozenset("ac"): 0.4, frozenset("bc"): 0.5})
    assert shared_ranks({"a": 0.60, "b": 0.59, "c": 0.58}, p) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("n", [1, 2, 7])
def test_ties_hold_whatever_the_order_of_the_methods(n):
    means = {f"m{i}": 0.5 for i in range(n)}
    assert set(shared_ranks(means, lambda a, b: 1.0).values()) == {1}
