"""Aging evolution against tournaments of the reference implementation, and against what it must do by design."""

import json
import math
import pathlib

import pytest
import torch

from pipeline import spaces
from pipeline.core.errors import CapabilityError, ConfigError, ScoreError
from pipeline.strategies.indicators import Indicator, Measured, best_by_ranks
from pipeline.strategies.random_search import RandomSearch
from pipeline.strategies.regularised_evolution import RegularisedEvolution
from tests.strategies.toy import INDICATOR, ToySpace, answer, quality_of

SELECTION = json.loads((pathlib.Path(__file__).parent.parent / "golden" / "tegnas_selection.json").read_text())


def evolution(space=None, indicators=(INDICATOR,), seed=0, **knobs):
    sizes = {"population_size": 6, "tournament_size": 3, "n_cycles": 20} | knobs
    return RegularisedEvolution(space or ToySpace(), indicators, torch.Generator().manual_seed(seed), **sizes)


@pytest.mark.parametrize("case", SELECTION)
def test_the_parent_is_the_one_the_reference_chooses(case):
    members = case["population"]
    columns = [([member[name] for member in members], True) for name in ("ntk", "region", "mse")]
    assert best_by_ranks(columns) == case["parent"]


def slow_best(rows):
    """rows: members, each a value per indicator, high is good."""
    sums = [sum(sum(other[k] > row[k] for other in rows) for k in range(len(row))) for row in rows]
    return min(range(len(rows)), key=lambda i: (sums[i], i))


def test_the_smallest_sum_of_ranks_wins_and_the_first_of_equals():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        rows = torch.randint(0, 4, (7, 3), generator=generator).tolist()
        columns = [([row[k] for row in rows], True) for k in range(3)]
        turned = [([-row[k] for row in rows], False) for k in range(3)]
        assert best_by_ranks(columns) == best_by_ranks(turned) == slow_best(rows)


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_worse_than_all_others(broken, higher_is_better):
    assert best_by_ranks([([broken, -5.0, broken], higher_is_better)]) == 1


def test_the_oldest_dies_whatever_its_worth():
    strategy = evolution(n_cycles=6, tournament_size=6)
    best = {"quality": Measured([[1000.0]] + [[0.0]] * 5)}
    first = strategy.ask()[0]
    strategy.tell(best)
    while not strategy.finished:
        strategy.tell({"quality": Measured([[-float(strategy.round)]])})
    # after as many children as members, all of the first population are gone
    assert strategy.found() == [strategy.space.from_text(strategy.state_dict()["texts"][6])]
    kept = evolution(n_cycles=6, tournament_size=6, choose_from="history")
    kept.load_state_dict(strategy.state_dict())
    assert kept.found() == [first]


def test_a_tournament_of_all_always_breeds_the_best():
    strategy = evolution(tournament_size=6)
    while not strategy.finished:
        told = strategy.ask()
        strategy.tell(answer(strategy))
        state = strategy.state_dict()
        if strategy.finished or len(told) > 1:
            continue
        alive = [strategy.space.from_text(text) for text in state["texts"][-6:]]
        best = max(map(quality_of, alive))
        (child,) = strategy.ask()
        parents = [one for one in alive if quality_of(one) == best]
        assert any(sum(a != b for a, b in zip(child, parent, strict=True)) == 1 for parent in parents)


def test_evolution_beats_random_draws_on_a_space_where_neighbours_are_alike():
    space = spaces.get("nas_bench_201")()
    worth = {name: value for value, name in enumerate(space.operations)}

    def quality(genotype):
        return float(sum(worth[name] for name in genotype.operations))

    def best_of(strategy):
        while not strategy.finished:
            strategy.tell({"quality": Measured([[quality(one)] for one in strategy.ask()])})
        return quality(strategy.found()[0])

    gains = []
    for seed in range(10):
        evolved = best_of(evolution(space, seed=seed, population_size=20, tournament_size=5, n_cycles=100))
        drawn = RandomSearch(space, [INDICATOR], torch.Generator().manual_seed(seed), n_architectures=120)
        gains.append(evolved - best_of(drawn))
    assert sum(gain > 0 for gain in gains) >= 7 and sum(gains) / len(gains) > 0.5


def test_sizes_that_do_not_fit_together_are_refused():
    for knobs in ({"tournament_size": 7}, {"tournament_size": 0}, {"choose_from": "luck"}):
        with pytest.raises(ConfigError):
            evolution(**knobs)


def test_evolution_without_generator_or_indicator_is_refused():
    with pytest.raises(CapabilityError):
        RegularisedEvolution(ToySpace(), [INDICATOR])
    with pytest.raises(CapabilityError):
        evolution(indicators=())


def test_an_indicator_without_any_number_stops_the_search():
    strategy = evolution(indicators=[Indicator("x", True)])
    with pytest.raises(ScoreError, match="'x'"):
        strategy.tell({"x": Measured([[math.nan]] * 6)})


def test_the_published_sizes_are_the_defaults():
    strategy = RegularisedEvolution(ToySpace(), [INDICATOR], torch.Generator().manual_seed(0))
    assert (strategy.sizes_left()[0], sum(strategy.sizes_left()), strategy.tournament_size) == (256, 1256, 64)
