"""Rankings that repeat themselves are told from rankings that do not."""

import itertools
import math

import numpy as np
import pytest

from pipeline.strategies.indicators import Indicator
from pipeline.strategies.stability import combine, summarise, tau, variance_of_unrelated

CONDITION, REGIONS = Indicator("condition", False), Indicator("regions", True)
KNOBS = ["search.metantk.repeat", "search.metantk.tasks_per_batch"]


def rows(signal: float, n: int = 100, n_rounds: int = 2, n_repeats: int = 2, seed: int = 0) -> list[dict]:
    """A trace in which changes by `condition` are `signal` parts shared between repeats; `regions` agree fully."""
    rng, lines = np.random.default_rng(seed), []
    for number in range(n_rounds):
        lines.append({"seed": 0, "round": number, "operation": None})
        shared = rng.standard_normal(n)
        for i in range(n):
            line = {"seed": 0, "round": number, "operation": "x"}
            for repeat in range(n_repeats):
                line[f"condition_change_{repeat}"] = signal * shared[i] + rng.standard_normal()
                line[f"regions_change_{repeat}"] = -shared[i]
            lines.append(line)
    return lines


def test_rankings_that_repeat_themselves_are_a_signal_without_a_warning():
    report = summarise(rows(signal=2.0), [CONDITION, REGIONS], 2, KNOBS)
    assert report["verdict"] == {"condition": "signal", "regions": "signal"}
    assert report["between_repeats"]["regions"]["tau"] == pytest.approx(1.0)
    assert report["warning"] is None


def test_rankings_of_pure_noise_are_called_noise_and_the_user_is_warned():
    report = summarise(rows(signal=0.0), [CONDITION, REGIONS], 2, KNOBS)
    assert report["verdict"] == {"condition": "noise", "regions": "signal"}
    assert "condition (Kendall tau" in report["warning"]
    assert "regions" not in report["warning"].split("agrees")[0]
    assert report["warning"].endswith("a larger search.metantk.repeat or search.metantk.tasks_per_batch.")


def test_noise_is_called_a_signal_as_seldom_as_the_interval_promises():
    n_trials = 200
    verdicts = [
        summarise(rows(0.0, n=30, n_rounds=3, n_repeats=3, seed=seed), [CONDITION], 3, KNOBS)["verdict"]["condition"]
        for seed in range(n_trials)
    ]
    # one side of a 95 % interval: 2.5 %, here at most its 99.9 % quantile
    assert verdicts.count("signal") <= 13


def test_indicators_that_would_prune_alike_agree_whichever_way_they_point():
    report = summarise(rows(signal=50.0), [CONDITION, REGIONS], 2, KNOBS)
    assert report["between_indicators"]["tau"] > 0.9


def test_every_round_is_reported():
    report = summarise(rows(signal=1.0, n_rounds=3), [CONDITION, REGIONS], 2, KNOBS)
    assert [(one["round"], one["n_candidates"]) for one in report["rounds"]] == [(0, 100), (1, 100), (2, 100)]
    assert all(set(one["between_repeats"]) == {"condition", "regions"} for one in report["rounds"])


def test_one_repeat_cannot_be_judged():
    report = summarise(rows(signal=1.0, n_repeats=1), [CONDITION], 1, KNOBS)
    assert report["verdict"] == {"condition": "unknown"}
    assert report["warning"].endswith("set search.metantk.repeat to 2 or more.")


def test_values_that_do_not_vary_are_unknown_and_not_agreement():
    lines = [{"seed": 0, "round": 0, "operation": "x", "c_change_0": 0.0, "c_change_1": 0.0} for _ in range(9)]
    report = summarise(lines, [Indicator("c", True)], 2, KNOBS)
    assert report["verdict"] == {"c": "unknown"}
    assert "do not vary" in report["warning"]


def test_numbers_that_are_none_are_left_out_of_tau():
    assert tau([1.0, 2.0, 3.0, math.nan], [1.0, 2.0, 3.0, 0.0]) == pytest.approx(1.0)
    assert tau([1.0, math.nan], [2.0, 1.0]) is None


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_the_variance_of_unrelated_rankings_is_that_over_all_permutations(n):
    taus = [tau(range(n), order) for order in itertools.permutations(range(n))]
    assert np.mean(np.square(taus)) == pytest.approx(variance_of_unrelated(n))


def test_more_rounds_narrow_the_interval():
    one, four = combine([(0.1, 50)]), combine([(0.1, 50)] * 4)
    assert four["high"] - four["low"] == pytest.approx((one["high"] - one["low"]) / 2)
    assert combine([]) is None


def test_the_interval_of_a_tau_ends_where_taus_do():
    assert combine([(0.98, 30)])["high"] == 1.0 and combine([(-0.98, 30)])["low"] == -1.0
